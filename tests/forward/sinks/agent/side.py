"""Another agent as the far side of the contract test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from tests.forward.contract import FarSide
from tests.forward.support import Station, inline, running_station, serving


class HubSide:
    options: dict[str, Any]
    nobody = "ws://127.0.0.1:1/forward"
    is_once = True

    def __init__(self, hub: Station, port: int, gate: Gate) -> None:
        self.url = f"ws://127.0.0.1:{port}/forward"
        self.options = {}
        self._hub, self._gate = hub, gate

    def hold(self) -> None:
        self._gate.event = trio.Event()

    def release(self) -> None:
        self._gate.event.set()

    def break_down(self) -> None:
        self._gate.events_to_cut = 1

    async def durable(self) -> list[tuple[str, int]]:
        found = []
        for record in await self._hub.records():
            place = f"{record.origin_epoch}/{record.origin_log}/{record.origin_seq}"
            found.append((place, record.fields["n"]))
        return found


class Gate:
    """Stands in front of the hub's store: commits pass only while it is open."""

    def __init__(self) -> None:
        self.event = trio.Event()
        self.event.set()
        self.events_to_cut = 0
        self.cut: Callable[[], None] = lambda: None

    async def run_blocking(self, sync_fn: Callable[..., Any], /, *args: Any) -> Any:
        if getattr(sync_fn, "__name__", "") == "commit":
            if self.events_to_cut:
                self.events_to_cut -= 1
                self.cut()
            await self.event.wait()
        return await inline(sync_fn, *args)


@asynccontextmanager
async def hub_side(path: Path) -> AsyncIterator[FarSide]:
    gate = Gate()
    async with running_station(path, run_blocking=gate.run_blocking) as hub, serving(hub) as port:
        side = HubSide(hub, port, gate)
        async with cutting_proxy(port) as (proxy_port, cut):
            side.url = f"ws://127.0.0.1:{proxy_port}/forward"
            gate.cut = cut
            try:
                yield side
            finally:
                gate.event.set()


@asynccontextmanager
async def cutting_proxy(port: int) -> AsyncIterator[tuple[int, Callable[[], None]]]:
    """A way to the hub that can be cut, as a bad network does it."""
    scopes: list[trio.CancelScope] = []

    async def serve(stream: trio.abc.Stream) -> None:
        with trio.CancelScope() as scope:
            scopes.append(scope)
            async with (
                stream,
                await trio.open_tcp_stream("127.0.0.1", port) as onward,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(pump, stream, onward, scope)
                nursery.start_soon(pump, onward, stream, scope)

    async def pump(here: Any, there: Any, scope: trio.CancelScope) -> None:
        try:
            while data := await here.receive_some():
                await there.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()

    def cut() -> None:
        for scope in scopes:
            scope.cancel()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        yield listeners[0].socket.getsockname()[1], cut
        nursery.cancel_scope.cancel()
