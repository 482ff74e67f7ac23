"""A sensor's session spoken with as little as it takes, so that one process holds a thousand.

It keeps what is not acked, comes back with the backoff of the library, and goes on where the agent
stands: what is measured with it is the agent.
"""

from __future__ import annotations

import base64
import json
import os
import random
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
import trio

from benchmarks.load import frame, frames
from benchmarks.sessions import server_frames
from edge_agent.net.backoff import Backoff

_TEXT, _PING, _PONG = 1, 9, 10
#: What the library waits for an answer.
_PATIENCE_S = 10.0
_HEAD_BYTES_MAX = 8192


class Refused(ConnectionError):
    """No upgrade; ``retry_after`` is what was asked for."""

    def __init__(self, line: bytes, retry_after: float | None) -> None:
        super().__init__(line.decode("latin-1"))
        self.retry_after = retry_after


@dataclass(slots=True)
class LightClient:
    """One source.

    Attributes:
        port: the agent's, on loopback.
        source: and its stream is ``storm/SOURCE``.
        address: where it comes from.
        welcomed: how often it was let in, and ``welcomed_at`` when last.
        acked: records.
        failures: in all.
    """

    port: int
    source: str
    address: str
    dice: random.Random
    backoff: Backoff = field(default_factory=Backoff)
    welcomed: int = 0
    welcomed_at: float = 0.0
    acked: int = 0
    failures: int = 0
    _held: deque[bytes] = field(default_factory=deque)
    _first: int = 1
    _epoch: str | None = None
    _news: trio.Event = field(default_factory=trio.Event)

    def put(self, *records: Mapping[str, object]) -> None:
        """Records to be sent, now or once it is connected."""
        self._held.extend(json.dumps(record).encode() for record in records)
        self._news.set()

    async def run(self) -> None:
        """For ever."""
        row = 0
        while True:
            before, asked = self.welcomed, None
            try:
                await self._session()
            except Refused as error:
                asked = error.retry_after
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            except trio.TooSlowError:
                pass
            self.failures += 1
            row = 1 if self.welcomed > before else row + 1
            await trio.sleep(self.backoff.delay(row, self.dice, retry_after=asked))

    async def _session(self) -> None:
        incoming = bytearray()
        with trio.fail_after(_PATIENCE_S):
            stream = await trio.open_tcp_stream("127.0.0.1", self.port, local_address=self.address)
        async with stream:
            with trio.fail_after(_PATIENCE_S):
                await self._enter(stream, incoming)
            sent = 0
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hear, stream, incoming, nursery.cancel_scope)
                while True:
                    base = self._first
                    new = list(self._held)[sent:]
                    if new:
                        await stream.send_all(frames(new, text=True))
                        sent += len(new)
                    else:
                        self._news = trio.Event()
                        await self._news.wait()
                    sent -= self._first - base

    async def _enter(self, stream: trio.SocketStream, incoming: bytearray) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        await stream.send_all(
            f"GET /ingest/storm/{self.source} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: edge-agent.v1+json\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in incoming:
            await self._receive(stream, incoming)
            if len(incoming) > _HEAD_BYTES_MAX:
                raise ConnectionError("no answer to an upgrade")
        head, _, rest = bytes(incoming).partition(b"\r\n\r\n")
        incoming[:] = rest
        lines = head.split(b"\r\n")
        if b" 101 " not in lines[0]:
            asked = [line[12:] for line in lines if line.lower().startswith(b"retry-after:")]
            raise Refused(lines[0], float(asked[0]) if asked else None)
        hello: dict[str, object] = {"type": "hello", "source": self.source, "first": self._first}
        if self._epoch is not None:
            hello["epoch"] = self._epoch
        await stream.send_all(frame(json.dumps(hello).encode(), text=True))
        while not (found := server_frames(incoming)):
            await self._receive(stream, incoming)
        welcome = msgspec.json.decode(found[0][1])
        if welcome["type"] != "welcome":
            raise Refused(found[0][1][:100], welcome.get("retry_after"))
        self._epoch = welcome["epoch"]
        self._forget(welcome["next"])
        self.welcomed, self.welcomed_at = self.welcomed + 1, time.monotonic()

    async def _hear(
        self, stream: trio.SocketStream, incoming: bytearray, scope: trio.CancelScope
    ) -> None:
        try:
            while True:
                for kind, payload in server_frames(incoming):
                    if kind == _PING:
                        await stream.send_all(bytes([0x80 | _PONG]) + frame(payload)[1:])
                    elif kind == _TEXT:
                        answer = msgspec.json.decode(payload)
                        if answer["type"] == "ack":
                            self._forget(answer["next"])
                await self._receive(stream, incoming)
        except (OSError, trio.BrokenResourceError):
            scope.cancel()

    def _forget(self, upto: int) -> None:
        while self._first < upto and self._held:
            self._held.popleft()
            self._first += 1
            self.acked += 1

    async def _receive(self, stream: trio.SocketStream, incoming: bytearray) -> None:
        data = await stream.receive_some(65536)
        if not data:
            raise ConnectionError("the agent went away")
        incoming += data
