"""Progress of one HTTP request: when a byte last moved, and what that allows.

A deadline on a whole request would call a slow uplink dead: 810 kB over 16 kB/s take 50 s. So
``timeout`` counts from the last byte that moved in either direction. What goes is seen twice: a
piece that the kernel takes, and, because its buffer takes megabytes at once, bytes that leave that
buffer because the other side has them. The second is asked for while a request is on its way, a few
times within the timeout.

An answer that comes a byte at a time moves, too; it gets `ANSWER_TIMEOUTS` timeouts in all.
"""

from __future__ import annotations

import fcntl
import struct
import termios
from collections.abc import AsyncIterator, Mapping
from typing import Final, Protocol

import trio

#: Sent in pieces, so that progress within a body shows.
PIECE_BYTES: Final = 16 * 1024
#: How long a whole answer may take, from its head on.
ANSWER_TIMEOUTS: Final = 10
#: Looks at the kernel's buffer within one timeout, and their distance at most, in seconds.
_LOOKS, _LOOK_MAX_S = 10, 2.0


class HasFileno(Protocol):
    """A socket, as far as it is asked."""

    def fileno(self) -> int:
        """Its descriptor."""
        ...


def unacknowledged_bytes(socket: HasFileno | None) -> int | None:
    """What the kernel holds of what was sent and the other side has not confirmed; None where that
    cannot be told.
    """
    if socket is None:
        return None
    try:
        answer = fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
    except (OSError, ValueError):
        return None
    return int(struct.unpack("i", answer)[0])


def socket_of(stream: trio.abc.Stream) -> HasFileno | None:
    """The socket below ``stream``; None where there is none, as in memory."""
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    return stream.socket if isinstance(stream, trio.SocketStream) else None


class Progress:
    """One request's: its content, and with `trace` httpcore's extension of that name.

    Args:
        body: what is sent.
        timeout: seconds.
        socket: of the connection that was kept open, where there is one.

    Attributes:
        socket: of the connection that is used.
        has_begun: whether any of the body was handed to a connection.
        is_late: whether `watch` ended the request.
    """

    def __init__(self, body: bytes, timeout: float, socket: HasFileno | None) -> None:
        self.socket = socket
        self.has_begun = self.is_late = False
        self._body, self._timeout = body, timeout
        self._handed = self._queued = 0
        self._moved_at = trio.current_time()
        self._answer_since: float | None = None

    @property
    def gone_bytes(self) -> int:
        """About how much of the body has left this machine."""
        queued = unacknowledged_bytes(self.socket) or 0
        return min(max(self._handed - queued, 0), len(self._body))

    def moved(self) -> None:
        """A byte came, or one of the request's steps is done."""
        self._moved_at = trio.current_time()

    async def trace(self, event: str, info: Mapping[str, object]) -> None:
        """Told by httpcore of each step."""
        if event.endswith(".complete"):
            self.moved()
            if event.endswith("connect_tcp.complete"):
                self.socket = _socket_of(info.get("return_value"))
            if event == "http11.receive_response_headers.complete" and self.has_begun:
                self._answer_since = trio.current_time()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The body, in pieces."""
        self.has_begun = True
        for start in range(0, len(self._body), PIECE_BYTES):
            piece = self._body[start : start + PIECE_BYTES]
            yield piece
            # Asked for the next one: the kernel has taken this one.
            self._handed = start + len(piece)
            self.moved()

    async def watch(self, scope: trio.CancelScope) -> None:
        """Cancel ``scope`` when no byte has moved for the timeout; until cancelled."""
        while True:
            self._look()
            now, deadline = trio.current_time(), self._deadline()
            if now >= deadline:
                self.is_late = True
                scope.cancel("no byte moved")
                return
            # Without a socket to ask nothing changes unseen.
            step = deadline - now
            if self.socket is not None:
                step = min(step, self._timeout / _LOOKS, _LOOK_MAX_S)
            await trio.sleep_until(min(now + step, deadline))

    def _deadline(self) -> float:
        deadline = self._moved_at + self._timeout
        if self._answer_since is not None:
            deadline = min(deadline, self._answer_since + ANSWER_TIMEOUTS * self._timeout)
        return deadline

    def _look(self) -> None:
        queued = unacknowledged_bytes(self.socket)
        if queued is None:
            return
        if queued < self._queued:
            self.moved()
        self._queued = queued


def _socket_of(stream: object) -> HasFileno | None:
    """Of httpcore's network stream; None where it is not one of the kernel's."""
    ask = getattr(stream, "get_extra_info", None)
    found: HasFileno | None = None if ask is None else ask("socket")
    return found
