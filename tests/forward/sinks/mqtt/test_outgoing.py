from __future__ import annotations

import io
from typing import Any

import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.forward.sinks.mqtt import outgoing
from edge_agent.forward.sinks.mqtt.outgoing import MqttMessage, Version

VERSIONS: tuple[Version, ...] = ("5", "3.1.1")
both = pytest.mark.parametrize("version", VERSIONS)


def unpacked(packet: bytes) -> tuple[int, bytes]:
    """First byte and body, by paho's own reading of the length."""
    first, rest = packet[0], io.BytesIO(packet[1:])
    number, shift = 0, 0
    while True:
        (byte,) = rest.read(1)
        number |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            break
    body = rest.read()
    assert len(body) == number
    return first, body


class Heard:
    """A paho client that is handed packets, as if a broker had sent them."""

    def __init__(self, version: Version) -> None:
        protocol = paho.MQTTv5 if version == "5" else paho.MQTTv311
        self.client = paho.Client(CallbackAPIVersion.VERSION2, protocol=protocol)
        self.messages: list[paho.MQTTMessage] = []
        self.client.on_message = lambda _c, _u, message: self.messages.append(message)

    def take(self, packet: bytes) -> None:
        first, body = unpacked(packet)
        incoming: Any = self.client._in_packet
        incoming.update(command=first, packet=bytearray(body), remaining_length=len(body), pos=0)
        self.client._packet_handle()


names = st.text(st.characters(exclude_characters="\0+#", exclude_categories=["Cs"]), min_size=1)


@given(st.sampled_from(VERSIONS), names, st.binary(max_size=300), st.booleans(), st.text("abc"))
def test_paho_reads_what_is_published(
    version: Version, topic: str, payload: bytes, retain: bool, name: str
) -> None:
    heard = Heard(version)
    properties = outgoing.user_property(b"id", name.encode()) if version == "5" else b""
    message = MqttMessage(topic.encode(), payload, 0, retain)
    heard.take(outgoing.publish(version, message, properties=properties))
    (found,) = heard.messages
    assert (found.topic, found.payload, found.qos, found.retain) == (topic, payload, 0, retain)
    if version == "5":
        assert getattr(found.properties, "UserProperty", None) == [("id", name)]


@both
def test_a_publish_of_qos_1_has_its_packet_id_behind_the_topic(version: Version) -> None:
    packet = outgoing.publish(version, MqttMessage(b"a", b"p", 1), 258)
    assert packet == (
        b"\x32\x07\0\x01a\x01\x02\0p" if version == "5" else b"\x32\x06\0\x01a\x01\x02p"
    )


@given(st.integers(0, outgoing.REMAINING_MAX))
def test_lengths_are_paho_s(number: int) -> None:
    packet = bytearray()
    paho.Client(CallbackAPIVersion.VERSION2)._pack_remaining_length(packet, number)
    assert outgoing.length(number) == bytes(packet)


def test_connect_in_version_5_byte_by_byte() -> None:
    packet = outgoing.connect(
        "5", "me", keep_alive_s=60, user="u", password="pw", packet_bytes_max=65_536,
        will=MqttMessage(b"w", b"gone", 1, retain=True),
    )  # fmt: skip
    assert packet == (
        b"\x10\x28\0\x04MQTT\x05\xee\0\x3c\x08\x21\0\x10\x27\0\x01\0\0\0\x02me"
        b"\0\0\x01w\0\x04gone\0\x01u\0\x02pw"
    )  # fmt: skip
    properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's
    told, _ = properties.unpack(packet[12:])
    assert (told.ReceiveMaximum, told.MaximumPacketSize) == (16, 65_536)


def test_connect_in_version_3_1_1_byte_by_byte() -> None:
    packet = outgoing.connect("3.1.1", "me", keep_alive_s=5)
    assert packet == b"\x10\x0e\0\x04MQTT\x04\x02\0\x05\0\x02me"


@both
def test_a_subscription_asks_for_qos_0(version: Version) -> None:
    packet = outgoing.subscribe(version, 7, b"a/b")
    assert (
        packet == b"\x82" + (b"\x09\0\x07\0" if version == "5" else b"\x08\0\x07") + b"\0\x03a/b\0"
    )


def test_only_version_5_says_why_it_leaves() -> None:
    assert outgoing.disconnect("5") == outgoing.disconnect("3.1.1", 4) == b"\xe0\0"
    assert outgoing.disconnect("5", 4) == b"\xe0\x01\x04"


def test_what_mqtt_cannot_say_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 65535 bytes"):
        outgoing.publish("5", MqttMessage(b"x" * 65_536, b""), 1)
