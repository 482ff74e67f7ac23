"""Upstreams that answer nonsense: one agent with an upstream for each case, one server of lies.

Nothing that such a server says may count as delivered: `forwarded_records_total` stays 0, the
records stay in the log, and the agent comes back to it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgpack
import trio

from tests.abuse.cases import Cases
from tests.abuse.place import JSON, Place
from tests.patience import PATIENCE_S
from tests.wire.framing import BINARY, PING, frame

CASES, HUBS = Cases("HTTP upstreams"), Cases("Hubs above")
Lie = Callable[[trio.SocketStream, str], Awaitable[None]]
"""What is said on a connection of which the head has been read."""
_LIES: dict[str, tuple[str, Lie]] = {}
CONFIG = """
[[upstream]]
name = "{name}"
url = "{url}"
streams = ["abuse/up"]
timeout = "1s"
batch_age = "20ms"
backoff_base = "500ms"
backoff_max = "1s"
"""


def lies(
    name: str, sent: str, answer: str = "not taken", *, scheme: str = "http", times: int = 2
) -> Callable[[Lie], Lie]:
    """The function below says it; ``answer`` is what the agent makes of it, after it has been asked
    so many ``times``.
    """
    key = re.sub("[^a-z0-9]+", "-", name.lower())

    async def run(place: Place) -> None:
        asked: Counter[str] = place.more["asked"]
        with trio.fail_after(2 * PATIENCE_S):
            while asked[key] < times:
                await trio.sleep(0.05)
            while not (upstream := await _status(place, key))["failures"]:
                await trio.sleep(0.05)
        assert upstream["acknowledged_records"] == 0, upstream
        assert upstream["backlog_records"] > 0 and not upstream["mistaken"], upstream

    def take(lie: Lie) -> Lie:
        _LIES[key] = scheme, lie
        (CASES if scheme == "http" else HUBS).add(name, sent, answer, run, slow=True)
        return lie

    return take


async def _status(place: Place, name: str) -> dict[str, Any]:
    status = await place.agent.get("/api/status")
    found: dict[str, Any] = next(one for one in status["upstreams"] if one["name"] == name)
    return found


def says(name: str, sent: str, data: bytes, answer: str = "not taken", *, times: int = 2) -> None:
    """An upstream that answers every request with the same bytes."""

    async def lie(stream: trio.SocketStream, _: str) -> None:
        await stream.send_all(data)
        await stream.send_eof()

    lies(name, sent, answer, times=times)(lie)


def response(status: str, body: bytes = b"", *headers: str) -> bytes:
    """A whole answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


says(
    "a page for people",
    "200 with HTML",
    response("200 OK", b"<html>log in</html>", "Content-Type: text/html"),
)
says("a redirect elsewhere", "302 to another host", response("302 Found", b"", "Location: http://192.0.2.1/in"),
     "not followed")  # fmt: skip
says("a redirect to a file", "307 to file:///etc/passwd",
     response("307 Temporary Redirect", b"", "Location: file:///etc/passwd"), "not followed")  # fmt: skip
says(
    "a switch of protocols", "101 to a POST", response("101 Switching Protocols", b"", "Upgrade: x")
)
says("an answer that is no HTTP", "220 of a mail server", b"220 mail.example ESMTP\r\n")
says("nothing", "the connection is closed", b"")
says(
    "an answer cut off",
    "200, Content-Length 100, 3 bytes",
    b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}\n",
)
says("two lengths in an answer", "Content-Length 2 and 3",
     b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}")  # fmt: skip
says(
    "errors in a 200",
    '200 with {"errors":true}',
    response("200 OK", b'{"errors":true}', "Content-Type: application/json"),
)
says(
    "JSON nested 100,000 deep",
    "200, [[[[…",
    response("200 OK", b"[" * 100_000, "Content-Type: application/json"),
)
says("a header of a megabyte", "200, X: xxx…", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000)
says("a compressed answer that bursts", "gzip of 50 MB of zeros in 50 KB",
     response("200 OK", gzip.compress(bytes(50_000_000)), "Content-Encoding: gzip",
              "Content-Type: application/json"))  # fmt: skip
says("come back in a century", "503, Retry-After of 3,000,000,000 s",
     response("503 Service Unavailable", b"", "Retry-After: 3000000000"), "an hour at most is waited",
     times=1)  # fmt: skip


@lies(
    "a body without end",
    "200, and 64 KiB again and again",
    "read no further than its batch explains",
)
async def _(stream: trio.SocketStream, _: str) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    piece = b"10000\r\n" + b" " * 65536 + b"\r\n"
    while True:
        await stream.send_all(piece)


@lies("hints without end", "100 Continue, again and again", "given up")
async def _(stream: trio.SocketStream, _: str) -> None:
    while True:
        await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
        await trio.sleep(0.01)


@lies("silence", "reads the request and says nothing", "given up at `timeout`")
async def _(stream: trio.SocketStream, _: str) -> None:
    while await stream.receive_some(65536):
        pass


@lies("half a head", "HTTP/1.1 200 OK, then silence", "given up at `timeout`")
async def _(stream: trio.SocketStream, _: str) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\nX: y\r\n")
    while await stream.receive_some(65536):
        pass


@lies("a reset", "the connection is reset", "tried again")
async def _(stream: trio.SocketStream, _: str) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


# Hubs.


