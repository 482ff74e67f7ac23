"""Sixty thousand connections opened and closed: what do they leave behind?

Real connections from several loopback addresses to a real agent (`churn_load`): most complete a
session with one record, some are plain, some vanish or are reset in the middle of things. After
every `Scale.step` of them all are closed; then the agent tells which tasks it has (`churn_agent`),
and its RssAnon is read. The slope is a least-squares fit over these samples, those of the first
connections left out: caches and the allocator's arenas fill up once.

``python -m benchmarks.bench_churn --trace 6000`` runs so many with Python's allocations traced, and
prints the lines whose memory has grown.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.churn_agent import TRACE
from benchmarks.ports import free_port
from benchmarks.processes import ROOT, Agent, Server
from benchmarks.section import Section
from benchmarks.table import markdown
from benchmarks.watching import rss_anon_mb, slope

#: Without history, which keeps what it writes next in memory, within a bound of its own: what came
#: of a minute's records would count as what connections leave behind.
CONFIG = """
[log.main]
commit_interval = "20ms"
[history]
enabled = false
"""
#: RssAnon may grow by so many bytes for each 1,000 connections.
GOAL_BYTES = 1024.0
#: After the last close, tasks may take so long to end: over ``listen.close_timeout`` and its grace.
SETTLE_S = 10.0
_POLL_S = 0.05
_SAME = 10


@dataclass(frozen=True, slots=True)
class Scale:
    """Connections in all, of these for warming up, and between two samples."""

    connections: int
    warm: int
    step: int


FULL = Scale(60_000, 10_000, 1_000)
TINY = Scale(300, 100, 50)


@dataclass(frozen=True, slots=True)
class Sample:
    """After ``connections`` in all: RssAnon in bytes, and the tasks by name."""

    connections: int
    rss_anon: float
    tasks: Counter[str]


@dataclass(frozen=True, slots=True)
class Churned:
    """What came of it. ``before`` is from before the first connection."""

    scale: Scale
    before: Sample
    samples: list[Sample]
    opened: dict[str, int]
    acked: int
    stored: int
    seconds: float

    @property
    def left(self) -> Counter[str]:
        """Tasks that are there at the end and were not at the beginning."""
        return self.samples[-1].tasks - self.before.tasks

    @property
    def bytes_per_thousand(self) -> float:
        """The slope of RssAnon after the warm-up."""
        points = [
            (sample.connections / 1000, sample.rss_anon)
            for sample in self.samples
            if sample.connections >= self.scale.warm
        ]
        return slope(points)


class TellingAgent(Agent):
    """An agent that says which tasks it has (`benchmarks.churn_agent`)."""

    def __init__(self, folder: Path, config: str, *, traces: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "edge-agent.toml").write_text(config)
        self._file = folder / "tasks.json"
        self._asked = 0
        self.http_port, port = free_port(), free_port()
        Server.__init__(
            self,
            [
                "env", f"{TRACE}={traces:d}",
                sys.executable, "-m", "benchmarks.churn_agent", str(self._file), "run",
                "--config", str(folder / "edge-agent.toml"), "--data", str(folder / "data"),
                "--listen", f"127.0.0.1:{port}", "--http", f"127.0.0.1:{self.http_port}",
            ],
            port, folder,
        )  # fmt: skip

    def ask(self, number: signal.Signals = signal.SIGUSR1) -> dict[str, Any]:
        """What it answers now: ``tasks`` by name; on SIGUSR2, if it is traced, ``growth``."""
        self._asked += 1
        os.kill(self.process.pid, number)
        deadline = time.perf_counter() + 60
        while time.perf_counter() < deadline and self.process.poll() is None:
            if self._file.exists():
                answer: dict[str, Any] = json.loads(self._file.read_text())
                if answer["asked"] == self._asked:
                    return answer
            time.sleep(_POLL_S / 10)
        raise RuntimeError("the agent does not say which tasks it has")

    def tasks(self) -> Counter[str]:
        """Those that it has now."""
        return Counter(self.ask()["tasks"])

    def at_rest(self) -> Counter[str]:
        """Its tasks, once they have been the same for a while: its parts start one by one."""
        tasks, same = self.tasks(), 0
        while same < _SAME:
            time.sleep(_POLL_S)
            before, tasks = tasks, self.tasks()
            same = same + 1 if tasks == before else 0
        return tasks

    def settled(self, before: Counter[str]) -> Counter[str]:
        """Its tasks, once no more are left than ``before``, or after `SETTLE_S`."""
        deadline = time.perf_counter() + SETTLE_S
        while (tasks := self.tasks()) - before and time.perf_counter() < deadline:
            time.sleep(_POLL_S)
        return tasks


@contextmanager
def _load(agent: Agent) -> Iterator[subprocess.Popen[str]]:
    options = json.dumps({"host": "127.0.0.1", "port": agent.port})
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.churn_load", options],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            _hear(process, "ready")
            yield process
        finally:
            process.kill()


def _churn(process: subprocess.Popen[str], count: int) -> dict[str, Any]:
    assert process.stdin is not None
    process.stdin.write(f"{count}\n")
    process.stdin.flush()
    found: dict[str, Any] = json.loads(_hear(process, "{"))
    return found


def _hear(process: subprocess.Popen[str], beginning: str) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.startswith(beginning):
        raise RuntimeError(f"the load failed: {line!r}, {process.wait()}")
    return line


def run(folder: Path, scale: Scale) -> Churned:
    """Open and close all of them; every acked record has to be there in the end."""
    shutil.rmtree(folder, ignore_errors=True)
    agent = TellingAgent(folder, CONFIG)
    try:
        pid = agent.process.pid
        before = Sample(0, rss_anon_mb(pid) * 1e6, agent.at_rest())
        samples: list[Sample] = []
        began = time.perf_counter()
        with _load(agent) as load:
            for count in range(scale.step, scale.connections + 1, scale.step):
                found = _churn(load, scale.step)
                tasks = agent.settled(before.tasks)
                samples.append(Sample(count, rss_anon_mb(pid) * 1e6, tasks))
        seconds = time.perf_counter() - began
        stored = int(agent.get("/api/status")["logs"][0]["records"])
    finally:
        agent.stop()
    if stored < found["acked"]:
        raise SystemExit(f"{found['acked']} records were acked, {stored} are stored")
    return Churned(scale, before, samples, found["opened"], found["acked"], stored, seconds)


def trace(folder: Path, connections: int) -> list[str]:
    """The lines that hold more memory after ``connections`` than after half as many."""
    agent = TellingAgent(folder, CONFIG, traces=True)
    try:
        before = agent.at_rest()
        with _load(agent) as load:
            _churn(load, connections // 2)
            agent.settled(before)
            agent.ask(signal.SIGUSR2)
            _churn(load, connections - connections // 2)
            agent.settled(before)
        growth: list[str] = agent.ask(signal.SIGUSR2)["growth"]
    finally:
        agent.stop()
    return growth


def section(folder: Path, tiny: bool) -> Section:
    """Churn, as a chapter of the results."""
    found = run(folder / "churn", TINY if tiny else FULL)
    return Section(render(found), figures(found))


def figures(found: Churned) -> dict[str, float]:
    """For the table of goals."""
    return {"churn_bytes": found.bytes_per_thousand, "churn_tasks": float(found.left.total())}


def render(found: Churned) -> str:
    """The chapter in Markdown."""
    at_warm = next(s for s in found.samples if s.connections >= found.scale.warm)
    left = ", ".join(f"{count} x {name}" for name, count in found.left.items()) or "none"
    grown = found.bytes_per_thousand
    short = f" (falls short by {grown - GOAL_BYTES:,.0f})" if grown > GOAL_BYTES else ""
    kinds = ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in found.opened.items())
    rows = [
        ("connections", f"{sum(found.opened.values()):,} in {found.seconds:.0f} s"),
        ("of which", kinds),
        ("records acked / stored", f"{found.acked:,} / {found.stored:,}"),
        ("tasks left behind, goal none", left),
        (f"RssAnon growth in bytes per 1,000 connections, goal at most {GOAL_BYTES:,.0f}",
         f"{grown:,.0f}{short}"),
        ("RssAnon before / warm / at the end",
         " / ".join(f"{sample.rss_anon / 1e6:.2f} MB"
                    for sample in (found.before, at_warm, found.samples[-1]))),
    ]  # fmt: skip
    return (
        "## Churn: connections opened and closed, from several loopback addresses\n\n"
        f"The slope is a least-squares fit over a sample every {found.scale.step:,} connections, "
        f"from the {found.scale.warm:,}th on.\n\n" + markdown(("what", "figure"), rows)
    )


def main() -> None:
    """By itself: the chapter, or with ``--trace`` where memory grows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_churn", description=__doc__)
    parser.add_argument("--connections", type=int, default=FULL.connections)
    parser.add_argument("--trace", type=int, metavar="CONNECTIONS", help="where does memory grow?")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edge-agent-bench-", dir="/var/tmp") as name:
        if options.trace:
            print("\n".join(trace(Path(name), options.trace)))
        else:
            count = options.connections
            scale = Scale(count, count // 6, max(1, count // 60))
            print(render(run(Path(name) / "churn", scale)))


if __name__ == "__main__":
    main()
