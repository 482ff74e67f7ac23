from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.forward.sinks.mqtt.incoming import (
    MAXIMUM_PACKET_SIZE,
    REASON_STRING,
    RECEIVE_MAXIMUM,
    Connack,
    Delivered,
    Disconnect,
    MqttViolation,
    Packet,
    PacketReader,
    Pingresp,
    Puback,
    Suback,
)
from edge_agent.forward.sinks.mqtt.outgoing import MqttMessage, Version, length, publish

MOST = 1000


def packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + length(len(body)) + body


def told(kind: int, **values: object) -> bytes:
    """Properties as paho writes them."""
    properties: Any = Properties(kind)  # type: ignore[no-untyped-call]  # paho's
    for name, value in values.items():
        setattr(properties, name, value)
    return bytes(properties.pack())


def read(data: bytes, version: Version = "5") -> list[Packet]:
    return PacketReader(version, MOST).feed(data)


CONNACK = packet(
    0x20,
    b"\0\0"
    + told(
        PacketTypes.CONNACK, ReceiveMaximum=20, MaximumPacketSize=500, ServerKeepAlive=30,
        AssignedClientIdentifier="x", ReasonString="hi", UserProperty=[("a", "b"), ("a", "c")],
    ),
)  # fmt: skip

STREAM = (
    CONNACK
    + b"\x40\x02\0\x01"
    + b"\x40\x03\x01\0\x10"
    + packet(0x40, b"\0\x07\x87" + told(PacketTypes.PUBACK, ReasonString="no"))
    + b"\x40\x04\0\x08\0\0"
    + packet(0x90, b"\xff\xff\0\0")
    + publish("5", MqttMessage(b"homeassistant/status", b"online", 0, retain=True))
    + b"\xd0\0"
    + packet(0xE0, b"\x8e" + told(PacketTypes.DISCONNECT, ReasonString="other"))
    + b"\xe0\0"
)
PACKETS: list[Packet] = [
    Connack(0, {0x21: 20, 0x27: 500, 0x13: 30, 0x12: "x", 0x1F: "hi", 0x26: "a"}),
    1,
    Puback(256, 0x10, ""),
    Puback(7, 0x87, "no"),
    8,
    Suback(65_535, 0),
    Delivered("homeassistant/status", b"online"),
    Pingresp(),
    Disconnect(0x8E, "other"),
    Disconnect(0, ""),
]


def test_everything_that_a_broker_says_is_read() -> None:
    assert read(STREAM) == PACKETS
    assert RECEIVE_MAXIMUM == 0x21 and MAXIMUM_PACKET_SIZE == 0x27 and REASON_STRING == 0x1F


def test_where_a_broker_sends_us_is_told_with_its_sentence() -> None:
    given = told(PacketTypes.DISCONNECT, ReasonString="moved", ServerReference="b.example:1883")
    assert read(packet(0xE0, b"\x9d" + given)) == [Disconnect(0x9D, "moved b.example:1883")]


@given(st.lists(st.integers(1, 40), min_size=1))
def test_it_does_not_matter_how_the_bytes_come(sizes: list[int]) -> None:
    reader, found, at = PacketReader("5", MOST), list[Packet](), 0
    for size in [*sizes, len(STREAM)]:
        found += reader.feed(STREAM[at : at + size])
        at += size
    assert found == PACKETS


def test_version_3_1_1_has_no_reasons_and_no_properties() -> None:
    data = b"\x20\x02\x01\0" + b"\x40\x02\0\x01" + b"\x90\x03\0\x02\x80" + b"\x30\x04\0\x01ap"
    assert read(data, "3.1.1") == [Connack(0, {}), 1, Suback(2, 0x80), Delivered("a", b"p")]


def test_a_broker_without_version_5_is_understood() -> None:
    assert read(b"\x20\x02\0\x01") == [Connack(1, {})]


