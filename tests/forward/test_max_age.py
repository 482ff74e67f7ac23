from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from edge_agent.forward import Forwarder
from edge_agent.forward.batches.planned_reader import PlannedBatches
from edge_agent.forward.lanes.lane_state import LaneStatistics
from edge_agent.forward.max_age import expired_numbers, is_expired
from edge_agent.store import Block, Gap
from edge_agent.values.stream_names import compile_patterns
from tests.forward.support import FakeSink, Station, running_station, upstream
from tests.manual_clock import ManualClock


async def lanes_after(station: Station, sink: FakeSink, **more: Any) -> tuple[LaneStatistics, ...]:
    config = upstream("http://h/" if sink.keyed else "ws://h/", order="in order", **more)
    dice, metrics = random.Random(1), station.metrics
    async with trio.open_nursery() as nursery:
        forwarder = Forwarder(
            config, station.log, lambda log: sink, clock=station.clock, dice=dice, metrics=metrics
        )
        nursery.start_soon(forwarder.run)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    return forwarder.statistics().lanes


@pytest.mark.parametrize("keyed", [False, True])
async def test_what_is_too_old_is_left_out_and_counted(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, *, keyed: bool
) -> None:
    clock = ManualClock()
    async with running_station(tmp_path, clock=clock) as station:
        await station.put(3)
        clock.advance(100)
        await station.put(2, start=3)
        clock.advance(50)
        given: list[tuple[int, list[Any]]] = []
        sink = FakeSink(keyed=keyed)
        sink.refuse = lambda batch: given.append(
            (batch.last, [record.seq for record in batch.records(lambda _: True)])
        )
        (lane,) = await lanes_after(station, sink, max_age=120.0)
        assert given == [(5, [4, 5])]
        assert (lane.floor, lane.expired, lane.backlog_records) == (5, 3, 0)
        assert station.metrics.get("forward_expired_total", "hub") == 3


async def test_a_planned_range_keeps_its_bytes_when_more_of_it_gets_too_old(tmp_path: Path) -> None:
    clock = ManualClock()
    async with running_station(tmp_path, clock=clock) as station:
        await station.put(2)
        clock.advance(100)
        await station.put(2, start=2)
        clock.advance(50)
        config = upstream("http://h/", max_age=120.0)
        matches = compile_patterns(("**",))
        planned = []
        for _ in range(2):
            batches = PlannedBatches(config, station.log, "main", "upstream/hub", matches, clock)
            floor, state = station.engine.position("upstream/hub", "main")
            batches.restore(state, floor)
            planned.append(await batches.next())
            clock.advance(1000)
        first, again = planned
        assert first == again and [one.seq for one in again.records(matches)] == [3, 4]


async def test_what_the_clocks_cannot_date_is_sent(tmp_path: Path) -> None:
    clock = ManualClock()
    async with running_station(tmp_path, clock=clock) as station:
        await station.put(1)
        (block,) = await station.log.read("main", 0)
        assert isinstance(block, Block)
        clock.advance(1000)
        assert is_expired(block, clock.read(), 999) and not is_expired(block, clock.read(), None)
        clock.reboot(wall_ns=0)
        assert not is_expired(block, clock.read(), 1)
        assert not is_expired(Gap("main", 1, 9, "trimmed"), clock.read(), 1)


def test_only_what_lies_within_the_range_is_counted() -> None:
    gaps = [Gap("main", 1, 9, "expired"), Gap("main", 10, 12, "trimmed")]
    assert expired_numbers(gaps, 4, 12) == 6 and expired_numbers(gaps, 10, 12) == 0
