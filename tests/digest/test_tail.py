"""What is digested and not written gathers by stream and hour."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import msgspec
import pytest

from edge_agent.digest import segments_of
from edge_agent.digest.tail import PENDING_ROWS_MAX, StreamTail, Tail
from edge_agent.history import Rows, Way, times_of
from edge_agent.history.keys import HOUR_NS

WAY = Way("main", "pi", "sensor", True, False)


def rows_of(fields: list[dict[str, Any]]) -> Rows:
    rows, count = Rows(), len(fields)
    rows.times, rows.seqs, rows.source_seqs = [*range(count)], [*range(count)], [0] * count
    rows.way_of = [rows.way(WAY)] * count
    # Copies, so that what a segment keeps of them is counted.
    rows.fields = msgspec.msgpack.decode(msgspec.msgpack.encode(fields))
    return rows


def add(tail: Tail, stream: str, times: list[int]) -> StreamTail:
    kept = tail.of(stream)
    assert kept is not None
    rows = kept.rows
    rows.times += times
    rows.seqs += range(1, len(times) + 1)
    rows.source_seqs += [0] * len(times)
    rows.way_of += [rows.way(WAY)] * len(times)
    rows.fields += [{"t": i} for i in range(len(times))]
    list(tail.added(len(times)))
    return kept


def test_rows_become_segments_by_hour_whatever_order_they_came_in() -> None:
    tail = Tail()
    times = [HOUR_NS + 5, 3, HOUR_NS - 1, 3 * HOUR_NS, -1]
    kept = add(tail, "a/1", times)
    tail.settle(kept)
    tail.settle(kept)
    found = {hour: times_of(segments[0]) for hour, segments in kept.segments.items()}
    assert found == {-1: [-1], 0: [3, HOUR_NS - 1], 1: [HOUR_NS + 5], 3: [3 * HOUR_NS]}
    assert (tail.rows, tail.records) == (0, 5)


def test_a_question_sees_rows_and_segments_and_takes_none() -> None:
    tail = Tail()
    kept = add(tail, "a/1", [1, 2, HOUR_NS])
    tail.settle(kept)
    add(tail, "a/1", [HOUR_NS + 5, 7])
    seen = [(hour, times_of(segment)) for hour, segment in segments_of(kept, 0, 2 * HOUR_NS)]
    assert sorted(seen) == [(0, [1, 2]), (0, [7]), (1, [HOUR_NS]), (1, [HOUR_NS + 5])]
    assert len(kept.rows) == 2 and tail.rows == 2
    assert segments_of(kept, 8, HOUR_NS) == []
    assert [hour for hour, _ in segments_of(kept, 0, 1)] == []


def test_bytes_are_nothing_once_nothing_is_there_but_segments() -> None:
    tail = Tail()
    kept = add(tail, "a/1", list(range(100)))
    before = tail.bytes
    tail.settle(kept)
    assert 0 < tail.bytes < before


@pytest.mark.parametrize("keys", [1, 5, 50])
@pytest.mark.parametrize("are_alike", [True, False])
def test_bytes_are_about_what_segments_occupy_whatever_keys_records_have(
    keys: int, are_alike: bool
) -> None:
    # Each record with keys of its own makes a table of its own, and each key a column.
    parts = [
        [
            {f"k{0 if are_alike else n:x}.{key}": 1.5 for key in range(keys)}
            for n in range(at, at + 256)
        ]
        for at in range(0, 2048, 256)
    ]
    tail = Tail()
    kept = tail.of("a/1")
    assert kept is not None
    tracemalloc.start()
    try:
        for part in parts:
            kept.rows = rows_of(part)
            list(tail.added(len(part)))
            tail.settle(kept)
        gc.collect()
        occupied = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert 0.5 < tail.bytes / occupied < 1.6


def test_many_rows_of_many_streams_become_segments_with_pauses() -> None:
    tail = Tail()
    for number in range(PENDING_ROWS_MAX - 1):
        kept = tail.of(f"s/{number}")
        assert kept is not None
        kept.rows.times.append(number)
        kept.rows.seqs.append(1)
        kept.rows.source_seqs.append(0)
        kept.rows.way_of.append(kept.rows.way(WAY))
        kept.rows.fields.append({})
    assert list(tail.added(PENDING_ROWS_MAX - 1, 0)) == []
    pauses = tail.added(1, 0)
    next(pauses)
    assert tail.rows == PENDING_ROWS_MAX - 1
    assert len(list(pauses)) == PENDING_ROWS_MAX - 2


def test_there_are_only_so_many_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.digest.tail.SERIES_MAX", 3)
    tail = Tail({"a", "b"}, 2)
    assert tail.of("a") and tail.of("new") and tail.of("new")
    assert tail.of("one too many") is None
    assert tail.of("b")
