"""Where a new upstream begins, and that this is decided once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from edge_agent.forward.lanes.beginning import beginning
from edge_agent.forward.lanes.lane import Lane
from edge_agent.store import Position
from tests.forward.lanes.test_lane import lane_for, settled
from tests.forward.support import FakeSink, Station, running_station, upstream

HUB = "upstream/hub"


async def begin(station: Station, start: str) -> int:
    config = upstream("ws://hub:1/forward", start=start)
    return (await beginning(config, station.log, "main", HUB, station.clock)).floor


async def test_a_new_upstream_begins_with_the_oldest_or_what_comes_from_now_on(
    tmp_path: Path,
) -> None:
    async with running_station(tmp_path) as station:
        await station.put(5)
        for start, floor in ("oldest", 0), ("now", 5):
            assert await begin(station, start) == floor
            forget = Position(HUB, "main", 0, order="forget")
            await station.log.acknowledge(forget, durable=True)


async def test_a_new_upstream_begins_at_a_time(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station:
        clock: Any = station.clock
        for start in range(3):
            await station.arrive(10, start=10 * start)
            clock.advance(86_400)
        # What was measured from there on is among it; the log is kept by blocks.
        assert await begin(station, "-50h") == 10
        forget = Position(HUB, "main", 0, order="forget")
        await station.log.acknowledge(forget, durable=True)
        assert await begin(station, "2100-01-01") == 30
        await station.log.acknowledge(forget, durable=True)
        assert await begin(station, "-90000d") == 0


@pytest.mark.parametrize("first, later, floor", [("now", "oldest", 3), ("oldest", "now", 0)])
async def test_where_it_begins_is_decided_once(
    tmp_path: Path, first: str, later: str, floor: int
) -> None:
    async with running_station(tmp_path) as station:
        await station.put(3)
        assert await begin(station, first) == floor
        await station.put(3, start=3)
    async with running_station(tmp_path) as station:
        assert await begin(station, later) == floor


async def test_a_lane_that_begins_now_sends_what_comes_and_a_log_that_was_empty_all_of_it(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        sink = FakeSink()
        lane: Lane = lane_for(station, sink, start="now")
        nursery.start_soon(lane.run)
        await settled()
        await station.put(2)
        await settled()
        assert sink.sent == [(1, 2)]
        other = FakeSink()
        nursery.start_soon(lane_for(station, other, start="now", name="late").run)
        await settled()
        await station.put(2, start=2)
        await settled()
        assert other.sent == [(3, 4)] and other.opened[0].floor == 2
        nursery.cancel_scope.cancel()


async def test_a_position_behind_the_end_of_a_salvaged_log_goes_back_to_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_station(tmp_path / "a") as station:
        await station.put(9)
        await station.log.acknowledge(Position(HUB, "main", 9), durable=True)
        monkey: Any = station.log
        monkey._last["main"] = 4
        assert await begin(station, "now") == 4
        assert "the log main ends at 4, before 9" in caplog.text
