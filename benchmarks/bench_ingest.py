"""How many records a second become durable, singly and in batches of 100, against the baseline.

Agent and baseline run in turn, each on a fresh store, several times; the medians are compared.
After each run of the agent its store is read back and every acked record must be there with the
right checksum, or the figure is not printed.
"""

from __future__ import annotations

import shutil
import statistics
import sys
from pathlib import Path

from benchmarks.processes import Agent, Load, Server, free_port
from benchmarks.readback import verify
from benchmarks.table import Row


def agent_run(folder: Path, *, records: int, batch: int, connections: int, text: bool) -> Row:
    """One run: fresh agent, load, stop, read back."""
    shutil.rmtree(folder, ignore_errors=True)
    agent = Agent(folder)
    try:
        load = Load(
            agent.port, records=records, batch=batch, connections=connections, text=text,
            source="bench",
        )  # fmt: skip
        cpu = agent.cpu_seconds()
        result = load.run()
        cpu = agent.cpu_seconds() - cpu
        peak = agent.memory_mb("VmHWM")
    finally:
        agent.stop()
    verify(folder / "data", result["acked"], result["checksums"])
    return Row(
        records=result["acked"],
        seconds=result["seconds"],
        cpu_seconds=cpu,
        facts={"peak_rss_mb": peak},
    )


def baseline_run(folder: Path, *, records: int, batch: int) -> Row:
    """The same records into the obvious design."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "db").mkdir(parents=True)
    port = free_port()
    server = Server(
        [sys.executable, "-m", "benchmarks.baseline", str(folder / "db"), str(port)], port, folder
    )
    try:
        load = Load(port, records=records, batch=batch, connections=1, source="bench")
        cpu = server.cpu_seconds()
        result = load.run()
        cpu = server.cpu_seconds() - cpu
    finally:
        server.stop()
    return Row(records=result["acked"], seconds=result["seconds"], cpu_seconds=cpu)


def compare(
    folder: Path, *, records: int, baseline_records: int, batch: int, connections: int,
    text: bool, rounds: int,
) -> tuple[Row, Row]:  # fmt: skip
    """Interleave both; the medians by rate of agent and baseline."""
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(
            agent_run(
                folder / "agent", records=records, batch=batch, connections=connections, text=text
            )
        )
        theirs.append(baseline_run(folder / "baseline", records=baseline_records, batch=batch))
    return median(ours), median(theirs)


def median(rows: list[Row]) -> Row:
    """The row whose rate is the (lower) median."""
    middle = statistics.median_low([row.rate for row in rows])
    return next(row for row in rows if row.rate == middle)
