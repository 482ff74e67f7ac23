"""Pictures of a real agent, and what the watchdog is told."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from edge_agent.config import parse
from edge_agent.errors import StoreFailed, StoreFull
from edge_agent.ops import Sources, UpstreamStatus
from edge_agent.ops.status import LaneStatus
from tests.ops.pictures import UPSTREAM
from tests.ops.real import agent
from tests.patience import PATIENCE_S


async def test_the_figures_come_from_what_was_committed_and_the_clock(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        running.metrics.add("forwarded_records_total", 50, "hub")
        await running.keep("a/1", list(range(100)))
        running.clock.advance(20)
        now = (await running.watch.look()).figures.now
        assert now.seconds == 20
        assert now.received.records_per_s == 5
        assert now.forwarded.records_per_s == 2.5
        assert now.received.bytes_per_s > 5
        assert now.records_per_cpu_s is not None and now.records_per_cpu_s > 0


async def test_a_question_counts_into_q(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        await running.keep("a/1", [1])
        await running.live.query({})
        running.clock.advance(1)
        window = (await running.watch.look()).figures.since_start
        assert window.queries == 1 and window.queries_per_s is not None


async def test_identity_age_and_clock_are_told(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        running.clock.advance(61)
        told = (await running.watch.look()).agent
        assert told.id == running.log.identity.agent_id and told.epoch
        assert (told.started, told.uptime_s) == ("2026-11-22T10:00:00Z", 61.0)
        assert (told.time, told.clock_synced) == ("2026-11-22T10:01:01Z", True)


async def test_a_clock_that_jumps_does_not_show_in_uptime_or_rates(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        await running.keep("a/1", list(range(100)))
        running.clock.advance(10)
        running.clock.step_wall(0, synced=False)
        status = await running.watch.look()
        assert status.agent.uptime_s == 10
        assert status.figures.now.received.records_per_s == 10
        assert [one.code for one in status.health.warnings] == ["clock_unsynced"]


async def test_a_store_that_cannot_be_read_is_a_picture_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse() -> None:
        raise StoreFailed("input/output error")

    async with agent(tmp_path, serve=False) as running:
        await running.keep("a/1", [1])
        monkeypatch.setattr(running.log, "store_statistics", refuse)
        status = await running.watch.look()
        assert status.health.status == "failed"
        assert status.store.problem == "input/output error" and not status.store.healthy
        assert status.logs[0].last_seq == 1


async def test_the_watchdog_is_told_how_long_a_commit_has_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agent(tmp_path, serve=False) as running:
        assert running.watch.commit_waits_s() == 0
        statistics = running.log.statistics()
        for commit, expected in (
            (replace(statistics.commit, calling_for=12.5), 12.5),
            (replace(statistics.commit, calling_for=None, overdue=7.0), 7.0),
            (replace(statistics.commit, calling_for=3.0, overdue=7.0), 7.0),
            (replace(statistics.commit, calling_for=None, overdue=99.0, trouble="EIO"), 0.0),
            (replace(statistics.commit, calling_for=80.0, overdue=99.0, trouble="EIO"), 80.0),
        ):
            monkeypatch.setattr(
                running.log, "statistics", lambda commit=commit: replace(statistics, commit=commit)
            )
            assert running.watch.commit_waits_s() == expected


async def test_the_line_for_systemctl_status_names_who_is_away(tmp_path: Path) -> None:
    away: list[str] = []

    def with_hub(sources: Sources) -> Sources:
        return replace(
            sources,
            upstreams=lambda: [replace(UPSTREAM, error="refused") if away else UPSTREAM],
        )

    async with agent(tmp_path, serve=False, change=with_hub) as running:
        assert running.watch.describe() == "keeping and forwarding"
        away.append("hub")
        assert running.watch.describe() == "cannot reach hub"


async def test_cpu_is_counted_once_however_often_somebody_looks(tmp_path: Path) -> None:
    import time

    async with agent(tmp_path, serve=False) as running:
        for _ in range(5):
            await running.watch.look()
        counted = running.metrics.get("cpu_seconds_total")
        assert 0 < counted <= time.process_time()


async def test_at_rest_it_ticks_every_ten_seconds_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agent(tmp_path, serve=False) as running:
        slept: list[float] = []

        async def sleep(seconds: float) -> None:
            slept.append(seconds)
            scope.cancel("it rests")
            await trio.sleep_forever()

        monkeypatch.setattr("edge_agent.ops.sampler.trio.sleep", sleep)
        with trio.fail_after(PATIENCE_S), trio.CancelScope() as scope:
            await running.watch.run()
        assert slept == [10.0]


async def test_a_budget_spreads_commits_and_health_says_so(tmp_path: Path) -> None:
    text = f'[store]\npath = "{tmp_path}"\nsize = "16MiB"\n[wear]\nbytes_per_day_max = "50MB"\n'
    async with agent(tmp_path, config=parse(text, "test"), serve=False) as running:
        await running.watch.keeper.tick()
        # An hour of commits, of which each writes at least a block.
        running.metrics.add("commits_total", 1000)
        running.clock.advance(3600)
        await running.watch.keeper.tick()
        status = await running.watch.look()
        assert status.wear.budget is not None and 1 < status.wear.budget.factor < 60
        assert running.log._committer.intervals["main"] == status.wear.budget.interval_s > 1
        assert [one.code for one in status.health.warnings] == ["commits_spread"]
        assert status.wear_outlook[0].startswith("commits are spread to")


async def test_what_an_absent_upstream_will_cost_is_in_the_picture(tmp_path: Path) -> None:
    """Sampled by the tick, told by the look, a warning where it is less than a day ahead."""

    def with_hub(sources: Sources) -> Sources:
        def upstreams() -> list[UpstreamStatus]:
            last = sources.log.last_seq("main")
            lane = LaneStatus("main", "backing off", False, 0, last, 0.0)
            return [replace(UPSTREAM, connected=False, error="refused", lanes=(lane,))]

        return replace(sources, upstreams=upstreams)

    async with agent(tmp_path, serve=False, change=with_hub) as running:
        for _ in range(6):
            running.watch._projections.sample(
                running.watch._now_s(), running.watch.sources.upstreams()
            )
            await running.keep("a/1", list(range(1000)))
            running.clock.advance(10)
        status = await running.watch.look()
        (log,) = status.logs
        # The share's other bytes, at what 100 records a second take.
        assert log.loss_in_s is not None
        assert log.loss_in_s == pytest.approx(
            (log.share_bytes - log.bytes) / (log.bytes / 60), rel=0.01
        )
        assert "loss_ahead" in [one.code for one in status.health.warnings]
        assert log.outlook is not None and log.outlook.endswith("record is lost")


async def test_a_log_that_refuses_is_full_though_it_is_not_at_its_share(tmp_path: Path) -> None:
    """A small share and large records: there is never room for the last one."""
    text = (
        f'[store]\npath = "{tmp_path}"\nsize = "16MiB"\ncompression_level = 0\n'
        '[log.main]\nshare = "2%"\nwhen_full = "refuse"\n'
    )
    noise = random.Random(4).randbytes(60_000)
    async with agent(tmp_path, config=parse(text, "test"), serve=False) as running:
        running.watch._projections.sample(running.watch._now_s(), ())
        running.clock.advance(30)
        assert (await running.watch.look()).health.status == "ok"
        for _ in range(5):
            await running.keep("a/1", [noise])
        with pytest.raises(StoreFull):
            await running.keep("a/1", [noise])
        status = await running.watch.look()
        (log,) = status.logs
        assert 0.5 < log.fill < 0.98 and log.refused_lately == 1
        assert [one.code for one in status.health.reasons] == ["log_full"]
        assert log.outlook == "senders are told to wait"
