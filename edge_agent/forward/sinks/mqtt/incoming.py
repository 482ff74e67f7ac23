"""Decoding a broker's packets out of a stream of bytes: MQTT 5 and 3.1.1. Pure.

`PacketReader` takes bytes as they come and gives whole packets. It takes what a broker may send to
a publisher that has subscribed at QoS 0, and refuses everything else with `MqttViolation`: other
packets, flags that are not theirs, lengths that do not fit, properties that are not known, not of
this packet or there twice, text that is no UTF-8. Nothing is kept beyond one packet of at most
``packet_bytes_max``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from edge_agent.forward.sinks.mqtt.outgoing import Version


class MqttViolation(Exception):
    """What came is no MQTT, or nothing that a broker may send us."""


class Connack(NamedTuple):
    """The answer to CONNECT; ``reason`` 0 is a welcome."""

    reason: int
    properties: Mapping[int, int | str]


class Puback(NamedTuple):
    """The answer to a PUBLISH, with a reason; one without, a plain success, is an int."""

    packet_id: int
    reason: int
    text: str


class Suback(NamedTuple):
    """The answer to a SUBSCRIBE."""

    packet_id: int
    reason: int


class Delivered(NamedTuple):
    """Somebody's message, for us."""

    topic: str
    payload: bytes


class Pingresp(NamedTuple):
    """The answer to a PINGREQ."""


class Disconnect(NamedTuple):
    """The broker hangs up and says why."""

    reason: int
    text: str


Packet = int | Connack | Puback | Suback | Delivered | Pingresp | Disconnect
"""An int is the packet id of a PUBACK that says success: by far the most frequent one."""

#: Properties that are looked at, by their number (chapter 2.2.2.2).
RECEIVE_MAXIMUM, MAXIMUM_QOS, RETAIN_AVAILABLE, MAXIMUM_PACKET_SIZE = 0x21, 0x24, 0x25, 0x27
SERVER_KEEP_ALIVE, REASON_STRING, SERVER_REFERENCE = 0x13, 0x1F, 0x1C
_USER_PROPERTY, _SUBSCRIPTION_IDENTIFIER = 0x26, 0x0B

#: How a property is written: bytes of a number, or text ("s"), bytes ("b"), a length ("v").
_FORMS: Final[dict[int, int | str]] = {
    0x01: 1, 0x02: 4, 0x03: "s", 0x08: "s", 0x09: "b", 0x0B: "v", 0x11: 4, 0x12: "s", 0x13: 2,
    0x15: "s", 0x16: "b", 0x1A: "s", 0x1C: "s", 0x1F: "s", 0x21: 2, 0x22: 2, 0x23: 2, 0x24: 1,
    0x25: 1, 0x26: "p", 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1,
}  # fmt: skip
_OF_CONNACK: Final = frozenset(
    (
        *(0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27),
        *(0x28, 0x29, 0x2A),
    )
)
_OF_ANSWERS: Final = frozenset((REASON_STRING, _USER_PROPERTY))
_OF_DISCONNECT: Final = frozenset((0x11, SERVER_REFERENCE, REASON_STRING, _USER_PROPERTY))
#: No topic alias: we allow none.
_OF_PUBLISH: Final = frozenset((0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, _USER_PROPERTY))
#: 0 or 1.
_SWITCHES: Final = frozenset((0x01, 0x24, 0x25, 0x28, 0x29, 0x2A))
_NOT_NULL: Final = frozenset((RECEIVE_MAXIMUM, MAXIMUM_PACKET_SIZE))


