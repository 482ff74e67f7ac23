"""Figures in memory are what plain Python makes of all values; parts stay as they are."""

from __future__ import annotations

import random
from copy import deepcopy
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.history import Cells, cells_of, counts_of, join_cells, keys, units_of
from edge_agent.history.format.cells import COLUMNS, within
from edge_agent.history.format.columns import encode_column, numbers_of

MINUTE, HOUR = keys.MINUTE_NS, keys.HOUR_NS
START = 1_795_341_600 * 10**9 // HOUR * HOUR
Pair = tuple[int, float]


def pairs(values: list[float], seed: int, span_ns: int = HOUR) -> list[Pair]:
    """Values at times that all differ, in order."""
    chance = random.Random(seed)
    offsets = sorted(chance.sample(range(span_ns // 10**6), len(values)))
    return [(START + offset * 10**6, value) for offset, value in zip(offsets, values, strict=True)]


def cells(found: list[Pair], unit_ns: int = MINUTE) -> Cells:
    found = sorted(found)
    values: list[Any] = [value for _, value in found]
    numbers = numbers_of(encode_column(values, set(map(type, values))), len(values))
    assert numbers is not None
    times = [time_ns for time_ns, _ in found]
    return cells_of(times, numbers, None, units_of(times, unit_ns))


def counted(found: list[Pair], unit_ns: int = MINUTE) -> Cells:
    times = sorted(time_ns for time_ns, _ in found)
    return counts_of(times, units_of(times, unit_ns))


def plain(found: list[Pair], unit_ns: int) -> list[dict[str, Any]]:
    """The same in plain Python, of exact values."""
    units: dict[int, list[Pair]] = {}
    for time_ns, value in sorted(found):
        units.setdefault(time_ns // unit_ns * unit_ns, []).append((time_ns, value))
    made = []
    for start, of in sorted(units.items()):
        # A float is the decimal that it is written as.
        values = [Fraction(str(value)) for _, value in of]
        mean = sum(values) / len(values)
        made.append(
            {
                "starts": start,
                "counts": len(values),
                "mins": min(values),
                "maxs": max(values),
                "sums": sum(values),
                "firsts": values[0],
                "lasts": values[-1],
                "first_ns": of[0][0],
                "last_ns": of[-1][0],
                "squares": float(sum((value - mean) ** 2 for value in values)),
            }
        )
    return made


def assert_same(cells: Cells, expected: list[dict[str, Any]]) -> None:
    assert cells.exact
    power = 10**cells.scale
    for name in COLUMNS:
        found, wanted = getattr(cells, name), [one[name] for one in expected]
        if name == "squares":
            assert found == pytest.approx(wanted, rel=1e-6, abs=1e-30)
        elif name in ("mins", "maxs", "sums", "firsts", "lasts"):
            assert [Fraction(value, power) for value in found] == wanted
        else:
            assert found == wanted


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from([MINUTE, HOUR]), st.booleans()),
        min_size=1, max_size=8,
    )
)  # fmt: skip
def test_parts_that_are_put_together_stay_as_they_are(drawn: list[tuple[int, int, bool]]) -> None:
    parts, everything = [], []
    for number, (hour, unit_ns, is_whole) in enumerate(drawn):
        found = [
            (START + hour * HOUR + minute * MINUTE + number, number if is_whole else number / 4)
            for minute in range(0, 60, 7 if is_whole else 60)
        ]
        parts.append(cells(found, unit_ns))
        everything += found
    before = deepcopy([[getattr(one, name) for name in COLUMNS] for one in parts])
    assert_same(join_cells(parts, HOUR), plain(sorted(everything), HOUR))
    assert [[getattr(one, name) for name in COLUMNS] for one in parts] == before


def test_integers_beyond_64_bits_count_as_floats() -> None:
    found = pairs([2**64 - 1, 1], 1)
    assert cells(found, HOUR).sums == [2.0**64]


def test_a_part_of_the_range_is_the_units_that_begin_in_it() -> None:
    found = cells([(START + i * MINUTE, i) for i in range(5)])
    assert within(found, START + MINUTE, START + 3 * MINUTE).sums == [1, 2]
    assert within(found, START, START + HOUR) is found
    assert len(within(found, 0, 1)) == 0
    assert len(join_cells([], MINUTE)) == 0
