"""Upstreams beside one another: they come and go, and none of them is another's business."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from edge_agent.config import Upstream
from edge_agent.errors import ConfigError, SinkUnavailable
from edge_agent.forward import Forwarder, make_sink
from edge_agent.forward.upstreams import Upstreams
from edge_agent.store import ConsumerSettings, LogSettings, Position, StoreSettings
from tests.forward.http_upstream import Reply, http_upstream
from tests.forward.support import FakeSink, Station, running_station, until, upstream
from tests.manual_clock import ManualClock
from tests.patience import PATIENCE_S


class Several:
    """Upstreams of a station, with a sink that each of them was given last."""

    def __init__(self, station: Station, *names: str) -> None:
        self.sinks: dict[str, FakeSink] = {}
        #: In place of new ones.
        self.given: dict[str, FakeSink] = {}
        self.station = station
        self.upstreams = Upstreams(
            [self.config(name) for name in names], self.make, self.keep_for, station.log, 5.0
        )

    @staticmethod
    def config(name: str, url: str = "ws://hub:1/forward") -> Upstream:
        return upstream(url, name=name, backoff_base=100.0, backoff_max=100.0)

    def make(self, one: Upstream) -> Forwarder:
        if one.url.startswith("gopher"):
            raise ConfigError("upstream url", "another scheme", one.url)
        sink = self.sinks[one.name] = self.given.get(one.name) or FakeSink()
        station = self.station
        dice = random.Random(1)
        return Forwarder(
            one, station.log, lambda log: sink, clock=station.clock, dice=dice,
            metrics=station.metrics,
        )  # fmt: skip

    def keep_for(self, given: Sequence[Upstream]) -> None:
        names = [f"upstream/{one.name}" for one in given]
        self.station.engine.keep_for([ConsumerSettings(name, "main") for name in names])


async def test_a_change_from_before_forwarding_began_is_taken_up_once_it_has(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        several = Several(station, "a")
        nursery.start_soon(several.upstreams.prepare([several.config("b")]))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(several.upstreams.run)
        await until(lambda: [one.name for one in several.upstreams.configured] == ["b"])
        await station.put(1)
        await until(lambda: several.sinks["b"].sent)
        nursery.cancel_scope.cancel()


async def test_who_stays_the_same_is_not_interrupted_by_who_comes_goes_or_changes(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        several = Several(station, "a", "b", "c")
        config = several.config
        nursery.start_soon(several.upstreams.run)
        await station.put(3)
        await trio.sleep(1)
        first = dict(several.sinks)
        await several.upstreams.prepare(
            [config("a"), config("b", "ws://x:1/forward"), config("d")]
        )()
        await station.put(2, start=3)
        await trio.sleep(1)
        assert several.sinks["a"] is first["a"] and several.sinks["a"].sent == [(1, 3), (4, 5)]
        assert (first["a"].closed, len(first["a"].opened)) == (0, 1)
        # The changed one goes on from where it was, the new one begins with the oldest.
        assert first["b"].closed and first["b"].sent == [(1, 3)]
        assert several.sinks["b"].sent == [(4, 5)]
        assert several.sinks["d"].sent[-1][1] == 5 and several.sinks["d"].sent[0][0] == 1
        assert first["c"].closed and first["c"].sent == [(1, 3)]
        assert [one.name for one in several.upstreams.configured] == ["a", "b", "d"]
        assert [one.name for one, _ in several.upstreams.statistics()] == ["a", "b", "d"]
        lane = several.upstreams.lane
        assert lane("upstream/d", "main") and not lane("upstream/c", "main")
        several.upstreams.stop()


async def test_what_cannot_be_made_leaves_all_as_they_were(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        several = Several(station, "a", "b")
        nursery.start_soon(several.upstreams.run)
        await trio.sleep(1)
        with pytest.raises(ConfigError):
            several.upstreams.prepare([several.config("b", "gopher://b")])
        await station.put(3)
        await trio.sleep(1)
        assert several.sinks["a"].sent == several.sinks["b"].sent == [(1, 3)]
        several.upstreams.stop()


async def test_one_that_does_not_finish_is_ended_after_a_while_and_holds_up_no_other(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    class Stuck(FakeSink):
        @property
        def drained(self) -> bool:
            return False

    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        several = Several(station, "a")
        stuck = Stuck()
        several.given["stuck"] = stuck
        nursery.start_soon(several.upstreams.run)
        await trio.sleep(1)
        await several.upstreams.prepare([several.config("a"), several.config("stuck")])()
        await station.put(3)
        await trio.sleep(1)
        nursery.start_soon(several.upstreams.prepare([several.config("a")]))
        await trio.sleep(1)
        assert several.sinks["a"].sent == stuck.sent == [(1, 3)]
        assert len(several.upstreams.configured) == 2
        await trio.sleep(9)
        assert [one.name for one in several.upstreams.configured] == ["a"]
        several.upstreams.stop()


async def test_what_only_a_removed_upstream_held_is_free_and_the_journal_tells_of_it_at_a_start(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    consumers = tuple(ConsumerSettings(f"upstream/{name}", "main") for name in "ab")
    settings = StoreSettings(
        size=4 << 20, logs=(LogSettings("main", (), 3600.0),), consumers=consumers
    )
    async with (
        running_station(tmp_path, clock=clock, settings=settings) as station,
        trio.open_nursery() as nursery,
    ):
        several = Several(station, "a", "b")
        several.sinks["b"].open_script = [SinkUnavailable("away")] * 99
        nursery.start_soon(several.upstreams.run)
        await station.put(3)
        await trio.sleep(1)
        clock.advance(7200)
        await station.put(1, start=3)
        await trio.sleep(1)
        await station.put(1, start=4)
        station.engine.trim()
        assert station.log.first_seq("main") == 1  # b has had none of it
        await several.upstreams.prepare([several.config("a")])()
        station.engine.trim()
        assert station.log.first_seq("main") > 3
        several.upstreams.stop()
    async with running_station(tmp_path, clock=clock) as station, trio.open_nursery() as nursery:
        caplog.set_level(logging.INFO)
        several = Several(station, "a")
        nursery.start_soon(several.upstreams.run)
        await trio.sleep(1)
        (told,) = (one for one in caplog.messages if "not configured any more" in one)
        assert told.startswith("upstream b ") and "consumer forget b" in told
        several.upstreams.stop()


async def test_one_that_comes_back_goes_on_from_where_it_was(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        several = Several(station, "a")
        nursery.start_soon(several.upstreams.run)
        await station.put(3)
        await trio.sleep(1)
        await several.upstreams.prepare([])()
        await station.put(2, start=3)
        await several.upstreams.prepare([several.config("a")])()
        await trio.sleep(1)
        assert several.sinks["a"].sent == [(4, 5)]
        await several.upstreams.prepare([])()
        forget = Position("upstream/a", "main", 0, order="forget")
        await station.log.acknowledge(forget, durable=True)
        await several.upstreams.prepare([several.config("a")])()
        await trio.sleep(1)
        assert several.sinks["a"].sent[0][0] == 1
        several.upstreams.stop()


async def test_dead_upstreams_delay_no_other(tmp_path: Path) -> None:
    """One never answers, one is not there, one has a name that nobody knows. The measure of how
    little they cost is in the benchmarks; here they only must not hold it up.
    """
    async with (
        running_station(tmp_path) as station,
        http_upstream() as good,
        http_upstream() as silent,
        trio.open_nursery() as nursery,
    ):
        silent.answer = lambda got: Reply(silent=True)
        urls = {
            "good": good.url,
            "silent": silent.url,
            "refuses": "http://127.0.0.1:1/in",
            "nobody": "http://nobody.invalid/in",
        }

        def make(one: Upstream) -> Forwarder:
            sink = partial(
                make_sink, one, identity=station.log.identity, clock=station.clock,
                run_blocking=trio.to_thread.run_sync,
            )  # fmt: skip
            dice = random.Random(1)
            return Forwarder(
                one, station.log, sink, clock=station.clock, dice=dice, metrics=station.metrics
            )

        configs = [upstream(url, name=name, batch_records=10) for name, url in urls.items()]
        several = Upstreams(configs, make, lambda given: None, station.log, 0.1)
        for start in range(0, 1000, 10):
            await station.put(10, start=start)
        nursery.start_soon(several.run)

        def backlogs() -> dict[str, int]:
            return {one.name: now.backlog_records for one, now in several.statistics()}

        await until(lambda: not backlogs()["good"], seconds=PATIENCE_S)
        assert {name for name, left in backlogs().items() if left == 1000} == {*urls} - {"good"}
        nursery.cancel_scope.cancel()
