"""Whether one peer can hold up the others: a canary's acks while each kind of flood goes on.

The canary is a sensor that sends a record every few milliseconds, open loop; the flood comes from a
process of its own (`benchmarks.floods`). What the canary sees alone is measured anew before each
flood, so that what the machine does meanwhile is in both. The worst ack of all those baselines
together is what a flood is held against.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.floods import KINDS
from benchmarks.processes import ROOT, Agent, Load
from benchmarks.section import Section
from benchmarks.table import markdown

INTERVAL = "20ms"
#: Not judged: what the agent is there for may take what there is.
USUAL = "usual records"
RATE = 100.0
#: Connections of one flood; some are also tried with this many.
MANY = 16
MANY_KINDS = ("empty pings", "pongs", "rejects {1: 1}", "messages in two frames")
TINY_KINDS = ("empty pings", "rejects {1: 1}", "closes")


@dataclass(frozen=True, slots=True)
class FloodRow:
    """What the canary saw, in milliseconds, while one flood went on, and alone before it."""

    what: str
    alone: dict[str, Any]
    flooded: dict[str, Any]
    megabytes_s: float
    opened: int


class Flood:
    """A flood in a process of its own."""

    def __init__(self, port: int, kind: str, connections: int) -> None:
        options = {"host": "127.0.0.1", "port": port, "kind": kind, "connections": connections}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.floods", json.dumps(options)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdin is not None and self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            raise RuntimeError(f"the flood did not start: {self._process.wait()}")
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def end(self) -> dict[str, Any]:
        """End it; what it printed."""
        try:
            output, _ = self._process.communicate(timeout=30)
        finally:
            self._process.kill()
            self._process.wait()
        if self._process.returncode:
            raise RuntimeError(f"the flood failed with {self._process.returncode}")
        found: dict[str, Any] = json.loads(output)
        return found


def canary(agent: Agent, seconds: float) -> dict[str, Any]:
    """Percentiles of its acks, in milliseconds."""
    return Load(agent.port, module="benchmarks.latency_load", rate=RATE, seconds=seconds).run()


def run(folder: Path, kind: str, *, connections: int, seconds: float) -> FloodRow:
    """One flood on a fresh agent."""
    shutil.rmtree(folder, ignore_errors=True)
    agent = Agent(folder, f'[log.main]\ncommit_interval = "{INTERVAL}"\n')
    try:
        alone = canary(agent, seconds)
        flood = Flood(agent.port, kind, connections)
        try:
            flooded = canary(agent, seconds)
        finally:
            told = flood.end()
    finally:
        agent.stop()
    what = kind if connections == 1 else f"{kind}, {connections} connections"
    return FloodRow(what, alone, flooded, told["bytes"] / told["seconds"] / 1e6, told["opened"])


def worst_ratio(rows: list[FloodRow]) -> float:
    """The worst ack of any flood against the worst without one."""
    judged = [row for row in rows if row.what != USUAL]
    return float(max(row.flooded["max_ms"] for row in judged)) / baseline(rows)


def baseline(rows: list[FloodRow]) -> float:
    """The worst ack of all that were measured without a flood."""
    return float(max(row.alone["max_ms"] for row in rows))


def section(folder: Path, tiny: bool) -> Section:
    """All floods, as a chapter of the results."""
    seconds = 0.3 if tiny else 3.0
    plan = [(kind, 1) for kind in (TINY_KINDS if tiny else KINDS)]
    plan += [] if tiny else [(kind, MANY) for kind in MANY_KINDS]
    rows = [
        run(folder / "agent", kind, connections=connections, seconds=seconds)
        for kind, connections in plan
    ]
    return Section(render(rows), {"floods": worst_ratio(rows)})


def render(rows: list[FloodRow]) -> str:
    """The chapter in Markdown."""
    worst = baseline(rows)
    cells = [
        (
            row.what,
            *(f"{row.alone[name]:.1f}" for name in ("p50_ms", "p99_ms", "max_ms")),
            *(f"{row.flooded[name]:.1f}" for name in ("p50_ms", "p99_ms", "max_ms")),
            f"{row.flooded['max_ms'] / worst:.1f}",
            f"{row.megabytes_s:.1f}",
            row.opened,
        )
        for row in rows
    ]
    head = (
        "flood", "alone: p50 ms", "p99", "max", "flooded: p50 ms", "p99", "max",
        "its max ÷ the worst alone", "flood MB/s", "connections opened",
    )  # fmt: skip
    return (
        f"## Floods: a canary's acks at {RATE:g} records/s, commit_interval {INTERVAL}\n\n"
        f"The worst ack without a flood took {worst:.1f} ms.\n\n" + markdown(head, cells)
    )
