"""Certificates that are renewed while the agent runs, and SIGHUP, which says that something was.

The certificate of both ports is looked at once a minute and on SIGHUP, and taken for the
connections that come from then on: whoever renewed it, and whether files were written anew or links
turned to others. What cannot be used, such as a file that is half written or does not fit its key,
is told once and tried again at each look, and the old one stays in force; so it does where the new
one has ended, by a clock that is set, and the old one has not.

One that our own authority made is renewed here, where this process may do that, once the clock is
set: its end is compared with it. The key stays, so that certificate and key fit at every moment,
and sensors that know the key go on knowing it. What an upstream is asked with
(tokens, authorities, our own certificate) is looked at with each attempt anyway
(`edge_agent.forward.credentials`); SIGHUP makes that attempt now.
"""

from __future__ import annotations

import logging
import math
import ssl
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import trio

from edge_agent.config import Listen
from edge_agent.errors import ConfigError
from edge_agent.security.audit import AGENT, note
from edge_agent.security.certificate_life import certificate_end, certificate_life
from edge_agent.system.clock import Clock
from edge_agent.system.files import FileState, file_state
from edge_agent.values.record import NANOSECONDS, format_time

logger = logging.getLogger(__name__)

#: The ports' certificate is looked at this often.
LOOK_S = 60.0
#: A renewal that failed is tried again after so long.
AGAIN_S = 3600.0
#: And ended after so long; a busy board imports what it needs in ten seconds.
RENEW_S = 300.0
_RENEW = """
import sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from edge_agent.errors import ConfigError
from edge_agent.security.tls import renew_where_due
try:
    renew_where_due(Path(sys.argv[1]), float(sys.argv[2]))
except (ConfigError, OSError, ValueError) as error:
    sys.exit(str(error))
"""
_ROOT = str(Path(__file__).resolve().parents[2])
#: Troubles that are remembered as told; when there are more, all are forgotten.
TOLD_MAX = 100


