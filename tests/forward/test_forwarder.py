from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from edge_agent.errors import SinkUnavailable
from edge_agent.forward import Forwarder
from edge_agent.forward.lanes.windows import LOOK_S
from edge_agent.forward.sink import Acknowledged, Batch
from edge_agent.store import Position
from tests.forward.support import FakeSink, Station, running_station, upstream
from tests.manual_clock import ManualClock
from tests.patience import PATIENCE_S

LOGS = ("main", "alarms")


#: 01:00 local time, and a window that begins there.
NIGHT_NS = int(time.mktime((2026, 11, 29, 1, 0, 0, -1, -1, -1))) * 1_000_000_000
WINDOW = "01:00-02:00"


def forwarder_for(station: Station, sinks: dict[str, FakeSink], **more: Any) -> Forwarder:
    return Forwarder(
        upstream("https://user:secret@hub.example:8443/in?key=secret", **more),
        station.log,
        lambda log: sinks[log],
        clock=station.clock,
        dice=random.Random(1),
        metrics=station.metrics,
    )


async def test_each_log_goes_its_own_way(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    sinks = {
        "main": FakeSink(open_script=[SinkUnavailable("no", slow=True)] * 99),
        "alarms": FakeSink(),
    }
    async with running_station(tmp_path, logs=LOGS) as station, trio.open_nursery() as nursery:
        forwarder = forwarder_for(station, sinks)
        nursery.start_soon(forwarder.run)
        await station.put(5)
        await station.put(2, stream="alarms/fire", log="alarms")
        await trio.sleep(0.001)
        assert sinks["alarms"].sent == [(1, 2)] and sinks["main"].sent == []
        statistics = forwarder.statistics()
        assert [lane.log for lane in statistics.lanes] == ["main", "alarms"]
        assert statistics.phase == "held" and not statistics.connected
        assert (statistics.backlog_records, statistics.records) == (5, 2)
        assert (statistics.error, statistics.error_ns) == ("no", station.clock.read().wall_ns)
        assert station.metrics.get("forward_backlog_records", "hub") == 5
        assert station.metrics.get("forward_connected", "hub") == 0
        sinks["main"].open_script.clear()
        forwarder.online()
        await trio.sleep(0.001)
        statistics = forwarder.statistics()
        assert (statistics.phase, statistics.error, statistics.connected) == ("caught up", "", True)
        assert station.metrics.get("forward_connected", "hub") == 1
        await station.put(1, start=5)
        assert (await station.log.position("upstream/hub", "main"))[0] == 5
        assert (await station.log.position("upstream/hub", "alarms"))[0] == 2
        nursery.cancel_scope.cancel()


async def test_nothing_secret_of_the_url_is_shown(tmp_path: Path) -> None:
    async with running_station(tmp_path, logs=LOGS) as station:
        forwarder = forwarder_for(station, {"main": FakeSink(), "alarms": FakeSink()})
        assert forwarder.statistics().url == "https://hub.example:8443/in?…"


async def test_run_returns_after_stop(tmp_path: Path) -> None:
    async with running_station(tmp_path, logs=LOGS) as station:
        forwarder = forwarder_for(station, {"main": FakeSink(), "alarms": FakeSink()})
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(forwarder.run)
                await station.put(3)
                forwarder.stop()
        assert {lane.phase for lane in forwarder.statistics().lanes} == {"caught up"}


async def test_a_lane_that_fails_on_our_own_mistake_says_so_begins_anew_and_harms_no_other(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Wrong(FakeSink):
        wrong = True

        async def send(self, batch: Batch) -> Acknowledged:
            if self.wrong:
                raise ZeroDivisionError("by our own")
            return await super().send(batch)

    wrong = Wrong()
    sinks: dict[str, FakeSink] = {"main": wrong, "alarms": FakeSink()}
    async with running_station(tmp_path, logs=LOGS) as station, trio.open_nursery() as nursery:
        forwarder = forwarder_for(station, sinks)
        nursery.start_soon(forwarder.run)
        await station.put(5)
        await trio.sleep(0.5)
        now = forwarder.statistics()
        assert (now.phase, now.connected) == ("backing off", False)
        assert "failed on a mistake of the agent's own: ZeroDivisionError: by our own" in now.error
        assert now.lanes[0].mistaken and not now.lanes[1].mistaken
        assert now.lanes[0].next_try_s > 0
        await station.put(2, stream="alarms/fire", log="alarms")
        await trio.sleep(3000)
        assert sinks["alarms"].sent == [(1, 2)]
        told = [record for record in caplog.records if record.exc_info]
        assert len(told) == 1
        assert station.metrics.get("forward_failures_total", "hub", "mistake") > 5
        wrong.wrong = False
        await trio.sleep(400)
        assert wrong.sent == [(1, 5)]
        after = forwarder.statistics()
        assert (after.phase, after.connected, after.error) == ("caught up", True, "")
        forwarder.stop()


async def test_a_lane_in_a_wait_after_our_own_mistake_stops_at_once(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    class Wrong(FakeSink):
        async def aclose(self) -> None:
            raise KeyError("our own")

    sinks: dict[str, FakeSink] = {"main": Wrong(open_script=[SinkUnavailable("no")] * 9)}
    async with running_station(tmp_path) as station:
        forwarder = forwarder_for(station, sinks)
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(forwarder.run)
                await trio.sleep(0.5)
                assert forwarder.statistics().lanes[0].mistaken
                forwarder.stop()


async def test_outside_of_its_windows_lanes_rest_but_for_logs_that_are_always_sent(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock(NIGHT_NS - 3600 * 1_000_000_000)
    sinks = {"main": FakeSink(), "alarms": FakeSink()}
    async with (
        running_station(tmp_path, logs=LOGS, clock=clock) as station,
        trio.open_nursery() as nursery,
    ):
        forwarder = forwarder_for(station, sinks, windows=(WINDOW,), always=("alarms",))
        await station.put(5)
        await station.put(2, stream="alarms/fire", log="alarms")
        nursery.start_soon(forwarder.run)
        await trio.sleep(1000)
        assert (sinks["main"].sent, sinks["alarms"].sent) == ([], [(1, 2)])
        assert sinks["main"].opened == []
        now = forwarder.statistics()
        assert (now.phase, now.error, now.backlog_records) == ("waiting", "", 5)
        assert now.lanes[0].waits_for == time.strftime("%H:%M", time.localtime(NIGHT_NS / 1e9))
        assert now.lanes[1].phase == "caught up"
        clock.advance(3600)
        await trio.sleep(LOOK_S + 1)
        assert sinks["main"].sent == [(1, 5)] and forwarder.statistics().phase == "caught up"
        clock.advance(3600)
        await trio.sleep(LOOK_S + 1)
        await station.put(1, start=5)
        await trio.sleep(100)
        assert len(sinks["main"].sent) == 1 and forwarder.statistics().phase == "waiting"
        # A clock that jumps, and one that is not set any more.
        clock.step_wall(NIGHT_NS + 60 * 1_000_000_000)
        await trio.sleep(LOOK_S + 1)
        assert len(sinks["main"].sent) == 2
        clock.step_wall(NIGHT_NS - 60 * 1_000_000_000)
        await trio.sleep(LOOK_S + 1)
        await station.put(1, start=6)
        await trio.sleep(100)
        assert len(sinks["main"].sent) == 2
        clock.step_wall(NIGHT_NS - 60 * 1_000_000_000, synced=False)
        await trio.sleep(LOOK_S + 1)
        assert len(sinks["main"].sent) == 3
        await trio.sleep(3 * LOOK_S)
        # That this may cost money is said, once.
        assert caplog.text.count("hub is sent to at any time: the clock has not been set") == 1
        forwarder.stop()


async def test_an_order_reaches_a_lane_that_waits_for_its_window_and_a_pause_shows_as_one(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    clock = ManualClock(NIGHT_NS - 3600 * 1_000_000_000)
    async with (
        running_station(tmp_path, clock=clock) as station,
        trio.open_nursery() as nursery,
    ):
        forwarder = forwarder_for(station, {"main": FakeSink()}, windows=(WINDOW,))
        await station.put(5)
        nursery.start_soon(forwarder.run)
        await trio.sleep(10)
        lane = forwarder.lane("upstream/hub", "main")
        assert lane is not None
        async with lane.holding.held():
            paused = Position("upstream/hub", "main", 0, order="pause")
            await station.log.acknowledge(paused, durable=True)
        await trio.sleep(10)
        assert forwarder.statistics().phase == "paused"
        nursery.cancel_scope.cancel()


async def test_an_upstream_is_sent_the_logs_that_it_names(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    sinks = {"alarms": FakeSink()}
    async with running_station(tmp_path, logs=LOGS) as station, trio.open_nursery() as nursery:
        forwarder = forwarder_for(station, sinks, logs=("alarms",))
        nursery.start_soon(forwarder.run)
        await station.put(5)
        await station.put(2, stream="alarms/fire", log="alarms")
        await trio.sleep(1)
        assert sinks["alarms"].sent == [(1, 2)]
        assert forwarder.lane("upstream/hub", "main") is None
        nursery.cancel_scope.cancel()
