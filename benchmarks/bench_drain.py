"""How fast a backlog reaches a hub, exactly once, and both stores agree afterwards.

The backlog is made first: by a load that an agent takes in while its upstream does not exist, or,
for blocks of a chosen number of records (a day of small commits), straight by the store. Then the
agent is started anew, so that its memory is that of forwarding alone, and the hub after it. The
time runs until the hub's own log holds all records, durable. The agent's attempts to connect are
spaced by its backoff, so the clock starts at the last look that found the hub empty; the wait
before that is printed beside the rate. Neither keeps history: at the agent that is of before, when
the records came in, and at a hub it takes what a drain leaves it.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.ports import free_port
from benchmarks.processes import Agent, Load
from benchmarks.readback import verify
from benchmarks.records import encoded_records
from benchmarks.table import Row
from edge_agent.assembly.wiring import store_settings
from edge_agent.config import Config
from edge_agent.store import Engine, Entry, encode_runs
from edge_agent.system.clock import SystemClock
from edge_agent.values.record import Run

#: Seldom enough that answering costs the hub little; both ends of the time are read late.
POLL_S = 0.04
SAMPLE_S = 0.05
TIMEOUT_S = 180.0
RECORDS = 5_000_000
SOURCE = "bench/0"
#: What waits for an upstream was in history long before. A backlog that was put into a store whose
#: agent did not run would be digested while it is sent, which costs as much again.
DIGESTED = "[history]\nenabled = false\n"


def run(folder: Path, *, records: int = RECORDS, block_records: int = 0, beside: str = "") -> Row:
    """Make the backlog, start the hub, time the drain, read the hub back.

    Args:
        folder: for both stores; emptied.
        records: how many.
        block_records: in each block, at least 7; 0: as a load of batches of 100 makes them.
        beside: the configuration of further upstreams.
    """
    shutil.rmtree(folder, ignore_errors=True)
    hub_port = free_port()
    config = (
        f'[[upstream]]\nname = "hub"\nurl = "ws://127.0.0.1:{hub_port}/forward"\n'
        'backoff_base = "200ms"\nbackoff_max = "400ms"\n'
        f"{beside}{DIGESTED}"
    )
    if block_records:
        checksums = fill(folder / "agent" / "data", records, block_records)
    else:
        checksums = flood(folder / "agent", records)
    agent = Agent(folder / "agent", config)
    hub: Agent | None = None
    try:
        idle_mb = agent.memory_mb()
        began = time.perf_counter()
        hub = Agent(folder / "hub", DIGESTED, port=hub_port)
        hub_idle_mb = hub.memory_mb()
        cpu = hub.cpu_seconds() + agent.cpu_seconds()
        with sampled(agent, hub) as peaks:
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
    verify(folder / "hub" / "data", records, checksums)
    return Row(
        records=records,
        seconds=last - first,
        cpu_seconds=cpu,
        facts={
            "until_first_s": first - began,
            "agent_idle_mb": idle_mb,
            "agent_peak_mb": peaks.agent_mb,
            "hub_idle_mb": hub_idle_mb,
            "hub_peak_mb": peaks.hub_mb,
        },
    )


def flood(folder: Path, records: int) -> Mapping[str, Sequence[int]]:
    """The backlog as sensors make it; count and checksum of what was acked, by source."""
    agent = Agent(folder, DIGESTED)
    try:
        load = Load(agent.port, records=records, batch=100, connections=1, source="bench")
        found: Mapping[str, Sequence[int]] = load.run()["checksums"]
    finally:
        agent.stop()
    return found


def fill(data: Path, records: int, block_records: int) -> Mapping[str, Sequence[int]]:
    """A backlog of blocks of ``block_records`` each, written by the store itself."""
    samples = encoded_records(1)
    runs = list(_runs(samples, records, block_records))
    # No room for a second run: each becomes a block, however many a commit holds.
    settings = replace(store_settings(Config()), block_bytes=max(1024, len(encode_runs(runs[:1]))))
    engine = Engine.open(data, settings, clock=SystemClock(), entropy=os.urandom)
    try:
        for start in range(0, len(runs), 2000):
            engine.commit([Entry(runs=tuple(runs[start : start + 2000]))])
    finally:
        engine.close()
    checksum = 0
    for run_ in runs:
        checksum = zlib.crc32(run_.body, checksum)
    return {SOURCE: [records, checksum]}


def _runs(samples: Sequence[bytes], records: int, each: int) -> Iterator[Run]:
    now_ns = SystemClock().read().wall_ns
    for start in range(0, records, each):
        count = min(each, records - start)
        body = b"".join(samples[index % len(samples)] for index in range(start, start + count))
        yield Run(SOURCE, SOURCE, start + 1, now_ns, True, count, body, now_ns, now_ns)


@dataclass(slots=True)
class Peaks:
    """Most RssAnon seen, in MB."""

    agent_mb: float = 0.0
    hub_mb: float = 0.0


@contextmanager
def sampled(agent: Agent, hub: Agent) -> Iterator[Peaks]:
    """Look at the memory of both while the block runs."""
    peaks, done = Peaks(), threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_S):
            peaks.agent_mb = max(peaks.agent_mb, agent.memory_mb())
            peaks.hub_mb = max(peaks.hub_mb, hub.memory_mb())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peaks
    finally:
        done.set()
        thread.join()


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
