"""A sensor that does exactly what a test says, and no more; and looks at an agent's counters.

Unlike a real client it has no task in the background: what it is not told to read stays unread,
closes are not answered, and it can stop in the middle of a message, as a sensor does whose cable
was pulled.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import msgpack
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Ping,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError

from edge_agent.session import MSGPACK_SESSION
from edge_agent.values.clock_note import ClockNote
from edge_agent.values.record import ForeignBlock
from edge_agent.wire import Segment, encode_segments
from tests.end_to_end.support import AgentProcess
from tests.patience import PATIENCE_S


async def reached(agent: AgentProcess) -> trio.SocketStream:
    """A connection to the sensors' port, which is opened a moment after the people's, by which an
    agent is known to run.
    """
    with trio.fail_after(PATIENCE_S):
        while True:
            try:
                return await trio.open_tcp_stream("127.0.0.1", agent.port)
            except OSError:
                await trio.sleep(0.05)


class Closed(Exception):
    """The agent closed, with ``code``; 1006 where the connection was reset."""

    def __init__(self, code: int) -> None:
        super().__init__(f"closed with {code}")
        self.code = code


class Peer:
    """One connection in session mode, JSON. Use it as ``async with await Peer.open(...)``."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._told: list[Event] = []

    @classmethod
    async def open(
        cls, agent: AgentProcess, path: str = "/ingest/test", *, token: str | None = None
    ) -> Self:
        """Connect and upgrade."""
        peer = cls(await reached(agent))
        host = f"127.0.0.1:{agent.port}"
        headers = [] if token is None else [(b"Authorization", f"Bearer {token}".encode())]
        request = Request(
            host=host, target=path, subprotocols=["edge-agent.v1+json"], extra_headers=headers
        )
        try:
            await peer._stream.send_all(peer._protocol.send(request))
            answer = await peer._next()
            assert isinstance(answer, AcceptConnection), answer
        except BaseException:
            # Cancelled, too: nobody else holds this socket yet.
            peer._stream.socket.close()
            raise
        return peer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stream.socket.close()

    async def hello(self, source: str, **more: object) -> int:
        """Greet; the number that the agent expects, once it has welcomed us."""
        await self.say({"type": "hello", "source": source, **more})
        welcome = await self.hear()
        assert welcome["type"] == "welcome", welcome
        return int(welcome["next"])

    async def say(self, message: object) -> None:
        """Send one message.

        Raises:
            Closed: the agent has closed.
        """
        try:
            data = self.encode(message)
        except LocalProtocolError:
            raise Closed(await self.hear_close()) from None
        await self.write(data)

    def encode(self, message: object) -> bytes:
        """One message as it goes over the wire, for who wants to send a part of it."""
        return self._protocol.send(TextMessage(json.dumps(message)))

    async def write(self, data: bytes) -> None:
        """Send bytes as they are.

        Raises:
            Closed: the agent has closed and does not read any more.
        """
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError:
            raise Closed(1006) from None

    async def hear(self) -> dict[str, Any]:
        """The next message.

        Raises:
            Closed: there is none, the agent has closed.
        """
        text = ""
        while True:
            event = await self._next()
            match event:
                case CloseConnection():
                    raise Closed(event.code)
                case Ping():
                    await self.write(self._protocol.send(event.response()))
                case TextMessage():
                    text += event.data
                    if event.message_finished:
                        said: dict[str, Any] = json.loads(text)
                        return said

    async def hear_ack(self, upto: int) -> None:
        """Read until everything before the number ``upto`` is acked."""
        acked = 0
        while acked < upto:
            said = await self.hear()
            assert said["type"] == "ack", said
            acked = said["next"]

    async def hear_close(self) -> int:
        """Read to the end; the close code."""
        try:
            while True:
                await self.hear()
        except Closed as closed:
            return closed.code

    async def _next(self) -> Event:
        with trio.fail_after(PATIENCE_S):
            while not self._told:
                try:
                    data = await self._stream.receive_some()
                except trio.BrokenResourceError:
                    data = b""
                if not data:
                    raise Closed(1006)
                self._protocol.receive_data(data)
                self._told = list(self._protocol.events())
            return self._told.pop(0)


class ForwardingPeer:
    """Somebody who forwards to an agent, one message at a time, whatever a test makes it say."""

    def __init__(self, socket: WebSocketConnection) -> None:
        self._socket = socket

    async def hello(self, source: str, **more: object) -> dict[str, Any]:
        """Greet; whatever is answered."""
        await self._socket.send_message(msgpack.packb({"type": "hello", "source": source, **more}))
        return await self.hear()

    async def say(self, *parts: Segment | ForeignBlock, notes: Sequence[ClockNote] = ()) -> None:
        """Send one message."""
        made = [Segment.of(one) if isinstance(one, ForeignBlock) else one for one in parts]
        await self._socket.send_message(encode_segments(made, notes))

    async def hear(self) -> dict[str, Any]:
        """The next message.

        Raises:
            Closed: there is none, the agent has closed.
        """
        with trio.fail_after(PATIENCE_S):
            try:
                message = await self._socket.get_message()
            except ConnectionClosed as closed:
                raise Closed(closed.reason.code if closed.reason else 1006) from None
        assert isinstance(message, bytes)
        told: dict[str, Any] = msgpack.unpackb(message)
        return told

    async def hear_ack(self, upto: int) -> None:
        """Read until everything before the number ``upto`` is acked."""
        while (told := await self.hear()).get("next", 0) < upto:
            assert told["type"] == "ack", told

    async def hear_close(self) -> int:
        """Read to the end; the close code."""
        while True:
            try:
                await self.hear()
            except Closed as closed:
                return closed.code


@asynccontextmanager
async def connected(
    agent: AgentProcess, path: str, subprotocol: str, headers: Sequence[tuple[bytes, bytes]] = ()
) -> AsyncIterator[WebSocketConnection]:
    """A WebSocket to the sensors' port, cut at the end if it is not closed by then."""
    async with (
        await reached(agent) as stream,
        trio.open_nursery() as nursery,
    ):
        with trio.fail_after(PATIENCE_S):
            socket = await wrap_client_stream(
                nursery,
                stream,
                f"127.0.0.1:{agent.port}",
                path,
                subprotocols=[subprotocol] if subprotocol else None,
                extra_headers=list(headers),
            )
        yield socket
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def forwarding(agent: AgentProcess, token: str) -> AsyncIterator[ForwardingPeer]:
    """Connected to ``/forward`` with a token."""
    headers = [(b"Authorization", f"Bearer {token}".encode())]
    async with connected(agent, "/forward", MSGPACK_SESSION, headers) as socket:
        yield ForwardingPeer(socket)


async def metric(agent: AgentProcess, name: str) -> float:
    """One metric of the agent, all its labels together."""
    total = 0.0
    for line in (await trio.to_thread.run_sync(_get, agent.http_port)).splitlines():
        sample, _, value = line.rpartition(" ")
        if sample.partition("{")[0] == f"edge_agent_{name}":
            total += float(value)
    return total


def _get(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S) as answer:
        text: bytes = answer.read()
        return text.decode()
