"""How fast a backlog reaches a hub, exactly once, and both stores agree afterwards.

The agent takes the records while its upstream does not exist. Then the hub is started and the time
runs until the hub's own log holds them all, durable. The agent's attempts to connect are spaced by
its backoff, so the clock starts at the last look that found the hub empty; the wait before that is
printed beside the rate.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from benchmarks.processes import Agent, Load, free_port
from benchmarks.readback import verify
from benchmarks.table import Row

POLL_S = 0.02
TIMEOUT_S = 180.0


def run(folder: Path, *, records: int) -> Row:
    """Fill the agent, start the hub, time the drain, read the hub back."""
    shutil.rmtree(folder, ignore_errors=True)
    hub_port = free_port()
    config = (
        f'[[upstream]]\nname = "hub"\nurl = "ws://127.0.0.1:{hub_port}/forward"\n'
        'backoff_base = "200ms"\nbackoff_max = "400ms"\n'
    )
    agent = Agent(folder / "agent", config)
    hub: Agent | None = None
    try:
        load = Load(agent.port, records=records, batch=100, connections=1, source="bench")
        result = load.run()
        began = time.perf_counter()
        hub = Agent(folder / "hub", port=hub_port)
        cpu = hub.cpu_seconds() + agent.cpu_seconds()
        first, _ = wait_for(hub, 1)
        _, last = wait_for(hub, records)
        cpu = hub.cpu_seconds() + agent.cpu_seconds() - cpu
        count = stored(hub)
    finally:
        agent.stop()
        if hub is not None:
            hub.stop()
    if count != records:
        raise SystemExit(f"the hub holds {count} records, expected {records}")
    verify(folder / "hub" / "data", records, result["checksums"])
    return Row(
        records=records,
        seconds=last - first,
        cpu_seconds=cpu,
        facts={"until_first_s": first - began},
    )


def wait_for(hub: Agent, count: int) -> tuple[float, float]:
    """Wait until the hub's log holds ``count`` records.

    The last moment at which it was known to hold fewer, and the first at which it held them.
    """
    before = time.perf_counter()
    deadline = before + TIMEOUT_S
    while before < deadline:
        if stored(hub) >= count:
            return before, time.perf_counter()
        time.sleep(POLL_S)
        before = time.perf_counter()
    raise SystemExit(f"only {stored(hub)} of {count} records at the hub after {TIMEOUT_S} s")


def stored(hub: Agent) -> int:
    """Records in the hub's main log."""
    logs = hub.get("/api/status")["logs"]
    return int(next(log["last_seq"] for log in logs if log["name"] == "main"))
