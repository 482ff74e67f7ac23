"""Sensors for the recorded run and for the survivors of power cuts: what each sends is a function
of its name and the number, so that whatever is found anywhere can be compared with what was sent.

A sensor keeps what is not acked, and resumes by the session protocol. Number N of a source is
always the same record, in the same log.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

import msgspec
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from edge_agent.session import Ack, ClientSession, Nack, Resume

#: Number of a record that its agent must refuse for its content: a time that is none.
REJECTED_EVERY: Final = 25
#: A header of connections that promise nothing to anybody and are promised nothing.
STRANGE: Final = b"Stranger"


@dataclass(frozen=True, slots=True)
class Kind:
    """One sensor of the workload: how it speaks, where its records go, how large they are.

    ``mixed``: every third record says a stream of the log ``alarms``.
    """

    source: str
    mode: str  # json, msgpack or plain
    stream: str
    pad: int
    mixed: bool = False
    rejects: bool = False

    @property
    def path(self) -> str:
        return f"/ingest/{self.stream}" + ("?ack=1" if self.mode == "plain" else "")

    def fields(self, number: int) -> dict[str, Any]:
        """The record with this number, as sent."""
        token = f"{self.source}:{number}"
        size = int.from_bytes(blake2b(token.encode(), digest_size=4).digest(), "big")
        found: dict[str, Any] = {
            "token": token,
            "pad": token * (size % (self.pad + 1) // 8),
            "n": number,
            "v": size % 1000 / 8,
        }
        if self.mixed and number % 3 == 0:
            found["stream"] = "alarms/mixed"
        if self.is_rejected(number):
            found["time"] = "noon"
        return found

    def is_rejected(self, number: int) -> bool:
        return self.rejects and number % REJECTED_EVERY == 0

    def log(self, number: int) -> str:
        """The log that takes the record."""
        is_alarm = self.stream.startswith("alarms/") or (self.mixed and number % 3 == 0)
        if self.stream.startswith("depth/"):
            return "depth"
        return "alarms" if is_alarm else "main"

    def stored(self, number: int) -> dict[str, Any]:
        """The record's fields as a reader of the store sees them."""
        found = self.fields(number)
        return {name: found[name] for name in ("token", "pad", "n", "v")}


KINDS: Final = {
    kind.source: kind
    for kind in (
        Kind("json/1", "json", "telemetry/json", 60, rejects=True),
        Kind("pack/2", "msgpack", "telemetry/pack", 1200),
        Kind("alarm/3", "msgpack", "alarms/door", 200),
        Kind("mixed/4", "json", "telemetry/mixed", 300, mixed=True),
        Kind("plain", "plain", "telemetry/plain", 40),
        Kind("deep/5", "msgpack", "depth/well", 1200),
        Kind("deep/6", "json", "depth/shaft", 100),
        Kind("rare/7", "json", "depth/rare", 20),
    )
}


