"""This module makes the PUBLISH packets of a batch: whole, with their packet ids, ready to be sent.

It runs in a thread, so that the loop only moves bytes. A packet's id is its place in the batch,
from 1 on; what is sent starts with nothing in flight. In version 5 each message has the user
property ``id``, the record's stable id, by which repeats are known; the payload ``record`` has it
as well.

A record that cannot be said, or whose message is larger than the broker takes, gets no packet: it
is told in ``refused`` with the reason, and goes to quarantine once the others have arrived.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice, repeat
from typing import Final, NamedTuple

import msgspec

from edge_agent.forward.run_columns import UNSAYABLE, RunColumns, fields_as_json, gathered
from edge_agent.forward.sinks.http.body import is_thinned, record_json, rendered, stable_id, strange
from edge_agent.forward.sinks.mqtt.discovery import Discovery
from edge_agent.forward.sinks.mqtt.outgoing import (
    MqttMessage,
    length,
    publish,
    text,
    user_property,
)
from edge_agent.forward.sinks.mqtt.settings import MqttSettings
from edge_agent.values.record import Record, format_time

#: Packet ids that records have; the one above is for a subscription.
PACKET_IDS: Final = 65_534
#: Ways that are remembered.
_WAYS_MAX: Final = 10_000
_PLACE: Final = re.compile(r"\{([a-z_]+)\}")
#: Of an id, with which the properties' length has one byte.
_SHORT: Final = 120
#: What stands in front of an id of so many bytes.
_ID_HEADS: Final = [b"%c\x26\x00\x02id\x00%c" % (size + 7, size) for size in range(_SHORT + 1)]
#: Records whose fields become JSON together.
_CHUNK: Final = 1000
#: Bytes of a group of records, beside the payload's limit.
_GROUP_BYTES: Final = 60_000
_GROUP_RECORDS: Final = 1000
_json: Final = msgspec.json.Encoder(enc_hook=strange)
#: Neighbours have the same few lengths.
_length: Final = lru_cache(maxsize=1024)(length)

Payload = bytes | Exception
"""What a record's message holds, or why it cannot be said."""


@dataclass(slots=True)
class Packets:
    """A part of a batch as packets, and the seqs of the records in each; ``refused`` is by seq.

    ``before`` packets of the same batch come before these: ids are places in all of it.
    """

    before: int = 0
    packets: list[bytes] = field(default_factory=list)
    seqs: list[tuple[int, ...]] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)
    is_too_large: bool = True  # every one that was refused

    @property
    def size(self) -> int:
        """In bytes, as sent."""
        return sum(map(len, self.packets))

    def add(self, more: Packets) -> None:
        """The packets that follow these."""
        self.packets += more.packets
        self.seqs += more.seqs
        self.refused |= more.refused
        self.is_too_large = self.is_too_large and more.is_too_large

    def refuse(self, seq: int, error: Exception) -> None:
        """That record cannot be said."""
        self.refused[seq] = f"cannot be said: {error}"
        self.is_too_large = False


class _Way(NamedTuple):
    """What the records of one stream and source have in common: the topic behind its length, what
    their ids begin with, and what stands between the parts of their JSON.
    """

    topic: bytes
    place: str
    before_id: str
    before_seq: str
    before_time: str
    before_fields: str


