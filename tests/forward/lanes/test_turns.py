from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
import trio.testing

from edge_agent.errors import SinkUnavailable
from edge_agent.forward import Forwarder
from edge_agent.forward.lanes.turns import WAIT_MAX_S, LanePlace, LaneTurns
from edge_agent.forward.sink import Acknowledged, Batch
from tests.forward.support import FakeSink, running_station, upstream


class Narrow(FakeSink):
    """A link that takes ``seconds`` for each batch."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    async def send(self, batch: Batch) -> Acknowledged:
        await trio.sleep(self._seconds)
        return await super().send(batch)


async def waited(place: LanePlace) -> float:
    began = trio.current_time()
    await place.take()
    place.leave()
    return trio.current_time() - began


@asynccontextmanager
async def taken(*places: LanePlace) -> AsyncIterator[None]:
    for place in places:
        await place.take()
    yield
    for place in places:
        place.leave()


async def test_a_lane_waits_for_those_that_go_before_it_and_for_no_others(
    autojump_clock: trio.testing.MockClock,
) -> None:
    turns = LaneTurns()
    alarms, more_alarms = (LanePlace(turns, 1, is_backlog=False) for _ in range(2))
    bulk, more = (LanePlace(turns, 0, is_backlog=False) for _ in range(2))
    old = LanePlace(turns, 0, is_backlog=True)
    assert await waited(old) == 0
    async with taken(bulk):
        assert await waited(alarms) == await waited(more) == 0
        # What goes before it never ends: it gets through all the same, now and then.
        assert await waited(old) == WAIT_MAX_S
    async with trio.open_nursery() as nursery:
        async with taken(alarms, more_alarms):
            nursery.start_soon(waited, bulk)
            await trio.sleep(1)
        began = trio.current_time()
    assert trio.current_time() == began and await waited(bulk) == 0


async def test_a_log_of_higher_priority_goes_first_as_long_as_it_has_something_to_send(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    # Between two batches the disk's thread is asked, for which a clock that jumps would not wait.
    autojump_clock.autojump_threshold = 0.2
    logs = ("main", "alarms")
    async with running_station(tmp_path, logs=logs) as station, trio.open_nursery() as nursery:
        for n in range(3):
            await station.put(1, start=n)
            await station.put(1, start=n, stream="alarms/fire", log="alarms")
        sinks = {name: Narrow(2.0) for name in logs}
        config = upstream("ws://h/", batch_bytes=1, batch_age=0.0)
        forwarder = Forwarder(
            config, station.log, lambda log: sinks[log], clock=station.clock,
            dice=random.Random(1), metrics=station.metrics, priorities={"alarms": 1},
        )  # fmt: skip
        nursery.start_soon(forwarder.run)
        await trio.sleep(6.5)
        assert len(sinks["alarms"].sent) == 3 and len(sinks["main"].sent) <= 1, "no gap is used"
        await trio.sleep(6)
        assert len(sinks["main"].sent) == 3
        nursery.cancel_scope.cancel()


async def test_a_log_of_higher_priority_that_is_down_holds_nobody_up(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    logs = ("main", "alarms")
    async with running_station(tmp_path, logs=logs) as station, trio.open_nursery() as nursery:
        await station.put(1)
        await station.put(1, stream="alarms/fire", log="alarms")
        sinks = {name: FakeSink() for name in logs}
        sinks["alarms"].script = [SinkUnavailable("down")] * 99
        forwarder = Forwarder(
            upstream("ws://h/", batch_age=0.0), station.log, lambda log: sinks[log],
            clock=station.clock, dice=random.Random(1), metrics=station.metrics,
            priorities={"alarms": 1},
        )  # fmt: skip
        nursery.start_soon(forwarder.run)
        await trio.sleep(0.5)
        assert sinks["main"].sent == [(1, 1)]
        nursery.cancel_scope.cancel()
