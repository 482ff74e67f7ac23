"""How long a record waits for its ack, open loop at 1,000 records a second on one connection."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from benchmarks.processes import Agent, Load
from benchmarks.section import Section
from benchmarks.table import markdown

RATE = 1000.0


def run(folder: Path, *, interval: str, rate: float, seconds: float) -> dict[str, Any]:
    """Percentiles in milliseconds with ``commit_interval = interval``, and E over the run."""
    shutil.rmtree(folder, ignore_errors=True)
    agent = Agent(folder, f'[log.main]\ncommit_interval = "{interval}"\n')
    try:
        load = Load(agent.port, module="benchmarks.latency_load", rate=rate, seconds=seconds)
        cpu = agent.cpu_seconds()
        found = load.run()
        cpu = agent.cpu_seconds() - cpu
    finally:
        agent.stop()
    return {**found, "interval": interval, "cpu_per_record_us": cpu / found["records"] * 1e6}


def section(folder: Path, tiny: bool) -> Section:
    """The default interval and a short one."""
    intervals, seconds = (("20ms",), 0.5) if tiny else (("1s", "20ms"), 20.0)
    rows = []
    for interval in intervals:
        found = run(folder / "agent", interval=interval, rate=RATE, seconds=seconds)
        rows.append(
            (
                interval, found["records"], f"{found['p50_ms']:.1f}", f"{found['p99_ms']:.1f}",
                f"{found['max_ms']:.1f}", f"{found['cpu_per_record_us']:.0f}",
            )
        )  # fmt: skip
    return Section(
        f"## Ack latency, open loop, {RATE:,.0f} single records/s on one connection\n\n"
        + markdown(
            ("commit_interval", "records", "p50 ms", "p99 ms", "max ms", "agent CPU us/record"),
            rows,
        )
    )
