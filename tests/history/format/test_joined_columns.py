"""Figures of parts that were read with different columns, as one."""

from __future__ import annotations

from edge_agent.history.format.cells import Cells, join_cells


def part(start: int, *, whole: bool) -> Cells:
    """One unit with the value 4; as memory has it, or with a roll-up's least values alone."""
    cells = Cells(0, exact=True)
    cells.starts, cells.counts, cells.mins = [start], [1], [4]
    if whole:
        cells.maxs, cells.sums, cells.squares = [4], [4], [0.0]
        cells.firsts, cells.lasts = [4], [4]
        cells.first_ns, cells.last_ns = [start], [start]
    return cells


def test_columns_that_one_part_was_read_without_are_left_out() -> None:
    for order in ((0, 60), (60, 0)):
        joined = join_cells([part(order[0], whole=False), part(order[1], whole=True)], 60)
        assert joined.starts == [0, 60] and joined.mins == [4, 4]
        assert joined.maxs == [] and joined.first_ns == []


def test_such_parts_become_one_unit() -> None:
    joined = join_cells([part(0, whole=True), part(60, whole=False), part(120, whole=True)], 3600)
    assert (joined.starts, joined.counts, joined.mins) == ([0], [3], [4])
