"""Figures by minute and hour are what plain Python makes of all values at once."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_agent.errors import StoreDamaged
from edge_agent.history import Cells, join_cells
from edge_agent.history.format.rollup import (
    cells_of_field,
    decode_rollup,
    encode_rollup,
    records_in,
)
from tests.history import values as drawn
from tests.history.damage import told_or_sound
from tests.history.format.test_cells import (
    HOUR,
    MINUTE,
    Pair,
    assert_same,
    cells,
    counted,
    pairs,
    plain,
)

T = ("t",)

exact_values = st.lists(st.integers(-(10**15), 10**15), min_size=1, max_size=60) | st.lists(
    st.integers(-999, 999) | drawn.decimals, min_size=1, max_size=60
)


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
