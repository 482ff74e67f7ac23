"""A `ProgressStream` is a byte stream that remembers when a byte last moved.

A deadline on a whole message would call a slow uplink dead: a mebibyte over a weak cell takes
minutes. Whether the other side is there shows in bytes that move, whatever they belong to: each
that comes, and large pieces that go. Small ones, such as a ping, prove nothing; the kernel takes
them also when the cable is cut. Large ones it takes only as long as the other side takes them, but
some megabytes in advance, which a weak cell takes minutes for: so `ProgressStream.look` asks the
kernel how much of that the other side has confirmed. What is held back to keep a pace
(``pacing.py``) comes to the kernel in pieces, of which each that is confirmed counts.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import trio

from edge_agent.forward.link.pacing import PacedStream

#: Sent in pieces, so that progress within a message shows.
PIECE_BYTES: Final = 32 * 1024
#: What may come while the connection is being opened: a head, or a refusal with its page.
OPENING_BYTES_MAX: Final = 256 * 1024
#: What is confirmed proves something from here on: less may have been pings.
_PROVING_BYTES = 1024
_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)


class ProgressStream(trio.abc.Stream):
    """Passes everything through; ``moved_at`` is on Trio's clock, as is ``gone_at``, for what went
    alone. ``queued`` bytes were on their way at the last `look`.

    While ``is_opening``, the end of the stream is an error: trio-websocket takes the end during
    its handshake in silence, and whoever waits for the handshake would wait for ever.
    """

    def __init__(self, inner: trio.abc.Stream) -> None:
        self.inner = inner
        self.is_opening = True
        self.moved_at = self.gone_at = trio.current_time()
        self._socket, self._paced = socket_of(inner), paced_below(inner)
        self.queued = self._confirmed = 0
        self._opening_bytes = 0

    def look(self) -> None:
        """Whether the other side has confirmed something since the last look; call it now and then
        while something may be on its way.
        """
        queued = unacknowledged_bytes(self._socket)
        if queued is not None:
            if self.queued - queued >= _PROVING_BYTES:
                self.moved_at = self.gone_at = trio.current_time()
            self.queued = queued
        if self._paced is not None and self._paced.is_sending:
            confirmed = self._paced.handed_bytes - (queued or 0)
            if queued == 0 or confirmed > self._confirmed:
                self.moved_at = self.gone_at = trio.current_time()
            self._confirmed = confirmed

    def confirm(self) -> None:
        """Have the kernel confirm what has come at once, and not only with what is sent next, or
        after 40 ms. Until then another side that joins small packets (Nagle's algorithm) keeps back
        the next one: an acknowledgement of a few bytes, which Mosquitto sends so, is waited for as
        long. It holds for what has come so far; Linux alone knows it.
        """
        if self._socket is not None and _QUICKACK is not None:
            with suppress(OSError):  # It is closed: whoever reads next is told.
                self._socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As the inner stream's."""
        view = memoryview(data)
        for start in range(0, max(len(view), 1), PIECE_BYTES):
            piece = view[start : start + PIECE_BYTES]
            try:
                await self.inner.send_all(piece)
            except trio.BrokenResourceError as error:
                if self.is_opening:
                    raise ConnectionResetError("reset during the upgrade") from error
                raise
            if len(piece) == PIECE_BYTES:
                self.moved_at = self.gone_at = trio.current_time()

    async def wait_send_all_might_not_block(self) -> None:
        """As the inner stream's."""
        await self.inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """As the inner stream's; OSError at its end while ``is_opening``."""
        try:
            data = await self.inner.receive_some(max_bytes)
        except trio.BrokenResourceError as error:
            if self.is_opening:
                raise ConnectionResetError("reset during the upgrade") from error
            raise
        if self.is_opening:
            self._opening_bytes += len(data)
            if not data:
                raise ConnectionResetError("the hub hung up during the upgrade")
            if self._opening_bytes > OPENING_BYTES_MAX:
                raise ConnectionResetError("what answers the upgrade comes to no end")
        self.moved_at = trio.current_time()
        return data

    async def aclose(self) -> None:
        """As the inner stream's."""
        await self.inner.aclose()


def socket_of(stream: trio.abc.Stream) -> trio.socket.SocketType | None:
    """The socket below ``stream``; None where there is none, as in memory."""
    *_, lowest = _layers(stream)
    return lowest.socket if isinstance(lowest, trio.SocketStream) else None


def paced_below(stream: trio.abc.Stream) -> PacedStream | None:
    """What keeps the pace of ``stream``; None where nothing does."""
    return next((one for one in _layers(stream) if isinstance(one, PacedStream)), None)


def unacknowledged_bytes(socket: trio.socket.SocketType | None) -> int | None:
    """What the kernel holds of what was sent and the other side has not confirmed; None where that
    cannot be told.
    """
    return None if socket is None else queued_bytes(socket.fileno())


def queued_bytes(fd: int) -> int | None:
    """The same of the socket with that number."""
    try:
        answer = fcntl.ioctl(fd, termios.TIOCOUTQ, struct.pack("i", 0))
    except (OSError, ValueError):
        return None
    return int(struct.unpack("i", answer)[0])


def _layers(stream: trio.abc.Stream) -> Iterator[trio.abc.Stream]:
    while True:
        yield stream
        if isinstance(stream, trio.SSLStream):
            stream = stream.transport_stream
        elif isinstance(stream, PacedStream):
            stream = stream.inner
        else:
            return
