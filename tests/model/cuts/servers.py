"""Servers in memory that keep what real ones would: JetStream, InfluxDB, an HTTP API, MQTT."""

from __future__ import annotations

import gzip
import json
from abc import ABC, abstractmethod
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import h11
import trio

from tests.model.cuts.wire import Connection

#: How long JetStream knows an id again, by default.
WINDOW_S = 120.0
STREAM = "EDGE"
#: How long it waits for the next message of a fast batch.
BATCH_S = 10.0
#: Subject, headers, payload, headers as they came, where the answer goes.
Published = tuple[str, dict[str, str], bytes, bytes, bytes]


class Far(Protocol):
    """What the agent sends to. ``url`` is the upstream's, ``options`` what its configuration needs
    beside it; ``once`` says whether a record may be there once only. `held` counts each record's
    number.
    """

    url: str
    options: dict[str, Any]
    once: bool

    def held(self) -> Counter[int]: ...


class Server(Far, Protocol):
    """One of them in memory."""

    async def serve(self, connection: Connection) -> None: ...


class _Http(ABC):
    """What HTTP servers have in common: each request is one that is taken as a whole."""

    url = "http://far:80/in"
    once = False

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}

    async def serve(self, connection: Connection) -> None:
        protocol = h11.Connection(h11.SERVER)
        while True:
            headers: dict[str, str] = {}
            body = bytearray()
            while not isinstance(event := protocol.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    protocol.receive_data(await connection.receive())
                elif isinstance(event, h11.Request):
                    headers = {name.decode(): value.decode() for name, value in event.headers}
                elif isinstance(event, h11.Data):
                    body += event.data
                else:
                    raise trio.BrokenResourceError
            plain = gzip.decompress(body) if "content-encoding" in headers else bytes(body)
            key = headers["idempotency-key"]

            def take(key: str = key, plain: bytes = plain) -> bytes:
                self.take(key, plain)
                return b""

            await connection.answer(take)
            said = protocol.send(h11.Response(status_code=204, headers=[])) or b""
            await connection.stream.send_all(said + (protocol.send(h11.EndOfMessage()) or b""))
            protocol.start_next_cycle()

    @abstractmethod
    def take(self, key: str, body: bytes) -> None:
        """A request that has arrived."""


class HttpServer(_Http):
    """Takes each ``Idempotency-Key`` once."""

    once = True

    def __init__(self) -> None:
        super().__init__()
        self._keys: set[str] = set()
        self._held: Counter[int] = Counter()

    def take(self, key: str, body: bytes) -> None:
        if key not in self._keys:
            self._keys.add(key)
            self._held.update(json.loads(line)["fields"]["n"] for line in body.splitlines())

    def held(self) -> Counter[int]:
        return self._held


class InfluxServer(_Http):
    """A point is its series and its time: what comes again replaces what was there."""

    url = "http://far:80/write?db=x"
    once = True

    def __init__(self) -> None:
        super().__init__()
        self.options = {"format": "line"}
        self._points: dict[tuple[str, str], str] = {}

    def take(self, key: str, body: bytes) -> None:
        for line in body.decode().splitlines():
            series, fields, time = line.split(" ")
            self._points[series, time] = fields

    def held(self) -> Counter[int]:
        return Counter(int(float(one.partition("=")[2])) for one in self._points.values())


class JetStream:
    """One stream: messages with headers, numbers by subject, ids that are known for a while, and
    batches that are stored as a whole or not at all, where it takes any; or as they come, until one
    is missing or refused, and then no id is known for any time. Somebody else's messages come in
    between, under another subject.
    """

    url = "nats://far:4222"
    once = True

    def __init__(
        self, *, atomic: bool = True, fast: bool = False, window_s: float = WINDOW_S
    ) -> None:
        from edge_agent.config import NatsTable

        #: Several messages a batch, where that makes a difference.
        singly = fast or not atomic
        self.options: dict[str, Any] = {"nats": NatsTable(message_records=1)} if singly else {}
        self._atomic, self._fast, self._window_s = atomic, fast, window_s
        #: Of each fast batch that is not at its end: how many messages it has, the number of the
        #: last one in the stream, and when that came.
        self._open: dict[bytes, tuple[int, int, float]] = {}
        self._stored: list[tuple[str, bytes, bytes]] = []
        self._last: dict[str, int] = {}
        self._last_id = ""
        self._ids: dict[str, float] = {}

    async def serve(self, connection: Connection) -> None:
        info = {"version": "2.15.0", "max_payload": 1 << 20, "headers": True}
        await connection.stream.send_all(b"INFO " + json.dumps(info).encode() + b"\r\n")
        buffer = b""
        batch: list[Published] = []
        while True:
            line, found, rest = buffer.partition(b"\r\n")
            words = line.split()
            size = int(words[-1]) + 2 if found and words[0] in (b"PUB", b"HPUB") else 0
            if not found or len(rest) < size:
                buffer += await connection.receive()
                continue
            payload, buffer = rest[: max(size - 2, 0)], rest[size:]
            if words[0] == b"PING":
                await connection.stream.send_all(b"PONG\r\n")
            elif words[0] in (b"PUB", b"HPUB"):
                head = int(words[-2]) if words[0] == b"HPUB" else 0
                sizes = 2 if head else 1
                reply = words[2] if len(words) == 3 + sizes else b""
                subject = words[1].decode()
                if subject.startswith("$JS.API."):
                    said = _message(reply, self._api(subject, payload))
                    await connection.stream.send_all(said)
                    continue
                headers = _headers(payload[:head])
                batch.append((subject, headers, payload[head:], payload[:head], reply))
                if self._waits(reply, buffer, connection):
                    continue
                together, batch = batch, []
                take = partial(self._take, together, connection.wire.dice.random() < 0.05)
                is_whole = self._atomic and not _is_fast(reply)
                await connection.answer(take, 1.0 if is_whole else 0.5)

    def _waits(self, reply: bytes, more: bytes, connection: Connection) -> bool:
        """Whether a message waits for the next: of an atomic batch all arrive together, and else
        some, which meet the same.
        """
        if self._atomic and not _is_fast(reply):
            return not reply
        if _is_fast(reply):
            goes_on = reply.split(b".")[-2] in b"01"
        else:
            goes_on = b"HPUB" in more
        return goes_on and connection.wire.dice.random() < 0.6

    def _take(self, together: list[Published], is_disturbed: bool) -> bytes:
        """What was published, and its answers; before one of them comes somebody else's."""
        *_, reply = together[-1]
        if _is_fast(reply):
            return b"".join(self.add(each) for each in together)
        if self._atomic:
            return _message(reply, self._publish(together))
        answers = []
        for n, each in enumerate(together):
            if is_disturbed and n == len(together) // 2:
                self._store(("other", {}, b"", b"", b""))
            answers.append(_message(each[4], self._publish([each])))
        return b"".join(answers)

    def _api(self, subject: str, question: bytes) -> dict[str, Any]:
        if ".STREAM.INFO." in subject:
            return {"config": {"allow_atomic": self._atomic, "allow_batched": self._fast}}
        seq = self._last.get(json.loads(question)["last_by_subj"], 0)
        if not seq:
            return _error(10037)
        subject, _, raw = self._stored[seq - 1]
        return {"message": {"subject": subject, "seq": seq, "hdrs": b64encode(raw).decode()}}

    def _publish(self, batch: list[Published]) -> dict[str, Any]:
        subject, first, *_ = batch[0]
        now = trio.current_time()
        if len(batch) > 1 and not self._atomic:
            return _error(10174)
        ids = [headers["Nats-Msg-Id"] for _, headers, *_ in batch]
        if any(now - self._ids.get(one, -self._window_s) < self._window_s for one in ids):
            if len(batch) > 1:
                return _error(10201)
            return {"stream": STREAM, "seq": self._last.get(subject, 0), "duplicate": True}
        expected = first.get("Nats-Expected-Last-Subject-Sequence")
        if expected is not None and int(expected) != self._last.get(subject, 0):
            return _error(10071)
        if first.get("Nats-Expected-Last-Msg-Id", self._last_id) != self._last_id:
            return _error(10070)
        for name, one in zip(ids, batch, strict=True):
            self._store(one)
            self._ids[name] = now
        return {"stream": STREAM, "seq": len(self._stored)}

    def add(self, one: Published) -> bytes:
        """The answers to a message of a fast batch."""
        subject, headers, _, _, reply = one
        batch, number, operation = (reply.split(b".")[at] for at in (-6, -3, -2))
        now = trio.current_time()
        has, seq, since = self._open.pop(batch, (0, 0, now))
        if int(number) != has + 1 or now - since > BATCH_S:
            # It ends here, or was unknown.
            known = has and now - since <= BATCH_S
            return _message(reply, _batch_ack(batch, has, seq) if known else _error(10208))
        expected = headers.get("Nats-Expected-Last-Subject-Sequence", "")
        if expected and int(expected) != self._last.get(subject, 0):
            return _message(reply, _error(10071))
        self._store(one)
        has, seq = has + 1, len(self._stored)
        if operation == b"2":
            return _message(reply, _batch_ack(batch, has, seq))
        self._open[batch] = (has, seq, now)
        return _message(reply, {"type": "ack", "seq": 0, "msgs": 500}) if has == 1 else b""

    def _store(self, one: Published) -> None:
        subject, headers, payload, raw, _ = one
        self._stored.append((subject, payload, raw))
        self._last[subject] = len(self._stored)
        self._last_id = headers.get("Nats-Msg-Id", "")

    def held(self) -> Counter[int]:
        lines = (line for _, payload, _ in self._stored for line in payload.splitlines())
        return Counter(json.loads(line)["fields"]["n"] for line in lines)


class MqttBroker:
    """A broker of 3.1.1 that has taken what it has acknowledged, and forgets no message."""

    url = "mqtt://far:1883"
    once = False

    def __init__(self) -> None:
        from edge_agent.config import MqttTable

        self.options: dict[str, Any] = {"mqtt": MqttTable(version="3.1.1")}
        self._held: Counter[int] = Counter()

    async def serve(self, connection: Connection) -> None:
        buffer = b""
        while True:
            packet, buffer = _packet(buffer)
            if packet is None:
                buffer += await connection.receive()
                continue
            kind, body = packet
            if kind >> 4 == 1:
                await connection.stream.send_all(b"\x20\x02\x00\x00")
            elif kind >> 4 == 12:
                await connection.stream.send_all(b"\xd0\x00")
            elif kind >> 4 == 3:
                topic = int.from_bytes(body[:2], "big")
                number, payload = body[2 + topic : 4 + topic], body[4 + topic :]

                def take(number: bytes = number, payload: bytes = payload) -> bytes:
                    self._held[json.loads(payload)["fields"]["n"]] += 1
                    return b"\x40\x02" + number

                # A batch is some of these, and has to get through as a whole.
                await connection.answer(take, 0.2)

    def held(self) -> Counter[int]:
        return self._held


SERVERS: dict[str, Callable[[], Server]] = {
    "nats": JetStream,
    "nats, fast": lambda: JetStream(fast=True),
    "nats, chained": lambda: JetStream(atomic=False, window_s=0.0),
    "influx": InfluxServer,
    "http": HttpServer,
    "mqtt": MqttBroker,
}


def _packet(data: bytes) -> tuple[tuple[int, bytes] | None, bytes]:
    """The first packet of MQTT that is whole, and what is behind it."""
    size = shift = 0
    for at, byte in enumerate(data[1:5], 1):
        size |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            end = at + 1 + size
            if len(data) < end:
                break
            return (data[0], data[at + 1 : end]), data[end:]
    return None, data


def _message(reply: bytes, said: dict[str, Any]) -> bytes:
    payload = json.dumps(said).encode()
    return b"MSG %s 1 %d\r\n%s\r\n" % (reply, len(payload), payload)


def _is_fast(reply: bytes) -> bool:
    return reply.endswith(b".$FI")


def _batch_ack(batch: bytes, count: int, seq: int) -> dict[str, Any]:
    return {"stream": STREAM, "seq": seq, "batch": batch.decode(), "count": count}


def _headers(raw: bytes) -> dict[str, str]:
    lines = (line.partition(": ") for line in raw.decode().split("\r\n")[1:] if line)
    return {name: value for name, _, value in lines}


def _error(code: int) -> dict[str, Any]:
    return {"error": {"code": 400, "err_code": code, "description": "no"}}
