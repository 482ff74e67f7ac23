"""What the tests of forwarding share: a real log on a real store, a real hub, and sinks that
fail as told."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

import msgpack
import trio
from msgspec import structs

from benchmarks.ports import free_port
from edge_agent.commit import Committer, GroupLimits
from edge_agent.config import Limits, Listen, Upstream
from edge_agent.errors import SinkError
from edge_agent.forward.sink import Acknowledged, Batch, LaneResume, Resumed, SinkParts
from edge_agent.live import Live
from edge_agent.log import Log
from edge_agent.metrics import Metrics
from edge_agent.net.dial import dial_tcp
from edge_agent.net.refused_peers import RefusedPeers
from edge_agent.rules import CompiledRules, RulesInForce
from edge_agent.server import Parts, Server
from edge_agent.store import Engine, Entry, LogSettings, StoreSettings
from edge_agent.system.clock import Clock
from edge_agent.values.record import Record, Run
from tests.manual_clock import ManualClock
from tests.patience import PATIENCE_S

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
NOW_NS = 1_795_341_600_000_000_000


async def inline(sync_fn: Callable[[*Ts], T], /, *args: *Ts) -> T:
    """For `run_blocking`: at once, so that a clock that jumps cannot pass a thread by."""
    await trio.lowlevel.checkpoint()
    return sync_fn(*args)


@dataclass
class Station:
    """An agent as far as storing goes."""

    engine: Engine
    committer: Committer
    log: Log
    clock: Clock
    metrics: Metrics

    async def put(
        self, count: int = 1, *, stream: str = "t/1", start: int = 0, log: str = "main"
    ) -> int:
        """Store records ``{"n": start …}`` as one block; the log's last seq then."""
        ticket = await self.log.append(Entry(runs=(make_run(stream, count, start),)))
        stored = await ticket.wait()
        return stored.last[log]

    async def arrive(self, count: int = 1, *, stream: str = "t/1", start: int = 0) -> None:
        """The same, dated by this station's own clock, as a server would."""
        now = self.clock.read()
        run = structs.replace(
            make_run(stream, count, start),
            arrival_ns=now.wall_ns,
            synced=now.synced,
            time_min_ns=now.wall_ns,
            time_max_ns=now.wall_ns,
        )
        await (await self.log.append(Entry(runs=(run,)))).wait()

    async def records(self, log: str = "main") -> list[Record]:
        """Everything that is stored."""
        found: list[Record] = []
        after = 0
        while items := await self.log.read(log, after):
            for item in items:
                found.extend(getattr(item, "records", list)())
            after = items[-1].last
        return found


def make_run(stream: str, count: int, start: int = 0, *, source: str = "s") -> Run:
    """Records ``{"n": start}``, ``{"n": start + 1}`` …"""
    body = b"".join(msgpack.packb({"n": start + i}) for i in range(count))
    return Run(stream, source, start + 1, NOW_NS, True, count, body, NOW_NS, NOW_NS)


def settings_for(
    logs: Sequence[str] = ("main",), *, size: int = 4 * 1024 * 1024, **more: Any
) -> StoreSettings:
    share = 0.7 / len(logs)
    return StoreSettings(
        size=size,
        logs=tuple(LogSettings(n, (f"{n}/**",) if n != "main" else (), share=share) for n in logs),
        **more,
    )


@asynccontextmanager
async def running_station(
    path: Path,
    *,
    logs: Sequence[str] = ("main",),
    interval: float = 0.0,
    clock: Clock | None = None,
    run_blocking: Any = inline,
    settings: StoreSettings | None = None,
) -> AsyncIterator[Station]:
    """A store, its committer and its log, open while the block runs."""
    the_clock: Clock = clock or ManualClock()
    metrics = Metrics()
    engine = Engine.open(path, settings or settings_for(logs), clock=the_clock, entropy=os.urandom)
    committer = Committer(
        engine,
        run_blocking=run_blocking,
        clock=the_clock,
        intervals=dict.fromkeys(logs, interval),
        route=engine.route,
        limits=GroupLimits(1024 * 1024, 50_000, 32 * 1024 * 1024),
        metrics=metrics,
    )
    log = Log(engine, committer, run_blocking)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(committer.run)
            yield Station(engine, committer, log, the_clock, metrics)
            committer.close()
    finally:
        engine.close()


