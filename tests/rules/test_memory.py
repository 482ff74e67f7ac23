"""Steps that remember: what they leave out, and what makes them forget."""

from __future__ import annotations

import math
from typing import Any

import pytest

from edge_agent.config import Duration, Rule
from edge_agent.rules import CompiledRules
from edge_agent.rules.memory import STREAMS_MAX, StreamMemory
from edge_agent.rules.steps import Spot
from edge_agent.values.record import Run
from tests.rules.support import compiled, maps, rule
from tests.waist import NOW_NS, SECOND, run_of

START_S = NOW_NS // SECOND


def calm(**rest: Any) -> Rule:
    return rule(deadband={"t": 0.5}, max_silence=Duration(60), **rest)


def at(second: float, **fields: Any) -> dict[str, Any]:
    return {"time": START_S + second, **fields}


def values(rules: CompiledRules, *records: dict[str, Any], **rest: Any) -> list[Any]:
    ruled = rules.apply((run_of(*records, **rest),))
    return [fields.get("t") for run in ruled.runs for fields in maps(run)]


def test_what_changes_by_less_than_asked_for_is_left_out() -> None:
    records = [at(n, t=t) for n, t in enumerate((20.0, 20.4, 20.49, 20.5, 20.1, 20.0))]
    # Against what was stored, not against the one before.
    assert values(compiled(calm()), *records) == [20.0, 20.5, 20.0]


def test_a_record_is_stored_at_least_so_often_by_the_records_own_times() -> None:
    records = [at(n, t=20.0) for n in (0, 30, 59.9, 60, 100, 119, 120)]
    ruled = compiled(calm()).apply((run_of(*records),))
    times = [fields["time"] - START_S for run in ruled.runs for fields in maps(run)]
    assert times == [0, 60, 120]


def test_a_clock_that_jumps_back_silences_nobody() -> None:
    assert values(compiled(calm()), at(0, t=20.0), at(-7200, t=20.0)) == [20.0, 20.0]


@pytest.mark.parametrize("other", [None, "20", True, math.nan])
def test_what_is_no_number_any_more_has_changed(other: object) -> None:
    found = values(compiled(calm()), at(0, t=20.0), at(1, t=other), at(2, t=other), at(3, t=20.0))
    assert len(found) == 3 and (found[0], found[2]) == (20.0, 20.0)


def test_long_values_are_compared_and_not_kept() -> None:
    long = "x" * 1000
    records = [at(0, t=long), at(1, t=long), at(2, t=long + "y"), at(3, t=[1, 2]), at(4, t=[1, 2])]
    assert values(compiled(calm()), *records) == [long, long + "y", [1, 2]]


def test_a_field_that_comes_or_goes_has_changed_and_a_record_without_any_passes() -> None:
    both = rule(deadband={"t": 0.5, "h": 5}, max_silence=Duration(60))
    records = [at(0, t=20.0), at(1, t=20.0, h=40), at(2, t=20.0, h=42), at(3, x=1), at(4, t=20.0)]
    assert values(compiled(both), *records) == [20.0, 20.0, None, 20.0]


def test_each_stream_is_remembered_by_itself() -> None:
    rules = compiled(calm())
    assert values(rules, at(0, t=20.0)) == [20.0]
    assert values(rules, at(0, t=20.0), stream="greenhouse/2") == [20.0]
    assert values(rules, at(1, t=20.0)) == []


def test_what_is_sent_again_is_judged_as_if_for_the_first_time() -> None:
    # The first time it may never have been stored: the disk refused, or the agent was killed.
    rules = compiled(calm())
    records = [at(0, t=20.0), at(1, t=20.0), at(2, t=30.0)]
    assert values(rules, *records, first=5) == [20.0, 30.0]
    assert values(rules, *records[2:], first=7) == [30.0]
    assert values(rules, *records, first=5) == [20.0, 30.0]
    limited = compiled(rule(limit="2/1m"))
    assert values(limited, *records, first=5) == [20.0, 20.0]
    assert values(limited, *records, first=5) == [20.0, 20.0]


def test_several_records_of_one_number_are_not_taken_for_sent_again() -> None:
    # A hook may make them; they came in one call.
    memory = StreamMemory[list[int]](list)
    spot = Spot("a", "pi", 0, 1, again=False)
    spot.number = 5
    memory.of(spot).append(1)
    assert memory.of(spot) == [1]
    again = Spot("a", "pi", 0, 2, again=False)
    again.number = 5
    assert memory.of(again) == []


def test_two_sources_of_a_stream_do_not_make_it_forget() -> None:
    rules = compiled(calm())
    assert values(rules, at(0, t=20.0), first=5, source="a") == [20.0]
    assert values(rules, at(1, t=20.0), first=1, source="b") == []
    assert values(rules, at(2, t=20.0), first=6, source="a") == []


def test_what_is_remembered_is_bounded_and_the_oldest_goes() -> None:
    memory = StreamMemory[list[int]](list)
    for number in range(STREAMS_MAX + 1):
        memory.of(Spot(f"s/{number}", "pi", 0, 1, again=False)).append(1)
        memory.of(Spot("s/1", "pi", 0, 1, again=False))
    assert len(memory) == STREAMS_MAX
    assert memory.of(Spot("s/1", "pi", 0, 1, again=False)) == [1]
    assert memory.of(Spot("s/0", "pi", 0, 1, again=False)) == []
    for source in range(1000):
        spot = Spot("s/1", f"pi-{source}", 0, 1, again=False)
        spot.number = 1
        assert memory.of(spot) == [1]


def test_a_limit_counts_by_stretches_of_the_records_own_time() -> None:
    rules = compiled(rule(limit="2/10s"))
    start = -(START_S % 10)
    records = [at(start + n, t=n) for n in (0, 1, 2, 9, 10, 11, 12, 5)]
    # What comes late counts where it belongs, and that stretch is full.
    assert values(rules, *records) == [0, 1, 10, 11]


def test_what_was_gathered_while_a_sensor_was_away_is_judged_by_its_times() -> None:
    records = [at(-600 + 10 * n, t=n) for n in range(60)]
    assert len(values(compiled(rule(limit="6/1m")), *records)) == 60


def test_what_is_read_again_from_quarantine_is_not_compared() -> None:
    rules = compiled(calm(), rule(limit="1/1h"))
    run: Run = run_of(at(0, t=20.0))
    assert len(rules.apply((run,)).runs) == 1
    assert len(rules.apply((run,), again=True).runs) == 1
    assert rules.apply((run,)).runs == ()
