"""Figures by minute and hour are what plain Python makes of all values at once."""

from __future__ import annotations

import math
import random
from copy import deepcopy
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_agent.errors import StoreDamaged
from edge_agent.history import Cells, cells_of, counts_of, keys, units_of
from edge_agent.history.format.columns import encode_column, numbers_of
from edge_agent.history.format.rollup import (
    COLUMNS,
    cells_of_field,
    decode_rollup,
    encode_rollup,
    join_cells,
    records_in,
    within,
)
from tests.history import values as drawn
from tests.history.damage import told_or_sound

MINUTE, HOUR = keys.MINUTE_NS, keys.HOUR_NS
START = 1_795_341_600 * 10**9 // HOUR * HOUR
T = ("t",)

exact_values = st.lists(st.integers(-(10**15), 10**15), min_size=1, max_size=60) | st.lists(
    st.integers(-999, 999) | drawn.decimals, min_size=1, max_size=60
)
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


def stored(cells: Cells, records: Cells, unit_ns: int) -> Cells:
    (found,) = cells_of_field(decode_rollup(encode_rollup(unit_ns, records, [(T, cells)])), T)
    return found


@given(exact_values, st.integers(0, 99), st.integers(1, 5))
@example([10**17, 10**17 + 1, 10**17 + 2] * 9, 1, 3)
@example([0.1, 10**12 - 1], 1, 2)
@example([1, 0.5, 0.25, 1e-6], 2, 4)
def test_put_together_in_any_order_they_are_what_all_values_are_at_once(
    values: list[float], seed: int, of: int
) -> None:
    found = pairs(values, seed)
    assert_same(cells(found), plain(found, MINUTE))
    # Cut at random, as if some had come late; the parts put together in two steps.
    chance = random.Random(seed)
    parts: list[list[Pair]] = [[] for _ in range(of)]
    for one in found:
        chance.choice(parts).append(one)
    kept = [stored(cells(part), counted(part), MINUTE) for part in parts if part]
    chance.shuffle(kept)
    half = len(kept) // 2
    steps = [join_cells(kept[:half], MINUTE), join_cells(kept[half:], MINUTE)]
    records = counted(found)
    assert_same(stored(join_cells(steps, MINUTE), records, MINUTE), plain(found, MINUTE))
    hours = join_cells([stored(step, step, MINUTE) for step in steps if len(step)], HOUR)
    assert_same(stored(hours, counted(found, HOUR), HOUR), plain(found, HOUR))


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


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
@example([1.7e308, 1.7e308, -1.7e308])
@example([1.7e308, 1.7e308])
@example([1e300, 0.1 + 0.2])
@example([1e-320, 0.1 + 0.2])
def test_of_floats_the_least_the_largest_first_and_last_are_exact(values: list[float]) -> None:
    found = pairs(values, 1)
    one = stored(cells(found, HOUR), counted(found, HOUR), HOUR)
    halves = [found[::2], found[1::2]]
    kept = [stored(cells(half), counted(half), MINUTE) for half in halves if half]
    two = stored(join_cells(kept, HOUR), counted(found, HOUR), HOUR)
    for whole in (one, two):
        power = 10**whole.scale if whole.exact else 1
        assert [whole.mins[0] / power, whole.maxs[0] / power] == [min(values), max(values)]
        assert [whole.firsts[0] / power, whole.lasts[0] / power] == [values[0], values[-1]]
        assert whole.counts == [len(values)]
        if sum(map(abs, values)) < 1e300:
            total = math.fsum(values)
            error = 1e-12 * math.fsum(map(abs, values))
            assert abs(whole.sums[0] / power - total) <= error


def test_sums_that_no_longer_fit_are_floats() -> None:
    found = pairs([2**62] * 60, 1)
    kept = stored(cells(found, HOUR), counted(found, HOUR), HOUR)
    assert (kept.exact, kept.sums, kept.mins) == (False, [60.0 * 2**62], [2.0**62])
    joined = join_cells([kept, cells(pairs([1], 2, MINUTE), HOUR)], HOUR)
    assert joined.sums == [60.0 * 2**62 + 1]


def test_integers_beyond_64_bits_count_as_floats() -> None:
    found = pairs([2**64 - 1, 1], 1)
    assert cells(found, HOUR).sums == [2.0**64]


def test_a_field_that_some_records_lack_has_figures_of_its_own() -> None:
    all_of = pairs([1] * 50, 3)
    with_field = [(time_ns, 2.5) for time_ns, _ in all_of[::7]]
    rollup = decode_rollup(encode_rollup(MINUTE, counted(all_of), [(T, cells(with_field))]))
    (found,) = cells_of_field(rollup, T)
    assert_same(found, plain(with_field, MINUTE))
    records = records_in(rollup)
    assert sum(records.counts) == 50
    assert records.first_ns[0] == all_of[0][0] and records.last_ns[-1] == all_of[-1][0]
    assert cells_of_field(rollup, ("other",)) == []


def test_only_the_columns_that_are_needed_are_read() -> None:
    found = pairs([1, 2, 3, 4], 4)
    rollup = decode_rollup(encode_rollup(MINUTE, counted(found), [(T, cells(found))]))
    (some,) = cells_of_field(rollup, T, needs=frozenset({"maxs"}))
    assert some.maxs and not some.mins and not some.squares
    joined = join_cells([some, some], HOUR)
    assert (joined.counts, joined.maxs, joined.mins) == ([8], [4], [])


def test_a_part_of_the_range_is_the_units_that_begin_in_it() -> None:
    found = cells([(START + i * MINUTE, i) for i in range(5)])
    assert within(found, START + MINUTE, START + 3 * MINUTE).sums == [1, 2]
    assert within(found, START, START + HOUR) is found
    assert len(within(found, 0, 1)) == 0
    assert len(join_cells([], MINUTE)) == 0


@pytest.mark.parametrize("values", [[1.5, 2, 3], [0.1 + 0.2, 1e300]], ids=["exact", "floats"])
def test_of_a_damaged_roll_up_there_is_nothing_but_the_word_that_it_is(values: list[float]) -> None:
    found = pairs(values * 10, 5)
    raw = encode_rollup(MINUTE, counted(found), [(T, cells(found)), (("u", "v"), cells(found[:3]))])

    def read(flipped: bytes) -> None:
        rollup = decode_rollup(flipped)
        records_in(rollup)
        for path in rollup.paths:
            cells_of_field(rollup, path)

    told_or_sound(raw, read, times=1000)


def test_a_roll_up_of_another_format_or_of_none_is_told() -> None:
    for raw in (b"", b"\xc1", b"\x91" * 4000):
        with pytest.raises(StoreDamaged):
            decode_rollup(raw)
