"""A backlog for upstreams that know a record by its time, and how fast an agent gets rid of it."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

from benchmarks.processes import Agent
from benchmarks.records import START_S, encoded_records
from edge_agent.assembly.wiring import store_settings
from edge_agent.config import Config
from edge_agent.store import Engine, Entry
from edge_agent.system.clock import SystemClock
from edge_agent.values.record import Run

SOURCE = "bench/0"
_TIME = b"\xa4time\xcb"
_RUN = 1000
_POLL_S = 0.2
_TIMEOUT_S = 300.0


def dated_backlog(data: Path, records: int) -> None:
    """Usual records, each with a time of its own (ten a second), in the store of an agent."""
    samples = encoded_records(1)
    engine = Engine.open(data, store_settings(Config()), clock=SystemClock(), entropy=os.urandom)
    try:
        for start in range(0, records, 50 * _RUN):
            end = min(start + 50 * _RUN, records)
            runs = (_run(samples, at, min(at + _RUN, end)) for at in range(start, end, _RUN))
            engine.commit([Entry(runs=tuple(runs))])
    finally:
        engine.close()


def drained(agent: Agent, records: int) -> dict[str, float]:
    """Wait until its upstream has acknowledged everything; ends the agent."""
    try:
        cpu = agent.cpu_seconds()
        began = before = time.perf_counter()
        while (left := _backlog(agent)) and time.perf_counter() < began + _TIMEOUT_S:
            if left == records:
                began, cpu = time.perf_counter(), agent.cpu_seconds()
            time.sleep(_POLL_S)
            before = time.perf_counter()
        if left:
            raise SystemExit(f"{left} of {records} records are not acknowledged")
        cpu, memory_mb = agent.cpu_seconds() - cpu, agent.memory_mb()
    finally:
        agent.stop()
    return {
        "records_per_second": records / (before - began),
        "cpu_us_per_record": cpu / records * 1e6,
        "agent_mb": memory_mb,
    }


def _backlog(agent: Agent) -> int:
    return int(agent.get("/api/status")["upstreams"][0]["backlog_records"])


def _run(samples: tuple[bytes, ...], first: int, end: int) -> Run:
    body = b"".join(
        sample.replace(sample[1:15], _TIME + struct.pack(">d", START_S + number * 0.1))
        for number in range(first, end)
        for sample in (samples[number % len(samples)],)
    )
    now_ns = SystemClock().read().wall_ns
    times = (int((START_S + first * 0.1) * 1e9), int((START_S + end * 0.1) * 1e9))
    return Run(SOURCE, SOURCE, first + 1, now_ns, True, end - first, body, *times)
