from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgpack
import pytest

from edge_agent.client.encoding import (
    Format,
    encode_message,
    encode_record,
    joining_bytes,
)
from edge_agent.errors import ProtocolError


class Valve(Enum):
    OPEN = "open"


@dataclass
class Reading:
    degrees: float
    seen: list[Valve]


def decode(data: str | bytes) -> Any:
    return json.loads(data) if isinstance(data, str) else msgpack.unpackb(data, timestamp=3)


@pytest.mark.parametrize("form", ["json", "msgpack"])
@pytest.mark.parametrize("count", [1, 2, 15, 16, 1000])
def test_a_message_holds_its_records_in_order_whatever_their_number(
    form: Format, count: int
) -> None:
    records = [encode_record({"n": n}, form) for n in range(count)]
    message = encode_message(records, form)
    expected = [{"n": n} for n in range(count)]
    assert decode(message) == (expected[0] if count == 1 else expected)
    size = len(message) - sum(map(len, records))
    assert size <= joining_bytes(count, form)


@pytest.mark.parametrize("value", [21.5, 7, "warm", True])
def test_a_scalar_becomes_a_record(value: float | str | bool) -> None:
    assert decode(encode_record(value, "msgpack")) == {"value": value}


def test_stream_and_time_are_put_in_and_the_callers_map_is_left_alone() -> None:
    fields = {"t": 1, "time": 5}
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    assert decode(encode_record(fields, "msgpack", stream="a/b", time=moment)) == {
        "t": 1, "time": moment, "stream": "a/b"
    }  # fmt: skip
    assert fields == {"t": 1, "time": 5}


def test_json_has_moments_as_text_wherever_they_stand() -> None:
    moments = [
        datetime(2026, 1, 2, 3, 4, 5, 6000, UTC),
        datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=5.5))),
    ]
    assert encode_record({"seen": moments, "ü": 1}, "json").decode() == (
        '{"seen":["2026-01-02T03:04:05.006000Z","2026-01-02T00:00:00+05:30"],"ü":1}'
    )


@pytest.mark.parametrize("form", ["json", "msgpack"])
@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, "\ud800", object()])
def test_a_value_that_an_agent_could_not_keep_is_refused_in_either_form(
    form: Format, value: Any
) -> None:
    with pytest.raises(ProtocolError, match="cannot be encoded") as caught:
        encode_record({"x": [value]}, form)
    assert caught.value.code == "bad_record"


@pytest.mark.parametrize(
    "value, text",
    [
        (date(2026, 1, 2), "2026-01-02"),
        (time(3, 4, 5), "03:04:05"),
        (datetime(2026, 1, 2, 3), "2026-01-02T03:00:00"),  # noqa: DTZ001 - as a value, not as the time
        (Decimal("21.50"), "21.50"),
        (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        ({1}, [1]),
        (frozenset("a"), ["a"]),
        (time(3, 4, 5, tzinfo=UTC), "03:04:05Z"),
        (timedelta(days=1, seconds=2, microseconds=500_000), "P1DT2.5S"),
        (timedelta(seconds=-90), "-PT90S"),
        (timedelta(0), "P0D"),
        (Valve.OPEN, "open"),
        (Reading(21.5, [Valve.OPEN]), {"degrees": 21.5, "seen": ["open"]}),
    ],
)
def test_what_neither_encoding_has_travels_as_text_a_list_or_a_map(value: Any, text: Any) -> None:
    assert json.loads(encode_record({"x": [value]}, "json")) == {"x": [text]}
    assert decode(encode_record({"x": [value]}, "msgpack")) == {"x": [text]}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_has_null_where_a_number_is_none(value: float) -> None:
    record = {"x": [value, {value}, (1.5, {"y": value})], "t": Reading(value, [])}
    assert encode_record(record, "json") == (
        b'{"x":[null,[null],[1.5,{"y":null}]],"t":{"degrees":null,"seen":[]}}'
    )
    assert encode_record(1, "json", time=value) == b'{"value":1,"time":null}'


def test_json_has_text_for_keys_of_inner_maps() -> None:
    inner = {date(2026, 1, 2): 1, UUID(int=7): 2, b"1": 3, 1.5: math.nan, None: 4, True: 5}
    assert json.loads(encode_record({"x": inner}, "json")) == {
        "x": {
            "2026-01-02": 1, "00000000-0000-0000-0000-000000000007": 2, "MQ==": 3, "1.5": None,
            "null": 4, "true": 5,
        }
    }  # fmt: skip


def test_a_zone_with_seconds_becomes_utc_as_no_time_can_say_it() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=1, seconds=5)))
    assert encode_record({"time": moment}, "json") == b'{"time":"2026-01-02T02:04:00Z"}'


@pytest.mark.parametrize("form", ["json", "msgpack"])
def test_a_number_that_is_too_large_is_told_as_such(form: Format) -> None:
    with pytest.raises(ProtocolError, match="a whole number has at most 64 bits"):
        encode_record({"x": 2**64}, form)


@pytest.mark.parametrize("form", ["json", "msgpack"])
def test_memory_with_gaps_is_refused_as_other_values_are(form: Format) -> None:
    with pytest.raises(ProtocolError, match="cannot be encoded"):
        encode_record({"x": memoryview(b"abcd")[::2]}, form)


def test_bytes_travel_as_they_are_in_msgpack_and_as_base64_in_json() -> None:
    assert decode(encode_record({"x": b"1"}, "msgpack")) == {"x": b"1"}
    assert encode_record({"x": b"1"}, "json") == b'{"x":"MQ=="}'


@pytest.mark.parametrize(
    "record, options, code",
    [
        ([1, 2], {}, "bad_record"),
        (None, {}, "bad_record"),
        ({1: 2}, {}, "bad_record"),
        ({"x": object()}, {}, "bad_record"),
        ({"x": 2**70}, {}, "bad_record"),
        ({"time": datetime(2026, 1, 1)}, {}, "bad_time"),  # noqa: DTZ001 - naive is the point
        (1, {"time": datetime(2026, 1, 1)}, "bad_time"),  # noqa: DTZ001 - naive is the point
        (1, {"stream": "$own"}, "bad_stream"),
        (1, {"stream": "a//b"}, "bad_stream"),
    ],
)
def test_what_cannot_be_sent_is_told_with_its_code(
    record: Any, options: dict[str, Any], code: str
) -> None:
    with pytest.raises(ProtocolError) as caught:
        encode_record(record, "msgpack", **options)
    assert caught.value.code == code
