from __future__ import annotations

import pytest

from edge_agent.store import Block, Gap
from edge_agent.store.thinning import (
    as_owed,
    cut_beside,
    thinned_numbers,
    whole_ranges,
    withheld_numbers,
)
from tests.forward.support import make_run
from tests.forward.thinned import plain_block, ten_of_two_streams

THINNED = ten_of_two_streams(11)
ITEMS: tuple[Block | Gap, ...] = (THINNED, plain_block(21, make_run("t/1", 3)))


def test_who_has_nothing_of_a_thinned_block_is_given_it_whole() -> None:
    assert as_owed(ITEMS, 11) == ITEMS and as_owed(ITEMS, 5) == ITEMS
    assert whole_ranges(ITEMS) == [(11, 20)]
    assert (thinned_numbers(ITEMS, 11, 23), withheld_numbers(ITEMS, 11, 23)) == (10, 0)


def test_who_has_a_part_of_it_is_given_none() -> None:
    owed = as_owed(ITEMS, 15)
    assert owed == (Gap("main", 11, 20, "thinned"), ITEMS[1])
    assert (thinned_numbers(owed, 15, 22), withheld_numbers(owed, 15, 22)) == (6, 6)
    assert as_owed(owed, 15) == owed and whole_ranges(owed) == [(11, 20)]


def test_unless_it_was_cut_while_it_was_being_sent() -> None:
    assert as_owed(ITEMS, 15, 11) == ITEMS
    assert as_owed(ITEMS, 15, 10) != ITEMS


def test_other_blocks_and_gaps_are_given_as_they_are() -> None:
    items = (plain_block(21, make_run("t/1", 3)), Gap("main", 24, 30, "damaged"))
    for first in (21, 22, 25):
        assert as_owed(items, first) == items
    assert thinned_numbers(items, 21, 30) == withheld_numbers(items, 21, 30) == 0
    assert as_owed((), 1) == ()


@pytest.mark.parametrize(
    "whole, expected",
    [
        ([], (50, 0)),
        ([(1, 20)], (50, 0)),
        ([(40, 90)], (39, 0)),
        ([(1, 90)], (90, 0)),
        ([(1, 100)], (50, 1)),
        ([(1, 30), (31, 80)], (30, 0)),
    ],
)
def test_a_range_is_cut_beside_a_thinned_block_where_it_can_be(
    whole: list[tuple[int, int]], expected: tuple[int, int]
) -> None:
    assert cut_beside(1, 100, whole) == expected
