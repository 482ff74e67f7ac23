"""Where a case is tried: one running agent (`Place`), and bare connections to it (`Peer`)."""

from __future__ import annotations

import json
import re
import socket
import ssl
import struct
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import trio

from tests.end_to_end.keys import Keys
from tests.end_to_end.support import AgentProcess
from tests.patience import PATIENCE_S, receive_to_end
from tests.server.frames import BINARY, TEXT, frame

CLOSE, PING, PONG = 0x8, 0x9, 0xA
JSON, MSGPACK = "edge-agent.v1+json", "edge-agent.v1+msgpack"
_KEY = "AAAAAAAAAAAAAAAAAAAAAA=="


class Closed(Exception):
    """The agent closed: ``code`` is 1006 where it did so without a close frame."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"closed: {code} {reason}")
        self.code, self.reason = code, reason


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back on HTTP; status 0 where nothing did."""

    status: int
    text: str


class Peer:
    """One connection, which sends what it is told to and answers nothing by itself."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._got = b""

    async def write(self, data: bytes | str) -> None:
        """Send bytes as they are. Where the agent has gone it does not matter: see what it said."""
        try:
            await self.stream.send_all(data.encode("latin-1") if isinstance(data, str) else data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def upgrade(
        self, path: str, *headers: str, subprotocol: str = "", token: str = ""
    ) -> None:
        """Become a WebSocket; everything else fails the case."""
        more = [f"Sec-WebSocket-Protocol: {subprotocol}"] if subprotocol else []
        more += [f"Authorization: Bearer {token}"] if token else []
        await self.write(upgrade(path, *more, *headers))
        head = await self._until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        self.head = head.decode()

    async def answer(self) -> Answer:
        """What is answered until the agent closes: the first status, and all of it."""
        text = (self._got + await receive_to_end(self.stream)).decode(errors="replace")
        found = re.match(r"HTTP/1\.1 (\d{3}) ", text)
        return Answer(int(found[1]) if found else 0, text)

    async def say(self, message: object) -> None:
        """One message: bytes as a binary one, text as it is, all else as JSON."""
        if isinstance(message, bytes):
            await self.write(frame(BINARY, message))
        else:
            text = message if isinstance(message, str) else json.dumps(message)
            await self.write(frame(TEXT, text.encode("utf-8", "surrogatepass")))

    async def hello(self, source: str, **more: object) -> int:
        """Begin a session, in the encoding of the subprotocol; the number that comes next."""
        told = {"type": "hello", "source": source, **more}
        await self.say(msgpack.packb(told) if MSGPACK in self.head else told)
        welcome = await self.hear()
        assert welcome["type"] == "welcome", welcome
        return int(welcome["next"])

    async def hear(self) -> dict[str, Any]:
        """The next message.

        Raises:
            Closed: there is none.
        """
        while True:
            opcode, payload = await self.frame()
            if opcode == CLOSE:
                code = int.from_bytes(payload[:2], "big") if payload else 1005
                raise Closed(code, payload[2:].decode())
            if opcode in (TEXT, BINARY):
                told: dict[str, Any] = (
                    json.loads(payload) if opcode == TEXT else msgpack.unpackb(payload)
                )
                return told

    async def frame(self) -> tuple[int, bytes]:
        """The next frame, whatever it is.

        Raises:
            Closed: 1006, the socket has ended.
        """
        await self._more(2)
        size, header = self._got[1], 2
        assert size < 128, "an agent does not mask"
        if size >= 126:
            header = 4 if size == 126 else 10
            await self._more(header)
            size = int.from_bytes(self._got[2:header], "big")
        await self._more(header + size)
        first, payload = self._got[0], self._got[header : header + size]
        self._got = self._got[header + size :]
        return first & 0x0F, payload

    async def acked(self, upto: int) -> list[str]:
        """Read until everything before ``upto`` is acked; the codes of the nacks before that."""
        codes: list[str] = []
        while True:
            told = await self.hear()
            if told["type"] == "nack":
                codes.append(told["code"])
            elif told["next"] >= upto:
                return codes

    async def closed(self) -> Closed:
        """Read on until the end."""
        while True:
            try:
                await self.hear()
            except Closed as closed:
                return closed

    def reset(self) -> None:
        """Close with a TCP reset."""
        inner = self.stream.transport_stream if isinstance(self.stream, trio.SSLStream) else None
        plain = inner or self.stream
        assert isinstance(plain, trio.SocketStream)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        plain.socket.close()

    async def _more(self, size: int) -> None:
        with trio.fail_after(PATIENCE_S):
            while len(self._got) < size:
                try:
                    piece = await self.stream.receive_some(65536)
                except trio.BrokenResourceError:
                    piece = b""
                if not piece:
                    raise Closed(1006)
                self._got += piece

    async def _until(self, end: bytes) -> bytes:
        while end not in self._got:
            await self._more(len(self._got) + 1)
        head, _, self._got = self._got.partition(end)
        return head + end


def upgrade(path: str, *headers: str, host: str = "localhost", key: str = _KEY) -> str:
    """The head of an upgrade."""
    lines = [
        f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: Upgrade", "Upgrade: websocket",
        "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", *headers, "", "",
    ]  # fmt: skip
    return "\r\n".join(lines)


@dataclass
class Place:
    """One agent. ``keys``: of one that speaks TLS and asks for tokens."""

    agent: AgentProcess
    keys: Keys | None = None
    more: dict[str, Any] = field(default_factory=dict)

    @asynccontextmanager
    async def peer(self, *, address: str = "", port: int = 0) -> AsyncIterator[Peer]:
        """A connection, with TLS where the agent speaks it; ``address`` is where it comes from."""
        stream: trio.abc.Stream = await trio.open_tcp_stream(
            "127.0.0.1", port or self.agent.port, local_address=address or None
        )
        if self.keys is not None and not port:
            stream = await _secured(stream, self.keys.context)
        try:
            yield Peer(stream)
        finally:
            await trio.aclose_forcefully(stream)

    @asynccontextmanager
    async def socket(
        self, path: str = "/ingest/abuse", *headers: str, subprotocol: str = "", token: str = ""
    ) -> AsyncIterator[Peer]:
        """The same, upgraded."""
        async with self.peer() as peer:
            await peer.upgrade(path, *headers, subprotocol=subprotocol, token=token)
            yield peer

    async def ask(self, request: bytes | str, *, port: int = 0) -> Answer:
        """Send bytes, say no more, and hear what is answered until the agent closes."""
        async with self.peer(port=port) as peer:
            await peer.write(request)
            return await peer.answer()

    async def counted(self, metric: str, label: str = "") -> float:
        """A metric's value: of one label, or of all together."""
        total = 0.0
        for line in (await trio.to_thread.run_sync(self._metrics)).splitlines():
            sample, _, value = line.rpartition(" ")
            name, _, labels = sample.partition("{")
            if name == f"edge_agent_{metric}" and (not label or f'"{label}"' in labels):
                total += float(value)
        return total

    @asynccontextmanager
    async def counts(self, metric: str, label: str = "", *, least: int = 1) -> AsyncIterator[None]:
        """What happens within is counted, so often at least."""
        before = await self.counted(metric, label)
        yield
        with trio.move_on_after(PATIENCE_S):
            while await self.counted(metric, label) < before + least:
                await trio.sleep(0.05)
            return
        raise AssertionError(f"{metric} {label} did not grow by {least}")

    async def stored(self, stream: str = "abuse/**") -> list[Any]:
        """The fields of what is stored of a stream."""
        return [record["fields"] for record in await self.agent.records(stream)]

    def memory(self) -> int:
        """Bytes that the process holds for itself (RssAnon)."""
        assert self.agent.process is not None
        status = Path(f"/proc/{self.agent.process.pid}/status").read_text()
        return int(status.partition("RssAnon:")[2].split()[0]) * 1024

    def _metrics(self) -> str:
        token = "" if self.keys is None else self.keys.secrets.get("reader", "")
        url = f"http://127.0.0.1:{self.agent.http_port}/metrics"
        request = urllib.request.Request(url)
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return str(answer.read().decode())


async def _secured(stream: trio.abc.Stream, context: ssl.SSLContext) -> trio.abc.Stream:
    secured = trio.SSLStream(stream, context, server_hostname="localhost", https_compatible=True)
    with trio.fail_after(PATIENCE_S):
        await secured.do_handshake()
    return secured
