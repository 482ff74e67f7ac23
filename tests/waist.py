"""A real store, a committer and the log in front of it, for tests of everything above."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

import msgpack
import trio

from edge_agent.commit import Committer, GroupLimits
from edge_agent.log import Log
from edge_agent.metrics import Metrics
from edge_agent.store import ConsumerSettings, Engine, Entry, LogSettings, Numbering, StoreSettings
from edge_agent.values.record import Record, Run, resolve_time
from tests.manual_clock import ManualClock

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

NOW_NS = 1_795_341_600_000_000_000
SECOND = 1_000_000_000
MIB = 1024 * 1024


async def inline(function: Callable[[*Ts], T], /, *args: *Ts) -> T:
    """`RunBlocking` without a thread, so that an autojump clock does not jump meanwhile."""
    await trio.lowlevel.checkpoint()
    return function(*args)


@dataclass
class Waist:
    """Everything up to the log."""

    engine: Engine
    committer: Committer
    log: Log
    clock: ManualClock
    metrics: Metrics

    async def put(self, *runs: Run) -> None:
        """Append and wait until it is durable."""
        ticket = await self.log.append(Entry(runs=runs))
        await ticket.wait()

    async def records(self, log: str = "main") -> list[Record]:
        """Everything that a log holds."""
        found: list[Record] = []
        after = 0
        while items := await self.log.read(log, after):
            for item in items:
                found += item.records()  # type: ignore[union-attr]  # a Gap fails the test
            after = items[-1].last
        return found


def settings(
    logs: tuple[LogSettings, ...] = (LogSettings("main"),),
    consumers: tuple[ConsumerSettings, ...] = (),
    size: int = 8 * MIB,
) -> StoreSettings:
    return StoreSettings(size=size, logs=logs, consumers=consumers)


@contextmanager
def open_engine(
    path: Path, clock: ManualClock, using: StoreSettings | None = None
) -> Iterator[Engine]:
    seed = itertools.count(1)
    engine = Engine.open(
        path,
        using or settings(),
        clock=clock,
        entropy=lambda n: next(seed).to_bytes(n, "big"),
    )
    try:
        yield engine
    finally:
        engine.close()


def make_waist(
    engine: Engine,
    clock: ManualClock,
    *,
    interval: float = 0.01,
    intervals: dict[str, float] | None = None,
    limits: GroupLimits | None = None,
    run_blocking: Any = inline,
) -> Waist:
    metrics = Metrics()
    committer = Committer(
        engine,
        run_blocking=run_blocking,
        clock=clock,
        intervals=intervals or {"main": interval},
        route=engine.route,
        limits=limits or GroupLimits(MIB, 50_000, 32 * MIB),
        metrics=metrics,
    )
    return Waist(engine, committer, Log(engine, committer, run_blocking), clock, metrics)


@asynccontextmanager
async def open_waist(
    path: Path,
    *,
    clock: ManualClock | None = None,
    using: StoreSettings | None = None,
    **rest: Any,
) -> AsyncIterator[Waist]:
    """A store below ``path`` with its committer running; closed and drained in the end."""
    clock = clock or ManualClock(NOW_NS)
    with open_engine(path, clock, using) as engine:
        waist = make_waist(engine, clock, **rest)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waist.committer.run)
            try:
                yield waist
            finally:
                waist.committer.close()


def run_of(
    *records: dict[str, Any],
    stream: str = "greenhouse/1",
    source: str = "pi-7",
    first: int = 0,
    arrival_ns: int = NOW_NS,
) -> Run:
    """A run of these records, as the wire would have made it."""
    times = [resolve_time(record.get("time"), arrival_ns)[0] for record in records]
    return Run(
        stream=stream,
        source=source,
        source_seq=first,
        arrival_ns=arrival_ns,
        synced=True,
        count=len(records),
        body=b"".join(msgpack.packb(record) for record in records),
        time_min_ns=min(times),
        time_max_ns=max(times),
    )


def numbered(first: int, *records: dict[str, Any], source: str = "pi-7") -> Entry:
    """An entry of a source's records from number ``first`` on."""
    return Entry(
        runs=(run_of(*records, source=source, first=first),),
        numbering=Numbering(source, first, first + len(records)),
    )
