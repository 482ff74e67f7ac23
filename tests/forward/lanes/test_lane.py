from __future__ import annotations

import gc
import random
from pathlib import Path
from typing import Any, Literal

import pytest
import trio
import trio.testing

from edge_agent.errors import SinkError, SinkRefused, SinkUnavailable, StoreFailed
from edge_agent.forward.lanes.lane import Lane
from edge_agent.forward.lanes.lane_phases import Phase
from edge_agent.forward.lanes.lane_state import LaneStatistics
from edge_agent.forward.sink import Acknowledged, Batch, Resumed
from edge_agent.store import ConsumerView, Position
from tests.forward.support import FakeSink, Station, running_station, upstream
from tests.manual_clock import ManualClock
from tests.store.support import failing_disk

Clock = trio.testing.MockClock


def lane_for(station: Station, sink: FakeSink, **more: Any) -> Lane:
    config = upstream("ws://hub:1/forward", **{"backoff_base": 8.0, "backoff_max": 64.0, **more})
    dice = random.Random(3)
    return Lane(
        config, station.log, "main", sink, clock=station.clock, dice=dice, metrics=station.metrics
    )


def phase_of(lane: Lane) -> str:
    # Through a call, or mypy would believe that it never changes.
    return lane.statistics().phase


async def settled(seconds: float = 0.001) -> None:
    await trio.sleep(seconds)
    await trio.testing.wait_all_tasks_blocked()


