"""Segments between agents."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from msgspec.structs import replace

from edge_agent.errors import ProtocolError
from edge_agent.values.clock_note import HOPS_MAX, ClockNote
from edge_agent.values.record import ForeignBlock, Origin
from edge_agent.wire.forward import (
    BLOCK_OVERHEAD_BYTES,
    FORWARD_MESSAGE_BYTES,
    NOTES_MAX,
    Forwarded,
    Segment,
    covers,
    decode_forwarded,
    decode_segments,
    encode_segments,
)
from edge_agent.wire.reading_types import TooBigMessage, Undecodable

ORIGIN = Origin("0a1b2c3d4e5f", "5f0c" * 4, "main", 1000, b"b" * 16, 5, 6, True, ("a", "b"))
BLOCK = ForeignBlock(11, 20, 7, 0, 7, b"payload", 3, 4, ORIGIN)
SEGMENTS = [Segment(1, 10, "filtered"), Segment.of(BLOCK), Segment(21, 21, "loop")]


def as_list(segments: list[Segment]) -> Any:
    return msgpack.unpackb(encode_segments(segments))


def code_of(data: str | bytes) -> tuple[str, int | None]:
    with pytest.raises(ProtocolError) as caught:
        decode_segments(data)
    return caught.value.code, caught.value.close_code


def test_segments_come_back_and_cover_all_that_was_examined() -> None:
    decoded = decode_segments(encode_segments(SEGMENTS))
    assert decoded == SEGMENTS
    assert covers(decoded) == (1, 21)


def test_a_message_has_the_shape_that_the_specification_shows() -> None:
    empty, block, _ = as_list(SEGMENTS)
    assert empty == [1, 1, 10, "filtered"]
    assert block[:7] == [0, 11, 20, 7, 0, 7, b"payload"]
    assert block[11:] == [0, False]


def test_what_is_of_a_backlog_says_so_and_an_earlier_sender_says_nothing() -> None:
    old = structs.replace(BLOCK, historical=True)
    assert decode_segments(encode_segments([Segment.of(old)])) == [Segment.of(old)]
    (told,) = as_list([Segment.of(old)])
    assert decode_segments(msgpack.packb([told[:12]]))[0].block == BLOCK


def test_what_was_thinned_is_told_with_the_block_and_an_earlier_sender_told_of_none() -> None:
    thinned = structs.replace(BLOCK, thinned=10)
    segments = [Segment.of(thinned), Segment(21, 30, "thinned")]
    data = encode_segments(segments)
    assert decode_segments(data) == segments
    earlier = msgpack.unpackb(encode_segments([Segment.of(BLOCK)]))
    assert decode_segments(msgpack.packb([earlier[0][:11]])) == [Segment.of(BLOCK)]


blocks = st.builds(
    ForeignBlock,
    first=st.just(1),
    last=st.integers(10, 100),
    count=st.integers(1, 10),
    codec=st.just(1),
    raw_len=st.integers(1, FORWARD_MESSAGE_BYTES),
    payload=st.binary(min_size=1, max_size=50),
    time_min_ns=st.integers(-(2**63), 0),
    time_max_ns=st.integers(0, 2**63 - 1),
    origin=st.builds(
        Origin,
        agent=st.text(min_size=1, max_size=16),
        epoch=st.text(min_size=1, max_size=16),
        log=st.text(max_size=50),
        first=st.integers(1, 2**63 - 1),
        boot_id=st.binary(min_size=16, max_size=16),
        boot_ns=st.integers(0, 2**63 - 1),
        stored_ns=st.integers(-(2**63), 2**63 - 1),
        synced=st.booleans(),
        path=st.lists(st.text(min_size=1, max_size=16), max_size=8).map(tuple),
    ),
)


@settings(max_examples=100)
@given(blocks)
def test_any_block_comes_back(block: ForeignBlock) -> None:
    assert decode_segments(encode_segments([Segment.of(block)])) == [Segment.of(block)]


def test_a_message_that_is_cut_anywhere_or_has_more_behind_it_is_undecodable() -> None:
    data = encode_segments(SEGMENTS)
    for end in range(len(data)):
        assert code_of(data[:end]) == ("undecodable", 1007)
    assert code_of(data + b"\x00") == ("undecodable", 1007)
    assert code_of(b"\x91" * 9999) == ("bad_segment", 1002)


def test_a_flipped_bit_in_a_payload_is_noticed() -> None:
    data = encode_segments(SEGMENTS).replace(b"payload", b"paylobd")
    assert code_of(data) == ("undecodable", 1007)


def test_text_no_array_and_no_segments_are_refused() -> None:
    assert code_of("[]")[0] == "bad_segment"
    assert code_of(msgpack.packb([])) == ("bad_segment", 1002)
    assert code_of(msgpack.packb({"t": 1}))[0] == "bad_segment"
    assert code_of(msgpack.packb([[2, 1, 1, "filtered"]]))[0] == "bad_segment"


def test_a_message_over_a_mebibyte_is_too_big() -> None:
    with pytest.raises(TooBigMessage):
        decode_segments(b"x" * (FORWARD_MESSAGE_BYTES + 1))


def test_numbers_with_a_hole_or_an_overlap_between_segments_are_refused() -> None:
    for first in (10, 12):
        broken = [[1, 1, 10, "filtered"], [1, first, 20, "trimmed"]]
        assert code_of(msgpack.packb(broken)) == ("bad_segment", 1002)
    with pytest.raises(ProtocolError):
        encode_segments([Segment(1, 1, "loop"), Segment(3, 3, "loop")])


@pytest.mark.parametrize(
    "segment",
    [
        [1, 0, 5, "filtered"],
        [1, 5, 4, "filtered"],
        [1, 1, 2**63, "filtered"],
        [1, 1, 5, "boredom"],
        [1, 1, 5],
        [1, 1.0, 5, "filtered"],
        [1, True, 5, "filtered"],
        [0, 1, 5],
        [],
        None,
    ],
)
def test_an_empty_range_out_of_bounds_is_refused(segment: Any) -> None:
    assert code_of(msgpack.packb([segment])) == ("bad_segment", 1002)


@pytest.mark.parametrize(
    "index, value",
    [
        (1, 0),
        (2, 10),  # last before first
        (3, 0),
        (3, 11),  # more records than numbers
        (4, 2),
        (5, 0),
        (5, FORWARD_MESSAGE_BYTES + 1),
        (5, 8),  # raw_len of a raw payload
        (6, b""),
        (6, "payload"),
        (7, -1),
        (7, 2**32),
        (8, 5),  # from after to
        (9, 2**63),
        (10, None),
        (10, []),
    ],
)
def test_a_block_out_of_bounds_is_refused(index: int, value: Any) -> None:
    (segment,) = as_list([Segment.of(BLOCK)])
    segment[index] = value
    assert code_of(msgpack.packb([segment])) == ("bad_segment", 1002)


@pytest.mark.parametrize(
    "index, value",
    [
        (0, ""),
        (0, "x" * 65),
        (1, ""),
        (2, "x" * 201),
        (3, 0),
        (4, b"short"),
        (5, -1),
        (6, 2**63),
        (7, 1),
        (8, ["a"] * 9),
        (8, [""]),
    ],
)
def test_an_origin_out_of_bounds_is_refused(index: int, value: Any) -> None:
    (segment,) = as_list([Segment.of(BLOCK)])
    segment[10][index] = value
    assert code_of(msgpack.packb([segment])) == ("bad_segment", 1002)


def test_what_a_later_version_adds_at_the_end_is_ignored() -> None:
    (segment,) = as_list([Segment.of(BLOCK)])
    segment[10].append("new")
    segment.append("new")
    assert decode_segments(msgpack.packb([segment])) == [Segment.of(BLOCK)]


def test_the_largest_envelope_stays_below_what_senders_reckon_with() -> None:
    widest = Origin("\U0001f600" * 64, "\U0001f600" * 64, "\U0001f600" * 200, 2**63 - 1,
                    b"b" * 16, 2**63 - 1, -(2**63), True, ("\U0001f600" * 64,) * 8)  # fmt: skip
    block = replace(BLOCK, first=2**62, last=2**63 - 1, origin=widest, payload=b"p", raw_len=1)
    assert len(encode_segments([Segment.of(block)])) > BLOCK_OVERHEAD_BYTES, "only with emoji"
    ids = ("x" * 64,) * 8
    plain = replace(widest, agent="x" * 64, epoch="x" * 64, log="x" * 200, path=ids)
    data = encode_segments([Segment.of(replace(block, origin=plain))])
    assert len(data) <= BLOCK_OVERHEAD_BYTES
    with pytest.raises(Undecodable):
        decode_segments(data[:-1])


NOTE = ClockNote("0a1b2c3d4e5f", b"b" * 16, -(2**62), 77, 3)


def test_clock_notes_take_no_number_and_may_come_alone() -> None:
    assert decode_forwarded(encode_segments(SEGMENTS, [NOTE])) == Forwarded(SEGMENTS, [NOTE])
    assert decode_forwarded(encode_segments((), [NOTE, NOTE])) == Forwarded([], [NOTE, NOTE])
    alone = msgpack.unpackb(encode_segments((), [NOTE]))
    assert alone == [[2, "0a1b2c3d4e5f", b"b" * 16, -(2**62), 77, 3]]


def test_what_a_later_version_adds_is_passed_over() -> None:
    known = as_list(SEGMENTS)
    known[1] = [*known[1], "more"]
    later = [[3, {"what": "nobody knows"}], known[0], [77], *known[1:], [2, *as_note(), "more"]]
    assert decode_forwarded(msgpack.packb(later)) == Forwarded(SEGMENTS, [NOTE])
    assert decode_forwarded(msgpack.packb([[9, 1]])) == Forwarded([], [])


def as_note(**changed: Any) -> list[Any]:
    fields = {"agent": NOTE.agent, "boot": NOTE.boot_id, "offset": NOTE.offset_ns, "at": 77, "h": 3}
    return list((fields | changed).values())


@pytest.mark.parametrize(
    "changed",
    [{"agent": ""}, {"agent": "x" * 65}, {"boot": b"b"}, {"offset": 2**63}, {"at": -1},
     {"h": 0}, {"h": HOPS_MAX + 1}, {"h": "1"}],
)  # fmt: skip
def test_a_note_that_cannot_be_one_breaks_the_protocol(changed: dict[str, Any]) -> None:
    for others in ([], [[9]]):
        assert code_of(msgpack.packb([[2, *as_note(**changed)], *others])) == ("bad_segment", 1002)


def test_one_message_has_so_many_notes_and_no_more() -> None:
    full = encode_segments((), [NOTE] * NOTES_MAX)
    assert len(decode_forwarded(full).notes) == NOTES_MAX
    assert len(full) < 200 * NOTES_MAX
    assert code_of(encode_segments((), [NOTE] * (NOTES_MAX + 1))) == ("bad_segment", 1002)
