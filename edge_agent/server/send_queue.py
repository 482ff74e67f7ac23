"""`Outgoing` sends whole frames, in order, and without a task where that is possible.

trio-websocket's own frames come by `Outgoing.send_all`, ours by `Outgoing.send_soon`: those are
written at once where the socket takes them. What it does not take waits in a queue, which a task of
the connection's empties (`Outgoing.flush`). Frames are never torn apart, and nothing follows one
that was.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import trio

#: Elsewhere a socket's number is that of another file, or of none.
SOCKETS_ARE_FILES = os.name == "posix"


def plain_socket(stream: trio.abc.Stream) -> trio.socket.SocketType | None:
    """The socket that can be read and written without a task, if ``stream`` is no more than one."""
    is_one = SOCKETS_ARE_FILES and isinstance(stream, trio.SocketStream)
    return stream.socket if is_one and isinstance(stream, trio.SocketStream) else None


def _nothing() -> None:
    pass


class Outgoing:
    """One connection's. ``flush_soon`` calls `flush` in a task of the connection's."""

    __slots__ = ("_flush_soon", "_is_torn", "_lock", "_queue", "_since", "_socket", "_stream")

    def __init__(self, stream: trio.abc.Stream, flush_soon: Callable[[], None]) -> None:
        self._stream = stream
        self._socket = plain_socket(stream)
        self._flush_soon = flush_soon
        self._queue: list[bytes] = []
        self._lock = trio.Lock()
        self._is_torn = False
        self._since = 0.0

    @property
    def is_clogged(self) -> bool:
        """Whether something of ours still waits for the socket, and not in vain."""
        return bool(self._queue) and (not self._is_torn or self._lock.locked())

    def stuck_for(self) -> float:
        """Seconds that the peer has not read what is being sent; 0 where nothing is."""
        return trio.current_time() - self._since if self._lock.locked() else 0.0

    def send_soon(self, frame: bytes) -> None:
        """Write whole frames now, or after what already waits."""
        is_sending = self._lock.locked()
        if self._is_torn and not is_sending:
            return
        if self._socket is not None and not self._queue and not is_sending:
            try:
                done = os.write(self._socket.fileno(), frame)
            except BlockingIOError:
                done = 0
            except OSError:
                return  # It is gone; the reading side learns why.
            if done == len(frame):
                return
            frame = frame[done:]
        self._queue.append(frame)
        if len(self._queue) == 1:
            self._flush_soon()

    async def flush(self) -> None:
        """Send what `send_soon` has left."""
        async with self._lock:
            await self._send_queue()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send a frame of the library's, after everything of ours."""
        async with self._lock:
            await self._send_queue()
            await self._send_whole(data)

    def let_go(self) -> None:
        """It is all over: nothing more is sent, the connection is forgotten."""
        self._is_torn = True
        self._flush_soon = _nothing

    async def _send_queue(self) -> None:
        while self._queue:
            # What comes meanwhile must queue behind it, so it leaves the queue only when sent.
            count = len(self._queue)
            await self._send_whole(b"".join(self._queue))
            del self._queue[:count]

    async def _send_whole(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_torn:
            raise trio.BrokenResourceError("an earlier frame was cut in the middle")
        self._is_torn = True
        self._since = trio.current_time()
        await self._stream.send_all(data)
        self._is_torn = False
