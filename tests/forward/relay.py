"""A way to a real server that a test can hold and cut: what a bad network does."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

_KEY = re.compile(rb"Idempotency-Key: (\w+)/")


@dataclass
class Relay:
    """What goes to the server waits while it is held; with ``cuts``, the connection is cut when the
    next answer comes, so that nobody gets it.

    Attributes:
        port: of the way in.
        epoch: of the agent, as its last ``Idempotency-Key`` said.
        cuts: how many answers are lost from now on.
    """

    port: int = 0
    epoch: str = ""
    cuts: int = 0
    _open: trio.Event = field(default_factory=trio.Event)

    def hold(self) -> None:
        self._open = trio.Event()

    def release(self) -> None:
        self._open.set()

    async def serve(self, stream: trio.SocketStream, port: int) -> None:
        async with (
            stream,
            await trio.open_tcp_stream("127.0.0.1", port) as onward,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self._there, stream, onward, nursery.cancel_scope)
            await self._back(onward, stream)
            nursery.cancel_scope.cancel()

    async def _there(
        self, here: trio.SocketStream, there: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        try:
            while data := await here.receive_some():
                if found := _KEY.search(data):
                    self.epoch = found[1].decode()
                await self._open.wait()
                await there.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()

    async def _back(self, there: trio.SocketStream, here: trio.SocketStream) -> None:
        try:
            while data := await there.receive_some():
                if self.cuts:
                    self.cuts -= 1
                    return
                await here.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass


@asynccontextmanager
async def relay_to(port: int) -> AsyncIterator[Relay]:
    relay = Relay()
    relay.release()

    async def serve(stream: trio.SocketStream) -> None:
        try:
            await relay.serve(stream, port)
        except OSError:
            pass  # The server is away.

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        relay.port = listeners[0].socket.getsockname()[1]
        yield relay
        nursery.cancel_scope.cancel()
