"""Memory of our own (RssAnon) when idle, and at its peak through an offline backlog and its drain.

Pages of the store are mapped from the file and can be dropped by the kernel at any moment, so they
are not counted as ours; VmRSS, which contains them, is printed beside it.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.bench_drain import wait_for
from benchmarks.processes import Agent, Load, free_port

SAMPLE_S = 0.05
SETTLE_S = 3.0


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
        with sampled(agent) as peak:
            Load(agent.port, records=records, batch=100, connections=1, source="bench").run()
            hub = Agent(folder / "hub", port=hub_port)
            wait_for(hub, records)
        rss = agent.memory_mb("VmRSS")
    finally:
        agent.stop()
        if hub is not None:
            hub.stop()
    return {
        "idle_mb": idle, "idle_rss_mb": idle_rss, "peak_mb": peak[0], "growth_mb": peak[0] - idle,
        "after_rss_mb": rss,
    }  # fmt: skip


@contextmanager
def sampled(agent: Agent) -> Iterator[list[float]]:
    """Keep the highest RssAnon seen within the block in a list of one."""
    peak = [0.0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(SAMPLE_S):
            peak[0] = max(peak[0], agent.memory_mb())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()
