"""A sensors' port on a real store and a real socket, and small clients to try it with.

`serving` starts it; `connect` opens a WebSocket to it; `Session` speaks session mode; `Bystander`
is the other client that must never notice anything; `raw` is a bare socket for those who do not
speak WebSocket. `HeldEngine` lets a test hold a commit in the disk's hand.
"""

from __future__ import annotations

import json
import os
import random
import socket as stdlib_socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from edge_agent.bridge import UpstreamBridge
from edge_agent.commit import Committer, GroupLimits
from edge_agent.config.quantities import Duration
from edge_agent.config.shape import Limits, Listen, Rule
from edge_agent.live import Live
from edge_agent.log import Log
from edge_agent.metrics import Metrics
from edge_agent.net.refused_peers import RefusedPeers
from edge_agent.rules import RulesInForce, compile_rules
from edge_agent.security.tokens import Tokens
from edge_agent.server import Parts, Server
from edge_agent.store import Block, CommitResult, Engine, Entry, LogSettings, StoreSettings
from edge_agent.values.record import Record
from tests.manual_clock import ManualClock
from tests.patience import PATIENCE_S, receive_to_end

MIB = 1024 * 1024
SETTINGS = StoreSettings(size=8 * MIB, compression_level=0)
#: Deadlines that nothing here meets: a test of one sets that one (`hurried`).
LISTEN = Listen(
    handshake_timeout=Duration(2 * PATIENCE_S),
    idle_timeout=Duration(2 * PATIENCE_S),
    close_timeout=Duration(2 * PATIENCE_S),
)


def hurried(**deadlines: float) -> Listen:
    """The deadlines named, in seconds, short enough to be met; all others are patient."""
    return msgspec.structs.replace(
        LISTEN, **{name: Duration(seconds) for name, seconds in deadlines.items()}
    )


class HeldEngine:
    """An engine whose commits can be held, and which tells when they began and returned."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._free = threading.Event()
        self._free.set()
        self.began = 0
        self.returned = 0
        self.committed: list[Entry] = []

    def hold(self) -> None:
        """From now on commits do not return."""
        self._free.clear()

    def let_go(self) -> None:
        """Commits return again."""
        self._free.set()

    @property
    def refusal(self) -> str | None:
        return self._engine.refusal

    def commit(self, entries: Sequence[Entry]) -> CommitResult:
        self.began += 1
        # A test that forgets to let go must not hang for ever.
        self._free.wait(2 * PATIENCE_S)
        result = self._engine.commit(entries)
        self.committed += entries
        self.returned += 1
        return result

    def trim(self) -> CommitResult:
        return self._engine.trim()

    def reopen(self) -> None:
        self._engine.reopen()


@dataclass
class Serving:
    """A running port."""

    server: Server
    log: Log
    live: Live
    engine: Engine
    held: HeldEngine
    metrics: Metrics
    clock: ManualClock
    port: int
    stopped: trio.Event
    listener: trio.SocketListener

    def open_sockets(self) -> int:
        """How many connections have a socket."""
        return self.server._open

    def settling(self) -> int:
        """How many have none any more, and wait for commits."""
        return max(0, len(self.server._connections) - self.server._open)

    async def records(self, log: str = "main") -> list[Record]:
        """Everything stored, in order."""
        found: list[Record] = []
        after = 0
        while items := await self.log.read(log, after):
            for item in items:
                after = item.last
                if isinstance(item, Block):
                    found += item.records()
        return found

    async def quarantine(self) -> list[tuple[str, int]]:
        """Code and number of everything in quarantine."""
        return [(item.code, item.number) for _, item in await self.log.quarantine(0, 1000)]


@asynccontextmanager
async def serving(
    folder: Path,
    *,
    listen: Listen = LISTEN,
    limits: Limits | None = None,
    tokens: Path | None = None,
    settings: StoreSettings = SETTINGS,
    interval: float = 0.002,
    rules: Sequence[Rule] = (),
    context: ssl.SSLContext | None = None,
    wrap: Callable[[Engine], HeldEngine] = HeldEngine,
    bridge: UpstreamBridge | None = None,
) -> AsyncIterator[Serving]:
    """A port on 127.0.0.1, on a store in ``folder``."""
    clock, metrics, limits = ManualClock(), Metrics(), limits or Limits()
    engine = Engine.open(folder / "agent", settings, clock=clock, entropy=os.urandom)
    held = wrap(engine)
    committer = Committer(
        held,
        run_blocking=trio.to_thread.run_sync,
        clock=clock,
        intervals={log.name: interval for log in settings.logs},
        route=engine.route,
        limits=GroupLimits(MIB, 50_000, int(limits.in_flight_bytes)),
        metrics=metrics,
    )
    log = Log(engine, committer, trio.to_thread.run_sync)
    live = Live(log, limits, clock=clock, metrics=metrics)
    parts = Parts(
        log=log,
        live=live,
        listen=listen,
        limits=limits,
        tokens=None if tokens is None else Tokens(tokens),
        clock=clock,
        random=random.Random(1),
        metrics=metrics,
        rules=RulesInForce(
            compile_rules(rules, metrics, limits=limits, timer=trio.current_time), metrics
        ),
        dashboard="http://127.0.0.1:8766",
        refused=RefusedPeers(lambda: clock.read().wall_ns, trio.current_time),
        bridge=bridge or UpstreamBridge(),
    )
    server = Server(parts)
    stopped = trio.Event()
    try:
        async with trio.open_nursery() as committing:
            committing.start_soon(committer.run)
            async with trio.open_nursery() as sessions:
                (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
                port = listener.socket.getsockname()[1]
                listening: trio.abc.Listener[trio.abc.Stream] = (
                    listener
                    if context is None
                    else trio.SSLListener(listener, context, https_compatible=True)
                )

                async def run(task_status: trio.TaskStatus[None]) -> None:
                    await server.run([listening], task_status=task_status)
                    stopped.set()

                await sessions.start(run)
                yield Serving(
                    server, log, live, engine, held, metrics, clock, port, stopped, listener
                )
                held.let_go()
                server.stop()
            committer.close()
    finally:
        held.let_go()
        engine.close()


@asynccontextmanager
async def connect(
    serving: Serving,
    path: str,
    subprotocol: str | Sequence[str] | None = None,
    *,
    headers: Sequence[tuple[bytes, bytes]] = (),
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[WebSocketConnection]:
    """A WebSocket; leaves without waiting long for a server that is gone."""
    offered = [subprotocol] if isinstance(subprotocol, str) else subprotocol
    stream: trio.abc.Stream = await trio.open_tcp_stream("127.0.0.1", serving.port)
    if context is not None:
        stream = trio.SSLStream(stream, context, server_hostname="localhost", https_compatible=True)
    # The library's own client leaves its socket open where the server closed first.
    async with stream, trio.open_nursery() as nursery:
        with trio.fail_after(PATIENCE_S):
            socket = await wrap_client_stream(
                nursery,
                stream,  # type: ignore[arg-type]  # the library means sockets, but takes any stream
                f"localhost:{serving.port}",
                path,
                subprotocols=offered,
                extra_headers=list(headers),
            )
        yield socket
        with trio.move_on_after(2):
            await socket.aclose()
        nursery.cancel_scope.cancel()


class Session:
    """A sensor that speaks session mode in JSON."""

    def __init__(self, socket: WebSocketConnection) -> None:
        self.socket = socket

    async def hello(self, source: str, **more: object) -> dict[str, Any]:
        """Say hello; the welcome, or whatever else was answered."""
        await self.send({"type": "hello", "source": source, **more})
        return await self.receive()

    async def send(self, message: object) -> None:
        await self.socket.send_message(json.dumps(message))

    async def receive(self) -> dict[str, Any]:
        with trio.fail_after(PATIENCE_S):
            told: dict[str, Any] = json.loads(await self.socket.get_message())
        return told

    async def acked(self, upto: int) -> None:
        """Wait for the ack that says ``upto``; nothing else may come."""
        while (told := await self.receive())["next"] < upto:
            assert told["type"] == "ack", told
        assert told["next"] == upto

    async def closed(self) -> tuple[int, str]:
        """Code and reason with which the server closes; what it still said is left out."""
        return await closed(self.socket)


async def closed(socket: WebSocketConnection) -> tuple[int, str]:
    """Wait for the server's close: code and reason."""
    with trio.fail_after(PATIENCE_S), pytest.raises(ConnectionClosed) as end:
        await _read_on(socket)
    reason = end.value.reason
    assert reason is not None
    return reason.code, reason.reason or ""


