from __future__ import annotations

from typing import Any

import pytest

from edge_agent.store.tools.check_payload import occupied, payload_problem, thinned_problem
from edge_agent.values.record import array_header
from tests.store.support import START_NS, pack


def payload(*runs: tuple[Any, ...]) -> bytes:
    return array_header(len(runs)) + b"".join(map(pack, runs))


def run(at: int, *records: Any, source: str = "pi", stream: str = "a") -> tuple[Any, ...]:
    return (stream, source, 0, START_NS, True, at, list(records))


def problem(*runs: tuple[Any, ...], covers: int, own: bool = True) -> str | None:
    return thinned_problem(payload(*runs), 0, covers, own=own)


AGGREGATE = run(5, {"records": 6}, source="$thin/pi")


def test_runs_are_counted_and_in_order() -> None:
    good = payload(run(0, {}, {}), run(2, {}))
    assert payload_problem(good, 0, len(good), 3) is None
    assert payload_problem(good, 0, len(good), 4)
    assert payload_problem(good, 0, len(good) + 1, 3)
    for bad in (run(0, {}, 7), run(0), (1, "pi", 0, START_NS, True, 0, [{}])):
        raw = payload(bad)
        assert payload_problem(raw, 0, len(raw), len(bad[6]))
    raw = payload(run(2, {}), run(0, {}))
    assert payload_problem(raw, 0, len(raw), 2)


def test_a_thinned_blocks_records_stand_for_all_that_it_covers() -> None:
    assert problem(AGGREGATE, run(7, {"t": 1}), covers=7) is not None, "beyond its end"
    assert problem(AGGREGATE, run(6, {"t": 1}), covers=7) is None
    assert problem(AGGREGATE, run(6, {"t": 1}), covers=8), "one is missing"
    assert problem(AGGREGATE, run(5, {"t": 1}), covers=7), "two in one place"
    twice = run(6, {"records": 6}, source="$thin/pi")
    assert problem(AGGREGATE, twice, covers=7), "counted twice"


def test_another_agents_aggregate_may_stand_for_more_and_an_erased_one_for_less() -> None:
    twice = run(905, {"records": 6}, source="$thin/pi")
    assert problem(AGGREGATE, twice, covers=7, own=False) is None
    assert problem(AGGREGATE, covers=7, own=False)
    assert problem(run(5, {}, stream="$erased"), run(6, {}), covers=7) is None


@pytest.mark.parametrize("size, expected", [(10, 68), (2024, 4096), (2025, 4096), (4081, 8192)])
def test_what_a_value_occupies(size: int, expected: int) -> None:
    assert occupied(size, 4096) == expected
