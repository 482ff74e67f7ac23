"""The two encodings behind one face."""

from __future__ import annotations

import json
import tracemalloc

import msgpack
import pytest

from edge_agent.errors import ProtocolError
from edge_agent.wire.encodings import (
    JSON,
    MSGPACK,
    encoding_of,
    joined_maps,
    json_fault,
    map_sizes,
    shown,
    size_of,
)
from edge_agent.wire.reading_types import TooBigMessage, Undecodable


def test_text_is_json_and_bytes_are_msgpack() -> None:
    assert encoding_of("") is JSON
    assert encoding_of(b"") is MSGPACK


@pytest.mark.parametrize("count", [0, 1, 15, 16, 65_535, 65_536])
def test_a_msgpack_array_of_any_length_gives_back_its_maps_as_sent(count: int) -> None:
    array = msgpack.packb([{"a": 1}] * count)
    assert MSGPACK.is_array(array, 100_000)
    assert MSGPACK.body(array, []) == msgpack.packb({"a": 1}) * count
    assert joined_maps([{"a": 1}] * count) == msgpack.packb({"a": 1}) * count


@pytest.mark.parametrize("header", [b"\x93", b"\xdc\x00\x03", b"\xdd\x00\x00\x00\x03"])
def test_an_array_may_use_a_longer_header_than_it_needs(header: bytes) -> None:
    array = header + b"\x80" * 3
    assert MSGPACK.is_array(array, 10)
    assert MSGPACK.body(array, []) == b"\x80" * 3


def test_an_array_that_claims_four_billion_elements_is_refused_at_its_header() -> None:
    with pytest.raises(Undecodable, match="4294967295"):
        MSGPACK.is_array(b"\xdd\xff\xff\xff\xff", 10_000)


@pytest.mark.parametrize(
    "data", [b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"]
)
def test_a_header_that_claims_four_gigabytes_allocates_nothing(data: bytes) -> None:
    tracemalloc.start()
    try:
        for decode in (MSGPACK.one, MSGPACK.raw, MSGPACK.any):
            with pytest.raises(ValueError, match="truncated"):
                decode(data)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_a_mebibyte_of_empty_maps_is_refused_before_a_map_is_built() -> None:
    with pytest.raises(TooBigMessage, match="10000 records, got 1000000"):
        MSGPACK.is_array(b"\xdd\x00\x0f\x42\x40" + b"\x80" * 1_000_000, 10_000)


def test_a_json_array_is_known_by_its_bracket_behind_blanks() -> None:
    assert JSON.is_array(" \n\t[1]", 10)
    assert not JSON.is_array('{"a": [1]}', 10)
    assert not JSON.is_array("", 10)


def test_elements_that_were_skipped_over_join_into_the_array_again() -> None:
    elements = [{"a": [1, "ü"]}, 2, None]
    packed = MSGPACK.raws(msgpack.packb(elements))
    assert msgpack.unpackb(MSGPACK.join(packed)) == elements
    assert json.loads(JSON.join(JSON.raws(json.dumps(elements)))) == elements


def test_sizes_of_joined_maps_are_found_again() -> None:
    maps = [msgpack.packb({"a": "x" * n}) for n in (0, 5, 300)]
    assert map_sizes(b"".join(maps), 3) == [len(one) for one in maps]


def test_the_size_of_text_is_that_of_its_utf_8() -> None:
    assert (size_of("abc"), size_of("ü€"), size_of(b"ab"), size_of("\ud800")) == (3, 5, 2, 3)


@pytest.mark.parametrize(
    "text", ["1", '{"a": NaN, "b": [-Infinity]}', '"\\ud800"', ' [-NaN, "NaN"]\n', '{"a": "1NaN"}']
)
def test_what_can_be_read_as_one_value_has_no_fault(text: str) -> None:
    assert json_fault(text.encode()) is None


@pytest.mark.parametrize("text", ["", "{", "1 2", "1NaN", "NaN1", "NaN, 1", "Nan", '{"a" 1}'])
def test_what_is_not_one_value_of_json_has(text: str) -> None:
    assert json_fault(text.encode()) is not None


def test_a_complaint_is_short_and_in_our_words() -> None:
    assert "deep" in shown(RecursionError())
    assert "UTF-8" in shown(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"))
    assert len(shown(ValueError("x" * 999))) == 200


@pytest.mark.parametrize(
    "value",
    [{"a": b"bin"}, {"a": [[["deep"]]]}, {1: 2}, {"a": {1: 2}}, {"a": msgpack.ExtType(5, b"x")}, 5],
)
def test_only_the_usual_is_taken_in_bulk(value: object) -> None:
    with pytest.raises(ValueError, match=r"Expected"):
        MSGPACK.one(msgpack.packb(value))


def test_both_encodings_have_the_same_face() -> None:
    for form, data in ((JSON, '[{"a":1}]'), (MSGPACK, b"\x91\x81\xa1a\x01")):
        records = form.many(data)
        assert records == [{"a": 1}]
        assert form.body(data, records) == b"\x81\xa1a\x01"
        assert form.any(data) == [{"a": 1}]
        assert len(form.raws(data)) == 1
    with pytest.raises(ProtocolError):
        MSGPACK.is_array(msgpack.packb([1, 2]), 1)
