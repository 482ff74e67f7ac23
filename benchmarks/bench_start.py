"""How long from exec to the listening port, on a fresh store and after a dirty stop.

And, on a store of ten million records after a dirty stop, to the first ack: what a sensor waits for
after a power cut. The ack's time holds the shipped commit interval of a second.
"""

from __future__ import annotations

import shutil
import signal
import statistics
import time
from pathlib import Path

from benchmarks.bench_drain import fill
from benchmarks.load import frame
from benchmarks.processes import Agent, Load
from benchmarks.section import Section
from benchmarks.sessions import take_acks, welcome_all
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


def first_ack(folder: Path, *, records: int, block_records: int, rounds: int) -> float:
    """Median seconds from exec to the first ack, each after a SIGKILL amid sending.

    The store holds ``records`` in blocks of ``block_records``, as commits of that many make them.
    """
    shutil.rmtree(folder, ignore_errors=True)
    fill(folder / "data", records, block_records)
    found = []
    for turn in range(rounds):
        agent = Agent(folder)
        Load(agent.port, records=2_000, batch=100, connections=1, source=f"load{turn}").run()
        agent.stop(signal.SIGKILL)
        began = time.perf_counter()
        agent = Agent(folder)
        try:
            (sensor,) = welcome_all(("127.0.0.1", agent.port), [f"first{turn}"], ["start"])
            sensor.socket.setblocking(True)
            sensor.socket.sendall(frame(b'{"t": 21.5}', text=True))
            while take_acks(sensor) < 1:
                pass
            found.append(time.perf_counter() - began)
            sensor.socket.close()
        finally:
            agent.stop()
    return statistics.median(found)


def section(folder: Path, tiny: bool) -> Section:
    """All starts."""
    records, rounds = (5_000, 1) if tiny else (300_000, 3)
    found = run(folder / "agent", records=records, rounds=rounds)
    many, each = (2_000, 100) if tiny else (10_000_000, 100)
    ack_s = first_ack(folder / "many", records=many, block_records=each, rounds=rounds)
    rows = [
        ("a new store", f"{found['fresh_s']:.2f}"),
        (f"after SIGKILL, {number(records)} records stored", f"{found['dirty_s']:.2f}"),
        (
            f"to the first ack, after SIGKILL, {number(many)} records stored, {each} a commit",
            f"{ack_s:.2f}",
        ),
    ]
    text = "## Start: from exec to the listening port\n\n" + markdown(("with", "s"), rows)
    return Section(text, {"start_ack_s": ack_s})
