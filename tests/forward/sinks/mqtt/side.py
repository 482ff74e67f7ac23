"""A real Mosquitto as the far side of the contract test, behind a relay that holds and cuts.

What counts as durable is what a durable subscriber was given: the broker's own disk proves nothing,
as it acknowledges before it writes.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from tests.forward.contract import FarSide
from tests.forward.sinks.mqtt.broker import Broker, Subscriber, running_broker, subscribed


class Relay:
    """Passes bytes on to the broker, unless told otherwise."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.is_open = trio.Event()
        self.is_open.set()
        self.cuts = False

    async def serve(self, near: trio.SocketStream) -> None:
        far = await trio.open_tcp_stream("127.0.0.1", self._broker.port)
        async with near, far, trio.open_nursery() as nursery:
            nursery.start_soon(self._out, near, far, nursery.cancel_scope)
            nursery.start_soon(self._back, near, far, nursery.cancel_scope)

    async def _out(
        self, near: trio.SocketStream, far: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        try:
            async for data in near:
                await self.is_open.wait()
                await far.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()

    async def _back(
        self, near: trio.SocketStream, far: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        try:
            async for data in far:
                if self.cuts and data[0] == 0x40:
                    # A PUBACK: the broker has the message, and nobody is told.
                    self.cuts = False
                    break
                await near.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()


class BrokerSide:
    options: dict[str, Any]
    nobody = "mqtt://127.0.0.1:1"
    is_once = False

    def __init__(self, relay: Relay, port: int, subscriber: Subscriber) -> None:
        self.url = f"mqtt://127.0.0.1:{port}"
        self.options = {}
        self._relay, self._subscriber = relay, subscriber

    def hold(self) -> None:
        self._relay.is_open = trio.Event()

    def release(self) -> None:
        self._relay.is_open.set()

    def break_down(self) -> None:
        self._relay.cuts = True

    async def durable(self) -> list[tuple[str, int]]:
        found = [json.loads(message.payload) for message in await self._subscriber.settled()]
        return [(record["id"], record["fields"]["n"]) for record in found]


@asynccontextmanager
async def broker_side(folder: Path) -> AsyncIterator[FarSide]:
    with running_broker(folder) as broker, subscribed(broker) as subscriber:
        relay = Relay(broker)
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, relay.serve, listeners)
            yield BrokerSide(relay, listeners[0].socket.getsockname()[1], subscriber)
            nursery.cancel_scope.cancel()
