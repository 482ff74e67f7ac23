"""What was said over the connections of a recorded run, as facts that a power cut is judged by.

Every connection is a WebSocket in plain text, so the bytes that went over it tell all: which
records the agent had been given (`received`), what it had acked (from the moment in which the
first byte of an ack may have left), what it had handed to the hub and what the hub had
acknowledged (from the moment in which the agent had read it).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from edge_agent.wire import Segment, decode_segments
from tests.crash.recording import Op
from tests.crash.sensor import KINDS, STRANGE
from tests.crash.workload import MARK

_TEXT, _BINARY, _CONTINUED = 1, 2, 0
PLAIN: Final = "plain"


@dataclass(frozen=True, slots=True)
class Fact:
    """At ``place`` in the order of all: ``kind`` is one of

    - ``received``: the agent has read the records ``numbers`` of ``name``, a source;
    - ``greeted``: a source has said that it begins at ``number``, whatever was before;
    - ``acked``: everything of ``name`` before ``number``;
    - ``forwarded``: ``segments`` of ``name``, a log, were on their way to the hub;
    - ``arrived``: the hub has everything of ``name``, a log, before ``number``;
    - ``epoch``: the store's, in ``name``;
    - ``phase``: one has begun, ``name``.
    """

    place: int
    kind: str
    name: str
    number: int = 0
    numbers: tuple[int, ...] = ()
    segments: tuple[Segment, ...] = ()


def facts_of(ops: list[Op], port: int, hub_port: int) -> list[Fact]:
    """All facts, in order; ``port`` is the agent's, ``hub_port`` the hub's."""
    talks: dict[str, _Talk] = {}
    found: list[Fact] = []
    for op in ops:
        if op.kind not in ("say", "hear"):
            continue
        ours, theirs = op.path.split("->")
        talk = talks.get(op.path)
        if talk is None:
            if theirs.endswith(f":{hub_port}"):
                talk = _HubTalk()
            elif ours.endswith(f":{port}"):
                talk = _SensorTalk()
            else:
                continue
            talks[op.path] = talk
        found += talk.take(op)
    return sorted(found, key=lambda fact: fact.place)


@dataclass(slots=True)
class _Way:
    """The bytes of one direction, and where in them whole messages end."""

    data: bytearray = field(default_factory=bytearray)
    head: bytes | None = None
    whole: bytearray = field(default_factory=bytearray)

    def messages(self, more: bytes) -> Iterator[tuple[bool, bytes]]:
        """Whole messages as (is text, bytes); the HTTP head is kept in ``head``."""
        self.data += more
        if self.head is None:
            end = self.data.find(b"\r\n\r\n")
            if end < 0:
                return
            self.head = bytes(self.data[:end])
            del self.data[: end + 4]
        while (frame := self._frame()) is not None:
            first, payload = frame
            code = first & 15
            if code not in (_TEXT, _BINARY, _CONTINUED):
                continue
            self.whole += payload
            if first & 128:
                message = bytes(self.whole)
                self.whole.clear()
                # JSON begins otherwise than any of the msgpack that is sent here.
                yield message[:1] in b"{[", message

    def _frame(self) -> tuple[int, bytes] | None:
        data = self.data
        if len(data) < 2:
            return None
        size, at = data[1] & 127, 2
        if size > 125:
            at += 2 if size == 126 else 8
            size = int.from_bytes(data[2:at], "big")
        mask = bytes(4)
        if data[1] & 128:
            mask = bytes(data[at : at + 4])
            at += 4
        if len(data) < at + size:
            return None
        first, payload = data[0], bytes(data[at : at + size])
        del data[: at + size]
        key = mask * (-(-size // 4))
        whole = int.from_bytes(payload, "big") ^ int.from_bytes(key[:size], "big")
        return first, whole.to_bytes(size, "big")


class _Talk:
    """One connection, both ways."""

    def __init__(self) -> None:
        self.said, self.heard = _Way(), _Way()
        self.name = ""

    def take(self, op: Op) -> Iterator[Fact]:
        way, place = (self.said, op.begin) if op.kind == "say" else (self.heard, op.end)
        for is_text, message in way.messages(op.data):
            value = msgspec.json.decode(message) if is_text else _maybe(message)
            made = self.say if op.kind == "say" else self.hear
            yield from made(place, value, message)
        yield from self.opened(op.end)

    def opened(self, place: int) -> Iterator[Fact]:
        yield from ()

    def say(self, place: int, value: Any, message: bytes) -> Iterator[Fact]:
        raise AssertionError

    def hear(self, place: int, value: Any, message: bytes) -> Iterator[Fact]:
        raise AssertionError


class _SensorTalk(_Talk):
    """A sensor's connection; ``next`` is the number of the next record that comes."""

    next = 0
    marked = False

    def opened(self, place: int) -> Iterator[Fact]:
        head = self.heard.head or b""
        if MARK.encode() in head and not self.marked:
            self.marked = True
            word = head.split(MARK.encode())[1].split()[0]
            yield Fact(place, "phase", word.decode().replace("-", " "))
        if b"?ack=1" in head and not self.name:
            self.name, self.next = PLAIN, 1

    def hear(self, place: int, value: Any, message: bytes) -> Iterator[Fact]:
        if self.is_strange:
            return
        if not self.name and b"?ack=1" not in (self.heard.head or b""):
            self.name = value["source"]
            assert self.name in KINDS, self.name
            if value.get("first"):
                # The restart is durable before it is welcome.
                yield Fact(place, "greeted", self.name, value["first"])
            return
        if not self.name:
            self.name, self.next = PLAIN, 1
        assert self.next, "data before the welcome"
        count = len(value) if isinstance(value, list) else 1
        numbers = tuple(range(self.next, self.next + count))
        self.next += count
        yield Fact(place, "received", self.name, numbers=numbers)

    @property
    def is_strange(self) -> bool:
        """Whether it is a stranger's: what it says is nobody's, and it is told nothing."""
        return STRANGE.lower() + b": yes" in (self.heard.head or b"").lower()

    def say(self, place: int, value: Any, message: bytes) -> Iterator[Fact]:
        if self.is_strange:
            assert value["type"] == "stop", value
            return
        if self.name == PLAIN:
            if "ack" in value:
                yield Fact(place, "acked", self.name, value["ack"] + 1)
        elif value["type"] == "welcome":
            self.next = value["next"]
            yield Fact(place, "epoch", value["epoch"])
            # That everything before it is durable is what a welcome says, too.
            yield Fact(place, "acked", self.name, self.next)
        elif value["type"] == "ack":
            yield Fact(place, "acked", self.name, value["next"])


class _HubTalk(_Talk):
    """A connection to the hub, for one log."""

    def say(self, place: int, value: Any, message: bytes) -> Iterator[Fact]:
        if not self.name:
            self.name = value["source"].split("/")[2]
        else:
            segments = tuple(decode_segments(message))
            yield Fact(place, "forwarded", self.name, segments=segments)

    def hear(self, place: int, value: Any, message: bytes) -> Iterator[Fact]:
        if value["type"] == "ack" or value["type"] == "welcome":
            yield Fact(place, "arrived", self.name, value["next"])


def _maybe(message: bytes) -> Any:
    return msgspec.msgpack.decode(message)
