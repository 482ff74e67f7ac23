"""A real HTTP server on loopback that answers as told, and remembers what it was sent."""

from __future__ import annotations

import gzip
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import h11
import msgspec
import trio

from benchmarks.ports import free_port


@dataclass
class Got:
    """One request."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def key(self) -> str:
        return self.headers["idempotency-key"]

    @property
    def records(self) -> list[dict[str, Any]]:
        """For ndjson, plain or gzip."""
        plain = gzip.decompress(self.body) if "content-encoding" in self.headers else self.body
        return [msgspec.json.decode(line) for line in plain.splitlines()]


@dataclass
class Reply:
    """What to answer. ``hang_up``: close the connection instead, once the request was read;
    ``silent``: never say a word.
    """

    status: int = 204
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    hang_up: bool = False
    silent: bool = False


@dataclass
class HttpUpstream:
    """``script`` answers first, one each; then ``answer`` does, by default with 204."""

    port: int = 0
    script: list[Reply] = field(default_factory=list)
    answer: Callable[[Got], Reply] = lambda _: Reply()
    got: list[Got] = field(default_factory=list)
    #: Taken for good: acknowledged with the status told.
    hold: trio.Event | None = None
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/in"

    async def serve(self, stream: trio.abc.Stream) -> None:
        self.connections += 1
        async with stream:
            connection = h11.Connection(h11.SERVER)
            try:
                while await self._one(connection, stream):
                    connection.start_next_cycle()
            except (trio.BrokenResourceError, h11.RemoteProtocolError):
                pass

    async def _one(self, connection: h11.Connection, stream: trio.abc.Stream) -> bool:
        request, body = None, b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some()))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return False
        assert request is not None
        headers = {name.decode(): value.decode() for name, value in request.headers}
        got = Got(request.method.decode(), request.target.decode(), headers, body)
        self.got.append(got)
        if self.hold is not None:
            await self.hold.wait()
        reply = self.script.pop(0) if self.script else self.answer(got)
        if reply.silent:
            await stream.receive_some()
        if reply.hang_up or reply.silent:
            return False
        answer_headers = {"Content-Length": str(len(reply.body)), **reply.headers}
        if reply.status == 204:
            del answer_headers["Content-Length"]
        response = h11.Response(status_code=reply.status, headers=list(answer_headers.items()))
        data = connection.send(response) or b""
        if reply.body:
            data += connection.send(h11.Data(data=reply.body)) or b""
        await stream.send_all(data + (connection.send(h11.EndOfMessage()) or b""))
        return connection.our_state is h11.DONE


@asynccontextmanager
async def http_upstream(
    *, context: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[HttpUpstream]:
    """The server, while the block runs; nobody else has its port afterwards."""
    upstream = HttpUpstream()
    listeners: list[Any] = await trio.open_tcp_listeners(port or free_port(), host="127.0.0.1")
    upstream.port = listeners[0].socket.getsockname()[1]
    if context is not None:
        listeners = [trio.SSLListener(one, context, https_compatible=True) for one in listeners]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, upstream.serve, listeners)
        try:
            yield upstream
        finally:
            nursery.cancel_scope.cancel()