class PacketReader:
    """See the module's docstring."""

    def __init__(self, version: Version, packet_bytes_max: int) -> None:
        self._is_5, self._most = version == "5", packet_bytes_max
        self._firsts = (0x20, 0x40, 0x90, 0xD0) + (0xE0,) * self._is_5
        self._rest = b""

    def feed(self, data: bytes) -> list[Packet]:
        """The packets that are whole with ``data``.

        Raises:
            MqttViolation: see the module's docstring; nothing is to be read after that.
        """
        data = self._rest + data
        packets: list[Packet] = []
        at, end = 0, len(data)
        while at + 2 <= end:
            if data[at] == 0x40 and data[at + 1] < 4 and (quick := self._quick(data, at)):
                packets.append(quick)
                at += 2 + data[at + 1]
                continue
            if data[at] & 0xF0 != 0x30 and data[at] not in self._firsts:
                # At once, and not when as many bytes have come as something else seems to say.
                raise MqttViolation(f"a packet that begins with 0x{data[at]:02x}")
            found = self._length(data, at + 1)
            if found is None:
                break
            remaining, body = found
            if body + remaining - at > self._most:
                text = f"a packet of {body + remaining - at} bytes, {self._most} are taken"
                raise MqttViolation(text)
            if body + remaining > end:
                break
            packets.append(self._packet(data[at], data[body : body + remaining]))
            at = body + remaining
        self._rest = data[at:]
        return packets

    def _quick(self, data: bytes, at: int) -> Packet | None:
        """A PUBACK without properties, of which one comes for each record; None where it is not
        whole, or no good.
        """
        remaining = data[at + 1]
        if at + 2 + remaining > len(data) or remaining < 2 or (remaining == 3 and not self._is_5):
            return None
        number = data[at + 2] << 8 | data[at + 3]
        if remaining == 3 and number and data[at + 4]:
            return Puback(number, data[at + 4], "")
        return number

    def _length(self, data: bytes, at: int) -> tuple[int, int] | None:
        """A packet's length, and where it begins; None where the bytes end before that is known."""
        number, shift = 0, 0
        for place in range(at, at + 4):
            if place >= len(data):
                return None
            number |= (data[place] & 0x7F) << shift
            shift += 7
            if not data[place] & 0x80:
                if place > at and not data[place]:
                    raise MqttViolation("a length in more bytes than it needs")
                return number, place + 1
        raise MqttViolation("a length of more than four bytes")

    def _packet(self, first: int, body: bytes) -> Packet:
        fields = _Fields(body)
        if first & 0xF0 == 0x30:
            return self._publish(first & 0x0F, fields)
        if first == 0x20:
            return self._connack(fields)
        if first == 0x40:
            return self._puback(fields)
        if first == 0x90:
            number = fields.number(2)
            if self._is_5:
                fields.properties(_OF_ANSWERS)
            reason = fields.number(1)
            fields.end("SUBACK")
            return Suback(number, reason)
        if first == 0xD0:
            fields.end("PINGRESP")
            return Pingresp()
        assert first == 0xE0, "see `feed`"
        reason = fields.number(1) if fields.left else 0
        found = fields.properties(_OF_DISCONNECT) if fields.left else {}
        fields.end("DISCONNECT")
        return Disconnect(reason, told_in(found))

    def _connack(self, fields: _Fields) -> Connack:
        flags, reason = fields.number(1), fields.number(1)
        if flags > 1 or (flags and reason):
            raise MqttViolation(f"a CONNACK with the flags {flags}")
        # A broker that knows no version 5 says so in the words of 3.1.1, which end here.
        is_short = not fields.left and reason
        found = fields.properties(_OF_CONNACK) if self._is_5 and not is_short else {}
        fields.end("CONNACK")
        return Connack(reason, found)

    def _puback(self, fields: _Fields) -> Packet:
        number = fields.number(2)
        if not number:
            raise MqttViolation("a PUBACK for packet 0")
        if not self._is_5:
            fields.end("PUBACK")
        reason = fields.number(1) if fields.left else 0
        found = fields.properties(_OF_ANSWERS) if fields.left else {}
        fields.end("PUBACK")
        return Puback(number, reason, str(found.get(REASON_STRING, ""))) if reason else number

    def _publish(self, flags: int, fields: _Fields) -> Delivered:
        if flags & 0x0E:
            raise MqttViolation("a PUBLISH of a higher QoS than was subscribed to")
        topic = fields.text()
        if not topic or "+" in topic or "#" in topic:
            raise MqttViolation("a PUBLISH without a topic, or to a pattern")
        if self._is_5:
            fields.properties(_OF_PUBLISH)
        return Delivered(topic, fields.rest())


def told_in(properties: Mapping[int, int | str]) -> str:
    """The broker's own sentence, and where it sends us, which a person has to write down: a server
    that another one names has not been chosen by whom the records belong to.
    """
    told = (properties.get(name) for name in (REASON_STRING, SERVER_REFERENCE))
    return " ".join(str(one) for one in told if one)


class _Fields:
    """Reads a packet's body from its front."""

    def __init__(self, body: bytes) -> None:
        self._body, self._at = body, 0

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self._body) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise MqttViolation("a packet that ends too early")
        self._at += count
        return self._body[self._at - count : self._at]

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def length(self) -> int:
        number = 0
        for shift in (0, 7, 14, 21):
            part = self.number(1)
            number |= (part & 0x7F) << shift
            if not part & 0x80:
                return number
        raise MqttViolation("a length of more than four bytes")

    def text(self) -> str:
        try:
            value = self.take(self.number(2)).decode("utf-8")
        except UnicodeDecodeError:
            raise MqttViolation("text that is no UTF-8") from None
        if "\0" in value:
            raise MqttViolation("text with a null character")
        return value

    def rest(self) -> bytes:
        return self.take(self.left)

    def end(self, what: str) -> None:
        if self.left:
            raise MqttViolation(f"a {what} with {self.left} bytes too many")

    def properties(self, allowed: Collection[int]) -> dict[int, int | str]:
        """The properties that come here; of those that may come twice the first one."""
        size = self.length()
        inner = _Fields(self.take(size))
        found: dict[int, int | str] = {}
        while inner.left:
            name = inner.length()
            if name not in allowed:
                raise MqttViolation(f"the property 0x{name:02x} where it does not belong")
            if name in found and name not in (_USER_PROPERTY, _SUBSCRIPTION_IDENTIFIER):
                raise MqttViolation(f"the property 0x{name:02x} twice")
            value = inner.value(_FORMS[name])
            if name in _SWITCHES and value not in (0, 1):
                raise MqttViolation(f"the property 0x{name:02x} with the value {value}")
            if name in _NOT_NULL and not value:
                raise MqttViolation(f"the property 0x{name:02x} with the value 0")
            found.setdefault(name, value)
        return found

    def value(self, form: int | str) -> int | str:
        """One property's value; of bytes and of pairs only their being there counts."""
        if isinstance(form, int):
            return self.number(form)
        if form == "v":
            return self.length()
        if form == "b":
            self.take(self.number(2))
            return ""
        first = self.text()
        if form == "p":
            self.text()
        return first
