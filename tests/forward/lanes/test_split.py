from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from edge_agent.errors import SinkUnavailable
from edge_agent.forward import Forwarder
from edge_agent.forward.lanes import split as split_module
from edge_agent.forward.lanes.split import LaneLog, Split
from edge_agent.forward.sink import Batch, LaneResume, Resumed
from edge_agent.store import Entry, Gap, Position
from tests.forward.support import FakeSink, Station, running_station, upstream
from tests.manual_clock import ManualClock

Clock = trio.testing.MockClock
LIVE, BACKLOG = "upstream/hub", "upstream/hub/backlog"
WEEK_S = 7 * 86_400.0


class Sinks(list[FakeSink]):
    """Every sink that was made, in order; each fails as ``script`` says of it."""

    def __init__(self, *first: FakeSink) -> None:
        super().__init__()
        self._first = list(first)

    def make(self, log: str) -> FakeSink:
        """The next one."""
        self.append(self._first.pop(0) if self._first else FakeSink())
        return self[-1]


def forwarder_for(station: Station, sinks: Sinks, **more: Any) -> Forwarder:
    config = upstream(more.pop("url", "ws://hub:1/forward"), **{"batch_age": 0.0, **more})
    dice, metrics = random.Random(1), station.metrics
    return Forwarder(
        config, station.log, sinks.make, clock=station.clock, dice=dice, metrics=metrics
    )


async def positions(station: Station) -> dict[str, tuple[int, tuple[int, int]]]:
    found = await station.log.consumers()
    return {one.consumer: (one.floor, one.span) for one in found}


async def settled(seconds: float = 0.001) -> None:
    await trio.sleep(seconds)
    await trio.testing.wait_all_tasks_blocked()


