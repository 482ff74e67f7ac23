"""Encoding a publisher's packets: MQTT 5 and 3.1.1. Pure.

Only what the sink needs: CONNECT, PUBLISH, SUBSCRIBE, PINGREQ, DISCONNECT. The numbers in brackets
are the chapters of the standards of OASIS, which are the same in both versions but for properties.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Version = Literal["5", "3.1.1"]

#: What a packet may have at most behind its first byte and its length (chapter 1.5.5).
REMAINING_MAX: Final = 268_435_455
#: Texts have a length of two bytes.
TEXT_BYTES_MAX: Final = 65_535
PINGREQ: Final = b"\xc0\x00"

_LEVELS: Final[dict[Version, int]] = {"3.1.1": 4, "5": 5}
_RECEIVE_MAXIMUM, _MAXIMUM_PACKET_SIZE, _USER_PROPERTY = 0x21, 0x27, 0x26


@dataclass(frozen=True, slots=True)
class MqttMessage:
    """What is published, by us or by others."""

    topic: bytes
    payload: bytes
    qos: int = 1
    retain: bool = False


def length(number: int) -> bytes:
    """A number of up to `REMAINING_MAX` in one to four bytes (chapter 1.5.5)."""
    if number < 0x80:
        return bytes((number,))
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def text(value: bytes) -> bytes:
    """Text, or other bytes, behind their length."""
    if len(value) > TEXT_BYTES_MAX:
        raise ValueError(f"a text has at most {TEXT_BYTES_MAX} bytes, this has {len(value)}")
    return len(value).to_bytes(2, "big") + value


def user_property(name: bytes, value: bytes) -> bytes:
    """A user property of version 5, for `publish`."""
    return bytes((_USER_PROPERTY,)) + text(name) + text(value)


def connect(
    version: Version,
    client_id: str,
    *,
    keep_alive_s: int,
    user: str | None = None,
    password: str | None = None,
    will: MqttMessage | None = None,
    packet_bytes_max: int = 0,
    incoming_max: int = 16,
) -> bytes:
    """CONNECT with a clean session (chapter 3.1): what was not delivered is sent again by our log.

    ``packet_bytes_max`` and ``incoming_max`` say, in version 5, what we take: the size of a packet,
    and messages of QoS 1 at one time.
    """
    properties = b""
    if version == "5":
        properties = bytes((_RECEIVE_MAXIMUM,)) + incoming_max.to_bytes(2, "big")
        if packet_bytes_max:
            properties += bytes((_MAXIMUM_PACKET_SIZE,)) + packet_bytes_max.to_bytes(4, "big")
    flags, payload = 0x02, text(client_id.encode())
    if will is not None:
        flags |= 0x04 | will.qos << 3 | will.retain << 5
        payload += _properties(version, b"") + text(will.topic) + text(will.payload)
    if user is not None:
        flags |= 0x80
        payload += text(user.encode())
    if password is not None:
        flags |= 0x40
        payload += text(password.encode())
    head = text(b"MQTT") + bytes((_LEVELS[version], flags)) + keep_alive_s.to_bytes(2, "big")
    return _packet(0x10, head + _properties(version, properties) + payload)


def publish(
    version: Version, message: MqttMessage, packet_id: int = 0, properties: bytes = b""
) -> bytes:
    """PUBLISH (chapter 3.3); ``packet_id`` is 1 to 65535 with QoS 1 and nothing with QoS 0.

    Raises:
        ValueError: the topic or the whole is longer than MQTT can say.
    """
    assert (1 <= packet_id <= 65_535) if message.qos else not packet_id
    number = packet_id.to_bytes(2, "big") if message.qos else b""
    first = 0x30 | message.qos << 1 | message.retain
    body = text(message.topic) + number + _properties(version, properties) + message.payload
    return _packet(first, body)


def subscribe(version: Version, packet_id: int, topic: bytes) -> bytes:
    """SUBSCRIBE to one topic at QoS 0 (chapter 3.8)."""
    head = packet_id.to_bytes(2, "big") + _properties(version, b"")
    return _packet(0x82, head + text(topic) + b"\x00")


def disconnect(version: Version, reason: int = 0) -> bytes:
    """DISCONNECT (chapter 3.14); only version 5 has a reason."""
    return bytes((0xE0, 1, reason)) if version == "5" and reason else b"\xe0\x00"


def _properties(version: Version, properties: bytes) -> bytes:
    return length(len(properties)) + properties if version == "5" else b""


def _packet(first: int, body: bytes) -> bytes:
    if len(body) > REMAINING_MAX:
        raise ValueError(f"a packet has at most {REMAINING_MAX} bytes, this has {len(body)}")
    return bytes((first,)) + length(len(body)) + body
