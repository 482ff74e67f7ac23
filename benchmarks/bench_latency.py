"""How long a record waits for its ack, open loop at 1,000 records a second."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from benchmarks.processes import Agent, Load


def run(folder: Path, *, interval: str, rate: float, seconds: float) -> dict[str, Any]:
    """Percentiles in milliseconds with ``commit_interval = interval``, and E over the run."""
    shutil.rmtree(folder, ignore_errors=True)
    agent = Agent(folder, f'[log.main]\ncommit_interval = "{interval}"\n')
    try:
        load = Load(
            agent.port, module="benchmarks.latency_load", source="bench", rate=rate, seconds=seconds
        )
        cpu = agent.cpu_seconds()
        found = load.run()
        cpu = agent.cpu_seconds() - cpu
    finally:
        agent.stop()
    return {**found, "interval": interval, "cpu_per_record_us": cpu / found["records"] * 1e6}
