"""This module turns whatever ended a connection to a hub into the one error a forwarder knows.

Foreign exceptions are translated here, once. An error that nobody expected is translated too, so
that no peer can bring the agent down, but it is reported with its stack: it may be our mistake.
"""

from __future__ import annotations

import logging
import ssl

import h11
import trio
import wsproto.utilities
from trio_websocket import ConnectionClosed, ConnectionRejected, HandshakeError

from edge_agent.config import Upstream
from edge_agent.errors import ProtocolError, SinkUnavailable
from edge_agent.forward.sinks.http.answer import retry_after_s
from edge_agent.forward.sinks.http.record_outcomes import printable
from edge_agent.output.printable import why
from edge_agent.session import FORBIDDEN, Stop

logger = logging.getLogger(__name__)

NETWORK_ERRORS = (
    OSError,
    ssl.SSLError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    HandshakeError,
    ConnectionClosed,
    ProtocolError,
    h11.ProtocolError,
    wsproto.utilities.ProtocolError,
    # Of headers that are no ASCII, which the WebSocket library takes them for.
    UnicodeDecodeError,
)
_SHOWN = 200


def most_telling(group: ExceptionGroup[Exception]) -> Exception:
    """Of what failed together, the cause and not its consequences."""
    leaves = [
        most_telling(error) if isinstance(error, ExceptionGroup) else error
        for error in group.exceptions
    ]
    return min(leaves, key=lambda error: isinstance(error, (ConnectionClosed, trio.TooSlowError)))


def translated(cause: Exception | None, upstream: Upstream, wall_ns: int) -> SinkUnavailable:
    """The error to raise for ``cause``; None is an end without one."""
    if cause is None:
        return SinkUnavailable("the connection was closed")
    if isinstance(cause, SinkUnavailable):
        return cause
    if isinstance(cause, ConnectionRejected):
        return _rejected(cause, wall_ns)
    if isinstance(cause, ConnectionClosed):
        reason = cause.reason
        if reason is None:
            return SinkUnavailable("the hub closed the connection")
        text = f"the hub closed: {reason.code} {reason.reason or reason.name}"
        return SinkUnavailable(text, obstacle="there")
    if isinstance(cause, trio.TooSlowError):
        return SinkUnavailable(f"no answer within {upstream.timeout:g} s")
    if isinstance(cause, (h11.LocalProtocolError, wsproto.utilities.LocalProtocolError)):
        # The WebSocket library wants to refuse an answer that it cannot read, which it must not.
        return SinkUnavailable("what answers there does not speak WebSocket", obstacle="there")
    if not isinstance(cause, NETWORK_ERRORS):
        logger.error("an unexpected error on the way to %s", upstream.name, exc_info=cause)
    inner = cause.__cause__ if isinstance(cause, trio.BrokenResourceError) else None
    return SinkUnavailable(why(inner or cause) or type(cause).__name__)


def stopped(said: Stop) -> SinkUnavailable:
    """The hub said stop; without a time to come back the ordinary backoff applies, or the slow one
    where a person has to do something there.
    """
    message = f"the hub says stop: {said.code} {said.message}".rstrip()
    slow = said.code in FORBIDDEN
    wait = said.retry_after or None
    return SinkUnavailable(message, retry_after=wait, slow=slow, obstacle="there", code=said.code)


def _rejected(error: ConnectionRejected, wall_ns: int) -> SinkUnavailable:
    status = error.status_code
    retry_after = None
    for name, value in error.headers or ():
        if name.lower() == b"retry-after" and status in (429, 503):
            retry_after = retry_after_s(value.decode("latin-1"), wall_ns)
    text = printable((error.body or b"")[:_SHOWN].decode("utf-8", "replace"))
    return SinkUnavailable(
        f"HTTP {status} instead of a WebSocket: {text or 'no reason given'}",
        retry_after=retry_after,
        slow=400 <= status < 500 and status not in (408, 425, 429),
        obstacle="there",
    )
