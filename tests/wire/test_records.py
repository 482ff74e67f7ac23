"""One record at a time: usable, or why not."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest

from edge_agent.wire.encodings import JSON, MSGPACK
from edge_agent.wire.reading_types import Arrival, WireLimits
from edge_agent.wire.records import Fault, Good, judge, stream_fault

NOW = 1_795_341_600 * 10**9
ARRIVAL = Arrival("greenhouse/1", "pi-7", NOW, synced=True)
LIMITS = WireLimits(record_bytes=1000, record_depth=4)


def judge_both(value: Any, arrival: Arrival = ARRIVAL) -> Good | Fault:
    """Judge as JSON and as msgpack; both say the same."""
    packed = judge(msgpack.packb(value), MSGPACK, arrival, LIMITS)
    text = judge(json.dumps(value).encode(), JSON, arrival, LIMITS)
    assert packed == text
    return packed


def code_of(verdict: Good | Fault) -> str:
    assert isinstance(verdict, Fault), verdict
    return verdict.code


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize("value", [21.5, -3, 0, True, "open", ""])
def test_a_bare_number_text_or_boolean_is_the_record_value(value: object) -> None:
    verdict = judge_both(value)
    assert verdict == Good("greenhouse/1", msgpack.packb({"value": value}), NOW)


@pytest.mark.parametrize("value", [None, [1], []])
def test_nothing_else_is_a_record(value: object) -> None:
    assert code_of(judge_both(value)) == "bad_record"


@pytest.mark.parametrize(
    "value",
    [b"bin", msgpack.ExtType(5, b"x"), msgpack.Timestamp(1_795_341_600, 0)],
    ids=["binary", "extension", "timestamp"],
)
def test_what_msgpack_alone_has_is_no_record_by_itself(value: object) -> None:
    assert code_of(judge(msgpack.packb(value), MSGPACK, ARRIVAL, LIMITS)) == "bad_record"


def test_binary_and_timestamps_are_kept_inside_a_record() -> None:
    raw = msgpack.packb({"a": b"\xff\x00", "b": msgpack.Timestamp(1_795_341_600, 5)})
    assert judge(raw, MSGPACK, ARRIVAL, LIMITS) == Good("greenhouse/1", raw, NOW)


def test_a_msgpack_timestamp_is_a_time() -> None:
    raw = msgpack.packb({"time": msgpack.Timestamp(1_795_341_000, 250_000_000)})
    verdict = judge(raw, MSGPACK, ARRIVAL, LIMITS)
    assert isinstance(verdict, Good)
    assert verdict.time_ns == 1_795_341_000_250_000_000


@pytest.mark.parametrize(
    "raw",
    [
        b"\x81\x01\x01",  # a number as key
        b"\x81\xa1a\x81\x01\x01",  # the same further in
        b"\x81\xa1a\x91\x81\x01\x01",  # and in an array
        b"\x81\x91\x01\x01",  # an array as key
        b"\x81\x81\x01\x01\x01",  # a map as key
        b"\x81\xc4\x01a\x01",  # binary as key
        b"\x81\xc0\x01",  # nil as key
        b"\x81\xa1a\xd4\x05x",  # an extension type
        b"\x81\xa1a\xd7\xff" + b"\xff" * 8,  # a timestamp with too many nanoseconds
        b"\x81\xa1a\xc7\x03\xff\x00\x00\x00",  # a timestamp of three bytes
    ],
)
def test_well_formed_msgpack_that_no_reader_could_show_is_a_bad_record(raw: bytes) -> None:
    assert code_of(judge(raw, MSGPACK, ARRIVAL, LIMITS)) == "bad_record"


@pytest.mark.parametrize("raw", [b"\x81\xa1a\xa1\xff", b"\x81\xa1\xff\x01", b"\xa1\xff"])
def test_text_that_is_not_utf_8_is_the_fault_of_its_record(raw: bytes) -> None:
    assert code_of(judge(raw, MSGPACK, ARRIVAL, LIMITS)) == "bad_record"


def test_a_whole_number_beyond_64_bits_is_a_bad_record() -> None:
    assert code_of(judge(b'{"a": 18446744073709551616}', JSON, ARRIVAL, LIMITS)) == "bad_record"
    assert code_of(judge(b'{"a": 1e999}', JSON, ARRIVAL, LIMITS)) == "bad_record"
    assert isinstance(judge(b'{"a": 18446744073709551615}', JSON, ARRIVAL, LIMITS), Good)


def test_nesting_is_allowed_to_the_limit_and_not_beyond() -> None:
    assert isinstance(judge_both(nested(4)), Good)
    assert code_of(judge_both(nested(5))) == "too_deep"
    assert code_of(judge_both({"a": [[[[]]]]})) == "too_deep"
    assert code_of(judge_both(nested(100))) == "too_deep"


def test_the_size_of_a_record_is_what_was_sent() -> None:
    raw = msgpack.packb({"a": "x" * 994})
    assert len(raw) == 1000
    assert isinstance(judge(raw, MSGPACK, ARRIVAL, LIMITS), Good)
    raw = msgpack.packb({"a": "x" * 995})
    assert code_of(judge(raw, MSGPACK, ARRIVAL, LIMITS)) == "too_big"


@pytest.mark.parametrize(
    "time", ["noon", "2026-11-22", True, [], {}, 1e300, -1e300, 1_795_341_600_000]
)
def test_a_bad_time_says_what_was_found(time: object) -> None:
    verdict = judge_both({"time": time})
    assert code_of(verdict) == "bad_time"


def test_no_time_or_null_is_arrival_and_an_age_counts_back() -> None:
    for fields, expected in (({}, NOW), ({"time": None}, NOW), ({"time": -30}, NOW - 30 * 10**9)):
        verdict = judge_both(fields)
        assert isinstance(verdict, Good)
        assert verdict.time_ns == expected


@pytest.mark.parametrize(
    "name", ["", "a b", "a//b", "../x", "$x", "x" * 201, 5, [], {}, False, "ü"]
)
def test_a_bad_stream_name_is_refused(name: object) -> None:
    assert code_of(judge_both({"stream": name})) == "bad_stream"


def test_a_record_may_name_its_stream_where_the_token_allows() -> None:
    strict = Arrival("a", "pi", NOW, synced=True, may_write=lambda name: name == "b")
    verdict = judge_both({"stream": "b"}, strict)
    assert isinstance(verdict, Good)
    assert verdict.stream == "b"
    assert code_of(judge_both({"stream": "c"}, strict)) == "forbidden_stream"
    # The connection's own stream was allowed before the upgrade.
    assert isinstance(judge_both({"stream": "a"}, strict), Good)
    assert isinstance(judge_both({"stream": None}, strict), Good)


def test_no_fault_means_the_stream_may_be_used() -> None:
    assert stream_fault(None, ARRIVAL) is None
    assert stream_fault("other/one", ARRIVAL) is None


BIG = [[1, 2]] * 9000


@pytest.mark.parametrize(
    "extra",
    [
        {}, {"time": 1.79e9}, {"time": {"historic": "2010-01-01T00:00:00Z"}}, {"time": [1]},
        {"time": {"historic": [1]}}, {"stream": "x/y"}, {"stream": 7}, {"stream": [1]}, {5: 1},
        {"b": nested(14)}, {"b": nested(15)}, {"b": nested(16)}, {"b": nested(300)},
        {"b": {1: 2}}, {"b": [{"c": {1: 2}}]}, {"b": msgpack.ExtType(5, b"x")},
        {"b": [2**63, -(2**63), b"z", None, 1.5, True, msgpack.Timestamp(1, 2)]},
        {"b": msgpack.Timestamp(2**60, 0)}, {"b": b"\xff\xfe"},
        {"time": float("nan")}, {"time": BIG},
    ],
)  # fmt: skip
def test_a_large_record_is_judged_as_a_small_one(extra: dict[Any, Any]) -> None:
    # Of a large one what nests is looked through, but never held.
    def found(record: dict[Any, Any]) -> object:
        raw = msgpack.packb(record).replace(b"\xc4\x02\xff", b"\xa2\xff")
        verdict = judge(raw, MSGPACK, ARRIVAL, WireLimits())
        if isinstance(verdict, Good):
            assert verdict.body == raw
            return verdict.stream, verdict.time_ns
        return verdict.code

    assert len(msgpack.packb(BIG)) > 16 * 1024
    assert found({"a": BIG, **extra}) == found({"a": 1, **extra})


def test_a_large_array_is_no_record() -> None:
    verdict = judge(msgpack.packb(BIG), MSGPACK, ARRIVAL, WireLimits())
    assert verdict == Fault(
        "bad_record", "a record is a map, a number, text or true/false, got an array"
    )