async def test_what_waited_long_goes_beside_what_is_new(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    clock = ManualClock()
    async with running_station(tmp_path, clock=clock) as station, trio.open_nursery() as nursery:
        await station.put(3)
        await station.put(3, start=3)
        clock.advance(WEEK_S)
        sinks = Sinks(FakeSink(), FakeSink(script=[SinkUnavailable("slow", slow=True)]))
        forwarder = forwarder_for(station, sinks)
        nursery.start_soon(forwarder.run)
        await settled()
        assert await positions(station) == {LIVE: (6, (0, 0)), BACKLOG: (0, (1, 6))}
        # The backlog's lane is down, and what is new does not mind.
        await station.put(2, start=6)
        await settled()
        assert sinks[0].sent == [(7, 8)] and sinks[1].sent == [(1, 6)]
        lanes = {one.part: one for one in forwarder.statistics().lanes}
        assert (lanes["live"].backlog_records, lanes["backlog"].backlog_records) == (0, 6)
        assert forwarder.statistics().backlog_records == 6
        await settled(400)
        assert sinks[1].sent == [(1, 6), (1, 6)]
        assert await positions(station) == {LIVE: (8, (0, 0))}
        assert [one.part for one in forwarder.statistics().lanes] == ["live"]
        nursery.cancel_scope.cancel()


async def test_an_upstream_that_is_not_far_behind_has_one_lane(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    clock = ManualClock()
    async with running_station(tmp_path, clock=clock) as station, trio.open_nursery() as nursery:
        await station.put(3)
        clock.advance(299)
        sinks = Sinks()
        nursery.start_soon(forwarder_for(station, sinks).run)
        await settled()
        assert [one.sent for one in sinks] == [[(1, 3)]]
        nursery.cancel_scope.cancel()


async def test_in_order_means_one_lane_whatever_waits(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    clock = ManualClock()
    async with running_station(tmp_path, clock=clock) as station, trio.open_nursery() as nursery:
        await station.put(3)
        clock.advance(WEEK_S)
        sinks = Sinks()
        nursery.start_soon(forwarder_for(station, sinks, order="in order").run)
        await station.put(1, start=3)
        await settled()
        assert [one.sent for one in sinks] == [[(1, 4)]]
        nursery.cancel_scope.cancel()


async def test_a_division_outlasts_a_restart_and_in_order_sends_the_backlog_first(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        await station.put(4)
        await station.put(2, start=4)
        span = Position(BACKLOG, "main", 1, span=(1, 4))
        entry = Entry(positions=(span, Position(LIVE, "main", 4)))
        await (await station.log.append(entry)).wait()
        sinks = Sinks(FakeSink(), FakeSink(script=[SinkUnavailable("no")]))
        nursery.start_soon(forwarder_for(station, sinks, order="in order").run)
        await settled()
        assert sinks[0].sent == [] and sinks[1].sent == [(2, 4)]
        await settled(60)
        assert sinks[1].sent == [(2, 4), (2, 4)] and sinks[0].sent == [(5, 6)]
        opened = sinks[1].opened[0]
        assert (opened.part, opened.last) == ("backlog", 4)
        assert (sinks[0].opened[0].part, sinks[0].opened[0].base) == ("live", 4)
        nursery.cancel_scope.cancel()


async def test_a_lane_that_falls_behind_while_it_is_connected_is_divided_too(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    clock = ManualClock()
    async with running_station(tmp_path, clock=clock) as station, trio.open_nursery() as nursery:
        released = trio.Event()

        class Slow(FakeSink):
            async def send(self, batch: Batch) -> Any:
                if len(sinks) == 1:
                    await released.wait()
                return await super().send(batch)

        sinks = Sinks(Slow())
        nursery.start_soon(forwarder_for(station, sinks).run)
        await station.put(1)
        await settled()
        await station.put(2, start=1)
        clock.advance(301)
        await station.put(1, start=3)
        released.set()
        await settled()
        # The first one was on its way; what was found old behind it, and all there was, follows.
        assert sinks[0].sent == [(1, 1)] and sinks[1].sent == [(2, 4)]
        nursery.cancel_scope.cancel()


async def test_a_keyed_upstream_is_divided_once_it_takes_something(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    clock = ManualClock()
    async with running_station(tmp_path, clock=clock) as station, trio.open_nursery() as nursery:
        for n in range(3):
            await station.put(1, start=n)
        clock.advance(WEEK_S)
        sinks = Sinks(FakeSink(keyed=True, script=[SinkUnavailable("down")] * 3))
        sinks._first.append(FakeSink(keyed=True))
        nursery.start_soon(
            forwarder_for(station, sinks, url="http://h/", batch_records=1, backoff_max=2.0).run
        )
        await settled()
        # While it is down the end of the backlog is not known: it is where it comes back.
        assert len(sinks) == 1 and LIVE in await positions(station)
        await station.put(1, start=3)
        await settled(60)
        assert sinks[0].sent == [(1, 1)] * 4 and sinks[1].sent == [(2, 2), (3, 3), (4, 4)]
        nursery.cancel_scope.cancel()


async def test_late_word_of_a_backlog_that_is_done_does_not_bring_it_back(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station:
        await station.put(3)
        done = (
            Position(BACKLOG, "main", 1, span=(1, 3)),
            Position(BACKLOG, "main", 0, order="forget"),
            Position(BACKLOG, "main", 2, b"late"),
        )
        for one in done:
            await station.log.acknowledge(one, durable=True)
        assert await positions(station) == {}


async def test_a_backlog_ends_with_its_log_where_that_lost_its_end(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station:
        await station.put(3)
        split = Split(upstream("ws://h/"), station.log, "main", station.clock)
        await station.log.acknowledge(Position(BACKLOG, "main", 2, span=(1, 9)), durable=True)
        await split.restore()
        assert split.span == (1, 3)
        assert await positions(station) == {BACKLOG: (2, (1, 3))}


async def test_the_backlogs_lane_sees_the_log_up_to_its_end(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station:
        for n in range(4):
            await station.put(2, start=2 * n)
        split = Split(upstream("ws://h/"), station.log, "main", station.clock)
        backlog, live = (LaneLog(station.log, split, part) for part in ("backlog", "live"))
        assert backlog.is_gone and not live.is_gone
        split._set((3, 5))
        assert (backlog.last_seq("main"), live.last_seq("main"), live.base) == (5, 8, 5)
        items = await backlog.read("main", 2)
        # No block may lie on both sides; if one did, neither lane would get it.
        assert [(one.first, one.last) for one in items] == [(3, 4), (5, 5)]
        assert isinstance(items[1], Gap) and items[1].reason == "thinned"
        assert await backlog.wait_past("main", 4) == 5
        with trio.move_on_after(0.05) as waits:
            await backlog.wait_past("main", 5)
        assert waits.cancelled_caught


async def divided(station: Station) -> Position:
    await station.put(9)
    parts = (Position(BACKLOG, "main", 3, span=(2, 6)), Position(LIVE, "main", 8))
    await (await station.log.append(Entry(positions=parts))).wait()
    return parts[0]


async def test_an_upstream_set_back_to_before_the_division_gets_all_in_order(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        await divided(station)
        sinks = Sinks(FakeSink(next_open=Resumed(2)))
        nursery.start_soon(forwarder_for(station, sinks).run)
        await settled()
        await station.put(1, start=9)
        await settled()
        assert sinks[0].sent[0] == (2, 9)
        assert list(await positions(station)) == [LIVE]
        nursery.cancel_scope.cancel()


async def test_a_backlog_is_not_done_while_a_loss_has_to_be_looked_into(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station:
        await divided(station)
        split = Split(upstream("ws://h/"), station.log, "main", station.clock)
        await split.restore()
        split.lost = True
        assert not await split.finish(keyed=False) and split.span == (2, 6)
        split.lost = False
        assert await split.finish(keyed=False) and split.span == (0, 0)
        assert list(await positions(station)) == [LIVE]


async def test_a_backlog_that_the_upstream_has_lost_is_sent_again_from_the_oldest_on(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        await divided(station)
        sinks = Sinks(FakeSink(), FakeSink(next_open=Resumed(1, b"new")))
        nursery.start_soon(forwarder_for(station, sinks).run)
        await settled()
        assert sinks[0].sent == [(9, 9)] and sinks[1].sent == [(1, 6)]
        await station.put(1, start=9)
        await settled()
        assert list(await positions(station)) == [LIVE]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("url", ["ws://hub:1/forward", "http://h/"])
async def test_newest_first_a_backlog_goes_part_by_part_from_its_end(
    autojump_clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setattr(split_module, "PART_RECORDS", 4)
    clock, keyed = ManualClock(), url.startswith("http")
    async with running_station(tmp_path, clock=clock) as station, trio.open_nursery() as nursery:
        for n in range(20):
            await station.put(3, start=3 * n)
        clock.advance(WEEK_S)
        # Whatever takes what is keyed is known to take something first.
        sinks = Sinks(FakeSink(keyed=keyed), FakeSink(keyed=keyed, script=[SinkUnavailable("no")]))
        more = {"url": url, "order": "newest first", "batch_records": 3}
        forwarder = forwarder_for(station, sinks, **more)
        nursery.start_soon(forwarder.run)
        await settled()
        begin = 3 if keyed else 0
        found = await positions(station)
        assert found["upstream/hub/older"] == (begin, (begin + 1, 60))
        assert found[BACKLOG] == (54, (55, 60)) and found[LIVE][0] == 60
        lanes = {one.part: one.backlog_records for one in forwarder.statistics().lanes}
        assert lanes == {"live": 0, "backlog": 60 - begin}
        await station.put(1, start=60)
        await settled(60)
        assert sinks[0].sent[-1] == (61, 61)
        seqs = [seq for first, last in sinks[1].sent[1:] for seq in range(first, last + 1)]
        assert sorted(seqs) == list(range(begin + 1, 61))
        # What was planned before the division, and may have been sent, comes last and in order.
        lowest = 24 if keyed else 6
        assert seqs[:7] == [55, 56, 57, 58, 59, 60, 49] and seqs[-1] == lowest
        assert list(await positions(station)) == [LIVE]
        nursery.cancel_scope.cancel()


async def test_newest_first_what_the_upstream_has_lost_is_sent_again_as_a_whole(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        await station.put(9)
        parts = (
            Position("upstream/hub/older", "main", 1, span=(2, 6)),
            Position(BACKLOG, "main", 4, span=(4, 5)),
            Position(LIVE, "main", 6),
        )
        await (await station.log.append(Entry(positions=parts))).wait()
        sinks = Sinks(FakeSink(), FakeSink(next_open=Resumed(4)))
        nursery.start_soon(forwarder_for(station, sinks).run)
        await settled()
        assert (sinks[0].sent, sinks[1].sent) == ([(7, 9)], [(2, 6)])
        nursery.cancel_scope.cancel()


async def test_a_kind_that_takes_no_second_lane_gets_what_was_divided_in_order(
    autojump_clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(split_module, "TWO_LANES", frozenset())
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        await divided(station)
        sinks = Sinks()
        nursery.start_soon(forwarder_for(station, sinks).run)
        await settled()
        assert [one.sent for one in sinks] == [[(4, 9)]]
        nursery.cancel_scope.cancel()


async def test_a_connection_that_breaks_while_a_log_is_divided_leaves_a_division_that_is_known(
    autojump_clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, broken = ManualClock(), trio.Event()

    class Breaking(FakeSink):
        async def open(self, nursery: trio.Nursery, resume: LaneResume) -> Resumed:
            if not broken.is_set():
                nursery.start_soon(self._break)
            return await super().open(nursery, resume)

        async def _break(self) -> None:
            await broken.wait()
            raise SinkUnavailable("gone")

    write, written = Split._write, []

    async def breaking(self: Split, *positions: Position) -> None:
        await write(self, *positions)
        written.append(positions)
        if len(positions) == 2 and not broken.is_set():
            broken.set()
            await trio.sleep_forever()

    monkeypatch.setattr(Split, "_write", breaking)
    async with running_station(tmp_path, clock=clock) as station, trio.open_nursery() as nursery:
        await station.put(3)
        clock.advance(WEEK_S)
        sinks = Sinks(Breaking())
        nursery.start_soon(forwarder_for(station, sinks).run)
        await settled(60)
        assert [len(one) for one in written] == [0, 2, 1]  # it is not divided a second time
        assert (sinks[0].sent, sinks[1].sent) == ([], [(1, 3)])
        nursery.cancel_scope.cancel()


async def test_how_far_the_upstream_has_come_is_told_for_the_whole_log_or_not_at_all(
    tmp_path: Path,
) -> None:
    async with running_station(tmp_path) as station:
        await station.put(9)
        told: list[int] = []
        split = Split(upstream("ws://h/", order="in order"), station.log, "main", station.clock)
        live = LaneLog(station.log, split, "live", reached=told.append)
        backlog = LaneLog(station.log, split, "backlog")
        await station.log.acknowledge(Position(LIVE, "main", 4), durable=True)
        assert (await live.take_up("main"))[1] == 4
        await live.turn(5)
        live.acknowledged(2, 7)
        assert told == [4, 5, 7]
        # The live lane stands at the end of a backlog that has not been sent.
        split._set((8, 9))
        live.acknowledged(0, 9)
        backlog.acknowledged(1, 8)
        assert len(told) == 3
        split._set((0, 0))
        await live.turn(9)
        assert told[3:] == [9]