@asynccontextmanager
async def serving(
    station: Station, *, port: int = 0, listeners: Sequence[Any] = ()
) -> AsyncIterator[int]:
    """The sensors' port of ``station``, on loopback unless given; gives its number, which nobody
    else has when it is closed and opened again.
    """
    limits = Limits()
    parts = Parts(
        log=station.log,
        live=Live(station.log, limits, clock=station.clock, metrics=station.metrics),
        listen=Listen(),
        limits=limits,
        tokens=None,
        clock=station.clock,
        random=random.Random(1),
        metrics=station.metrics,
        rules=RulesInForce(CompiledRules(), station.metrics),
        run_blocking=inline,
        refused=RefusedPeers(lambda: station.clock.read().wall_ns, trio.current_time),
    )
    server = Server(parts)
    bound = 0
    if not listeners:
        tcp = await trio.open_tcp_listeners(port or free_port(), host="127.0.0.1")
        bound, listeners = tcp[0].socket.getsockname()[1], tcp
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run, listeners)
        try:
            yield bound
        finally:
            nursery.cancel_scope.cancel()


def upstream(url: str, **more: Any) -> Upstream:
    """An upstream without patience, so that real sockets need no waiting."""
    defaults: dict[str, Any] = {"batch_age": 0.0, "backoff_base": 0.01, "backoff_max": 0.02}
    return Upstream(url=url, **{"name": "hub", **defaults, **more})


def parts_for(station: Station, given: Upstream) -> SinkParts:
    """What a sink of the station's log ``main`` is made of."""
    return SinkParts(given, "main", station.log.identity, station.clock, inline, dial_tcp)


@dataclass
class FakeSink:
    """Acknowledges at once, unless told to fail."""

    keyed: bool = False
    #: Raised by the next sends, one each; None lets one pass.
    script: list[SinkError | None] = field(default_factory=list)
    #: Raised by the next opens, one each.
    open_script: list[SinkError | None] = field(default_factory=list)
    #: What the next open answers; None goes on behind the floor.
    next_open: Resumed | None = None
    sent: list[tuple[int, int]] = field(default_factory=list)
    opened: list[LaneResume] = field(default_factory=list)
    closed: int = 0
    refuse: Callable[[Batch], SinkError | None] | None = None

    async def open(self, nursery: trio.Nursery, resume: LaneResume) -> Resumed:
        await trio.lowlevel.checkpoint()
        self.opened.append(resume)
        if self.open_script and (error := self.open_script.pop(0)) is not None:
            raise error
        answer, self.next_open = self.next_open, None
        return answer or Resumed(resume.floor + 1)

    async def send(self, batch: Batch) -> Acknowledged:
        await trio.lowlevel.checkpoint()
        self.sent.append((batch.first, batch.last))
        if self.script and (error := self.script.pop(0)) is not None:
            raise error
        if self.refuse is not None and (problem := self.refuse(batch)) is not None:
            raise problem
        return Acknowledged(batch.last, batch.last - batch.first + 1, 1)

    async def settle(self, floor: int) -> Acknowledged:
        await trio.sleep_forever()
        raise AssertionError

    @property
    def drained(self) -> bool:
        return True

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self.closed += 1


async def until(condition: Callable[[], Any], *, seconds: float = PATIENCE_S) -> None:
    """Wait for something that happens outside of any event we could wait for."""
    with trio.fail_after(seconds):
        while not condition():
            await trio.sleep(0.002)
