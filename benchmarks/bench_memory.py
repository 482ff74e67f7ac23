"""Memory of our own (RssAnon): idle, through an offline backlog and its drain, and flooded.

A sensor's process that has the client is measured too.

Pages of the store are mapped from the file and can be dropped by the kernel at any moment, so they
are not counted as ours; VmRSS, which contains them, is printed beside it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import bench_client
from benchmarks.bench_drain import wait_for
from benchmarks.ports import free_port
from benchmarks.processes import Agent, Load
from benchmarks.section import Section
from benchmarks.table import markdown, number
from benchmarks.watching import memory_samples, slope

SETTLE_S = 3.0
CONNECTIONS = 4
#: How long a flood lasts. It takes `WARM_S` until windows, caches and arenas are full. What history
#: has not written yet grows by a megabyte each ten seconds up to 9 MiB, and is then written.
#: By `FULL_S` that has happened, and what grows from then on is not bounded by it.
FLOOD_S, WARM_S, FULL_S = 180.0, 15.0, 120.0
#: The goal for what comes on top of idle memory is one of so long a flood.
GOAL_S = 60.0
#: What may come on top of idle memory, and what still counts as flat: so much a minute.
ABOVE_MB, FLAT_MB = 40.0, 1.0


@dataclass(frozen=True, slots=True)
class Flood:
    """One flood. ``samples``: seconds since it began, RssAnon in MB. Caches are full after
    ``warm_s``, history's memory has been, too, after ``full_s``.
    """

    idle_mb: float
    samples: Sequence[tuple[float, float]]
    seconds: float
    acked: int
    warm_s: float
    full_s: float

    def above_mb(self, seconds: float) -> float:
        """The highest of the first so many seconds' samples above idle."""
        return max(memory for at, memory in self.samples if at <= seconds) - self.idle_mb

    @property
    def filling_mb(self) -> float:
        """By how much it grew a minute while history's memory filled."""
        return 60 * slope([sample for sample in self.samples if self.warm_s <= sample[0] < GOAL_S])

    @property
    def mb_per_minute(self) -> float:
        """By how much it grew a minute once all that is bounded was full."""
        return 60 * slope([sample for sample in self.samples if sample[0] >= self.full_s])


def run(folder: Path, *, records: int, settle_s: float = SETTLE_S) -> dict[str, float]:
    """MB (10^6 bytes) with the people's port on and one upstream."""
    shutil.rmtree(folder, ignore_errors=True)
    hub_port = free_port()
    config = (
        f'[[upstream]]\nname = "hub"\nurl = "ws://127.0.0.1:{hub_port}/forward"\n'
        'backoff_base = "200ms"\nbackoff_max = "400ms"\n'
    )
    agent = Agent(folder / "agent", config)
    hub: Agent | None = None
    try:
        agent.get("/api/status")
        time.sleep(settle_s)
        idle, idle_rss = agent.memory_mb(), agent.memory_mb("VmRSS")
        with memory_samples(agent.process.pid, 0.05) as samples:
            Load(agent.port, records=records, batch=100, connections=1, source="bench").run()
            hub = Agent(folder / "hub", port=hub_port)
            wait_for(hub, records)
        peak = max(memory for _, memory in samples)
        rss = agent.memory_mb("VmRSS")
    finally:
        agent.stop()
        if hub is not None:
            hub.stop()
    return {
        "idle_mb": idle, "idle_rss_mb": idle_rss, "peak_mb": peak, "growth_mb": peak - idle,
        "after_rss_mb": rss,
    }  # fmt: skip


def flood(
    folder: Path,
    *,
    seconds: float,
    warm_s: float,
    full_s: float,
    every_s: float,
    settle_s: float = SETTLE_S,
) -> Flood:
    """Single records at full speed; whatever was acked must have got a number in the log."""
    shutil.rmtree(folder, ignore_errors=True)
    agent = Agent(folder)
    try:
        agent.get("/api/status")
        time.sleep(settle_s)
        idle = agent.memory_mb()
        load = Load(
            agent.port, module="benchmarks.flood_load", connections=CONNECTIONS, seconds=seconds
        )
        with memory_samples(agent.process.pid, every_s) as samples:
            found = load.run()
        last = int(agent.get("/api/status")["logs"][0]["last_seq"])
    finally:
        agent.stop()
    if last != found["acked"]:
        raise SystemExit(f"{found['acked']} records were acked, the log ends at {last}")
    return Flood(idle, samples, found["seconds"], found["acked"], warm_s, full_s)


def section(folder: Path, tiny: bool) -> Section:
    """Memory, as a chapter of the results."""
    if tiny:
        found = run(folder / "backlog", records=20_000, settle_s=0.2)
        flooded = flood(
            folder / "flood", seconds=1.0, warm_s=0.3, full_s=0.3, every_s=0.1, settle_s=0.2
        )
        return _chapter(20_000, found, flooded, bench_client.run(folder / "client", settle_s=0.2))
    found = run(folder / "backlog", records=1_000_000)
    flooded = flood(folder / "flood", seconds=FLOOD_S, warm_s=WARM_S, full_s=FULL_S, every_s=0.5)
    return _chapter(1_000_000, found, flooded, bench_client.run(folder / "client"))


def _chapter(
    records: int, found: dict[str, float], flooded: Flood, sensors: dict[str, float]
) -> Section:
    text = f"{render(records, found, flooded)}\n\n{bench_client.render(sensors)}"
    return Section(text, {**figures(flooded), "client_mb": max(sensors.values())})


def figures(flooded: Flood) -> dict[str, float]:
    """For the table of goals."""
    return {"flood_mb": flooded.above_mb(GOAL_S), "flood_slope": flooded.mb_per_minute}


def render(records: int, found: dict[str, float], flooded: Flood) -> str:
    """The chapter in Markdown."""
    growth = flooded.mb_per_minute
    flat = "flat" if growth <= FLAT_MB else f"falls short by {growth - FLAT_MB:.2f}"
    above, whole = flooded.above_mb(GOAL_S), flooded.above_mb(flooded.seconds)
    short = f", falls short by {above - ABOVE_MB:.1f} MB" if above > ABOVE_MB else ""
    singles = f"{flooded.seconds:.0f} s at full speed, {number(flooded.acked / flooded.seconds)}/s"
    rows = [
        ("RssAnon idle, people's port on, one upstream", f"{found['idle_mb']:.1f} MB"),
        ("VmRSS idle", f"{found['idle_rss_mb']:.1f} MB"),
        (f"RssAnon peak, {records:,} records offline, then online", f"{found['peak_mb']:.1f} MB"),
        ("that is above idle", f"{found['growth_mb']:.1f} MB"),
        ("VmRSS after it", f"{found['after_rss_mb']:.1f} MB"),
        (f"flooded with single records over {CONNECTIONS} connections", singles),
        (
            f"RssAnon above idle in the first {GOAL_S:g} s, at most; goal {ABOVE_MB:g} MB",
            f"{above:.1f} MB{short}",
        ),
        (
            f"its slope from {flooded.warm_s:g} to {GOAL_S:g} s: history's fills up to 9 MiB",
            f"{flooded.filling_mb:+.2f} MB/min",
        ),
        (
            "above idle in all of it: history has been written, by some 6 MB more",
            f"{whole:.1f} MB",
        ),
        (
            f"its slope after the first {flooded.full_s:g} s; flat is at most {FLAT_MB:g} MB/min",
            f"{growth:+.2f} MB/min, {flat}",
        ),
    ]
    return "## Memory of our own\n\n" + markdown(("what", "figure"), rows)
