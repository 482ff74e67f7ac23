"""An agent small enough to be told how to misbehave; on `ServerSession`, connected in memory."""

from __future__ import annotations

import random
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import trio
import trio.testing
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

from edge_agent.client import Producer
from edge_agent.session import FailureMemory, Window, resume_point
from edge_agent.wire import Arrival, ServerSession, WireLimits, choose_subprotocol
from tests.patience import PATIENCE_S

NOW_NS = 1_795_341_600_000_000_000
URL = "ws://agent:8765/ingest/s"


def make(agent: StubAgent, **options: Any) -> Producer:
    """A producer that reaches ``agent`` in memory."""
    given: dict[str, Any] = {"source": "me", "dial": agent.dial, "random": random.Random(1)}
    return Producer(URL, **given | options)


class StubAgent:
    """Keeps what it is sent in ``records``, numbered per source, like a store would.

    Attributes:
        reachable: False makes dialling fail.
        refuse: HTTP status and body instead of the upgrade.
        stop: code and retry_after, said instead of the welcome, once.
        holding: receive and keep, but ack nothing.
        cut_after: abort the connection once that many messages were kept, before they are acked.
        deaf_after: abort once that many messages have come, of which the last is not kept.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.epoch = "epoch-1"
        self.next: dict[str, int] = {}
        self.records: list[tuple[str, int, dict[str, Any]]] = []
        self.messages: list[str | bytes] = []
        self.hellos: list[tuple[str | None, int | None]] = []
        self.limits = WireLimits()
        self.window = Window(100_000, 8 * 1024 * 1024)
        self.reachable = True
        self.refuse: tuple[int, bytes] | None = None
        self.stop: tuple[str, float] | None = None
        self.holding = False
        self.cut_after = 0
        self.deaf_after = 0
        self.dials = 0
        self.dialled_at: list[float] = []
        self.headers: list[tuple[bytes, bytes]] = []
        self._failures = FailureMemory()
        self._current: WebSocketConnection | None = None
        self._session: ServerSession | None = None

    async def dial(self, host: str, port: int, tls: ssl.SSLContext | None) -> trio.abc.Stream:
        self.dials += 1
        self.dialled_at.append(trio.current_time())
        if not self.reachable:
            raise OSError("nobody there")
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self.serve, theirs)
        return ours

    async def serve(self, stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(nursery, stream)
            self.headers = list(request.headers)
            if self.refuse is not None:
                status, body = self.refuse
                await request.reject(status, body=body)
                await stream.aclose()
                return
            choice = choose_subprotocol(request.proposed_subprotocols)
            websocket = await request.accept(subprotocol=choice.subprotocol)
            try:
                assert choice.mode != "plain"
                session = ServerSession(choice.mode, self.limits, self.window)
                await self._session_with(websocket, session)
            except ConnectionClosed:
                pass
            nursery.cancel_scope.cancel()
        await stream.aclose()

    async def _session_with(self, websocket: WebSocketConnection, session: ServerSession) -> None:
        hello = session.receive_hello(await websocket.get_message())
        self.hellos.append((hello.epoch, hello.first))
        if self.stop is not None:
            goodbye = session.stop(*self.stop, "come back later")
            self.stop = None
            await websocket.send_message(goodbye.message)
            await websocket.aclose(goodbye.close_code, goodbye.reason)
            return
        point = resume_point(hello, self.epoch, self.next.get(hello.source, 0))
        self._current, self._session = websocket, session
        await websocket.send_message(session.welcome(point.next, self.epoch, ""))
        for count in range(1, 1_000_000):
            message = await websocket.get_message()
            if count == self.deaf_after:
                self.deaf_after = 0
                return
            if not await self._take(websocket, session, hello.source, message):
                return
            if count == self.cut_after:
                self.cut_after = 0
                return
            if not self.holding:
                await self.release()

    async def _take(
        self,
        websocket: WebSocketConnection,
        session: ServerSession,
        source: str,
        message: str | bytes,
    ) -> bool:
        self.messages.append(message)
        received = session.receive_data([message], Arrival("s", source, NOW_NS, synced=True))
        for run in received.runs:
            unpacker = msgspec.msgpack.decode(
                b"\xdd" + run.count.to_bytes(4, "big") + run.body, type=list[dict[str, Any]]
            )
            for offset, record in enumerate(unpacker):
                self.records.append((source, run.source_seq + offset, record))
        if received.failure is not None:
            if self._failures.note(source, session.number) > 1:
                session.use_up_number(b"", "s")
                self._failures.forget(source)
            await self.release()
            self.next[source] = session.number
            await websocket.aclose(received.failure.close_code or 1002, "cannot be read")
            return False
        self.next[source] = session.number
        return True

    async def release(self) -> None:
        """Ack everything that was kept."""
        assert self._current is not None and self._session is not None
        for answer in self._session.committed(self._session.number):
            await self._current.send_message(answer)

    def kept(self, source: str = "me") -> list[Any]:
        """The field ``n`` of everything kept of ``source``, in order."""
        return [record.get("n") for who, _, record in self.records if who == source]


@contextmanager
def agent_on_a_port() -> Iterator[tuple[StubAgent, str]]:
    """A stub in a thread of its own, and the URL of its stream ``s``, for what blocks."""
    ready = threading.Event()
    found: list[tuple[StubAgent, int, trio.lowlevel.TrioToken, trio.CancelScope]] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            agent = StubAgent(nursery)
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            port = listeners[0].socket.getsockname()[1]
            found.append((agent, port, trio.lowlevel.current_trio_token(), nursery.cancel_scope))
            ready.set()
            await trio.serve_listeners(agent.serve, listeners)

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    assert ready.wait(PATIENCE_S)
    agent, port, token, scope = found[0]
    try:
        yield agent, f"ws://127.0.0.1:{port}/ingest/s"
    finally:
        token.run_sync_soon(scope.cancel)
        thread.join()
