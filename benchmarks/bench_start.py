"""How long from exec to the listening port, on a fresh store and after a dirty stop."""

from __future__ import annotations

import shutil
import signal
import statistics
from pathlib import Path

from benchmarks.processes import Agent, Load
from benchmarks.section import Section
from benchmarks.table import markdown, number


def run(folder: Path, *, records: int, rounds: int) -> dict[str, float]:
    """Median seconds of a first start, and of starts after SIGKILL with ``records`` stored."""
    fresh, dirty = [], []
    for _ in range(rounds):
        shutil.rmtree(folder, ignore_errors=True)
        agent = Agent(folder)
        fresh.append(agent.seconds_to_listen)
        Load(agent.port, records=records, batch=100, connections=1, source="bench").run()
        agent.stop(signal.SIGKILL)
        agent = Agent(folder)
        dirty.append(agent.seconds_to_listen)
        agent.stop()
    return {"fresh_s": statistics.median(fresh), "dirty_s": statistics.median(dirty)}


def section(folder: Path, tiny: bool) -> Section:
    """Both starts."""
    records, rounds = (5_000, 1) if tiny else (300_000, 3)
    found = run(folder / "agent", records=records, rounds=rounds)
    rows = [
        ("a new store", f"{found['fresh_s']:.2f}"),
        (f"after SIGKILL, {number(records)} records stored", f"{found['dirty_s']:.2f}"),
    ]
    return Section("## Start: from exec to the listening port\n\n" + markdown(("with", "s"), rows))