async def test_records_go_out_in_order_and_the_position_follows(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        sink = FakeSink()
        lane = lane_for(station, sink)
        nursery.start_soon(lane.run)
        await settled()
        assert phase_of(lane) == "caught up" and lane.statistics().connected
        await station.put(3)
        await settled()
        await station.put(2, start=3)
        await settled()
        assert sink.sent == [(1, 3), (4, 5)]
        statistics = lane.statistics()
        assert (statistics.floor, statistics.backlog_records, statistics.records) == (5, 0, 5)
        await station.put(1, start=5)  # the commit that the position rides on
        assert (await station.log.position("upstream/hub", "main"))[0] == 5
        nursery.cancel_scope.cancel()


async def test_a_restart_goes_on_behind_the_position(autojump_clock: Clock, tmp_path: Path) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        await station.put(9)
        await station.log.acknowledge(Position("upstream/hub", "main", 9), durable=True)
        await station.put(2, start=9)
        sink = FakeSink()
        nursery.start_soon(lane_for(station, sink).run)
        await settled()
        assert sink.sent == [(10, 11)]
        assert (sink.opened[0].floor, sink.opened[0].first, sink.opened[0].last) == (9, 1, 11)
        nursery.cancel_scope.cancel()


async def test_a_batch_waits_for_company_until_it_is_old_enough_or_full(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        sink = FakeSink()
        nursery.start_soon(lane_for(station, sink, batch_age=5.0, batch_records=10).run)
        await station.put(2)
        await trio.sleep(3)
        await station.put(2, start=2)
        assert sink.sent == []
        await settled(2.1)
        assert sink.sent == [(1, 4)]
        await station.put(10, start=4)
        await settled()
        assert sink.sent == [(1, 4), (5, 14)]
        nursery.cancel_scope.cancel()


async def test_what_was_not_acknowledged_is_sent_again_after_a_wait(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        sink = FakeSink(script=[SinkUnavailable("gone"), SinkUnavailable("gone"), None])
        lane = lane_for(station, sink)
        await station.put(3)
        nursery.start_soon(lane.run)
        await settled()
        statistics = lane.statistics()
        assert statistics.phase == "backing off" and statistics.error == "gone"
        assert 0 < statistics.next_try_s <= 8 and not statistics.connected
        assert statistics.backlog_records == 3 and statistics.failures == 1
        await settled(200)
        assert sink.sent == [(1, 3)] * 3
        assert sink.closed == 2 and len(sink.opened) == 3
        after = lane.statistics()
        assert (after.phase, after.failures, after.failing) == ("caught up", 0, False)
        assert station.metrics.get("forward_failures_total", "hub", "unavailable") == 2
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("keyed", [False, True])
async def test_a_batch_is_gone_with_the_attempt_that_failed(
    autojump_clock: Clock, tmp_path: Path, keyed: bool
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        # It raises from a variable of its own, as many do.
        sink = FakeSink(keyed=keyed, script=[SinkUnavailable("gone")] * 2)
        lane = lane_for(station, sink)
        await station.put(3)
        gc.collect()
        # Other tests of the same process may hold some.
        before = [one for one in gc.get_objects() if isinstance(one, Batch)]
        known = {id(one) for one in before}
        gc.disable()
        try:
            nursery.start_soon(lane.run)
            await settled()
            assert len(sink.sent) == 1 and phase_of(lane) == "backing off"
            there = [one for one in gc.get_objects() if isinstance(one, Batch)]
            assert not [one for one in there if id(one) not in known]
        finally:
            gc.enable()
        nursery.cancel_scope.cancel()


async def test_the_age_of_the_backlog_shows_before_anything_could_be_sent(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    clock = ManualClock()
    async with running_station(tmp_path, clock=clock) as station, trio.open_nursery() as nursery:
        await station.put(3)
        clock.advance(90)
        await station.put(1, start=3)
        lane = lane_for(station, FakeSink(open_script=[SinkUnavailable("no", slow=True)]))
        nursery.start_soon(lane.run)
        await settled()
        assert lane.statistics().backlog_seconds == 90
        nursery.cancel_scope.cancel()


async def test_connecting_alone_does_not_shorten_the_wait(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        sink = FakeSink(script=[SinkUnavailable("again")] * 60)
        lane = lane_for(station, sink)
        await station.put(1)
        nursery.start_soon(lane.run)
        await settled(150)
        assert lane.statistics().failures >= 4
        nursery.cancel_scope.cancel()


async def test_a_connection_that_lasted_shortens_the_wait(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        sink = FakeSink(open_script=[SinkUnavailable("no")] * 3)
        lane = lane_for(station, sink)
        nursery.start_soon(lane.run)
        await settled(300)
        assert lane.statistics().connected and lane.statistics().failures == 3
        sink.script = [SinkUnavailable("cut")]
        await station.put(1)
        await settled()
        assert lane.statistics().failures == 1
        nursery.cancel_scope.cancel()


async def test_an_online_signal_cuts_the_wait_short(autojump_clock: Clock, tmp_path: Path) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        sink = FakeSink(open_script=[SinkUnavailable("no", slow=True)])
        lane = lane_for(station, sink)
        nursery.start_soon(lane.run)
        await settled()
        assert lane.statistics().next_try_s > 30
        lane.online()
        await settled()
        assert lane.statistics().connected
        nursery.cancel_scope.cancel()


async def test_a_wait_that_the_upstream_asked_for_is_not_cut_short(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        sink = FakeSink(open_script=[SinkUnavailable("rate", retry_after=40)])
        lane = lane_for(station, sink)
        nursery.start_soon(lane.run)
        await settled()
        lane.online()
        await settled(39)
        assert phase_of(lane) == "backing off"
        await settled(10)
        assert lane.statistics().connected
        nursery.cancel_scope.cancel()


async def test_an_upstream_that_lost_data_is_sent_it_again_and_that_is_counted(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        await station.put(9)
        await station.log.acknowledge(Position("upstream/hub", "main", 9, b"old"), durable=True)
        sink = FakeSink(next_open=Resumed(5, b"new", gap=4))
        lane = lane_for(station, sink)
        nursery.start_soon(lane.run)
        await settled()
        assert sink.opened[0].state == b"old" and sink.sent == [(5, 9)]
        statistics = lane.statistics()
        assert statistics.rewinds == 1 and statistics.gap_records == 4
        assert "lost records from 5" in statistics.error and statistics.connected
        assert station.metrics.get("forward_rewinds_total", "hub") == 1
        nursery.cancel_scope.cancel()


async def test_the_sinks_state_is_durable_before_the_first_record_is_sent(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        await station.put(4)
        sink = FakeSink(next_open=Resumed(1, b"hub epoch"))
        seen: list[tuple[int, bytes | None]] = []

        def look(batch: Batch) -> SinkError | None:
            seen.append(station.engine.position("upstream/hub", "main"))
            return None

        sink.refuse = look
        nursery.start_soon(lane_for(station, sink).run)
        await settled()
        assert seen == [(0, b"hub epoch")] and sink.sent == [(1, 4)]
        nursery.cancel_scope.cancel()


async def test_a_disk_that_refuses_is_waited_for(autojump_clock: Clock, tmp_path: Path) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        await station.put(3)
        consumers, refusals = station.engine.consumers, [StoreFailed("EIO")] * 2

        def refuse() -> list[ConsumerView]:
            if refusals:
                raise refusals.pop()
            return consumers()

        station.engine.consumers = refuse  # type: ignore[method-assign]  # no disk fails when told
        sink = FakeSink()
        lane = lane_for(station, sink)
        nursery.start_soon(lane.run)
        await settled()
        assert (phase_of(lane), lane.statistics().error) == ("backing off", "EIO")
        await settled(100)
        assert sink.sent == [(1, 3)]
        nursery.cancel_scope.cancel()


async def test_a_log_that_is_closing_ends_the_lane_in_peace(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        await station.put(3)
        station.committer.close()
        nursery.start_soon(lane_for(station, FakeSink()).run)
        await settled()
        assert not nursery.child_tasks


async def test_a_log_that_lost_its_end_does_not_swallow_what_comes(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        await station.put(3)
        await station.log.acknowledge(Position("upstream/hub", "main", 50), durable=True)
        sink = FakeSink()
        nursery.start_soon(lane_for(station, sink).run)
        await settled()
        await station.put(1, start=3)
        await settled()
        assert sink.sent == [(4, 4)]
        nursery.cancel_scope.cancel()


def refuses(*bad: int) -> Any:
    """An upstream that refuses every batch with one of these seqs in it."""

    def judge(batch: Batch) -> SinkError | None:
        found = [seq for seq in bad if batch.first <= seq <= batch.last]
        return SinkRefused(f"bad record {found[0]}") if found else None

    return judge


async def test_a_bad_record_is_found_by_halving_and_set_aside(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        await station.put(8)
        sink = FakeSink(keyed=True, refuse=refuses(6))
        lane = lane_for(station, sink)
        nursery.start_soon(lane.run)
        await settled(1)
        assert sink.sent == [(1, 8), (1, 4), (5, 8), (5, 6), (5, 5), (6, 6), (7, 8)]
        statistics = lane.statistics()
        assert (statistics.floor, statistics.records, statistics.refused) == (8, 7, 1)
        assert statistics.phase == "caught up" and statistics.failures == 0
        ((_, aside),) = await station.log.quarantine(0, 10)
        assert (aside.code, aside.stream, aside.source, aside.number) == (
            "upstream_refused", "t/1", "s", 6,
        )  # fmt: skip
        assert "bad record 6" in aside.reason and aside.body == b"\x81\xa1n\x05"
        assert station.metrics.get("forward_refused_total", "hub") == 1
        nursery.cancel_scope.cancel()


async def test_beside_records_that_an_answer_names_the_others_count_as_acknowledged(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    named = SinkRefused("two of them", records={3: "bad", 7: "bad"})
    named.sent_bytes = 900
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        await station.put(8)
        lane = lane_for(station, FakeSink(keyed=True, script=[named]))
        nursery.start_soon(lane.run)
        await settled(1)
        found = lane.statistics()
        assert (found.floor, found.records, found.refused, found.size) == (8, 6, 2, 900)
        assert station.metrics.get("forwarded_records_total", "hub") == 6
        nursery.cancel_scope.cancel()


async def test_sixteen_single_refusals_in_a_row_stop_the_lane_and_keep_the_rest(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        await station.put(40)
        sink = FakeSink(keyed=True, refuse=refuses(*range(1, 41)))
        lane = lane_for(station, sink)
        nursery.start_soon(lane.run)
        await settled(10)
        statistics = lane.statistics()
        assert statistics.phase == "stopped" and not statistics.connected
        assert "16 single records" in statistics.error
        assert (statistics.floor, statistics.backlog_records) == (16, 24)
        assert len(await station.log.quarantine(0, 100)) == 16
        tries = len(sink.sent)
        lane.online()
        await station.put(1, start=40)
        await settled(10_000)
        assert len(sink.sent) == tries
        nursery.cancel_scope.cancel()


async def test_a_restart_after_that_tries_once_more(autojump_clock: Clock, tmp_path: Path) -> None:
    async with running_station(tmp_path) as station:
        await station.put(40)
        sink = FakeSink(keyed=True, refuse=refuses(*range(1, 41)))
        for quarantined in (16, 17):
            async with trio.open_nursery() as nursery:
                lane = lane_for(station, sink)
                nursery.start_soon(lane.run)
                await settled(10)
                assert phase_of(lane) == "stopped"
                assert len(await station.log.quarantine(0, 100)) == quarantined
                nursery.cancel_scope.cancel()


async def test_one_good_record_between_starts_the_count_of_refusals_anew(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        await station.put(40)
        sink = FakeSink(keyed=True, refuse=refuses(*range(1, 16), *range(17, 31)))
        lane = lane_for(station, sink)
        nursery.start_soon(lane.run)
        await settled(10)
        assert phase_of(lane) == "caught up" and lane.statistics().refused == 29
        nursery.cancel_scope.cancel()


async def test_stop_waits_for_what_is_in_flight_and_takes_up_nothing_new(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    class Slow(FakeSink):
        acked = 0

        @property
        def drained(self) -> bool:
            return self.acked == 3

        async def send(self, batch: Batch) -> Acknowledged:
            await super().send(batch)
            return Acknowledged(0)

        async def settle(self, floor: int) -> Acknowledged:
            while self.acked <= floor:
                await trio.sleep(1)
            return Acknowledged(self.acked)

    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        await station.put(3)
        sink = Slow()
        lane = lane_for(station, sink)
        nursery.start_soon(lane.run)
        await settled()
        lane.stop()
        await station.put(1, start=3)
        await settled(5)
        assert nursery.child_tasks and sink.closed == 0
        sink.acked = 3
        await settled(2)
        assert not nursery.child_tasks and sink.closed > 0
        assert sink.sent == [(1, 3)] and lane.statistics().floor == 3


@pytest.mark.parametrize("asked", [None, 3000.0])
async def test_stop_ends_a_wait(autojump_clock: Clock, tmp_path: Path, asked: float | None) -> None:
    async with running_station(tmp_path) as station:
        sink = FakeSink(open_script=[SinkUnavailable("no", retry_after=asked, slow=True)])
        lane = lane_for(station, sink)
        with trio.fail_after(1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lane.run)
                await settled()
                assert phase_of(lane) == "held"
                lane.stop()


async def test_a_failure_of_the_sinks_own_task_is_a_failure_of_the_attempt(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    class Cut(FakeSink):
        async def settle(self, floor: int) -> Acknowledged:
            await trio.sleep(1)
            raise SinkUnavailable("cut")

    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        lane = lane_for(station, Cut())
        nursery.start_soon(lane.run)
        await settled(1)
        statistics: LaneStatistics = lane.statistics()
        assert (statistics.phase, statistics.error) == (Phase.BACKING_OFF.value, "cut")
        nursery.cancel_scope.cancel()


async def test_our_own_mistakes_are_not_hidden(autojump_clock: Clock, tmp_path: Path) -> None:
    class Wrong(FakeSink):
        async def send(self, batch: Batch) -> Acknowledged:
            raise ZeroDivisionError

    async with running_station(tmp_path) as station:
        await station.put(1)
        with pytest.raises(ExceptionGroup) as caught:
            await lane_for(station, Wrong()).run()
        assert caught.group_contains(ZeroDivisionError)


async def test_a_paused_lane_sends_nothing_says_so_and_goes_on_when_resumed(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        sink = FakeSink()
        lane = lane_for(station, sink)
        nursery.start_soon(lane.run)
        await station.put(3)
        await settled()
        await order(station, lane, "pause")
        await station.put(2, start=3)
        await settled(500)
        assert sink.sent == [(1, 3)] and phase_of(lane) == "paused"
        assert lane.statistics().backlog_records == 2 and not lane.statistics().connected
        await order(station, lane, "resume")
        await settled()
        assert sink.sent == [(1, 3), (4, 5)] and phase_of(lane) == "caught up"
        nursery.cancel_scope.cancel()


async def test_a_pause_outlasts_a_restart_and_stopping_ends_it(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station:
        lane = lane_for(station, FakeSink())
        await order(station, lane, "pause")
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        sink = FakeSink()
        lane = lane_for(station, sink)
        await station.put(3)
        nursery.start_soon(lane.run)
        await settled(100)
        assert phase_of(lane) == "paused" and not sink.opened
        lane.stop()


async def test_a_moved_position_is_obeyed_in_the_middle_of_a_wait(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        sink = FakeSink(open_script=[SinkUnavailable("away")])
        lane = lane_for(station, sink)
        await station.put(5)
        nursery.start_soon(lane.run)
        await settled()
        assert phase_of(lane) == "backing off"
        began = trio.current_time()
        async with lane.holding.held():
            skip = Position("upstream/hub", "main", 3, order="skip")
            await station.log.acknowledge(skip, durable=True)
        await settled()
        assert sink.opened[-1].floor == 3 and trio.current_time() - began < 1
        assert station.metrics.get("records_discarded_total", "main") == 3
        nursery.cancel_scope.cancel()


async def test_what_was_refused_until_it_stopped_can_be_skipped(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        sink = FakeSink(keyed=True, refuse=lambda batch: SinkRefused("no"))
        lane = lane_for(station, sink)
        await station.put(40)
        nursery.start_soon(lane.run)
        await settled(10)
        assert phase_of(lane) == "stopped"
        sink.refuse = None
        async with lane.holding.held():
            skip = Position("upstream/hub", "main", 30, b"", order="skip")
            await station.log.acknowledge(skip, durable=True)
        await settled(10)
        assert sink.sent[-1] == (31, 40) and phase_of(lane) == "caught up"
        nursery.cancel_scope.cancel()


async def order(station: Station, lane: Lane, what: Literal["pause", "resume"]) -> None:
    async with lane.holding.held():
        said = Position("upstream/hub", "main", 0, order=what)
        await station.log.acknowledge(said, durable=True)


async def test_while_the_disk_refuses_what_can_be_read_goes_out_and_the_position_is_kept_in_memory(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        sink = FakeSink()
        lane = lane_for(station, sink)
        nursery.start_soon(lane.run)
        await station.put(2)
        await settled()
        away = SinkUnavailable("the hub is away")
        sink.refuse = lambda batch: away
        await station.put(3, start=2)
        await settled()
        with failing_disk():
            nursery.start_soon(station.put, 4)
            await settled(5)
            assert station.log.trouble is not None
            # The hub had more than we had heard of: that, too, needs no disk.
            sink.refuse, sink.next_open = None, Resumed(4)
            await settled(20)
            assert sink.sent[-1] == (4, 5)
            now = lane.statistics()
            assert (now.floor, now.backlog_records, now.connected, now.failing) == (
                5,
                0,
                True,
                False,
            )
            with pytest.raises(StoreFailed):
                await station.log.position("upstream/hub", "main")
        await settled(100)
        assert sink.sent[-1] == (6, 9)
        await station.put(1)
        assert station.engine.position("upstream/hub", "main")[0] >= 9
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("keyed", [False, True])
async def test_what_has_to_be_durable_before_it_is_sent_waits_for_the_disk_and_status_says_so(
    autojump_clock: Clock, tmp_path: Path, keyed: bool
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        sink = FakeSink(keyed=keyed, open_script=[SinkUnavailable("the hub is away")])
        lane = lane_for(station, sink)
        nursery.start_soon(lane.run)
        await station.put(5)
        await settled()
        sink.next_open = None if keyed else Resumed(1, b"a new hub")
        with failing_disk():
            nursery.start_soon(station.put, 4)
            await settled(5)
            lane.online()
            await settled(20)
            now = lane.statistics()
            assert sink.sent == []
            assert now.error.startswith("waits until the disk takes writes: ")
            assert (now.failing, now.connected, now.backlog_records) == (True, False, 5)
        await settled(100)
        assert sink.sent[-1][1] == 9
        now = lane.statistics()
        assert (now.failing, now.connected, now.backlog_records) == (False, True, 0)
        nursery.cancel_scope.cancel()