HOSTILE = [
    ("5", b"\x40\x02\0\0", "a PUBACK for packet 0"),
    ("5", b"\x41\x02\0\x01", "begins with 0x41"),
    ("5", b"\x50\x02\0\x01", "begins with 0x50"),
    ("5", b"\x10\x00", "begins with 0x10"),
    ("5", b"\x00\x00", "begins with 0x00"),
    ("5", b"\xf0\x00", "begins with 0xf0"),
    ("3.1.1", b"\xe0\x00", "begins with 0xe0"),
    ("5", b"\x20\x03\x02\0\0", "the flags 2"),
    ("5", b"\x20\x03\x01\x87\0", "the flags 1"),
    ("5", b"\x20\x02\0\0", "ends too early"),
    ("5", b"\x20\x04\0\0\0\0", "1 bytes too many"),
    ("3.1.1", b"\x40\x03\0\x01\0", "1 bytes too many"),
    ("5", b"\x40\x01\0", "ends too early"),
    ("5", b"\xd0\x01\0", "1 bytes too many"),
    ("5", b"\x40\xff\xff\xff\xff\x01", "more than four bytes"),
    ("5", b"\xd0\x80\x00", "more bytes than it needs"),
    ("5", b"\x30\xff\xff\xff\x7f", "1000 are taken"),
    ("5", b"\x20\x06\0\0\x03\x21\0\0", "0x21 with the value 0"),
    ("5", b"\x20\x05\0\0\x02\x24\x02", "0x24 with the value 2"),
    ("5", b"\x20\x09\0\0\x06\x21\0\x01\x21\0\x01", "0x21 twice"),
    ("5", b"\x20\x05\0\0\x02\x7e\0", "0x7e where it does not belong"),
    ("5", b"\x20\x05\0\0\x02\x01\0", "0x01 where it does not belong"),
    ("5", b"\x20\x05\0\0\x09\x24\0", "ends too early"),
    ("5", b"\x20\x07\0\0\x04\x1f\0\x01\xff", "no UTF-8"),
    ("5", b"\x20\x07\0\0\x04\x1f\0\x01\0", "null character"),
    ("5", b"\x20\x07\0\0\x04\x1f\0\x09a", "ends too early"),
    ("5", b"\x32\x07\0\x01a\0\x01\0p", "higher QoS"),
    ("5", b"\x38\x05\0\x01a\0p", "higher QoS"),
    ("5", b"\x30\x05\0\x01#\0p", "to a pattern"),
    ("5", b"\x30\x03\0\0\0", "without a topic"),
    ("5", b"\x30\x09\0\x01a\x04\x23\0\x01\0p", "0x23 where it does not belong"),
]


@pytest.mark.parametrize("version, data, words", HOSTILE)
def test_what_no_broker_may_say_is_refused(version: Version, data: bytes, words: str) -> None:
    with pytest.raises(MqttViolation, match=words):
        read(data, version)
    # And so it is byte by byte.
    reader = PacketReader(version, MOST)
    with pytest.raises(MqttViolation, match=words):
        list(map(reader.feed, (data[at : at + 1] for at in range(len(data)))))


@given(st.sampled_from(["5", "3.1.1"]), st.binary(max_size=200))
@example("5", b"\x40\x03\0\0\x10")
def test_nothing_but_a_violation_comes_of_any_bytes(version: Version, data: bytes) -> None:
    with contextlib.suppress(MqttViolation):
        for each in PacketReader(version, MOST).feed(data):
            assert not isinstance(each, int) or each > 0


@given(st.integers(0, len(STREAM) - 1), st.integers(0, 255))
def test_nothing_but_a_violation_comes_of_a_changed_byte(at: int, byte: int) -> None:
    with contextlib.suppress(MqttViolation):
        read(STREAM[:at] + bytes((byte,)) + STREAM[at + 1 :])


def test_what_is_not_whole_is_kept_up_to_the_limit_and_no_further() -> None:
    reader = PacketReader("5", MOST)
    assert reader.feed(packet(0x30, b"\0\x01a\0" + b"x" * (MOST - 7))[:-1]) == []
    with pytest.raises(MqttViolation, match="1001 bytes"):
        PacketReader("5", MOST).feed(b"\x30" + length(MOST - 2))
