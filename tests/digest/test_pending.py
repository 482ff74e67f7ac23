"""Runs that wait together are read as one by one: with keys that are known, and with others."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_agent.digest.block import digest
from edge_agent.digest.pending import LOOSE_ROWS, PendingRun, counts_of, parts_of
from edge_agent.digest.tail import Tail
from edge_agent.values.record import Run
from tests.digest.test_block import block, rows_of, run, slowly, times
from tests.history import values as drawn

ALIKE = {"t": 1.5, "u": "on", "time": 1_795_341_600.25}


def bodies(keys: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({key: times if key == "time" else drawn.scalars for key in keys})


keys = st.sampled_from(["t", "time", "stream", "a.b", ""])
groups = st.lists(keys, unique=True).flatmap(
    lambda names: st.lists(st.lists(bodies(names), min_size=1, max_size=3), min_size=1, max_size=3)
)


@given(st.lists(groups, min_size=1, max_size=6))
@example([[[ALIKE]], [[ALIKE]], [[ALIKE, ALIKE], [ALIKE]], [[{"t": 1}]], [[ALIKE]]])
@example([[[{"time": None}]], [[{"time": None}]], [[{}]], [[{}]]])
@example([[[{'"': 1}]], [[{"\\": 1, "time": None}]], [[{"a\x00b": "c"}]], [[ALIKE]]])
def test_whatever_keys_came_before_records_are_read_as_they_are(
    batches: list[list[list[dict[str, Any]]]],
) -> None:
    tail, last = Tail(), None
    # What has come three times alike is known.
    for batch in (one for group in batches for one in [group] * 3):
        one = block(*[run([{**fields} for fields in found]) for found in batch])
        assert sum(digest([one], 0, tail, 0)) == 0
        wanted, _ = slowly(one)
        assert rows_of(tail) == wanted
        last = tail.streams["a/1"]
        last.clear()
    assert last is not None and not last.pending


def test_keys_that_come_again_are_known_until_others_come() -> None:
    tail = Tail()
    bad = Run("a/1", "pi", 0, 0, True, 1, b"\x81\xa1t\xa1\xff", 0, 0)
    alike = [ALIKE | {"only here": 1}]
    known = []
    for runs in (alike, alike, alike, [{"t": 1}], bad, alike, alike, alike):
        one = block(runs if isinstance(runs, Run) else run(list(runs)))
        list(digest([one], 0, tail, 0))
        kept = tail.streams["a/1"]
        rows = kept.decoded()
        known.append(bool(rows.columns))
        kept.clear()
    assert known == [False, False, True, False, False, False, False, True]
    again = Tail()
    for found in (False, True):
        list(digest([block(run(alike))], 0, again, 0))
        assert bool(again.streams["a/1"].decoded().columns) == found


def test_a_run_of_many_records_is_taken_in_parts() -> None:
    count = 2 * LOOSE_ROWS + 5
    one = block(run([{"t": i} for i in range(count)], first=7), run([{"t": -1}]))
    tail = Tail()
    steps = list(digest([one], 0, tail, 0))
    kept = tail.streams["a/1"]
    found = [segment.count for of in kept.segments.values() for segment in of]
    assert found == [LOOSE_ROWS, LOOSE_ROWS, 5] and len(steps) >= len(found)
    assert (kept.pending, tail.rows, tail.records) == (1, 1, count + 1)
    assert kept.decoded().seqs == [count + 1]


def pending_run(offset: int, records: bytes = b"\x91\x80") -> PendingRun:
    return PendingRun("a", "pi", 0, 0, True, offset, msgspec.Raw(records))


@pytest.mark.parametrize(
    "offsets, count, wanted",
    [
        ([0, 1, 2], 3, [1, 1, 1]), ([0, 2, 5], 6, [2, 3, 1]), ([0], 4, [4]), ([], 0, None),
        ([1, 2], 3, None), ([0, 0], 2, None), ([0, 5], 5, None), ([0, 2, 1], 3, None),
    ],
)  # fmt: skip
def test_offsets_tell_how_many_records_a_run_has(
    offsets: list[int], count: int, wanted: list[int] | None
) -> None:
    counts = counts_of([pending_run(offset) for offset in offsets], count)
    assert (None if counts is None else list(counts)) == wanted


def test_what_is_no_array_has_no_parts() -> None:
    assert list(parts_of(pending_run(0, b"\x81\xa1t\x01"), 100)) == []
