"""What a lane has in memory never runs ahead of what its store took."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trio
import trio.testing

from edge_agent.errors import SinkError, SinkRefused, StoreFull
from edge_agent.forward.batches.plan import decode_plan, shape_of
from edge_agent.forward.lanes.lane import Lane
from edge_agent.forward.sink import Batch
from edge_agent.store import Entry
from edge_agent.store.types import CommitResult
from tests.forward.support import FakeSink, Station, running_station, upstream

Clock = trio.testing.MockClock
CONFIG = upstream("ws://hub:1/forward", backoff_base=8.0, backoff_max=64.0)


def lane_for(station: Station, sink: FakeSink) -> Lane:
    dice = random.Random(3)
    return Lane(
        CONFIG, station.log, "main", sink, clock=station.clock, dice=dice, metrics=station.metrics
    )


def durable_ranges(station: Station) -> list[tuple[int, int]]:
    floor, state = station.engine.position("upstream/hub", "main")
    return decode_plan(state, shape_of(CONFIG), floor).ranges


class Full:
    """A store that answers full to whatever moves a plan, as often as told."""

    def __init__(self, station: Station) -> None:
        self.times = 0
        self._commit = station.engine.commit
        # No share of a log refuses an entry without records, and a file without a single free page
        # takes minutes to make.
        station.engine.commit = self._answer  # type: ignore[method-assign]

    def _answer(self, entries: Sequence[Entry]) -> CommitResult:
        if self.times and any(one.positions or one.quarantine for one in entries):
            self.times -= 1
            result = self._commit([])
            answers = tuple(StoreFull("the store is full") for _ in entries)
            return CommitResult(**{**_fields(result), "answers": answers})
        return self._commit(entries)


def _fields(result: CommitResult) -> dict[str, Any]:
    return {name: getattr(result, name) for name in result.__dataclass_fields__}


async def settled(seconds: float = 0.001) -> None:
    await trio.sleep(seconds)
    await trio.testing.wait_all_tasks_blocked()


async def test_nothing_is_sent_under_a_range_that_the_store_did_not_take(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        await station.put(8)
        full = Full(station)
        seen: list[tuple[tuple[int, int], list[tuple[int, int]]]] = []

        def refuse(batch: Batch) -> SinkError | None:
            sent = (batch.first, batch.last)
            full.times = 2 if sent not in [one for one, _ in seen] else 0
            seen.append((sent, durable_ranges(station)))
            return SinkRefused("too much") if batch.last - batch.first >= 2 else None

        sink = FakeSink(keyed=True, refuse=refuse)
        full.times = 2
        nursery.start_soon(lane_for(station, sink).run)
        await settled(1000)
        assert sink.sent[-1] == (7, 8)
        for sent, durable in seen:
            assert sent in durable
        nursery.cancel_scope.cancel()


async def test_a_record_that_could_not_be_set_aside_is_not_passed_over(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        await station.put(4)
        full = Full(station)

        def refuse(batch: Batch) -> SinkError | None:
            if batch.first <= 2 <= batch.last:
                full.times = int(batch.first == batch.last)
                return SinkRefused("bad record 2")
            return None

        sink = FakeSink(keyed=True, refuse=refuse)
        lane = lane_for(station, sink)
        nursery.start_soon(lane.run)
        await settled(20)
        assert lane.statistics().phase == "backing off"
        assert lane.statistics().refused == 0
        sink.refuse = None
        await settled(200)
        # It was refused, but never set aside: the upstream gets it, in its place.
        assert sink.sent[-2:] == [(2, 2), (3, 4)]
        assert await station.log.quarantine(0, 9) == []
        assert lane.statistics().floor == 4
        nursery.cancel_scope.cancel()


async def test_a_store_that_is_full_at_the_sixteenth_refusal_does_not_end_the_lane(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        await station.put(40)
        full = Full(station)

        def refuse(batch: Batch) -> SinkError:
            full.times = int(batch.first == batch.last == 16)
            return SinkRefused("no")

        sink = FakeSink(keyed=True, refuse=refuse)
        lane = lane_for(station, sink)
        nursery.start_soon(lane.run)
        await settled(20)
        assert lane.statistics().phase == "backing off"
        sink.refuse = lambda batch: SinkRefused("no")
        await settled(200)
        assert lane.statistics().phase == "stopped"
        assert len(await station.log.quarantine(0, 99)) == 16
        nursery.cancel_scope.cancel()


async def test_a_lane_that_is_asked_to_stop_while_it_gives_up_ends_at_once(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        await station.put(40)

        class Goodbye(FakeSink):
            """Its goodbye takes a moment, in which the agent is told to stop."""

            async def aclose(self) -> None:
                await super().aclose()
                lane.stop()

        lane = lane_for(station, Goodbye(keyed=True, refuse=lambda batch: SinkRefused("no")))
        with trio.fail_after(60):
            await lane.run()
        assert lane.statistics().phase == "stopped"
        nursery.cancel_scope.cancel()


async def test_a_lane_that_is_asked_to_stop_while_it_connects_ends_at_once(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    class Deaf(FakeSink):
        async def open(self, nursery: trio.Nursery, resume: Any) -> Any:
            await trio.sleep_forever()

    async with running_station(tmp_path) as station:
        lane = lane_for(station, Deaf())
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lane.run)
                await settled()
                lane.stop()