async def _read_on(socket: WebSocketConnection) -> None:
    while True:
        await socket.get_message()


@asynccontextmanager
async def session(serving: Serving, stream: str = "a/b", **more: Any) -> AsyncIterator[Session]:
    """A connected session that has said nothing yet."""
    async with connect(serving, f"/ingest/{stream}", "edge-agent.v1+json", **more) as socket:
        yield Session(socket)


class Bystander:
    """Another client, which must not notice what its neighbours do."""

    def __init__(self, session: Session, next_number: int) -> None:
        self._session = session
        self._next = next_number

    async def is_served(self) -> None:
        """Send a record on the connection that was there before; it is acked."""
        await self._session.send({"still": self._next})
        self._next += 1
        await self._session.acked(self._next)


@asynccontextmanager
async def bystander(serving: Serving, **more: Any) -> AsyncIterator[Bystander]:
    """A bystander, who is served before, and again after the block."""
    async with session(serving, "bystander", **more) as other:
        welcome = await other.hello("bystander")
        watching = Bystander(other, welcome["next"])
        await watching.is_served()
        yield watching
        await watching.is_served()


@asynccontextmanager
async def neighbours(folder: Path, **more: Any) -> AsyncIterator[tuple[Serving, Bystander]]:
    """A port and a bystander, who is served before and after the block; see `serving`."""
    async with serving(folder, **more) as port, bystander(port) as other:
        yield port, other


@asynccontextmanager
async def raw(serving: Serving) -> AsyncIterator[trio.SocketStream]:
    """A bare TCP connection."""
    stream = await trio.open_tcp_stream("127.0.0.1", serving.port)
    async with stream:
        yield stream


def reset(stream: trio.SocketStream) -> None:
    """Close with a TCP reset."""
    stream.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


async def http(serving: Serving, request: str) -> str:
    """What the port answers to the bytes of ``request``, until it closes."""
    async with raw(serving) as stream:
        await stream.send_all(request.replace("\n", "\r\n").encode())
        return await until_closed(stream)


async def until_closed(stream: trio.abc.ReceiveStream) -> str:
    """All bytes until the other side closes."""
    return (await receive_to_end(stream)).decode(errors="replace")


def upgrade(path: str, *headers: str, host: str = "localhost") -> str:
    """A request head, with line feeds for line ends."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        *headers,
    ]
    return "\n".join([*lines, "", ""])


main_log = partial(LogSettings, "main")
