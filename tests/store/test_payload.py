from __future__ import annotations

import msgspec
import pytest

from edge_agent.errors import ProtocolError, StoreDamaged
from edge_agent.record import Run
from edge_agent.store.codec import Compressor
from edge_agent.store.format import decode_maps
from edge_agent.store.payload import (
    array_count,
    check_payload,
    cut_payload,
    cut_run,
    encode_runs,
    read_runs,
    slice_indexes,
    slice_payload,
    split_run,
)
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
    assert array_count(read_runs(raw)[0].records) == count
    check_payload(0, len(raw), raw, count)


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


def test_a_good_payload_passes_the_check_compressed_too() -> None:
    check_payload(0, len(THREE), THREE, 7)
    raw = encode_runs([run(200)])
    codec, packed = Compressor(3).compress(raw)
    assert codec == 1
    check_payload(codec, len(raw), packed, 200)


def bad_payloads() -> dict[str, tuple[bytes, int]]:
    head = ["a", "s", 1, 5, True, 0]
    return {
        "not msgpack": (b"\xc1", 1),
        "not an array": (pack({"a": 1}), 1),
        "short run": (pack([["a", "s"]]), 1),
        "records not an array": (pack([[*head, 7]]), 1),
        "empty run": (pack([[*head, []]]), 0),
        "wrong count": (pack([[*head, [{}]]]), 2),
        "offsets fall": (pack([[*head, [{}, {}]], [*head, [{}]]]), 3),
        "bad stream": (pack([["a//b", *head[1:], [{}]]]), 1),
        "negative time": (pack([["a", "s", 1, -5, True, 0, [{}]]]), 1),
        "trailing bytes": (pack([[*head, [{}]]]) + b"x", 1),
        "bottomless": (b"\x91\x97\xa1a\xa1s\x01\x05\xc3\x00" + b"\x91" * 100_000, 1),
    }


@pytest.mark.parametrize("name", bad_payloads())
def test_a_bad_payload_from_a_peer_is_refused(name: str) -> None:
    raw, count = bad_payloads()[name]
    with pytest.raises(ProtocolError) as caught:
        check_payload(0, len(raw), raw, count)
    assert caught.value.code == "bad_block"


def test_a_payload_that_claims_too_much_is_refused_before_it_is_unpacked() -> None:
    with pytest.raises(ProtocolError, match="limit"):
        check_payload(1, 2**31, b"", 1)


def test_a_stored_payload_that_is_not_one_is_damage() -> None:
    with pytest.raises(StoreDamaged):
        read_runs(b"\x93\x01\x02\x03")
    with pytest.raises(StoreDamaged):
        array_count(msgspec.Raw(b"\x81\x01\x02"))
