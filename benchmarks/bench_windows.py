"""What rules that act after storing cost: 1,000 streams of one record a second, a block for each.

Measured is CPU time of this process, all threads: the committer with each second's records, and the
rule with reading them, its results and their commits. A second is handed over as soon as the rule
is through with the one before; nothing waits for real seconds, and nothing is read in one go that
would not be in life. The same without a rule is taken off for what the rule itself costs.
"""

from __future__ import annotations

import gc
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgpack
import trio

from benchmarks.section import Section
from benchmarks.table import markdown, number
from edge_agent.cli.process import GC_THRESHOLDS
from edge_agent.commit import Committer, GroupLimits
from edge_agent.config import Alarm, Duration, Rule
from edge_agent.live import AlarmBoard, run_alarms, run_windows
from edge_agent.log import Log
from edge_agent.metrics import Metrics
from edge_agent.store import Engine, Entry, LogSettings, StoreSettings
from edge_agent.system.clock import SystemClock
from edge_agent.values.record import NANOSECONDS, Run

MIB = 1024 * 1024
STREAMS = 1000
SECONDS = 150
MINUTE = Duration(60)
RULES: dict[str, Rule | None] = {
    "no rule": None,
    "windows of 1m": Rule(
        name="w", streams=("site/*",), window=MINUTE, into="w/{stream}", fields=("t",),
        lateness=Duration(5), open_windows=3 * STREAMS,
    ),
    "windows of 10m, every 1m": Rule(
        name="s", streams=("site/*",), window=Duration(600), every=MINUTE, into="s/{stream}",
        fields=("t",), lateness=Duration(5), open_windows=15 * STREAMS,
    ),
    "an alarm above, with hold": Rule(
        name="a", streams=("site/*",), into="a/{stream}",
        alarm=Alarm(field="t", above=24.5, clear_below=24, hold=Duration(3)),
    ),
    "an alarm for absence": Rule(
        name="n", streams=("site/*",), into="n/{stream}", alarm=Alarm(absent=MINUTE)
    ),
}  # fmt: skip


class WatchedLog(Log):
    """Says when its reader waits."""

    def __init__(self, engine: Engine, committer: Committer) -> None:
        super().__init__(engine, committer, trio.to_thread.run_sync)
        self.idle = trio.Event()

    async def wait_past(self, log: str, seq: int) -> int:
        """As `Log.wait_past`."""
        if self.last_seq(log) <= seq:
            self.idle.set()
        return await super().wait_past(log, seq)


@dataclass(frozen=True, slots=True)
class RuleRow:
    """One rule: records, CPU seconds, results that were stored."""

    what: str
    records: int
    cpu_s: float
    results: int

    @property
    def us(self) -> float:
        """CPU microseconds of one record."""
        return self.cpu_s / self.records * 1e6

    @property
    def share(self) -> float:
        """Of a core, with a record of each of `STREAMS` streams a second."""
        return self.cpu_s / self.records * STREAMS


def second(at_s: int, streams: int) -> Entry:
    """A record of each stream."""
    return Entry(
        runs=tuple(
            Run(
                stream=f"site/{one}",
                source="bench",
                source_seq=0,
                arrival_ns=at_s * NANOSECONDS,
                synced=True,
                count=1,
                body=msgpack.packb(
                    {"time": at_s, "t": 20 + (at_s + one * 13) % 60 / 12, "h": 40.5, "v": 3.3}
                ),
                time_min_ns=at_s * NANOSECONDS,
                time_max_ns=at_s * NANOSECONDS,
            )
            for one in range(streams)
        )
    )


def measure(folder: Path, what: str, *, streams: int, seconds: int) -> RuleRow:
    """One rule, on a store of its own."""
    gc.set_threshold(*GC_THRESHOLDS)
    settings = StoreSettings(size=512 * MIB, logs=(LogSettings("main"),))
    engine = Engine.open(folder, settings, clock=SystemClock(), entropy=os.urandom)
    try:
        cpu_s = trio.run(_run, engine, RULES[what], streams, seconds)
        records = streams * seconds
        return RuleRow(what, records, cpu_s, engine.last_seq("main") - records)
    finally:
        engine.close()
        shutil.rmtree(folder)


async def _run(engine: Engine, rule: Rule | None, streams: int, seconds: int) -> float:
    clock, metrics = SystemClock(), Metrics()
    committer = Committer(
        engine,
        run_blocking=trio.to_thread.run_sync,
        clock=clock,
        intervals={"main": 0.0},
        route=engine.route,
        limits=GroupLimits(MIB, 50_000, 32 * MIB),
        metrics=metrics,
    )
    log = WatchedLog(engine, committer)
    start_s = int(time.time()) // 60 * 60 - 3600
    entries = [second(start_s + at, streams) for at in range(seconds)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(committer.run)
        if rule is not None:
            nursery.start_soon(_task(rule, log, clock, metrics))
            await log.idle.wait()
        began = time.process_time()
        for entry in entries:
            log.idle = trio.Event()
            ticket = await log.append(entry)
            await ticket.wait()
            if rule is not None:
                await log.idle.wait()
        cpu_s = time.process_time() - began
        nursery.cancel_scope.cancel()
    return cpu_s


def _task(
    rule: Rule, log: Log, clock: SystemClock, metrics: Metrics
) -> Callable[[], Awaitable[None]]:
    if rule.window is not None:
        return partial(run_windows, log, rule, clock=clock, metrics=metrics)
    board = AlarmBoard(metrics)
    return partial(run_alarms, log, rule, clock=clock, metrics=metrics, board=board)


def section(folder: Path, tiny: bool) -> Section:
    """All rules, as a chapter of the results."""
    streams, seconds = (20, 70) if tiny else (STREAMS, SECONDS)
    rows = [
        measure(folder / str(place), what, streams=streams, seconds=seconds)
        for place, what in enumerate(RULES)
    ]
    return Section(
        render(rows, streams),
        {
            "windows_core": max(row.us for row in rows if "windows" in row.what)
            / 1e6
            * STREAMS
            * 100
        },
    )


def render(rows: list[RuleRow], streams: int) -> str:
    """The chapter in Markdown; the first row is that without a rule."""
    cells = [
        (
            row.what, f"{row.records:,}", f"{row.results:,}", f"{row.us:.1f}",
            "" if row is rows[0] else f"{row.us - rows[0].us:.1f}",
            number(1e6 / row.us), f"{row.share:.1%}",
        )
        for row in rows
    ]  # fmt: skip
    head = (
        "rule", "records", "results", "CPU us/record", "of them the rule's", "E records/CPU s",
        f"of a core at {STREAMS:,}/s",
    )  # fmt: skip
    return (
        f"## Rules after storing: {streams:,} streams of one record a second, storing included\n\n"
        + markdown(head, cells)
    )
