"""A hub and an agent for the demo: real processes of ``edge-agent run`` on free loopback ports."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import trio

from edge_agent.cli.common import Failure

_START_TIMEOUT = 20.0
_STOP_TIMEOUT = 15.0
_PR_SET_PDEATHSIG = 1
#: Below those that the kernel gives to whoever connects: one of these may be some client's by the
#: time that the agent asks for it.
_PORTS = range(15_000, 32_000)


class DemoProcess:
    """One process.

    Args:
        name: ``agent`` or ``hub``; its folder, its configuration and its log are named so.
        folder: where all of them live.
        upstream: URL of another agent's ``/forward``, or None.
    """

    def __init__(self, name: str, folder: Path, upstream: str | None = None) -> None:
        self.name = name
        self.sensor_port, http_port = free_ports(2)
        #: The people's port.
        self.http_url = f"http://127.0.0.1:{http_port}"
        self.log_path = folder / f"{name}.log"
        self._config = folder / f"{name}.toml"
        text = (
            f'[listen]\naddress = "127.0.0.1:{self.sensor_port}"\n'
            f'[http]\naddress = "127.0.0.1:{http_port}"\n'
            f'[store]\npath = "{folder / name}"\nsize = "64MiB"\n'
            '[log.main]\ncommit_interval = "200ms"\n'
        )
        if upstream is not None:
            text += (
                f'[[upstream]]\nname = "hub"\nurl = "{upstream}"\n'
                'batch_age = "200ms"\nbackoff_base = "200ms"\nbackoff_max = "500ms"\n'
            )
        self._config.write_text(text)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; `ready` says when it listens."""
        # The demo's configuration alone counts, not what the caller's own agent is given.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("EDGE_AGENT_")}
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edge_agent", "run", "--config", str(self._config)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A session of its own: Ctrl-C is for the demo, which then stops things in order.
                start_new_session=True,
                preexec_fn=_die_with_parent(),  # noqa: PLW1509 - one call of a library loaded before
            )

    async def ready(self) -> None:
        """Wait until both ports answer.

        Raises:
            Failure: it ended, or took too long; with the end of its log.
        """
        with trio.move_on_after(_START_TIMEOUT):
            for port in (self.sensor_port, int(self.http_url.rpartition(":")[2])):
                while not await _answers(port):
                    if self._process is None or self._process.poll() is not None:
                        raise Failure(f"the {self.name} did not start:\n{self.log_tail()}")
                    await trio.sleep(0.05)
            return
        raise Failure(f"the {self.name} does not answer:\n{self.log_tail()}")

    async def stop(self) -> None:
        """Ask it to drain, wait, and end it where it does not end itself."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                await trio.to_thread.run_sync(self._process.wait, _STOP_TIMEOUT)
        self.kill()

    def kill(self) -> None:
        """End it now; for when nothing else can be waited for."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def log_tail(self) -> str:
        """The last lines of its log."""
        with suppress(OSError):
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-12:])
        return ""


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody has."""
    found: list[int] = []
    with ExitStack() as held:
        while len(found) < count:
            probe = held.enter_context(socket.socket())
            with suppress(OSError):
                probe.bind(("127.0.0.1", random.choice(_PORTS)))
                found.append(probe.getsockname()[1])
    return found


async def _answers(port: int) -> bool:
    try:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
    except OSError:
        return False
    await stream.aclose()
    return True


def _die_with_parent() -> Callable[[], None] | None:
    """Where Linux offers it, a child that is told when the demo is killed without a chance to
    stop it. The library is loaded before the fork, where that is safe.
    """
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return None
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
