from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.errors import StoreDamaged
from edge_agent.store.format.block import (
    HEADER_BYTES,
    Block,
    Packed,
    decode_block,
    decode_origin,
    encode_block,
    encode_origin,
    filter_payload,
    peek,
)
from edge_agent.store.format.foreign import foreign_stream
from edge_agent.store.format.keys import block_key
from edge_agent.store.format.payload import encode_runs, join_runs, read_runs, run_head
from edge_agent.system.clock import Reading
from edge_agent.values.record import Origin, Run
from tests.store.support import START_NS, pack, run

NOW = Reading(START_NS + 5, 77, b"b" * 16, True)
KEY = block_key(1, 41)
ORIGIN = Origin(
    "feedfacecafe", "e" * 16, "main", 900, b"o" * 16, 3, START_NS, False, ("feedfacecafe", "x")
)


def stored(runs: list[Run], origin: Origin | None = None) -> bytes:
    raw = encode_runs(runs)
    count = sum(run.count for run in runs)
    low = min(run.time_min_ns for run in runs)
    return encode_block(KEY, Packed(count, 0, len(raw), raw, low, START_NS, origin), NOW)


def block(runs: list[Run], origin: Origin | None = None) -> Block:
    return decode_block("main", 41, KEY, memoryview(stored(runs, origin)))


def test_a_block_comes_back_with_our_clocks_and_its_origin() -> None:
    found = block([run(3), run(2, stream="b")], ORIGIN)
    assert (found.first, found.last, found.count) == (41, 45, 5)
    assert (found.stored_ns, found.boot_ns, found.boot_id) == (START_NS + 5, 77, b"b" * 16)
    assert found.synced
    assert found.origin == ORIGIN
    assert block([run(1)]).origin is None


