from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.errors import ProtocolError
from edge_agent.live import scan as scanning
from edge_agent.live.scan import Query, ScanResult, scan
from edge_agent.store import Block, Gap, encode_runs
from edge_agent.stream_names import compile_pattern
from tests.waist import NOW_NS, SECOND, run_of

EVERYTHING = Query(matches=compile_pattern("**"), limit=100)


def block(first: int, *times_s: int, stream: str = "a") -> Block:
    """One record for each time, whose ``t`` is its number in the log."""
    records = [{"t": first + i, "time": NOW_NS // SECOND + time} for i, time in enumerate(times_s)]
    run = run_of(*records, stream=stream)
    payload = encode_runs([run])
    return Block(
        "main", first, len(records), 0, len(payload), payload, bytes(16), 0, NOW_NS, True,
        run.time_min_ns, run.time_max_ns,
    )  # fmt: skip


def found(query: Query, *items: Block | Gap, first: int = 1, last: int = 10**9) -> list[int]:
    result = ScanResult(room=10**9)
    assert scan(items, query, result, first, last) is None
    return [record.seq for record in result.records]


def test_gaps_and_records_outside_the_positions_are_left_out() -> None:
    items = (block(1, 0, 0, 0), Gap("main", 4, 6, "trimmed"), block(7, 0, 0))
    assert found(EVERYTHING, *items) == [1, 2, 3, 7, 8]
    assert found(EVERYTHING, *items, first=3, last=7) == [3, 7]


def test_times_select_records_and_the_end_is_not_included() -> None:
    query = replace(EVERYTHING, from_ns=NOW_NS + 2 * SECOND, to_ns=NOW_NS + 4 * SECOND)
    assert found(query, block(1, 1, 2, 3, 4)) == [2, 3]


def test_blocks_outside_the_time_range_are_not_decompressed() -> None:
    broken = replace(block(1, 0, 1), payload=b"not a payload")
    early = replace(EVERYTHING, to_ns=NOW_NS)
    late = replace(EVERYTHING, from_ns=NOW_NS + 2 * SECOND)
    result = ScanResult(room=10**9)
    for query in (early, late):
        assert scan([broken], query, result, 1, 9) is None
    assert result.scanned == 0


def test_a_block_that_cannot_be_read_does_not_hide_those_behind_it() -> None:
    broken = replace(block(1, 0, 1), payload=b"not a payload")
    assert found(EVERYTHING, broken, block(3, 0)) == [3]


def test_it_stops_at_the_first_record_that_there_is_no_room_for() -> None:
    result = ScanResult(room=10**9)
    assert scan([block(1, 0, 0, 0)], replace(EVERYTHING, limit=2), result, 1, 9) == 3
    assert (
        scan([block(1, 0, 0)], replace(EVERYTHING, limit=2), ScanResult(room=10**9), 1, 9) is None
    )
    # One record always fits, or a large one could never be read.
    result = ScanResult(room=1)
    assert scan([block(1, 0, 0)], EVERYTHING, result, 1, 9) == 2
    assert [record.seq for record in result.records] == [1]


def test_an_aggregate_keeps_figures_per_stream() -> None:
    result = ScanResult(room=0)
    items = (block(1, 0, 5), block(3, 2, stream="b"), block(4, 1))
    assert scan(items, replace(EVERYTHING, aggregate="t", limit=1), result, 1, 9) is None
    assert result.summaries["a"].figures() == {
        "count": 3, "min": 1, "max": 4, "mean": pytest.approx(7 / 3), "first": 1, "last": 2,
    }  # fmt: skip
    assert result.summaries["b"].count == 1


def test_an_aggregate_over_too_many_streams_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "AGGREGATED_STREAMS_MAX", 1)
    query = replace(EVERYTHING, aggregate="t")
    with pytest.raises(ProtocolError, match="at most 1 streams"):
        scan([block(1, 0), block(2, 0, stream="b")], query, ScanResult(room=0), 1, 9)
