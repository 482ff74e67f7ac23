"""Control messages in both encodings."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest

from edge_agent.errors import ProtocolError
from edge_agent.session.control import (
    CONTROL_BYTES_MAX,
    Ack,
    Control,
    Hello,
    History,
    Mode,
    Nack,
    Stop,
    ToldLimits,
    Unknown,
    Welcome,
    Window,
    decode_from_agent,
    decode_hello,
    encode_control,
)

FROM_AGENT: list[Control] = [
    Welcome("5f0c", 4211, Window(100, 2000), "2026-11-22T10:00:00Z", ToldLimits(1, 2, 3)),
    Ack(4214),
    Ack(4214, Window(5, 6)),
    Nack(4214, "bad_time", "time: …"),
    Stop("store_full", 12.5, "later"),
]


def test_hello_reads_as_the_specification_shows_it() -> None:
    assert decode_hello('{"type": "hello", "source": "pi-7/bme280"}') == Hello("pi-7/bme280")
    text = encode_control(Hello("pi-7", "5f0c", 7), "json")
    assert json.loads(text) == {"type": "hello", "source": "pi-7", "epoch": "5f0c", "first": 7}
    assert json.loads(encode_control(Hello("pi-7"), "json")) == {"type": "hello", "source": "pi-7"}


def test_welcome_ack_nack_and_stop_read_as_the_specification_shows_them() -> None:
    assert [json.loads(encode_control(message, "json")) for message in FROM_AGENT] == [
        {
            "type": "welcome",
            "epoch": "5f0c",
            "next": 4211,
            "window": {"records": 100, "bytes": 2000},
            "time": "2026-11-22T10:00:00Z",
            "limits": {"message_bytes": 1, "record_bytes": 2, "batch_records": 3},
        },
        {"type": "ack", "next": 4214},
        {"type": "ack", "next": 4214, "window": {"records": 5, "bytes": 6}},
        {"type": "nack", "at": 4214, "code": "bad_time", "message": "time: …"},
        {"type": "stop", "code": "store_full", "retry_after": 12.5, "message": "later"},
    ]


@pytest.mark.parametrize("mode", ["json", "msgpack"])
@pytest.mark.parametrize("message", FROM_AGENT)
def test_what_the_agent_says_comes_back(message: Control, mode: Mode) -> None:
    data = encode_control(message, mode)
    assert isinstance(data, str) == (mode == "json")
    assert decode_from_agent(data) == message


@pytest.mark.parametrize("mode", ["json", "msgpack"])
def test_hello_comes_back_in_either_encoding(mode: Mode) -> None:
    hello = Hello("pi-7", "5f0c", 2**62)
    assert decode_hello(encode_control(hello, mode)) == hello
    copy = Hello("pi-7", history=History("a1", 5, (("b2", 3), ("c3", 5)), "pi-6"))
    assert decode_hello(encode_control(copy, mode)) == copy


@pytest.mark.parametrize("encode", [json.dumps, msgpack.packb])
def test_keys_of_a_later_version_are_ignored(encode: Any) -> None:
    assert decode_hello(encode({"type": "hello", "source": "a", "new": [1]})) == Hello("a")
    assert decode_from_agent(encode({"type": "ack", "next": 1, "new": 1})) == Ack(1)


def test_what_nobody_asks_for_may_be_anything_that_can_be_skipped() -> None:
    skipped: list[str | bytes] = [
        '{"type": "ack", "next": 1, "new": ["\\ud800", NaN]}',
        msgpack.packb({"type": "ack", "next": 1, 5: {6: b"\xff"}}),
        msgpack.packb({"type": "ack", "next": 1, "new": "?"}).replace(b"?", b"\xff"),
    ]
    assert [decode_from_agent(data) for data in skipped] == [Ack(1)] * 3


@pytest.mark.parametrize(
    "data",
    [
        '{"type": "stop", "code": "\\ud800"}',
        '{"type": "stop", "code": "x", "retry_after": NaN}',
        msgpack.packb({"type": "stop", "code": "?"}).replace(b"?", b"\xff"),
        b"\x82\xa4type\xa4stop\x80\xa1x",  # a map as a map's key
        b"\xc1",
        "[" * 9999,
    ],
)
def test_what_cannot_be_what_it_stands_for_is_an_error_of_the_protocol(data: str | bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_from_agent(data)
    assert (caught.value.code, caught.value.close_code) == ("bad_control", 1002)


@pytest.mark.parametrize("encode", [json.dumps, msgpack.packb])
def test_a_type_of_a_later_version_is_told_as_unknown(encode: Any) -> None:
    assert decode_from_agent(encode({"type": "gossip", "x": 1})) == Unknown("gossip")


@pytest.mark.parametrize(
    "value",
    [
        {"type": "hello"},
        {"source": "a"},
        {"type": "data", "source": "a"},
        {"type": "ack", "next": 1},
        {"type": "hello", "source": 5},
        {"type": "hello", "source": ""},
        {"type": "hello", "source": "a", "first": 0},
        {"type": "hello", "source": "a", "first": 1.0},
        {"type": "hello", "source": "a", "first": True},
        {"type": "hello", "source": "a", "first": 2**62 + 1},
        {"type": "hello", "source": "a", "first": 2**63},
        {"type": "hello", "source": "a", "epoch": ""},
        {"type": "hello", "source": "a", "epoch": "e" * 65},
        {"type": "hello", "source": "a" * 201},
        {"type": "hello", "source": "a", "history": {}},
        {"type": "hello", "source": "a", "history": {"opening": "o", "before": [["b"]]}},
        {"type": "hello", "source": "a", "history": {"opening": "o", "before": [["b", 0]]}},
        {"type": "hello", "source": "a", "history": {"opening": "o", "before": [["b", 1]] * 65}},
        [],
        {"t": 21.5},
        5,
    ],
)
@pytest.mark.parametrize("encode", [json.dumps, msgpack.packb])
def test_a_first_message_that_is_no_hello_says_what_was_expected(encode: Any, value: Any) -> None:
    with pytest.raises(ProtocolError, match="a session begins with") as caught:
        decode_hello(encode(value))
    assert (caught.value.code, caught.value.close_code) == ("bad_hello", 1002)


@pytest.mark.parametrize("data", [b"", "", b"\xc1", "{", b"\x91" * 9999, "[" * 9999, "\ud800"])
def test_a_first_message_that_cannot_be_read_is_no_hello_either(data: str | bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_hello(data)
    assert caught.value.code == "bad_hello"


def test_a_hello_of_16_kib_is_not_even_decoded() -> None:
    data = json.dumps({"type": "hello", "source": "a", "x": "x" * CONTROL_BYTES_MAX})
    with pytest.raises(ProtocolError, match="at most"):
        decode_hello(data)


@pytest.mark.parametrize("source", ["a b", "$rule/x", "a//b", "..", "ü"])
def test_a_source_has_a_name_like_a_stream(source: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_hello(json.dumps({"type": "hello", "source": source}))
    assert (caught.value.code, caught.value.close_code) == ("bad_source", 1002)


@pytest.mark.parametrize(
    "value",
    [
        {"type": "ack"},
        {"type": "ack", "next": 0},
        {"type": "ack", "next": "5"},
        {"type": "nack", "at": 1},
        {"type": "stop"},
        {"type": "stop", "code": "x", "retry_after": -1},
        {"type": "stop", "code": "x", "retry_after": 1e9},
        {"type": "welcome", "next": 1},
        {"type": "welcome", "epoch": "e", "next": 1, "window": {}},
        {"type": "welcome", "epoch": "e", "next": 1, "window": {"records": 1, "bytes": -1}},
        {
            "type": "welcome",
            "epoch": "e",
            "next": 1,
            "window": {"records": 1, "bytes": 1},
            "forked": None,
        },
        {"next": 1},
        {"type": 5},
        [],
        "ack",
    ],
)
@pytest.mark.parametrize("encode", [json.dumps, msgpack.packb])
def test_a_wrong_shape_from_the_agent_is_an_error_of_the_protocol(encode: Any, value: Any) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_from_agent(encode(value))
    assert (caught.value.code, caught.value.close_code) == ("bad_control", 1002)