def test_every_single_flipped_bit_is_noticed() -> None:
    value = stored([run(2, pad=20)], ORIGIN)
    for at in range(len(value) * 8):
        flipped = bytearray(value)
        flipped[at // 8] ^= 1 << at % 8
        with pytest.raises(StoreDamaged):
            decode_block("main", 41, KEY, memoryview(bytes(flipped)))


def test_a_block_in_anothers_place_is_noticed() -> None:
    with pytest.raises(StoreDamaged, match="checksum"):
        decode_block("main", 42, block_key(1, 42), memoryview(stored([run(1)])))


@pytest.mark.parametrize("length", [0, 10, HEADER_BYTES, 100])
def test_a_block_cut_short_is_noticed(length: int) -> None:
    with pytest.raises(StoreDamaged):
        decode_block("main", 41, KEY, memoryview(stored([run(9)])[:length]))


def test_a_block_of_a_later_format_is_not_guessed_at() -> None:
    raw = encode_runs([run(1)])
    packed = Packed(1, 0, 2**31, raw, 0, 0)
    with pytest.raises(StoreDamaged, match="longer than it can be"):
        decode_block("main", 41, KEY, memoryview(encode_block(KEY, packed, NOW)))


def test_peeking_tells_what_retention_needs() -> None:
    head = peek(memoryview(stored([run(3)])))
    assert head is not None
    assert (head.count, head.covers, head.stored_ns, head.synced) == (3, 3, START_NS + 5, True)
    assert peek(memoryview(b"short")) is None


def test_records_have_positions_numbers_and_neither_time_nor_stream() -> None:
    body = pack({"t": 1, "time": 1_795_341_000.5, "stream": "b"}) + pack({"t": 2})
    mixed = Run("b", "pi", 8, START_NS, False, 2, body, START_NS, START_NS)
    first, second, third = block([mixed, run(1)]).records()
    assert (first.seq, first.source_seq, first.fields) == (41, 8, {"t": 1})
    assert (first.time_ns, first.quality) == (1_795_341_000_500_000_000, "sensor")
    assert (second.seq, second.source_seq, second.fields) == (42, 9, {"t": 2})
    assert (second.time_ns, second.quality, second.synced) == (START_NS, "arrival", False)
    assert (third.seq, third.source_seq, third.origin, third.origin_seq) == (43, 0, "", 0)


@pytest.mark.parametrize("origin", [None, ORIGIN])
def test_the_newest_record_of_a_run_is_its_last_one(origin: Origin | None) -> None:
    found = block([run(3), run(1, stream="b"), run(40, stream="c")], origin)
    last = {record.stream: record for record in found.records()}
    assert [found.newest(view) for view in found.runs()] == list(last.values())
    assert [record.seq for record in last.values()] == [43, 44, 84]


def test_only_matching_streams_are_decoded() -> None:
    found = block([run(2), run(2, stream="b", value=2)]).records(lambda stream: stream == "b")
    assert [(record.seq, record.fields["v"]) for record in found] == [(43, 2), (44, 3)]


def test_a_record_that_cannot_be_decoded_hides_none_behind_it() -> None:
    bodies = [pack({"v": 1}), b"\x81\xa1\xff\x01", pack({7: 1}), pack({"v": 2, "time": "noon"})]
    odd = Run("a", "pi", 0, START_NS, True, 4, b"".join(bodies), START_NS, START_NS)
    found = list(block([odd]).records())
    assert [record.fields for record in found] == [{"v": 1}, {}, {}, {"v": 2}]
    assert {record.quality for record in found} == {"arrival"}


def test_a_foreign_record_keeps_its_place_at_its_origin() -> None:
    found = list(block([run(2), run(1)], ORIGIN).records())
    assert [record.origin_seq for record in found] == [900, 901, 902]
    assert found[0].origin == "feedfacecafe"
    assert (found[0].origin_epoch, found[0].origin_log) == ("e" * 16, "main")


def test_another_agents_own_streams_are_told_apart_from_ours() -> None:
    own, passed_on = run(1, stream="$host"), run(1, stream="$agents/aa/host")
    found = block([own, passed_on, run(1)], ORIGIN)
    assert [view.stream for view in found.runs()] == [
        "$agents/feedfacecafe/host",
        "$agents/aa/host",
        "a/1",
    ]
    assert next(block([own]).runs()).stream == "$host"
    assert foreign_stream("a", "x") == "a"


def test_filtering_keeps_offsets_and_the_origins_names() -> None:
    found = block([run(2), run(3, stream="$host", value=2), run(1, stream="b", value=5)], ORIGIN)
    count, raw = filter_payload(found, lambda view: view.stream != "a/1")
    assert count == 4
    assert [(view.stream, view.offset) for view in read_runs(raw)] == [("$host", 2), ("b", 5)]
    kept = replace(found, count=count, raw_len=len(raw), payload=raw)
    assert [record.origin_seq for record in kept.records()] == [902, 903, 904, 905]
    assert filter_payload(found, lambda _: False) == (0, b"\x90")


@pytest.mark.parametrize("origin", [None, ORIGIN])
def test_a_thinned_block_says_what_it_stands_for(origin: Origin | None) -> None:
    pieces = [run_head(run(1), 3) + run(1).body, run_head(run(1), 8) + run(1, value=7).body]
    raw = join_runs(pieces)
    packed = Packed(2, 0, len(raw), raw, START_NS, START_NS, origin, 9)
    value = memoryview(encode_block(KEY, packed, NOW))
    found = decode_block("main", 41, KEY, value)
    assert (found.first, found.last, found.count, found.thinned) == (41, 49, 2, 9)
    assert found.origin == origin
    # Our own records stay where they were; those of others are numbered by their origin.
    records = list(found.records())
    assert [record.seq for record in records] == ([44, 49] if origin is None else [48, 49])
    assert [record.origin_seq for record in records] == ([0, 0] if origin is None else [903, 908])
    head = peek(value)
    assert head is not None
    assert (head.count, head.covers) == (2, 9)


def test_a_thinned_block_that_covers_less_than_it_holds_is_refused() -> None:
    raw = encode_runs([run(5)])
    value = encode_block(KEY, Packed(5, 0, len(raw), raw, START_NS, START_NS, None, 3), NOW)
    with pytest.raises(StoreDamaged, match="covers less"):
        decode_block("main", 41, KEY, memoryview(value))


OTHER_ORIGIN = Origin(
    "feedfacecafe", "e" * 16, "main", 900, b"o" * 16, 3, START_NS, False, ("feedfacecafe", "x")
)


def test_an_origin_comes_back_as_it_was() -> None:
    assert decode_origin(memoryview(encode_origin(OTHER_ORIGIN))) == OTHER_ORIGIN


@pytest.mark.parametrize("raw", [b"", pack([]), pack(["a"] * 9)])
def test_what_is_none_is_damaged(raw: bytes) -> None:
    with pytest.raises(StoreDamaged, match="origin"):
        decode_origin(memoryview(raw))
