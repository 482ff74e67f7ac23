from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
import trio
from msgspec import structs
from trio.testing import MockClock, wait_all_tasks_blocked

from edge_agent.config.quantities import Duration
from edge_agent.config.shape import Rule
from edge_agent.errors import StoreDamaged, StoreError, StoreFailed, StoreFull
from edge_agent.live import rule_consumer, run_windows
from edge_agent.live.derive import SAVE_RECORDS, Now
from edge_agent.live.window_state import ClosedWindow
from edge_agent.live.windows import WindowsOfLog, window_runs
from edge_agent.metrics import Metrics
from edge_agent.store import LogSettings, Position
from edge_agent.values.aggregates import Summary
from edge_agent.values.record import Record
from tests.manual_clock import ManualClock
from tests.waist import NOW_NS, SECOND, Waist, make_waist, open_engine, open_waist, run_of, settings

#: Whole minutes, an hour before the agent's clock, so that every window has ended by it.
BASE_S = (NOW_NS // SECOND - 3600) // 60 * 60


def rule(name: str = "minutely", streams: tuple[str, ...] = ("s/*",), **rest: Any) -> Rule:
    known: dict[str, Any] = {
        "window": Duration(60),
        "lateness": Duration(10),
        "idle": Duration(600),
        "into": "min/{stream}",
    }
    return Rule(name=name, streams=streams, **(known | rest))


def readings(*pairs: tuple[float, float], stream: str = "s/1") -> Any:
    """A run of one record for each (second, value)."""
    return run_of(*({"time": BASE_S + at, "t": value} for at, value in pairs), stream=stream)


async def derived(waist: Waist) -> list[tuple[str, int, dict[str, Any]]]:
    return [
        (record.stream, record.time_ns // SECOND - BASE_S, record.fields)
        for record in await waist.records()
        if record.source.startswith("$rule/")
    ]


async def start(waist: Waist, nursery: trio.Nursery, *rules: Rule) -> None:
    async def run(one: Rule) -> None:
        await run_windows(waist.log, one, clock=waist.clock, metrics=waist.metrics)

    for one in rules or (rule(),):
        nursery.start_soon(run, one)


async def test_a_window_becomes_a_record_when_it_closes(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_waist(tmp_path) as waist, trio.open_nursery() as nursery:
        await start(waist, nursery)
        await waist.put(readings((0, 3), (30, 1), (59, 2), (65, 9)))
        await trio.sleep(1)
        assert await derived(waist) == []
        assert waist.metrics.get("windows_open", "minutely") == 2
        await waist.put(readings((70, 9)))
        await trio.sleep(1)
        fields = {"t_count": 3, "t_min": 1, "t_max": 3, "t_mean": 2.0, "t_last": 2}
        assert await derived(waist) == [("min/s/1", 0, fields)]
        assert waist.metrics.get("windows_closed_total", "minutely") == 1
        assert waist.metrics.get("windows_open", "minutely") == 1
        floor, state = await waist.log.position(rule_consumer("minutely"), "main")
        assert floor == 5
        assert state is not None
        await waist.put(readings((1, 1)))
        await trio.sleep(1)
        assert waist.metrics.get("records_late_total", "minutely") == 1
        nursery.cancel_scope.cancel()


async def test_a_silent_stream_closes_its_windows_after_idle_and_no_timer_ticks(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_waist(tmp_path) as waist, trio.open_nursery() as nursery:
        await start(waist, nursery)
        await waist.put(readings((0, 3)))
        await trio.sleep(300)
        await waist.put(readings((1, 4)))
        await trio.sleep(599)
        assert await derived(waist) == []
        await trio.sleep(2)
        assert [fields["t_count"] for _, _, fields in await derived(waist)] == [2]
        nursery.cancel_scope.cancel()


async def test_silence_does_not_close_a_window_that_has_not_ended_by_the_clock(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_waist(tmp_path) as waist, trio.open_nursery() as nursery:
        await start(waist, nursery, rule(window=Duration(86_400)))
        await waist.put(run_of({"t": 1, "time": NOW_NS // SECOND}, stream="s/1"))
        await trio.sleep(5000)
        assert await derived(waist) == []
        waist.clock.advance(86_400)
        await trio.sleep(2 * 3600)
        assert len(await derived(waist)) == 1
        nursery.cancel_scope.cancel()


async def test_silence_closes_everything_while_the_clock_is_not_synced(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    clock = ManualClock(SECOND, synced=False)
    async with open_waist(tmp_path, clock=clock) as waist, trio.open_nursery() as nursery:
        await start(waist, nursery, rule(window=Duration(86_400)))
        await waist.put(run_of({"t": 1, "time": NOW_NS // SECOND}, stream="s/1"))
        await trio.sleep(601)
        assert len(await derived(waist)) == 1
        nursery.cancel_scope.cancel()


async def test_a_rule_takes_no_aggregate_of_a_thinned_log_for_a_measurement(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_waist(tmp_path) as waist, trio.open_nursery() as nursery:
        await start(waist, nursery, rule("own", ("s/*",), into="out/{stream}", derived=True))
        await waist.put(structs.replace(readings((0, 3)), source="$thin/pi"))
        await trio.sleep(3000)
        assert await derived(waist) == []
        nursery.cancel_scope.cancel()


async def test_a_rule_sees_others_records_only_if_it_says_so_and_never_its_own(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    rules = (
        rule("own", ("s/*", "out/**"), into="out/{stream}"),
        rule("plain", ("out/**",), into="plain/{stream}"),
        rule("also", ("out/**",), into="also/{stream}", derived=True),
    )
    async with open_waist(tmp_path) as waist, trio.open_nursery() as nursery:
        await start(waist, nursery, *rules)
        await waist.put(readings((0, 3)))
        await trio.sleep(3000)
        assert Counter(stream for stream, _, _ in await derived(waist)) == {
            "out/s/1": 1,
            "also/out/s/1": 1,
        }
        nursery.cancel_scope.cancel()


async def test_the_default_stream_is_the_agents_own(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_waist(tmp_path) as waist, trio.open_nursery() as nursery:
        await start(waist, nursery, rule(into=None))
        await waist.put(readings((0, 3), (100, 1)))
        await trio.sleep(1)
        assert [stream for stream, _, _ in await derived(waist)] == ["$rule/minutely/s/1"]
        nursery.cancel_scope.cancel()


async def test_too_many_open_windows_close_early_and_are_counted(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_waist(tmp_path) as waist, trio.open_nursery() as nursery:
        await start(waist, nursery, rule(open_windows=2))
        await waist.put(*(readings((60 * n, n), stream=f"s/{n}") for n in range(5)))
        await trio.sleep(1)
        assert [stream for stream, _, _ in await derived(waist)] == [
            "min/s/0", "min/s/1", "min/s/2",
        ]  # fmt: skip
        assert waist.metrics.get("windows_closed_early_total", "minutely") == 3
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("refused", [StoreFailed("EIO"), StoreDamaged("page 7")], ids=str)
async def test_a_disk_that_refuses_at_the_start_makes_the_rule_wait_for_it(
    tmp_path: Path, autojump_clock: MockClock, refused: StoreError
) -> None:
    async with open_waist(tmp_path) as waist, trio.open_nursery() as nursery:
        position, refusals = waist.engine.position, [refused] * 3

        def refusing(consumer: str, log: str) -> Any:
            if refusals:
                raise refusals.pop()
            return position(consumer, log)

        waist.engine.position = refusing  # type: ignore[method-assign]  # a disk that refuses
        await start(waist, nursery)
        await waist.put(readings((0, 3), (30, 1), (75, 9)))
        await trio.sleep(10)
        assert not refusals
        assert [at for _, at, _ in await derived(waist)] == [0]
        nursery.cancel_scope.cancel()


async def test_a_refusing_log_makes_the_rule_wait_with_what_it_has(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_waist(tmp_path) as waist, trio.open_nursery() as nursery:
        commit, refusals = waist.engine.commit, [True, True]

        def refusing(entries: Any) -> Any:
            if any(run.source.startswith("$rule/") for e in entries for run in e.runs) and refusals:
                refusals.pop()
                result = commit([])
                return replace(result, answers=tuple(StoreFull("full", 10) for _ in entries))
            return commit(entries)

        waist.engine.commit = refusing  # type: ignore[method-assign]  # a full log
        await start(waist, nursery)
        await waist.put(readings((0, 3), (100, 1)))
        await trio.sleep(15)
        assert await derived(waist) == []
        await trio.sleep(10)
        assert len(await derived(waist)) == 1
        nursery.cancel_scope.cancel()


async def test_position_and_state_are_saved_now_and_then_although_nothing_closes(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_waist(tmp_path) as waist, trio.open_nursery() as nursery:
        await start(waist, nursery)
        many = [(0.0, float(n)) for n in range(5000)]
        for _ in range(3):
            await waist.put(readings(*many))
            await trio.sleep(1)
        await trio.sleep(31)
        floor, state = await waist.log.position(rule_consumer("minutely"), "main")
        assert SAVE_RECORDS <= floor <= 15_000
        assert state is not None
        nursery.cancel_scope.cancel()


async def test_a_rule_whose_window_changed_ends_what_was_open(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    clock = ManualClock(NOW_NS)
    for length in (60, 3600):
        async with open_waist(tmp_path, clock=clock) as waist, trio.open_nursery() as nursery:
            await start(waist, nursery, rule(window=Duration(length)))
            if length == 60:
                await waist.put(readings((0, 1), (60, 2), (70, 2)))
            await trio.sleep(1)
            found = [(at, fields["t_count"]) for _, at, fields in await derived(waist)]
            nursery.cancel_scope.cancel()
    assert found == [(0, 1), (60, 2)]


async def test_each_log_has_windows_of_its_own(tmp_path: Path, autojump_clock: MockClock) -> None:
    two = settings(logs=(LogSettings("fast", ("s/f",), share=0.2), LogSettings("main", share=0.5)))
    intervals = {"fast": 0.01, "main": 0.01}
    async with (
        open_waist(tmp_path, using=two, intervals=intervals) as waist,
        trio.open_nursery() as nursery,
    ):
        await start(waist, nursery)
        await waist.put(readings((0, 1), (100, 1), stream="s/f"), readings((0, 1), (100, 1)))
        await trio.sleep(1)
        streams = sorted(stream for stream, _, _ in await derived(waist))
        assert streams == ["min/s/1", "min/s/f"]
        nursery.cancel_scope.cancel()


async def test_it_ends_when_the_log_takes_nothing_more(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    clock = ManualClock(NOW_NS)
    with open_engine(tmp_path, clock) as engine:
        waist = make_waist(engine, clock)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waist.committer.run)
            await start(waist, nursery)
            await waist.put(readings((0, 1)))
            await wait_all_tasks_blocked()
            waist.committer.close()
            # Closing what is idle would be the next thing it does; nobody has to cancel it.


@pytest.mark.parametrize("seed", range(6))
async def test_kills_between_any_two_steps_change_nothing(
    tmp_path: Path, autojump_clock: MockClock, seed: int
) -> None:
    chance, clock = random.Random(seed), ManualClock(NOW_NS)
    events = [
        (f"s/{chance.randrange(3)}", step * 3 + chance.randrange(-15, 15), chance.randrange(100))
        for step in range(60)
    ]
    sent = 0
    while sent < len(events):
        async with open_waist(tmp_path, clock=clock) as waist:
            with trio.move_on_after(chance.random() * 0.2):
                async with trio.open_nursery() as nursery:
                    await start(waist, nursery)
                    await trio.sleep(chance.random() * 0.1)
                    while sent < len(events):
                        stream, at, value = events[sent]
                        sent += 1
                        with trio.CancelScope(shield=True):
                            await waist.put(readings((at, value), stream=stream))
                        await trio.sleep(chance.random() * 0.02)
    async with open_waist(tmp_path, clock=clock) as waist, trio.open_nursery() as nursery:
        await start(waist, nursery)
        await trio.sleep(700)
        found = [
            ((stream.removeprefix("min/"), at), fields["t_count"], fields["t_mean"])
            for stream, at, fields in await derived(waist)
        ]
        stored = [r for r in await waist.records() if not r.source.startswith("$rule/")]
        nursery.cancel_scope.cancel()
    assert len(stored) == len(events)
    assert sorted(found) == sorted(naive(stored))


def naive(records: list[Record]) -> list[tuple[tuple[str, int], int, Any]]:
    """What the windows of these records are, all in memory, one rule after the other."""
    newest: dict[str, float] = defaultdict(lambda: -(10.0**9))
    values: dict[tuple[str, int], list[int]] = defaultdict(list)
    for record in records:
        at = record.time_ns / SECOND - BASE_S
        start_s = int(at // 60) * 60
        if start_s + 60 > newest[record.stream] - 10:
            values[record.stream, start_s].append(record.fields["t"])
            newest[record.stream] = max(newest[record.stream], at)
    return [(key, len(v), pytest.approx(sum(v) / len(v))) for key, v in values.items()]


async def test_a_position_within_a_block_is_kept_to(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_waist(tmp_path) as waist, trio.open_nursery() as nursery:
        await waist.put(readings((0, 1), (1, 2), (2, 3)))
        done = Position(rule_consumer("minutely"), "main", 2)
        await waist.log.acknowledge(done, durable=True)
        await start(waist, nursery)
        await waist.put(readings((100, 9)))
        await trio.sleep(1)
        assert [fields["t_count"] for _, _, fields in await derived(waist)] == [1]
        nursery.cancel_scope.cancel()


def closed(stream: str, start_ns: int) -> ClosedWindow:
    summary = Summary()
    for number, value in enumerate((3, 1, 2)):
        summary.add(value, start_ns + number)
    return ClosedWindow(stream, start_ns, {"t": summary})


def deriving(into: str | None = None) -> Rule:
    return Rule(name="hourly", streams=("**",), window=Duration(3600), into=into)


def test_one_record_per_window_with_flat_fields_and_the_windows_start() -> None:
    windows = [closed("a", NOW_NS), closed("b", NOW_NS), closed("a", NOW_NS + SECOND)]
    runs = window_runs(deriving(), windows, Now(0.0, ManualClock(NOW_NS).read()))
    assert [(run.stream, run.count) for run in runs] == [
        ("$rule/hourly/a", 2),
        ("$rule/hourly/b", 1),
    ]
    assert {run.source for run in runs} == {"$rule/hourly"}
    assert (runs[0].time_min_ns, runs[0].time_max_ns) == (NOW_NS, NOW_NS + SECOND)
    assert msgpack.unpackb(runs[1].body, timestamp=0) == {
        "time": msgpack.Timestamp.from_unix_nano(NOW_NS),
        "t_count": 3, "t_min": 1, "t_max": 3, "t_mean": 2.0, "t_last": 2,
    }  # fmt: skip


def test_every_duration_that_the_check_lets_pass_is_one_that_windows_take() -> None:
    for window, every in ((300 * 86_400.000003, 30 * 86_400.000003), (0.3, 0.1), (1.000001, None)):
        length = rule(window=Duration(round(window, 6)), every=every and Duration(round(every, 6)))
        WindowsOfLog(length, "main", metrics=Metrics(), open_windows={})


def test_where_the_name_does_not_tell_the_stream_a_field_does() -> None:
    windows = [closed("a", NOW_NS), closed("b", NOW_NS)]
    (run,) = window_runs(deriving("daily"), windows, Now(0.0, ManualClock().read()))
    unpacker = msgpack.Unpacker()
    unpacker.feed(run.body)
    assert [record["of"] for record in unpacker] == ["a", "b"]


def test_a_window_by_a_clock_that_was_not_set_says_so() -> None:
    window = replace(closed("a", 60 * SECOND), clock_unset=True)
    (run,) = window_runs(deriving(), [window], Now(0.0, ManualClock(NOW_NS).read()))
    record = msgpack.unpackb(run.body, timestamp=0)
    assert record["clock_unset"] is True
    assert record["t_count"] == 3
