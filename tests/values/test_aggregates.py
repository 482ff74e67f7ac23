from __future__ import annotations

import math
import random

import msgpack
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.values.aggregates import Summary, is_number

NUMBERS = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300),
)


def summary_of(values: list[tuple[float, int]]) -> Summary:
    summary = Summary()
    for value, time_ns in values:
        summary.add(value, time_ns)
    return summary


@settings(max_examples=100)
@given(st.lists(st.tuples(NUMBERS, st.integers(0, 5)), min_size=1, max_size=50))
def test_figures_are_those_of_a_naive_computation(values: list[tuple[float, int]]) -> None:
    figures = summary_of(values).figures()
    numbers = [value for value, _ in values]
    assert figures["count"] == len(values)
    assert (figures["min"], figures["max"]) == (min(numbers), max(numbers))
    exact = math.fsum(numbers) / len(numbers)
    scale = max(map(abs, numbers))
    assert math.isclose(figures["mean"], exact, rel_tol=1e-12, abs_tol=1e-12 * float(scale))
    latest = max(time for _, time in values)
    earliest = min(time for _, time in values)
    assert figures["last"] == [value for value, time in values if time == latest][-1]
    assert figures["first"] == next(value for value, time in values if time == earliest)


def test_small_numbers_are_not_lost_beside_a_large_one() -> None:
    values = [1e16] + [1.0] * 1000 + [-1e16]
    assert summary_of([(value, 0) for value in values]).mean * len(values) == 1000


def test_a_mean_exists_although_the_sum_overflows() -> None:
    mean = summary_of([(1.7e308, 0), (1.7e308, 1)]).mean
    assert math.isclose(mean, 1.7e308)


def test_a_state_taken_up_goes_on_as_if_nothing_had_been() -> None:
    seeded = random.Random(4)
    values = [(seeded.gauss(20, 5), seeded.randrange(100)) for _ in range(200)]
    whole = summary_of(values)
    half = summary_of(values[:100])
    resumed = Summary.from_state(msgpack.unpackb(msgpack.packb(half.state())))
    for value, time_ns in values[100:]:
        resumed.add(value, time_ns)
    assert resumed.state() == whole.state()


def test_what_is_a_number() -> None:
    assert all(is_number(value) for value in (0, -1, 2**64, 1.5, -0.0))
    odd = (True, False, None, "1", float("nan"), float("inf"), [1], b"1")
    assert not any(is_number(value) for value in odd)


@settings(max_examples=100)
@given(
    st.lists(st.tuples(NUMBERS, st.integers(0, 5)), max_size=30),
    st.lists(st.tuples(NUMBERS, st.integers(0, 5)), max_size=30),
)
def test_what_is_merged_has_the_figures_of_all_of_it(
    one: list[tuple[float, int]], other: list[tuple[float, int]]
) -> None:
    merged = summary_of(one)
    merged.merge(summary_of(other))
    whole = summary_of([*one, *other])
    assert merged.count == whole.count
    if whole.count:
        found, expected = merged.figures(), whole.figures()
        assert math.isclose(found.pop("mean"), expected.pop("mean"), rel_tol=1e-12, abs_tol=1e285)
        assert found == expected
