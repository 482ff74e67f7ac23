"""A NATS server with JetStream as the far side of the contract test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from edge_agent.config import NatsTable
from tests.forward.contract import FarSide
from tests.forward.sinks.nats.server import NatsServer, Reader, nats_server

#: What of ours publishes records; everything else asks.
_RECORDS = b"HPUB edge."


class NatsSide:
    nobody = "nats://127.0.0.1:1"
    is_once = True

    def __init__(self, server: NatsServer, way: Way) -> None:
        #: A batch of some records is several messages.
        self.options: dict[str, Any] = {"nats": NatsTable(message_records=2)}
        self.url = ""
        self._server, self._way = server, way

    def hold(self) -> None:
        self._way.gate = trio.Event()

    def release(self) -> None:
        self._way.gate.set()

    def break_down(self) -> None:
        self._way.loses_next_ack = True

    async def durable(self) -> list[tuple[str, int]]:
        await trio.lowlevel.checkpoint()
        with Reader(self._server.port) as reader:
            return [(one["id"], one["fields"]["n"]) for one in reader.records()]


class Way:
    """The way to the server: records pass while it is open, and an answer may be lost on it."""

    def __init__(self, port: int) -> None:
        self.gate = trio.Event()
        self.gate.set()
        self.loses_next_ack = False
        self._port = port

    async def serve(self, stream: trio.abc.Stream) -> None:
        with trio.CancelScope() as scope:
            async with (
                stream,
                await trio.open_tcp_stream("127.0.0.1", self._port) as onward,
                trio.open_nursery() as nursery,
            ):
                lost = [False]
                nursery.start_soon(self._there, stream, onward, scope, lost)
                nursery.start_soon(self._back, onward, stream, scope, lost)

    async def _there(self, here: Any, onward: Any, scope: trio.CancelScope, lost: Any) -> None:
        try:
            while data := await here.receive_some():
                if _RECORDS in data:
                    await self.gate.wait()
                    # The records of a batch may come in several pieces; their answer is behind all.
                    lost[0], self.loses_next_ack = lost[0] or self.loses_next_ack, False
                await onward.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()

    async def _back(self, onward: Any, here: Any, scope: trio.CancelScope, lost: Any) -> None:
        try:
            while data := await onward.receive_some():
                if lost[0]:
                    break
                await here.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()


@asynccontextmanager
async def nats_side(path: Path) -> AsyncIterator[FarSide]:
    with nats_server(path) as server:
        way = Way(server.port)
        side = NatsSide(server, way)
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, way.serve, 0)
            side.url = f"nats://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
            try:
                yield side
            finally:
                nursery.cancel_scope.cancel()