@dataclass(slots=True)
class Sensor:
    """One sensor and its buffer: everything from ``acked`` on is kept.

    ``epoch`` is the one in which its numbers are; None for a sensor that has never been welcome,
    a wrong one for a sensor that was somewhere else before.
    """

    kind: Kind
    epoch: str | None = None
    acked: int = 1
    made: int = 1
    sent: set[int] = field(default_factory=set)
    _socket: WebSocketConnection | None = None
    _session: ClientSession = field(default_factory=lambda: ClientSession("json"))
    _news: trio.Event = field(default_factory=trio.Event)

    @property
    def is_connected(self) -> bool:
        return self._socket is not None and self._socket.closed is None

    def stored_in(self, log: str) -> int:
        """How many of the records sent so far go to ``log``."""
        kind = self.kind
        return sum(kind.log(one) == log and not kind.is_rejected(one) for one in self.sent)

    async def connect(
        self,
        nursery: trio.Nursery,
        stream: trio.abc.Stream,
        *,
        first: int | None = None,
        token: str | None = None,
    ) -> None:
        """Connect over ``stream`` and resume; ``first`` leaves out what is before it."""
        kind = self.kind
        protocols = {"plain": "edge-agent.v1.plain"}.get(kind.mode, f"edge-agent.v1+{kind.mode}")
        self._socket = await wrap_client_stream(
            nursery,
            stream,  # type: ignore[arg-type]  # any Stream will do; theirs names two kinds
            "127.0.0.1",
            kind.path,
            subprotocols=[protocols],
            extra_headers=[] if token is None else [_bearer(token)],
        )
        if first is not None:
            self.acked = self.made = first
        if kind.mode != "plain":
            await self._greet()
        nursery.start_soon(self._listen)

    async def _greet(self) -> None:
        assert self._socket is not None
        mode = self.kind.mode
        self._session = ClientSession("json" if mode == "json" else "msgpack")
        held = self.made - self.acked
        hello = self._session.hello(self.kind.source, self.epoch, self.acked, held)
        await self._socket.send_message(hello)
        said = self._session.receive(await self._socket.get_message())
        assert isinstance(said, Resume), said
        assert not said.renumber, f"{self.kind.source}: {said}"
        self.epoch, self.acked = said.epoch, said.next
        pending = list(range(said.next, self.made))
        self.made = said.next
        while pending:
            size = min(len(pending), 50)
            await self.send(size)
            del pending[:size]

    async def send(self, count: int = 1, *, batch: bool = True) -> None:
        """The next ``count`` records, as one message or each alone."""
        sizes = [count] if batch else [1] * count
        for size in sizes:
            numbers = range(self.made, self.made + size)
            self.made += size
            self.sent.update(numbers)
            message = self._encoded([self.kind.fields(number) for number in numbers])
            if self.kind.mode != "plain":
                self._session.sent(size, len(message))
            assert self._socket is not None
            await self._socket.send_message(message)

    async def settled(self) -> None:
        """Wait until everything sent is acked."""
        while self.acked < self.made:
            await self._news.wait()

    async def leave(self) -> None:
        """Close the connection."""
        assert self._socket is not None
        with trio.move_on_after(1):
            await self._socket.aclose()

    async def _listen(self) -> None:
        assert self._socket is not None
        while True:
            try:
                message = await self._socket.get_message()
            except ConnectionClosed:
                return
            if self.kind.mode == "plain":
                # One record a message, so that its count is the number of the last one.
                self.acked = max(self.acked, json.loads(message).get("ack", 0) + 1)
            else:
                said = self._session.receive(message)
                if isinstance(said, Nack):
                    assert self.kind.is_rejected(said.at), said
                elif isinstance(said, Ack):
                    self.acked = said.next
            self._news.set()
            self._news = trio.Event()

    def _encoded(self, records: Sequence[dict[str, Any]]) -> str | bytes:
        whole: Any = records[0] if len(records) == 1 else records
        encode: Callable[[Any], bytes] = msgspec.msgpack.encode
        return json.dumps(whole) if self.kind.mode != "msgpack" else encode(whole)


class Stranger:
    """Somebody with a good token of its own who says the names of others."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def tries(self, stream: trio.abc.Stream, source: str) -> str:
        """Greet as ``source``; the word with which that was refused, "" where it was welcome."""
        async with trio.open_nursery() as nursery:
            socket = await wrap_client_stream(
                nursery,
                stream,  # type: ignore[arg-type]  # any Stream will do; theirs names two kinds
                "127.0.0.1",
                "/ingest/telemetry/strange",
                subprotocols=["edge-agent.v1+json"],
                extra_headers=[_bearer(self._token), (STRANGE, b"yes")],
            )
            await socket.send_message(json.dumps({"type": "hello", "source": source}))
            told = json.loads(await socket.get_message())
            nursery.cancel_scope.cancel()
        return str(told.get("code", ""))


def _bearer(token: str) -> tuple[bytes, bytes]:
    return b"Authorization", b"Bearer " + token.encode()
