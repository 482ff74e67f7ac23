from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio
import trio.testing

from edge_agent.errors import SinkUnavailable
from edge_agent.forward.lanes.log_lanes import LogLanes
from edge_agent.forward.sink import Acknowledged, Batch, LaneResume, Resumed
from edge_agent.store import Entry, Position
from tests.forward.support import FakeSink, Station, running_station, upstream


def lanes_for(station: Station, sinks: list[FakeSink]) -> LogLanes:
    waiting = list(sinks)
    return LogLanes(
        upstream("ws://h/", batch_age=0.0), station.log, "main", lambda log: waiting.pop(0),
        clock=station.clock, dice=random.Random(1), metrics=station.metrics,
    )  # fmt: skip


async def divided(station: Station, first: int = 1) -> None:
    """The backlog is 1 to 3; ``first``: of the part that is sent, newest first."""
    await station.put(3)
    parts = [Position("upstream/hub/backlog", "main", first - 1, span=(first, 3))]
    if first > 1:
        parts.append(Position("upstream/hub/older", "main", 0, span=(1, 3)))
    entry = Entry(positions=(*parts, Position("upstream/hub", "main", 3)))
    await (await station.log.append(entry)).wait()


class Stuck(FakeSink):
    """Takes nothing, ever."""

    async def send(self, batch: Batch) -> Acknowledged:
        self.sent.append((batch.first, batch.last))
        await trio.sleep_forever()
        raise AssertionError


async def test_a_backlog_that_is_stuck_holds_nothing_up(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        await divided(station)
        sinks = [FakeSink(), Stuck()]
        lanes = lanes_for(station, sinks)
        assert len(list(lanes)) == 1
        nursery.start_soon(lanes.run)
        await trio.sleep(1)
        assert [lane.consumer for lane in lanes] == ["upstream/hub", "upstream/hub/backlog"]
        await station.put(2, start=3)
        await trio.sleep(1)
        assert (sinks[0].sent, sinks[1].sent) == ([(4, 5)], [(1, 3)])
        nursery.cancel_scope.cancel()


async def test_both_lanes_stop_and_nothing_waits_for_a_backlog_that_may_come(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station:
        await station.put(1)
        for begin in (False, True):
            if begin:
                await divided(station)
            lanes = lanes_for(station, [FakeSink(), FakeSink()])
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lanes.run)
                await trio.sleep(1)
                lanes.stop()
            assert len(list(lanes)) == 1
        assert [one.consumer for one in await station.log.consumers()] == ["upstream/hub"]


@pytest.mark.parametrize("first", [1, 3])
async def test_a_backlog_counts_before_its_lane_begins(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, first: int
) -> None:
    class Away(FakeSink):
        async def open(self, nursery: trio.Nursery, resume: LaneResume) -> Resumed:
            await trio.sleep_forever()
            raise AssertionError

    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        await divided(station, first)
        lanes = lanes_for(station, [Away()])
        nursery.start_soon(lanes.run)
        await trio.sleep(1)
        found = [(one.part, one.floor, one.backlog_records) for one in lanes.statistics()]
        assert found == [("live", 3, 0), ("backlog", 0, 3)]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("keyed", [False, True])
async def test_how_far_the_upstream_has_come_is_told_with_each_acknowledgement(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, keyed: bool
) -> None:
    told: list[tuple[str, int]] = []
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        sink = FakeSink(keyed=keyed, script=[SinkUnavailable("away")])
        lanes = LogLanes(
            upstream("ws://h/", batch_age=0.0, order="in order"), station.log, "main",
            lambda log: sink, clock=station.clock, dice=random.Random(1), metrics=station.metrics,
            reached=lambda log, seq: told.append((log, seq)),
        )  # fmt: skip
        await station.put(3)
        nursery.start_soon(lanes.run)
        await trio.sleep(60)
        await station.put(2, start=3)
        await trio.sleep(60)
        assert told[0] == ("main", 0) and told[-1] == ("main", 5) and ("main", 3) in told
        assert [seq for _, seq in told] == sorted(seq for _, seq in told)
        nursery.cancel_scope.cancel()
