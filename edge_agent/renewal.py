"""Certificates that are renewed while the agent runs, and SIGHUP, which says that something was.

The certificate of both ports is looked at once a minute and on SIGHUP, and taken for the
connections that come from then on; one that does not fit its key is told, and the old one kept.
What an upstream is asked with (tokens, authorities, our own certificate) is looked at with each
attempt anyway (`edge_agent.forward.credentials`); SIGHUP makes that attempt now.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import trio

from edge_agent.config import Listen
from edge_agent.errors import ConfigError
from edge_agent.forward import Forwarder
from edge_agent.server import server_context

logger = logging.getLogger(__name__)

#: The certificate is looked at this often.
LOOK_S = 60.0
_State = tuple[tuple[int, int, int, int], ...] | None


async def run_renewals(
    listen: Listen,
    contexts: Sequence[ssl.SSLContext],
    forwarders: Sequence[Forwarder],
    hangups: trio.MemoryReceiveChannel[None] | None,
) -> None:
    """Until cancelled, let the ports of ``contexts``, of which there may be more later, show what
    their files say, and tell upstreams of SIGHUP.
    """
    seen = await trio.to_thread.run_sync(_state, listen)
    while True:
        if await _hung_up(hangups, LOOK_S if listen.tls_certificate else None):
            logger.info(
                "SIGHUP: files are read again, upstreams that did not ask to wait tried now"
            )
            for forwarder in forwarders:
                forwarder.online()
        if not contexts:
            continue
        state = await trio.to_thread.run_sync(_state, listen)
        if state != seen:
            seen = state
            await _renew(listen, contexts)


async def _hung_up(hangups: trio.MemoryReceiveChannel[None] | None, wait_s: float | None) -> bool:
    """Wait for SIGHUP, ``wait_s`` seconds at most; whether it came."""
    with trio.move_on_after(float("inf") if wait_s is None else wait_s):
        if hangups is None:
            await trio.sleep_forever()
        else:
            await hangups.receive()
            return True
    return False


async def _renew(listen: Listen, contexts: Sequence[ssl.SSLContext]) -> None:
    try:
        # A context of its own: half a renewal must not spoil the one in use, files may take as
        # long as the card does, and no thread may change a context that another one uses.
        fresh = await trio.to_thread.run_sync(server_context, listen)
    except ConfigError as error:
        logger.warning("the port keeps its old certificate: %s", error)
        return
    assert fresh is not None, "there are contexts"
    for context in contexts:
        context.sni_callback = partial(_show, fresh)
    logger.info("the port has a new certificate: %s", listen.tls_certificate)


def _show(fresh: ssl.SSLContext, connection: ssl.SSLObject, *_: object) -> None:
    """Asked at the begin of each handshake, also of one that names no server."""
    connection.context = fresh


def _state(listen: Listen) -> _State:
    """What shows that one of the two files was replaced; None while one cannot be seen."""
    paths = [Path(path) for path in (listen.tls_certificate, listen.tls_key) if path is not None]
    try:
        found = [path.stat() for path in paths]
    except OSError:
        return None
    return tuple((one.st_ino, one.st_mtime_ns, one.st_ctime_ns, one.st_size) for one in found)
