"""Rows are sorted and taken apart as rows and as columns."""

from __future__ import annotations

import pytest

from edge_agent.history import Rows, Way, make_segment
from edge_agent.history.format.segment import fields_of

WAY = Way("main", "pi", "sensor", True, False)
TIMES = [5, 3, 3, 9]


def rows(*, columns: bool) -> Rows:
    made = Rows()
    made.times, made.seqs, made.source_seqs = list(TIMES), [1, 3, 2, 4], [0] * 4
    made.way_of = [made.way(WAY)] * 4
    made.origin_seqs = [7]
    if columns:
        made.columns = {"t": [50, 30, 31, 90], "u": [{"a": 1}, None, "x", 1.5]}
    else:
        made.fields = [
            {"t": 50, "u": {"a": 1}}, {"t": 30, "u": None}, {"t": 31, "u": "x"},
            {"t": 90, "u": 1.5},
        ]  # fmt: skip
    return made


@pytest.mark.parametrize("columns", [False, True], ids=["rows", "columns"])
def test_by_time_and_of_equal_times_by_seq(columns: bool) -> None:
    made = rows(columns=columns)
    made.sort()
    assert (made.times, made.seqs, made.origin_seqs) == ([3, 3, 5, 9], [2, 3, 1, 4], [0, 0, 7, 0])
    segment = make_segment(made)
    assert [one["t"] for one in fields_of(segment)] == [31, 30, 50, 90]
    assert [one["u"] for one in fields_of(segment)] == ["x", None, {"a": 1}, 1.5]


@pytest.mark.parametrize("columns", [False, True], ids=["rows", "columns"])
def test_a_part_has_everything_of_its_rows(columns: bool) -> None:
    part = rows(columns=columns).part(1, 3)
    assert (part.times, part.seqs, part.origin_seqs, part.ways) == ([3, 3], [3, 2], [0, 0], [WAY])
    assert [one["t"] for one in fields_of(make_segment(part))] == [30, 31]
