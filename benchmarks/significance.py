"""Whether two sets of runs differ by more than chance: the exact Mann-Whitney U test.

If both sets came from the same distribution, every way to deal the pooled ranks out to the two sets
would be as likely as any other. The p-value is the part of all these ways whose rank sum lies at
least as far from its mean as the one that was seen, in either direction. Ties share the mean of
their ranks. All ways are counted, by the number of subsets for each rank sum; nothing is sampled
and no normal distribution assumed, so that ten runs a side are enough.

And how far apart they are: `interval` is the exact confidence interval that belongs to Wilcoxon's
signed rank test (Hodges and Lehmann 1963), over the ratios of runs made side by side. Its middle is
the median of all pairwise means, its ends are those means that the test would only just reject.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement
from math import comb, inf
from statistics import median

#: How sure an interval is to hold the truth.
CONFIDENCE = 0.95


def p_value(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided. 1 where either is empty."""
    if not first or not second:
        return 1.0
    ranks = doubled_ranks([*first, *second])
    chosen, everything = len(first), len(ranks)
    seen = sum(ranks[:chosen])
    # Both times the number of values, so that everything stays a whole number.
    mean = chosen * sum(ranks)
    distance = abs(everything * seen - mean)
    ways = sums_of_subsets(ranks, chosen)
    extreme = sum(n for total, n in ways.items() if abs(everything * total - mean) >= distance)
    return extreme / comb(everything, chosen)


def doubled_ranks(values: Sequence[float]) -> list[int]:
    """Twice the rank of each value, from 1; equal values share the mean of their ranks."""
    ordered = sorted(values)
    first: dict[float, int] = {}
    last: dict[float, int] = {}
    for place, value in enumerate(ordered, 1):
        first.setdefault(value, place)
        last[value] = place
    return [first[value] + last[value] for value in values]


def sums_of_subsets(numbers: Sequence[int], size: int) -> dict[int, int]:
    """How many of the subsets with ``size`` members have which sum."""
    ways: list[dict[int, int]] = [{0: 1}] + [{} for _ in range(size)]
    for number in numbers:
        for members in range(size, 0, -1):
            for total, count in ways[members - 1].items():
                larger = total + number
                ways[members][larger] = ways[members].get(larger, 0) + count
    return ways[size]


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """Low end, middle and high end of where the centre of symmetric ``values`` lies.

    Fewer than six values bound nothing at 95 %: the ends are infinite.
    """
    means = sorted((a + b) / 2 for a, b in combinations_with_replacement(values, 2))
    cut = _cut(len(values), (1 - confidence) / 2)
    low, high = (means[cut - 1], means[-cut]) if cut else (-inf, inf)
    return low, median(means), high


def _cut(count: int, tail: float) -> int:
    """How many of the smallest rank sums have at most the probability ``tail`` together."""
    ways = [1]
    for rank in range(1, count + 1):
        longer = ways + [0] * rank
        for total, number in enumerate(ways):
            longer[total + rank] += number
        ways = longer
    seen = cut = 0
    while seen + ways[cut] <= tail * 2**count:
        seen += ways[cut]
        cut += 1
    return cut
