"""A Kafka broker as the far side of the contract test."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from benchmarks.ports import free_port
from tests.forward.contract import FarSide
from tests.forward.sinks.kafka.broker import kafka_broker, make_topic, messages

_PRODUCE = 0


class KafkaSide:
    nobody = "kafka://127.0.0.1:1"
    #: The producer's memory of what it sent ends with it.
    is_once = False

    def __init__(self, url: str, port: int, way: Way) -> None:
        self.options: dict[str, Any] = {"compression": "none"}
        self.url, self._port, self._way = url, port, way

    def hold(self) -> None:
        self._way.gate = trio.Event()

    def release(self) -> None:
        self._way.gate.set()

    def break_down(self) -> None:
        self._way.breaks_down = True

    def repair(self) -> None:
        self._way.is_down = False

    async def durable(self) -> list[tuple[str, int]]:
        if not self._way.gate.is_set():
            # Who reads comes by the same way: nothing has got through.
            return []
        found = await trio.to_thread.run_sync(messages, self._port)
        read = [json.loads(one.value() or b"") for one in found]
        assert [one.headers() for one in found] == [[("id", one["id"].encode())] for one in read]
        return [(one["id"], one["fields"]["n"]) for one in read]


class Way:
    """The way to the broker. It may be closed, or break down behind what was produced."""

    def __init__(self) -> None:
        self.gate = trio.Event()
        self.gate.set()
        self.breaks_down = self.is_down = False
        self.port = 0

    async def serve(self, stream: trio.abc.Stream) -> None:
        with trio.CancelScope() as scope:
            async with stream:
                first = await stream.receive_some()
                if self.is_down:
                    return
                async with (
                    await trio.open_tcp_stream("127.0.0.1", self.port) as onward,
                    trio.open_nursery() as nursery,
                ):
                    await onward.send_all(first)
                    nursery.start_soon(self._there, stream, onward, scope)
                    nursery.start_soon(self._back, onward, stream, scope)

    async def _there(self, here: Any, onward: Any, scope: trio.CancelScope) -> None:
        try:
            while data := await here.receive_some():
                await self.gate.wait()
                if self.breaks_down and int.from_bytes(data[4:6]) == _PRODUCE:
                    self.breaks_down, self.is_down = False, True
                await onward.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()

    async def _back(self, onward: Any, here: Any, scope: trio.CancelScope) -> None:
        try:
            while data := await onward.receive_some():
                if self.is_down:
                    break
                await here.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()


@asynccontextmanager
async def kafka_side(path: Path) -> AsyncIterator[FarSide]:
    way, there = Way(), free_port()
    with kafka_broker(path, there) as port:
        way.port = port
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(there, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, way.serve, listeners)
            await trio.to_thread.run_sync(make_topic, port)
            try:
                yield KafkaSide(f"kafka://127.0.0.1:{there}", port, way)
            finally:
                nursery.cancel_scope.cancel()