class Renderer:
    """Makes packets by ``settings``; ``agent`` and ``epoch`` are who we are."""

    def __init__(self, settings: MqttSettings, agent: str, epoch: str) -> None:
        self._settings, self._agent, self._epoch = settings, agent, epoch
        self._is_5 = settings.version == "5"
        self._ways: dict[tuple[str, ...], _Way] = {}
        self._payloads = self._payloads_of(settings.payload)
        #: Entities that were announced; None where none are.
        self.discovery = Discovery(settings, agent) if settings.discovery else None

    def render(
        self, slices: Iterable[RunColumns], packet_bytes_max: int, before: int = 0
    ) -> Packets:
        """The packets of these records, behind ``before`` others of their batch;
        ``packet_bytes_max`` is what the broker takes, 0 for any.
        """
        made = Packets(before)
        if self._settings.is_grouped:
            self._group(slices, packet_bytes_max, made)
            return made
        if self.discovery is not None:
            slices = list(slices)
            for message in self.discovery.news(slices):
                self._add(made, (), message, packet_bytes_max)
        for one, fields in _with_fields(slices):
            try:
                way = self._ways.get(_kind(one)) or self._way(one)
            except UNSAYABLE as error:
                for seq in range(one.seq, one.last + 1):
                    made.refuse(seq, error)
            else:
                self._publish(one, way, fields, packet_bytes_max, made)
        return made

    def _publish(
        self,
        one: RunColumns,
        way: _Way,
        fields: Sequence[Payload],
        packet_bytes_max: int,
        made: Packets,
    ) -> None:
        # One loop without calls where they can be spared: it runs for each record.
        packets, seqs, before, topic = made.packets, made.seqs, made.before, way.topic
        first = b"\x33" if self._settings.retain else b"\x32"
        most, packet_most = self._settings.message_bytes, packet_bytes_max or 2**32
        properties = self._properties(one, way) if self._is_5 else repeat(b"")
        payloads = self._payloads(one, way, fields)
        for seq, payload, told in zip(
            range(one.seq, one.last + 1), payloads, properties, strict=False
        ):
            if not isinstance(payload, bytes):
                made.refuse(seq, payload)
                continue
            number = (before + len(packets)) % PACKET_IDS + 1
            sized = _length(len(topic) + 2 + len(told) + len(payload))
            packet = b"".join((first, sized, topic, number.to_bytes(2, "big"), told, payload))
            if len(payload) > most or len(packet) > packet_most:
                made.refused[seq] = self._too_large(payload, packet, packet_bytes_max)
                continue
            packets.append(packet)
            seqs.append((seq,))

    def announcements(self) -> list[bytes]:
        """Packets that announce every entity that is known."""
        made = Packets()
        for message in [] if self.discovery is None else self.discovery.everything():
            self._add(made, (), message, 0)
        return made.packets

    def _add(
        self, made: Packets, seqs: tuple[int, ...], message: MqttMessage, packet_bytes_max: int
    ) -> None:
        number = (made.before + len(made.packets)) % PACKET_IDS + 1
        packet = publish(self._settings.version, message, number)
        if len(message.payload) > self._settings.message_bytes or (
            packet_bytes_max and len(packet) > packet_bytes_max
        ):
            problem = self._too_large(message.payload, packet, packet_bytes_max)
            made.refused.update(dict.fromkeys(seqs, problem))
            return
        made.packets.append(packet)
        made.seqs.append(seqs)

    def _too_large(self, payload: bytes, packet: bytes, packet_bytes_max: int) -> str:
        if len(payload) > self._settings.message_bytes:
            most = self._settings.message_bytes
            return f"too large: its message has {len(payload)} bytes, {most} are taken"
        return f"too large: its packet has {len(packet)} bytes, the broker takes {packet_bytes_max}"

    def _way(self, one: RunColumns) -> _Way:
        values = {
            "agent": self._agent, "log": one.log, "stream": one.stream, "source": one.source,
        }  # fmt: skip
        name = _PLACE.sub(lambda found: values[found[1]], self._settings.topic)
        if name.startswith("$"):
            # Such topics are the broker's own, as such streams are ours.
            name = "_" + name[1:]
        slashes = self._settings.slashes
        if 0 <= slashes < name.count("/"):
            raise ValueError(f"{name} has more than {slashes} slashes")
        if len(self._ways) >= _WAYS_MAX:
            self._ways.clear()
        place = f"{self._epoch}/{one.log}/"
        if one.origin:
            place = f"{one.origin_epoch}/{one.origin_log}/"
        way = self._ways[_kind(one)] = _Way(
            text(name.encode()),
            place,
            f'{{"id":"{_escaped(place)}',
            f'","agent":"{_escaped(one.origin or self._agent)}","seq":',
            f',"stream":"{_escaped(one.stream)}","time":"',
            f'","source":"{_escaped(one.source)}","fields":',
        )
        return way

    def _properties(self, one: RunColumns, way: _Way) -> Iterator[bytes]:
        """For each record its id."""
        if is_thinned(one.source):
            ids = [stable_id(record, self._epoch) for record in one.records()]
        else:
            ids = [f"{way.place}{n}" for n in range(one.number, one.number + len(one.fields))]
        for name in [one.encode() for one in ids]:
            if len(name) <= _SHORT:
                yield _ID_HEADS[len(name)] + name
            else:
                told = user_property(b"id", name)
                yield length(len(told)) + told

    def _as_records(
        self, one: RunColumns, way: _Way, fields: Sequence[Payload]
    ) -> Iterator[Payload]:
        """The JSON of `rendered`, put together by hand in a quarter of the time."""
        if is_thinned(one.source):
            # Each id has a checksum.
            yield from _each(one, self._whole)
            return
        _, _, before_id, before_seq, before_time, before_fields = way
        seq, number = one.seq, one.number
        sensors, ours = (
            b',"time_quality":"sensor"}',
            b',"time_quality":"%b"}' % (one.our_trust.encode()),
        )
        for said, when, (_, quality) in zip(fields, one.time_texts(), one.times, strict=True):
            if isinstance(said, bytes):
                head = f"{before_id}{number}{before_seq}{seq}{before_time}{when}{before_fields}"
                yield b"".join((head.encode(), said, sensors if quality == "sensor" else ours))
            else:
                yield said
            seq, number = seq + 1, number + 1

    def _whole(self, record: Record) -> bytes:
        return record_json(rendered(record, self._agent, self._epoch))

    def _payloads_of(
        self, template: str
    ) -> Callable[[RunColumns, _Way, Sequence[Payload]], Iterable[Payload]]:
        agent, epoch = self._agent, self._epoch
        if template == "fields":
            return lambda _, __, fields: fields
        if template == "record":
            return self._as_records
        ways: dict[str, Callable[[Record], object]] = {
            "agent": lambda record: record.origin or agent,
            "log": lambda record: record.log,
            "stream": lambda record: record.stream,
            "source": lambda record: record.source,
            "fields": lambda record: record_json(record.fields).decode(),
            "id": lambda record: stable_id(record, epoch),
            "time": lambda record: format_time(record.time_ns),
            "time_s": lambda record: record.time_ns // 1_000_000_000,
            "time_ms": lambda record: record.time_ns // 1_000_000,
            "seq": lambda record: record.seq,
        }

        def filled(record: Record) -> bytes:
            return _PLACE.sub(lambda found: str(ways[found[1]](record)), template).encode()

        return lambda one, _, __: _each(one, filled)

    def _group(self, slices: Iterable[RunColumns], packet_bytes_max: int, made: Packets) -> None:
        """For ThingsBoard's gateways: ``{"DEVICE": [{"ts": …, "values": {…}}, …], …}``.

        A stream is a device. What is grouped is refused together, so that one that is too large by
        itself is looked for before.
        """
        topic = self._settings.topic.encode()
        room = (packet_bytes_max or 2**32) - len(topic) - 32
        most = min(self._settings.message_bytes - 8, room, _GROUP_BYTES)
        devices: dict[str, list[bytes]] = {}
        seqs: list[int] = []
        size = 0
        for stream, seq, time_ns, values in _singly(slices):
            if not isinstance(values, bytes):
                made.refuse(seq, values)
                continue
            one = b'{"ts":%d,"values":%b}' % (time_ns // 1_000_000, values)
            more = len(one) + 1 + len(stream) + 6
            if seqs and (size + more > most or len(seqs) >= _GROUP_RECORDS):
                self._add(
                    made, tuple(seqs), MqttMessage(topic, _gateway(devices)), packet_bytes_max
                )
                devices, seqs, size = {}, [], 0
            devices.setdefault(stream, []).append(one)
            seqs.append(seq)
            size += more
        if seqs:
            self._add(made, tuple(seqs), MqttMessage(topic, _gateway(devices)), packet_bytes_max)


def _gateway(devices: dict[str, list[bytes]]) -> bytes:
    parts = [b'"%b":[%b]' % (name.encode(), b",".join(each)) for name, each in devices.items()]
    return b"{%b}" % b",".join(parts)


def _with_fields(slices: Iterable[RunColumns]) -> Iterator[tuple[RunColumns, list[Payload]]]:
    """Each with the JSON of its records' fields."""
    for some in gathered(slices, _CHUNK, _CHUNK):
        fields = iter(fields_as_json(some, _json))
        for one in some:
            yield one, [*islice(fields, len(one.fields))]


def _singly(slices: Iterable[RunColumns]) -> Iterator[tuple[str, int, int, Payload]]:
    """Of each record its stream, seq and time, and the JSON of its fields."""
    for one, fields in _with_fields(slices):
        for n, (said, (time_ns, _)) in enumerate(zip(fields, one.times, strict=True)):
            yield one.stream, one.seq + n, time_ns, said


def _each(one: RunColumns, said: Callable[[Record], bytes]) -> Iterator[Payload]:
    for record in one.records():
        try:
            yield said(record)
        except UNSAYABLE as error:
            yield error


def _kind(one: RunColumns) -> tuple[str, ...]:
    return one.stream, one.source, one.origin, one.origin_epoch, one.origin_log


def _escaped(name: str) -> str:
    return record_json(name).decode()[1:-1]
