from __future__ import annotations

import msgspec
import pytest
from msgspec import structs

from edge_agent.errors import StoreDamaged
from edge_agent.store.format.foreign import check_payload
from edge_agent.store.format.payload import (
    cut_payload,
    cut_run,
    encode_runs,
    join_runs,
    last_of,
    raw_runs,
    read_runs,
    slice_indexes,
    slice_payload,
    slices_of,
    split_run,
    streams_of,
)
from edge_agent.store.format.record_maps import array_count, decode_maps
from edge_agent.values.record import Run
from tests.store.support import pack, run


def contents(raw: bytes) -> list[tuple[str, int, int, list[int]]]:
    """Stream, offset, source_seq and values of each run."""
    return [
        (view.stream, view.offset, view.source_seq, [m["v"] for m in decode_maps(view.records)])
        for view in read_runs(raw)
    ]


THREE = encode_runs(
    [run(3, first=10, value=0), run(2, stream="b", value=3), run(2, first=20, value=5)]
)


def test_runs_come_back_with_offsets_counted_through_the_block() -> None:
    assert contents(THREE) == [
        ("a/1", 0, 10, [0, 1, 2]),
        ("b", 3, 0, [3, 4]),
        ("a/1", 5, 20, [5, 6]),
    ]
    assert [view.index for view in read_runs(THREE)] == [0, 3, 5]


@pytest.mark.parametrize("count", [1, 15, 16, 65_535, 65_536])
def test_every_width_of_array_header_is_understood(count: int) -> None:
    body = b"\x80" * count
    raw = encode_runs([Run("a", "s", 1, 0, True, count, body, 0, 0)])
    assert array_count(next(read_runs(raw)).records) == count
    check_payload(0, len(raw), raw, count)


def test_the_streams_of_a_payload_are_those_of_its_runs() -> None:
    own = encode_runs([run(1, stream="$status"), run(200, stream="b"), run(1, stream="b")])
    for raw in (THREE, own, encode_runs([])):
        assert streams_of(raw) == {view.stream for view in read_runs(raw)}


def test_a_cut_keeps_offsets_and_numbers_of_what_stays() -> None:
    count, raw = cut_payload(THREE, 1)
    assert count == 6
    assert contents(raw)[0] == ("a/1", 1, 11, [1, 2])
    count, raw = cut_payload(raw, 4)
    assert (count, contents(raw)) == (3, [("b", 4, 0, [4]), ("a/1", 5, 20, [5, 6])])
    assert cut_payload(raw, 7) == (0, b"\x90")


def test_slices_by_offset_and_by_index_differ_once_a_payload_has_holes() -> None:
    _, holed = slice_payload(THREE, 2, 6)
    assert contents(holed) == [("a/1", 2, 12, [2]), ("b", 3, 0, [3, 4]), ("a/1", 5, 20, [5])]
    assert slice_indexes(holed, 0, 2) == slice_payload(THREE, 2, 4)


def test_cutting_everywhere_and_joining_again_loses_and_doubles_nothing() -> None:
    for at in range(8):
        low, high = slice_payload(THREE, 0, at), slice_payload(THREE, at, 7)
        joined = [v for _, _, _, vs in contents(low[1]) + contents(high[1]) for v in vs]
        assert joined == list(range(7))
        assert low[0] + high[0] == 7


def test_a_long_run_is_split_between_records() -> None:
    whole = run(100, first=5, pad=50)
    parts = list(split_run(whole, 1000))
    assert all(len(part.body) <= 1000 for part in parts)
    assert len(parts) > 5
    assert b"".join(part.body for part in parts) == whole.body
    assert [part.source_seq for part in parts] == [
        5 + sum(p.count for p in parts[:i]) for i in range(len(parts))
    ]


def test_a_record_larger_than_the_limit_stays_whole() -> None:
    big, little = run(1, pad=5000), run(1)
    joined = Run("a", "s", 1, 0, True, 3, little.body + big.body + little.body, 0, 0)
    assert [part.count for part in split_run(joined, 1000)] == [1, 1, 1]


def test_cutting_a_run_advances_its_number_but_not_of_plain_senders() -> None:
    assert cut_run(run(3, first=7), 2).source_seq == 9
    plain = cut_run(run(3), 2)
    assert (plain.source_seq, plain.count, plain.body) == (0, 1, run(1, value=2).body)


def test_a_stored_payload_that_is_not_one_is_damage() -> None:
    with pytest.raises(StoreDamaged):
        list(read_runs(b"\x93\x01\x02\x03"))
    with pytest.raises(StoreDamaged):
        streams_of(b"\x93\x01\x02\x03")
    with pytest.raises(StoreDamaged):
        array_count(msgspec.Raw(b"\x81\x01\x02"))


def test_a_run_of_many_records_is_read_as_runs_of_some_of_them() -> None:
    (view,) = read_runs(encode_runs([run(10_000, first=7)], [5]))
    parts = list(slices_of(view))
    assert [part.count for part in parts] == [4096, 4096, 1808]
    assert [part.index for part in parts] == [0, 4096, 8192]
    assert [part.offset for part in parts] == [5, 4101, 8197]
    assert [part.source_seq for part in parts] == [7, 4103, 8199]
    whole = decode_maps(view.records)
    assert [one for part in parts for one in decode_maps(part.records)] == whole
    assert last_of(view).records == last_of(parts[-1]).records


def test_a_run_of_many_bytes_is_read_as_runs_of_some_of_them() -> None:
    body = pack({"v": "x" * 40_000})
    (view,) = read_runs(encode_runs([structs.replace(run(3), body=3 * body)]))
    assert [part.count for part in slices_of(view)] == [1, 1, 1]
    (view,) = read_runs(encode_runs([run(3)]))
    assert next(slices_of(view)) is view


def test_a_payload_of_many_runs_is_read_as_one_of_few() -> None:
    raw = encode_runs([run(1, first=number) for number in range(1, 10_001)])
    views = list(read_runs(raw))
    assert [view.source_seq for view in views] == list(range(1, 10_001))
    assert [view.index for view in views] == list(range(10_000))
    assert join_runs(list(raw_runs(raw))) == raw and streams_of(raw) == {views[0].stream}
    with pytest.raises(StoreDamaged):
        list(read_runs(raw[:-1]))
    with pytest.raises(StoreDamaged):
        list(read_runs(raw + b"\x80"))