class Renewals:
    """Keeps what ports show at what their files say; to be made before these are read.

    Args:
        listen: names the files.
        online: is called at SIGHUP: upstreams may be tried now.
        hangups: says that it came; None where nobody sends it.
        reload: reads rules and upstreams again; None where nobody can.
        clock: the agent's; None: nothing is renewed here.
    """

    def __init__(
        self,
        listen: Listen,
        online: Callable[[], None],
        hangups: trio.MemoryReceiveChannel[None] | None,
        reload: Callable[[], Awaitable[None]] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock
        self._again_s = -math.inf
        self._listen = listen
        self._reload = reload
        self._online = online
        self._hangups = hangups
        self._ports: dict[str, tuple[ssl.SSLContext, Callable[[], ssl.SSLContext | None]]] = {}
        self._seen = _state(listen)
        self._ends_s = _end(listen)
        self._told: set[str] = set()

    def add(
        self, port: str, context: ssl.SSLContext, make: Callable[[], ssl.SSLContext | None]
    ) -> None:
        """Let ``context`` of a port show what is renewed; ``make`` reads the files into a new one,
        and raises ConfigError where they cannot be used.
        """
        self._ports[port] = context, make

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            if await self._hung_up():
                logger.info(
                    "SIGHUP: files are read again, upstreams that did not ask to wait tried now"
                )
                self._online()
                if self._reload is not None:
                    await self._reload()
            if not self._ports:
                continue
            await self._renew_own()
            state = await trio.to_thread.run_sync(_state, self._listen)
            if state != self._seen:
                taken = await self._take_up()
                # Of before they were read: what was written meanwhile is seen the next time.
                self._seen = state if taken else None

    async def _hung_up(self) -> bool:
        """Wait for SIGHUP, or until it is time to look; whether it came."""
        with trio.move_on_after(LOOK_S if self._ports else float("inf")):
            if self._hangups is None:
                await trio.sleep_forever()
            else:
                await self._hangups.receive()
                return True
        return False

    async def _renew_own(self) -> None:
        if self._clock is None or trio.current_time() < self._again_s:
            return
        now, certificate = self._clock.read(), Path(self._listen.tls_certificate or "")
        if not now.synced:
            return
        look = partial(certificate_life, certificate, now.wall_ns / NANOSECONDS)
        try:
            life = await trio.to_thread.run_sync(look)
            if not life.is_due or life.obstacle:
                return
            await _renew_elsewhere(certificate, now.wall_ns / NANOSECONDS)
            life = await trio.to_thread.run_sync(look)
        except (OSError, ValueError) as error:
            self._again_s = trio.current_time() + AGAIN_S
            if self._tell(f"it cannot be renewed: {error}"):
                note("tls renew", str(certificate), f"failed: {error}", AGENT)
            return
        until = format_time(int(life.ends_s) * NANOSECONDS)
        logger.info("renewed %s, which is now good until %s", certificate, until)
        note("tls renew", str(certificate), "done", AGENT)

    async def _take_up(self) -> bool:
        """Show what the files hold now; False where that cannot be used."""
        made: list[tuple[ssl.SSLContext, ssl.SSLContext | None]] = []
        try:
            for context, make in tuple(self._ports.values()):
                made.append((context, await trio.to_thread.run_sync(make)))
            ends_s = await trio.to_thread.run_sync(_end, self._listen)
            self._check_end(ends_s)
        except ConfigError as error:
            self._tell(str(error))
            return False
        for context, new in made:
            # Each connection is turned over to the new context. Written into the old one, which
            # is in use, a certificate whose key then does not fit would leave it with neither.
            context.sni_callback = partial(_turn_over, new)
        self._ends_s = ends_s
        self._told.clear()
        logger.info("the ports have a new certificate: %s", self._listen.tls_certificate)
        return True

    def _check_end(self, ends_s: float) -> None:
        """Raises ConfigError where the one in force is good and its successor is not."""
        now = None if self._clock is None else self._clock.read()
        if now is None or not now.synced:
            return
        if ends_s <= now.wall_ns / NANOSECONDS < self._ends_s:
            until = format_time(int(ends_s) * NANOSECONDS)
            found = f"{self._listen.tls_certificate}, which ended {until}"
            raise ConfigError("listen.tls_certificate", "a certificate that is still good", found)

    def _tell(self, trouble: str) -> bool:
        """Tell what is in the way, unless that was told; whether it is new."""
        if trouble in self._told:
            return False
        if len(self._told) >= TOLD_MAX:
            self._told.clear()
        self._told.add(trouble)
        logger.warning("the ports keep their old certificate: %s", trouble)
        return True


async def _renew_elsewhere(certificate: Path, now_s: float) -> None:
    """Renew in a process of its own: what that imports takes 10 MB, and the authority's key has no
    business in one that strangers speak to. Raises ValueError with what went wrong.
    """
    # -P: nothing is imported from the folder in which the agent was started.
    command = [sys.executable, "-P", "-c", _RENEW, str(certificate), str(now_s), _ROOT]
    with trio.move_on_after(RENEW_S):
        done = await trio.run_process(
            command, check=False, capture_stdout=True, stderr=subprocess.STDOUT
        )
        if done.returncode != 0:
            lines = done.stdout.decode(errors="replace").strip().splitlines()
            raise ValueError(lines[-1] if lines else f"exit code {done.returncode}")
        return
    raise ValueError(f"it took longer than {RENEW_S:.0f} s")


def _turn_over(
    new: ssl.SSLContext | None, connection: ssl.SSLObject, name: str | None, old: ssl.SSLContext
) -> None:
    if new is not None:
        connection.context = new


def _end(listen: Listen) -> float:
    """When the certificate in the file ends, seconds since 1970; never where nobody can tell."""
    try:
        return certificate_end(Path(listen.tls_certificate or ""))
    except (OSError, ValueError):
        return math.inf


def _state(listen: Listen) -> tuple[FileState, ...] | None:
    """What shows that one of the two files was replaced; None while one cannot be seen."""
    paths = [Path(path) for path in (listen.tls_certificate, listen.tls_key) if path is not None]
    try:
        return tuple(map(file_state, paths))
    except OSError:
        return None
