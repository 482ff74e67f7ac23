from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest
import trio
from trio.testing import MockClock

from edge_agent.config.quantities import Duration
from edge_agent.config.shape import Rule
from edge_agent.live.derive import (
    SAVE_RECORDS,
    Now,
    derive,
    derived_runs,
    derived_stream,
    rule_consumer,
)
from edge_agent.store import Boot
from edge_agent.system.clock import Reading
from edge_agent.values.record import Record, Run, resolve_time
from edge_agent.values.stream_names import STREAM_BYTES_MAX
from tests.manual_clock import ManualClock
from tests.waist import NOW_NS, Waist, open_waist, run_of

RULE = Rule(name="sum", streams=("s/*",), window=Duration(60), into="sum")


class Sums:
    """Adds up; a result for each record that says so, and for what its state has no room for."""

    def __init__(self, *, room: int = 10**9) -> None:
        self.total = 0
        self.room = room
        self.results: list[int] = []
        self.woken = 0

    @property
    def ready(self) -> int:
        return len(self.results)

    def take_up(self, state: bytes | None, now: Now) -> None:
        self.total = 0 if state is None else msgpack.unpackb(state)

    def add(self, record: Record, committed: Reading, boot: Boot | None) -> None:
        self.total += record.fields["v"]
        if record.fields.get("tell"):
            self.results.append(self.total)

    def look(self, now: Now) -> None: ...

    def wake_in(self, now: Now) -> float:
        return 100.0

    def pass_time(self, now: Now) -> None:
        self.woken += 1

    def encode(self) -> bytes:
        if self.total > self.room:
            self.results.append(self.total)
            self.total = 0
        return bytes(msgpack.packb(self.total))

    def take(self, now: Now) -> tuple[Run, ...]:
        results, self.results = self.results, []
        return derived_runs(RULE, [("s/1", NOW_NS, {"sum": n}) for n in results], now.reading)


def told(*values: int) -> Run:
    """Records with these values, the last of which asks for a result."""
    fields: list[dict[str, Any]] = [{"v": value} for value in values]
    fields[-1]["tell"] = True
    return run_of(*fields, stream="s/1")


async def sums(waist: Waist) -> list[int]:
    return [r.fields["sum"] for r in await waist.records() if r.source == "$rule/sum"]


async def test_results_position_and_state_are_one_entry(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    clock = ManualClock(NOW_NS)
    for expected in ([3], [3, 8]):
        async with open_waist(tmp_path, clock=clock) as waist, trio.open_nursery() as nursery:
            entries: list[Any] = []
            commit = waist.engine.commit

            def watched(given: Any, commit: Any = commit, entries: list[Any] = entries) -> Any:
                entries.extend(given)
                return commit(given)

            waist.engine.commit = watched  # type: ignore[method-assign,assignment]  # watched, and done
            nursery.start_soon(lambda: derive(waist.log, RULE, lambda _: Sums(), clock=clock))
            await waist.put(told(1, 2) if len(expected) == 1 else told(5))
            await trio.sleep(1)
            assert await sums(waist) == expected
            (entry,) = [e for e in entries if any(run.source == "$rule/sum" for run in e.runs)]
            (position,) = entry.positions
            assert position.consumer == rule_consumer("sum")
            assert msgpack.unpackb(position.state) == expected[-1]
            nursery.cancel_scope.cancel()


async def test_what_the_state_has_no_room_for_is_written_with_it_and_not_lost(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_waist(tmp_path) as waist, trio.open_nursery() as nursery:
        made = Sums(room=1000)
        nursery.start_soon(lambda: derive(waist.log, RULE, lambda _: made, clock=waist.clock))
        await waist.put(run_of(*[{"v": 1}] * SAVE_RECORDS, stream="s/1"))
        await trio.sleep(1)
        assert await sums(waist) == [SAVE_RECORDS]
        floor, state = await waist.log.position(rule_consumer("sum"), "main")
        assert (floor, state) == (SAVE_RECORDS, msgpack.packb(0))
        nursery.cancel_scope.cancel()


async def test_time_passes_for_a_derivation_only_when_everything_is_read(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_waist(tmp_path) as waist, trio.open_nursery() as nursery:
        made = Sums()
        nursery.start_soon(lambda: derive(waist.log, RULE, lambda _: made, clock=waist.clock))
        for _ in range(3):
            await trio.sleep(90)
            await waist.put(told(1))
        assert made.woken == 0
        await trio.sleep(101)
        assert made.woken == 1
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "into, stream, expected",
    [
        ("daily/{stream}", "greenhouse/1", "daily/greenhouse/1"),
        ("$rule/x/{stream}", "$agents/7/a", "$rule/x/agents/7/a"),
        ("fixed", "a", "fixed"),
    ],
)
def test_the_stream_is_put_in(into: str, stream: str, expected: str) -> None:
    assert derived_stream(into, stream) == expected


def test_names_that_would_be_too_long_are_cut_and_stay_different() -> None:
    names = {derived_stream("daily/{stream}", "a" * 199 + last) for last in "xyz"}
    assert len(names) == 3
    assert max(map(len, names)) <= STREAM_BYTES_MAX


def test_a_runs_times_are_those_that_its_records_are_read_with() -> None:
    # Of a moment told by the nanosecond, as an arrival is, a reader knows the microseconds.
    now = Reading(NOW_NS, NOW_NS, bytes(16), True)
    (run,) = derived_runs(RULE, [("s/1", NOW_NS + 359_337, {"state": "on"})], now)
    sent = msgspec.msgpack.decode(run.body)["time"]
    read_ns, _ = resolve_time(sent, NOW_NS)
    assert run.time_min_ns == run.time_max_ns == read_ns == NOW_NS + 359_000
