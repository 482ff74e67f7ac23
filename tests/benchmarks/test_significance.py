"""The exact test, against known values and against counting by hand."""

from __future__ import annotations

from itertools import combinations, product
from math import comb, inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.significance import doubled_ranks, interval, p_value, sums_of_subsets


@pytest.mark.parametrize(
    "first, second, expected",
    [
        # Nothing shared: two of all ways are as extreme, to either side.
        ([1, 2, 3], [4, 5, 6], 2 / 20),
        ([1, 2, 3, 4, 5], [6, 7, 8, 9, 10], 2 / 252),
        (range(10), range(10, 20), 2 / 184_756),
        # Tables of U: for 5 and 5, U = 2 is significant at 0.05 and U = 3 is not.
        ([1, 2, 3, 4, 8], [5, 6, 7, 9, 10], 2 * 7 / 252),
        ([1, 2, 3, 4, 7], [5, 6, 8, 9, 10], 2 * 4 / 252),
        # Equal sets, and all equal.
        ([1, 2, 3], [1, 2, 3], 1.0),
        ([5, 5, 5], [5, 5], 1.0),
        ([], [1, 2], 1.0),
    ],
)
def test_known_values(first: list[float], second: list[float], expected: float) -> None:
    assert p_value(first, second) == pytest.approx(expected)
    assert p_value(second, first) == pytest.approx(expected)


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    assert doubled_ranks([30, 10, 20, 20]) == [8, 2, 5, 5]


def test_subsets_are_counted_each_once() -> None:
    assert sums_of_subsets([1, 2, 3, 4], 2) == {3: 1, 4: 1, 5: 2, 6: 1, 7: 1}
    assert sum(sums_of_subsets(list(range(20)), 10).values()) == comb(20, 10)


def by_hand(first: list[int], second: list[int]) -> float:
    """Deal the pooled ranks out in every way there is."""
    ranks = doubled_ranks([*first, *second])
    size = len(first)
    mean = size * sum(ranks) / len(ranks)
    sums = [sum(chosen) for chosen in combinations(ranks, size)]
    distance = abs(sum(ranks[:size]) - mean)
    return sum(abs(total - mean) >= distance - 1e-9 for total in sums) / len(sums)


SETS = st.lists(st.integers(0, 6), min_size=1, max_size=6)


@given(SETS, SETS)
def test_it_counts_what_dealing_out_in_every_way_counts(
    first: list[int], second: list[int]
) -> None:
    assert p_value(first, second) == pytest.approx(by_hand(first, second))


@given(st.lists(st.floats(1, 100), min_size=2, max_size=10), st.data())
def test_scale_and_order_of_the_runs_do_not_matter(
    values: list[float], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(1, len(values) - 1))
    first, second = values[:cut], values[cut:]

    assert p_value([16 * x for x in first], [16 * x for x in second]) == p_value(first, second)
    assert p_value(first[::-1], second) == p_value(first, second)
    assert 0 < p_value(first, second) <= 1


def test_the_interval_of_ten_is_cut_where_the_tables_of_the_signed_rank_test_cut_it() -> None:
    # For n = 10 the two-sided 5 % point of T is 8, so the ends are the 9th means from either side.
    values = [1.0, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    means = sorted((a + b) / 2 for i, a in enumerate(values) for b in values[i:])

    low, middle, high = interval(values)

    assert (low, high) == (means[8], means[-9])
    assert low < middle < high


def test_too_few_values_bound_nothing() -> None:
    assert interval([1.0, 1.1, 0.9, 1.0, 1.0]) == (-inf, pytest.approx(1.0), inf)
    low, middle, high = interval([1.0, 1.1, 0.9, 1.0, 1.0, 1.0])
    assert (low, middle, high) == (0.9, 1.0, 1.1)


def test_the_interval_holds_the_centre_as_often_as_it_says() -> None:
    # Every way to give ranks their signs is as likely as any other where the centre is 0, so all
    # of them, counted, are the probability itself.
    sizes = [1.0, 2.0, 4.0, 8.1, 16.3, 32.7, 65.1, 130.9]
    held = 0
    for signs in product((-1, 1), repeat=len(sizes)):
        low, _, high = interval([sign * size for sign, size in zip(signs, sizes, strict=True)])
        held += low <= 0 <= high

    assert 0.95 <= held / 2 ** len(sizes) < 0.99
