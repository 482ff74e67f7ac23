"""What every sink promises (``edge_agent/forward/sink.py``), checked on each against a real far
side: another agent, and an HTTP server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
import trio

from edge_agent.errors import SinkUnavailable
from edge_agent.forward import make_sink
from edge_agent.forward.sink import Batch, LaneResume, Sink
from tests.forward.http_upstream import Reply, http_upstream
from tests.forward.support import Station, inline, running_station, serving, upstream
from tests.patience import PATIENCE_S


class FarSide(Protocol):
    """What a test may do to an upstream, and what it may ask of it."""

    url: str

    def hold(self) -> None:
        """Keep what comes from becoming durable, and so from being acknowledged."""

    def release(self) -> None:
        """End that."""

    def break_down(self) -> None:
        """Take what comes next, and fail before it is acknowledged."""

    async def durable(self) -> list[tuple[str, int]]:
        """(stable id, n) of every record that is durable there, in order."""


class HubSide:
    def __init__(self, hub: Station, port: int, gate: Gate) -> None:
        self.url = f"ws://127.0.0.1:{port}/forward"
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


@asynccontextmanager
async def http_side(_: Path) -> AsyncIterator[FarSide]:
    async with http_upstream() as server:
        kept: dict[str, bytes] = {}
        found: list[tuple[str, int]] = []

        class HttpSide:
            url = server.url

            def hold(self) -> None:
                server.hold = trio.Event()

            def release(self) -> None:
                assert server.hold is not None
                server.hold.set()
                server.hold = None

            def break_down(self) -> None:
                server.script = [Reply(503)]

            async def durable(self) -> list[tuple[str, int]]:
                return found

        def answer(got: Any) -> Reply:
            # As an upstream that knows keys: the same key is the same bytes, and done once.
            if kept.setdefault(got.key, got.body) is got.body:
                found.extend((record["id"], record["fields"]["n"]) for record in got.records)
            assert kept[got.key] == got.body
            return Reply(204)

        server.answer = answer
        yield HttpSide()


Side = Callable[[Path], AbstractAsyncContextManager[FarSide]]
each_sink = pytest.mark.parametrize("side", [hub_side, http_side], ids=["websocket", "http"])


def sink_for(station: Station, url: str) -> Sink:
    return make_sink(
        upstream(url, timeout=PATIENCE_S),
        "main",
        identity=station.log.identity,
        clock=station.clock,
        run_blocking=inline,
    )


class Courier:
    """A forwarder reduced to what the contract speaks of: it keeps the floor and the state."""

    def __init__(self, station: Station, sink: Sink) -> None:
        self.station, self.sink = station, sink
        self.floor = 0
        self.state: bytes | None = None
        self.acknowledged: list[int] = []

    async def deliver(self, upto: int) -> None:
        """Open, send record by record what is beyond the floor, and wait for the last ack."""
        async with trio.open_nursery() as nursery:
            resume = LaneResume(self.floor, 1, self.station.log.last_seq("main"), self.state)
            resumed = await self.sink.open(nursery, resume)
            self.floor, self.state = resumed.next - 1, resumed.state or self.state
            nursery.start_soon(self._settle)
            for seq in range(self.floor + 1, upto + 1):
                items = (await self.station.log.read("main", seq - 1))[:1]
                self._note((await self.sink.send(Batch("main", seq, seq, tuple(items)))).upto)
            with trio.fail_after(PATIENCE_S):
                while self.floor < upto:
                    await trio.sleep(0.001)
            nursery.cancel_scope.cancel()

    async def _settle(self) -> None:
        while True:
            self._note((await self.sink.settle(self.floor)).upto)

    def _note(self, upto: int) -> None:
        if upto > self.floor:
            self.floor = upto
            self.acknowledged.append(upto)


@asynccontextmanager
async def couriers(tmp_path: Path, side: Side) -> AsyncIterator[tuple[Courier, FarSide]]:
    async with side(tmp_path / "far") as far, running_station(tmp_path / "near") as station:
        for n in range(6):
            await station.put(1, start=n)
        sink = sink_for(station, far.url)
        try:
            yield Courier(station, sink), far
        finally:
            await sink.aclose()


def expected(courier: Courier, upto: int) -> list[tuple[str, int]]:
    epoch = courier.station.log.identity.epoch
    return [(f"{epoch}/main/{seq}", seq - 1) for seq in range(1, upto + 1)]


@each_sink
async def test_what_is_sent_arrives_in_order_under_its_stable_id(
    side: Side, tmp_path: Path
) -> None:
    async with couriers(tmp_path, side) as (courier, far):
        await courier.deliver(6)
        assert await far.durable() == expected(courier, 6)
        assert courier.acknowledged == sorted(courier.acknowledged)


@each_sink
async def test_nothing_is_acknowledged_before_it_is_durable(side: Side, tmp_path: Path) -> None:
    async with couriers(tmp_path, side) as (courier, far), trio.open_nursery() as nursery:
        far.hold()
        nursery.start_soon(courier.deliver, 2)
        await trio.sleep(0.05)
        assert courier.acknowledged == [] and await far.durable() == []
        far.release()
        with trio.fail_after(PATIENCE_S):
            while courier.floor < 2:
                durable = len(await far.durable())
                assert courier.floor <= durable
                await trio.sleep(0.001)
        assert await far.durable() == expected(courier, 2)


@each_sink
async def test_after_a_failure_the_same_batch_again_arrives_once(
    side: Side, tmp_path: Path
) -> None:
    async with couriers(tmp_path, side) as (courier, far):
        await courier.deliver(2)
        far.break_down()
        with pytest.raises(ExceptionGroup) as caught:
            await courier.deliver(6)
        assert caught.group_contains(SinkUnavailable)
        await courier.sink.aclose()
        await courier.deliver(6)
        assert await far.durable() == expected(courier, 6)


@each_sink
async def test_a_cancelled_delivery_can_be_taken_up_again(side: Side, tmp_path: Path) -> None:
    async with couriers(tmp_path, side) as (courier, far):
        far.hold()
        with trio.move_on_after(0.03):
            await courier.deliver(3)
        assert courier.floor == 0
        far.release()
        await courier.sink.aclose()
        await courier.deliver(6)
        assert await far.durable() == expected(courier, 6)


@each_sink
async def test_nobody_there_is_unavailable(side: Side, tmp_path: Path) -> None:
    async with running_station(tmp_path) as station:
        await station.put(1)
        scheme = "ws" if side is hub_side else "http"
        courier = Courier(station, sink_for(station, f"{scheme}://127.0.0.1:1/x"))
        with pytest.raises(ExceptionGroup) as caught:
            await courier.deliver(1)
        assert caught.group_contains(SinkUnavailable)
        await courier.sink.aclose()


@each_sink
async def test_closing_may_come_at_any_time_and_more_than_once(side: Side, tmp_path: Path) -> None:
    async with couriers(tmp_path, side) as (courier, far):
        with trio.fail_after(PATIENCE_S):
            await courier.sink.aclose()
            await courier.deliver(1)
            await courier.sink.aclose()
            await courier.sink.aclose()
            assert courier.sink.drained
            await courier.deliver(2)
        assert await far.durable() == expected(courier, 2)
