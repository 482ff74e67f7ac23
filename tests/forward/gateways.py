"""Real ways through which not everything gets: slow ones, and such that break or swallow."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_PIECE_BYTES = 4096


@dataclass
class Gateway:
    """A relay to ``target``.

    Attributes:
        most: of one connection at most so many bytes go on, then it is reset.
        per_second: bytes that go on in one second; 0: as they come.
        port: where it listens.
        breaks, connections: how many there were.
    """

    target: int
    most: float = float("inf")
    per_second: float = 0.0
    port: int = 0
    breaks: int = 0
    connections: int = 0

    async def serve(self, near: trio.SocketStream) -> None:
        self.connections += 1
        try:
            async with (
                near,
                await trio.open_tcp_stream("127.0.0.1", self.target) as far,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(self._back, far, near, nursery.cancel_scope)
                await self._on(near, far)
                nursery.cancel_scope.cancel()
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def _on(self, near: trio.SocketStream, far: trio.SocketStream) -> None:
        passed = 0
        while data := await near.receive_some(_PIECE_BYTES):
            if passed + len(data) > self.most:
                self.breaks += 1
                near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                near.socket.close()
                return
            passed += len(data)
            if self.per_second:
                await trio.sleep(len(data) / self.per_second)
            await far.send_all(data)

    async def _back(
        self, far: trio.SocketStream, near: trio.SocketStream, both: trio.CancelScope
    ) -> None:
        async for data in far:
            await near.send_all(data)
        both.cancel()


@asynccontextmanager
async def gateway(
    target: int, *, most: float = float("inf"), per_second: float = 0.0
) -> AsyncIterator[Gateway]:
    """It, while the block runs. Its sockets take little: what it passes on is what moves."""
    one = Gateway(target, most, per_second)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _PIECE_BYTES)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    one.port = listener.getsockname()[1]
    bound = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, one.serve, [bound])
        yield one
        nursery.cancel_scope.cancel()