class LyingHub:
    """A hub's side of a connection, whose first word is a lie or the second one."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream

    @classmethod
    async def upgraded(cls, stream: trio.SocketStream, head: str) -> LyingHub:
        """Accept the upgrade."""
        found = re.search(r"sec-websocket-key: *(\S+)", head, re.IGNORECASE)
        assert found is not None
        guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1((found[1] + guid).encode()).digest()).decode()
        await stream.send_all(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n"
            "Sec-WebSocket-Protocol: edge-agent.v1+msgpack\r\n\r\n".encode()
        )
        return cls(stream)

    async def say(self, told: dict[str, Any]) -> None:
        """One message."""
        await self.write(frame(BINARY, msgpack.packb(told), key=None))

    async def welcome(self, **more: Any) -> None:
        """A sound welcome, but for what is given."""
        window = {"records": 10_000, "bytes": 1_000_000}
        await self.hear()
        await self.say({"type": "welcome", "epoch": "e" * 16, "next": 1, "window": window, **more})

    async def hear(self) -> None:
        """Whatever comes."""
        await self._stream.receive_some(65536)

    async def write(self, data: bytes) -> None:
        """Bytes as they are."""
        await self._stream.send_all(data)

    async def listen(self) -> None:
        """Until the agent has had enough."""
        while await self._stream.receive_some(65536):
            pass


def hub(name: str, sent: str, answer: str = "not taken, tried again") -> Callable[[Any], None]:
    """The function below is the hub."""

    def take(lie: Callable[[LyingHub], Awaitable[None]]) -> None:
        async def run(stream: trio.SocketStream, head: str) -> None:
            lying = await LyingHub.upgraded(stream, head)
            await lie(lying)
            await lying.listen()

        lies(name, sent, answer, scheme="ws")(run)

    return take


@hub("an ack of what was never sent", "ack 2^40")
async def _(lying: LyingHub) -> None:
    await lying.welcome()
    await lying.hear()
    await lying.say({"type": "ack", "next": 2**40})


@hub("an ack of 0", "ack 0, which is before the first number")
async def _(lying: LyingHub) -> None:
    await lying.welcome()
    await lying.hear()
    await lying.say({"type": "ack", "next": 0})


@hub("an ack of 2^64", "a number beyond all")
async def _(lying: LyingHub) -> None:
    await lying.welcome()
    await lying.hear()
    await lying.say({"type": "ack", "next": 2**64 - 1})


@hub("a nack of what was never sent", "nack 2^40")
async def _(lying: LyingHub) -> None:
    await lying.welcome()
    await lying.hear()
    await lying.say({"type": "nack", "at": 2**40, "code": "x", "message": ""})


@hub("a welcome without a number", "next missing")
async def _(lying: LyingHub) -> None:
    await lying.hear()
    await lying.say({"type": "welcome", "epoch": "e", "window": {"records": 1, "bytes": 1}})


@hub("a welcome by a sensor", "hello instead of welcome")
async def _(lying: LyingHub) -> None:
    await lying.hear()
    await lying.say({"type": "hello", "source": "x"})


@hub("no welcome", "an upgrade, then silence", "given up at `timeout`")
async def _(lying: LyingHub) -> None:
    await lying.listen()


@hub("a frame of a terabyte", "the header of 2^40 bytes")
async def _(lying: LyingHub) -> None:
    await lying.hear()
    await lying.write(frame(BINARY, b"", key=None, length_bytes=8, length=2**40))


@hub("masked frames", "frames with a mask, which only clients send")
async def _(lying: LyingHub) -> None:
    await lying.hear()
    await lying.write(frame(BINARY, msgpack.packb({"type": "welcome"})))


@hub("a flood of pings from a hub", "2,000 pings, no welcome", "given up at `timeout`")
async def _(lying: LyingHub) -> None:
    await lying.hear()
    await lying.write(frame(PING, b"x", key=None) * 2000)


@hub("a message that is no map", "a msgpack bomb of arrays")
async def _(lying: LyingHub) -> None:
    await lying.hear()
    await lying.write(frame(BINARY, b"\x91" * 60_000, key=None))


@asynccontextmanager
async def _around(place: Place, *, scheme: str) -> AsyncIterator[None]:
    """Servers of lies, and an agent that is to send to them."""
    asked: Counter[str] = Counter()
    place.more["asked"] = asked

    async def answer(stream: trio.SocketStream, name: str) -> None:
        async with stream:
            try:
                head = (await stream.receive_some(65536)).decode("latin-1")
                if head:
                    asked[name] += 1
                    await _LIES[name][1](stream, head)
                    with trio.move_on_after(PATIENCE_S):
                        while await stream.receive_some(65536):
                            pass
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    async with trio.open_nursery() as nursery:
        for name in _of(scheme):
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            port = listener.socket.getsockname()[1]
            url = f"{scheme}://127.0.0.1:{port}/{'forward' if scheme == 'ws' else 'in'}"
            place.agent.config += CONFIG.format(name=name, url=url)
            serve = partial(trio.serve_listeners, partial(answer, name=name), [listener])
            nursery.start_soon(serve)
        yield
        nursery.cancel_scope.cancel()


async def _prepare(place: Place, *, scheme: str) -> None:
    """Something to send, which was tried by all: what each holds of memory is no lie's."""
    async with place.socket("/ingest/abuse/up", subprotocol=JSON) as peer:
        await peer.hello("up")
        await peer.say(json.dumps([{"n": number} for number in range(50)]))
        await peer.acked(51)
    with trio.fail_after(2 * PATIENCE_S):
        while not all(place.more["asked"][name] for name in _of(scheme)):
            await trio.sleep(0.05)


def _of(scheme: str) -> list[str]:
    return [name for name, (found, _) in _LIES.items() if found == scheme]


async def _nothing_left(place: Place) -> None:
    assert await place.counted("forwarded_records_total") == 0
    assert len(await place.stored("abuse/up")) == 50


for _cases, _scheme in ((CASES, "http"), (HUBS, "ws")):
    _cases.around = partial(_around, scheme=_scheme)
    _cases.first = partial(_prepare, scheme=_scheme)
    _cases.afterwards = _nothing_left
