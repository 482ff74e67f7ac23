"""A real agent without its server: store, committer, log, live and the people's port."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import trio

from edge_agent.commit import Committer, GroupLimits
from edge_agent.config import Config, Http, Size, StoreConfig
from edge_agent.copied_sources import CopiesSeen
from edge_agent.live import Live
from edge_agent.log import Log
from edge_agent.metrics import Metrics
from edge_agent.net.refused_peers import RefusedPeers
from edge_agent.ops import FilesFact, Sources, Watch
from edge_agent.ops.port import serve_people
from edge_agent.scrubber import ScrubStatus
from edge_agent.store import Engine, LogSettings, StoreSettings
from edge_agent.store.types import Entry
from edge_agent.values.record import Run
from tests.manual_clock import ManualClock
from tests.rules.support import in_force


def run_of(clock: ManualClock, stream: str, values: Sequence[object], source: str = "s") -> Run:
    """Records ``{"t": value}`` of one stream that arrive now."""
    now = clock.read()
    body = b"".join(msgpack.packb({"t": value}) for value in values)
    count = len(values)
    return Run(stream, source, 0, now.wall_ns, True, count, body, now.wall_ns, now.wall_ns)


@dataclass
class Agent:
    """The parts, and the people's port once `serving` runs it."""

    log: Log
    live: Live
    clock: ManualClock
    metrics: Metrics
    watch: Watch
    address: tuple[str, int] = ("", 0)
    trouble: list[str] = field(default_factory=list)

    async def keep(self, stream: str, values: Sequence[object], source: str = "s") -> None:
        """Append records and wait until they are durable."""
        ticket = await self.log.append(Entry((run_of(self.clock, stream, values, source),)))
        await ticket.wait()

    async def get(self, target: str, *headers: str, method: str = "GET") -> tuple[int, str, bytes]:
        """Status, head and body of one request; a real socket, HTTP/1.1 by hand."""
        lines = [f"{method} {target} HTTP/1.1", "Connection: close", *headers]
        if not any(line.lower().startswith("host:") for line in headers):
            lines.append(f"Host: 127.0.0.1:{self.address[1]}")
        stream = await trio.open_tcp_stream(*self.address)
        async with stream:
            await stream.send_all("\r\n".join([*lines, "", ""]).encode())
            answer = b""
            async for piece in stream:
                answer += piece
        head, _, body = answer.partition(b"\r\n\r\n")
        if b"transfer-encoding: chunked" in head.lower():
            body = dechunk(body)
        return int(head.split()[1]), head.decode("latin-1"), body

    async def json(self, target: str, *headers: str) -> Any:
        """The body, decoded; the status must be 200."""
        status, _, body = await self.get(target, *headers)
        assert status == 200, (status, body)
        return json.loads(body)


def dechunk(body: bytes) -> bytes:
    """The chunks of a chunked body, joined."""
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        whole += body[:length]
        body = body[length + 2 :]
    return whole


@asynccontextmanager
async def agent(
    folder: Path,
    *,
    config: Config | None = None,
    change: Callable[[Sources], Sources] = lambda sources: sources,
    serve: bool = True,
) -> AsyncIterator[Agent]:
    """The parts, running; the people's port on a free port of loopback."""
    config = config or Config(
        http=Http(address="127.0.0.1:0"), store=StoreConfig(path=str(folder), size=Size(16 << 20))
    )
    clock, metrics = ManualClock(), Metrics()
    settings = StoreSettings(
        size=int(config.store.size),
        logs=tuple(
            LogSettings(name, log.streams, float(log.keep), log.when_full, float(log.share))
            for name, log in config.log.items()
        ),
    )
    engine = Engine.open(folder, settings, clock=clock, entropy=os.urandom)
    committer = Committer(
        engine,
        run_blocking=trio.to_thread.run_sync,
        clock=clock,
        intervals=dict.fromkeys(config.log, 0.0),
        route=engine.route,
        limits=GroupLimits(1 << 20, 50_000, 1 << 25),
        metrics=metrics,
    )
    log = Log(engine, committer, trio.to_thread.run_sync)
    live = Live(log, config.limits, clock=clock, metrics=metrics)
    sources = Sources(
        config=config,
        clock=clock,
        metrics=metrics,
        log=log,
        live=live,
        upstreams=tuple,
        connections=tuple,
        copies=CopiesSeen,
        rules=in_force(),
        resend=lambda consumer, log: None,
        lane=lambda consumer, log: None,
        part=lambda sources, identities: None,
        salvage=lambda: None,
        files=FilesFact,
        scrub=ScrubStatus,
        alarms=tuple,
        tokens=None,
        refused=RefusedPeers(time.time_ns, time.monotonic),
        journal=tuple,
        renewed=lambda port, context, make: None,
    )
    watch = Watch(change(sources))
    built = Agent(log, live, clock, metrics, watch)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(committer.run)
            if serve:
                nursery.start_soon(watch.run)
                address = await nursery.start(serve_people, watch)
                host, _, port = address.rpartition(":")
                built.address = (host, int(port))
            yield built
            nursery.cancel_scope.cancel()
    finally:
        engine.close()
