"""A byte stream that remembers when a byte last moved.

A deadline on a whole message would call a slow uplink dead: a mebibyte over a weak cell takes
minutes. Whether the other side is there shows in bytes that move, whatever they belong to: each
that comes, and large pieces that go. Small ones, such as a ping, prove nothing; the kernel takes
them also when the cable is cut. Large ones it takes only as long as the other side takes them.
"""

from __future__ import annotations

import trio

#: Sent in pieces, so that progress within a message shows.
_PIECE_BYTES = 32 * 1024


class Watched(trio.abc.Stream):
    """Passes everything through; ``moved_at`` is on Trio's clock.

    While ``is_opening``, the end of the stream is an error: trio-websocket takes the end during
    its handshake in silence, and whoever waits for the handshake would wait for ever.
    """

    def __init__(self, inner: trio.abc.Stream) -> None:
        self.inner = inner
        self.is_opening = True
        self.moved_at = trio.current_time()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As the inner stream's."""
        view = memoryview(data)
        for start in range(0, max(len(view), 1), _PIECE_BYTES):
            piece = view[start : start + _PIECE_BYTES]
            try:
                await self.inner.send_all(piece)
            except trio.BrokenResourceError as error:
                if self.is_opening:
                    raise ConnectionResetError("reset during the upgrade") from error
                raise
            if len(piece) == _PIECE_BYTES:
                self.moved_at = trio.current_time()

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
        if not data and self.is_opening:
            raise ConnectionResetError("the hub hung up during the upgrade")
        self.moved_at = trio.current_time()
        return data

    async def aclose(self) -> None:
        """As the inner stream's."""
        await self.inner.aclose()
