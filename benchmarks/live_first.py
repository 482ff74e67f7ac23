"""How soon what is new reaches a hub that comes back, with a backlog behind it.

``python -m benchmarks.live_first [--records N]``: an agent has a backlog of 2,000,000 records and a
sensor that says something ten times a second. Its hub comes up. Printed is, for each order, how
long it takes from the hub's first record until the hub holds something that was measured after
that; and how long the whole backlog takes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.bench_drain import fill, stored
from benchmarks.ports import free_port
from benchmarks.processes import Agent
from edge_agent.client.blocking import BlockingProducer

RECORDS = 2_000_000
ORDERS = ("live first", "in order")
SAYS_EVERY_S = 0.1
POLL_S = 0.02
TIMEOUT_S = 300.0
#: From when on a record makes a backlog here, which is not weeks old.
OLD_S = 2.0


def run(folder: Path, order: str, records: int = RECORDS) -> tuple[float, float]:
    """Seconds from the first record at the hub to a newer one than that, and to the last."""
    shutil.rmtree(folder, ignore_errors=True)
    hub_port = free_port()
    fill(folder / "agent" / "data", records, 200)
    time.sleep(OLD_S)
    agent = Agent(
        folder / "agent",
        f'[[upstream]]\nname = "hub"\nurl = "ws://127.0.0.1:{hub_port}/forward"\n'
        f'order = "{order}"\nbacklog_after = "{OLD_S:g}s"\n'
        'backoff_base = "200ms"\nbackoff_max = "400ms"\nbatch_age = "0s"\n',
    )
    hub: Agent | None = None
    try:
        with _saying(agent.port):
            hub = Agent(folder / "hub", port=hub_port)
            while not (had := stored(hub)):
                time.sleep(POLL_S)
            began, began_ns = time.perf_counter(), time.time_ns()
            newer_s = _heard(hub, began_ns) - began
        while stored(hub) < max(records, had):
            _check(began)
            time.sleep(POLL_S)
        return newer_s, time.perf_counter() - began
    finally:
        agent.stop()
        if hub is not None:
            hub.stop()


@contextmanager
def _saying(port: int) -> Iterator[None]:
    """A sensor, as long as the block runs."""
    over = threading.Event()

    def say() -> None:
        url = f"ws://127.0.0.1:{port}/ingest/live/now"
        with BlockingProducer(url, source="live") as producer:
            while not over.wait(SAYS_EVERY_S):
                producer.send([{"ns": time.time_ns()}])

    sensor = threading.Thread(target=say)
    sensor.start()
    try:
        yield
    finally:
        over.set()
        sensor.join()


def _heard(hub: Agent, began_ns: int) -> float:
    """When the hub's live view had something that the sensor measured since then. (A question would
    wait for history, which lets a flood pass.)
    """
    url = f"http://127.0.0.1:{hub.http_port}/api/subscribe?stream=live/now"
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
        for line in answer:
            if line.strip() and json.loads(line).get("fields", {}).get("ns", 0) >= began_ns:
                return time.perf_counter()
    raise SystemExit("the hub's live view has ended")


def _check(began: float) -> None:
    if time.perf_counter() - began > TIMEOUT_S:
        raise SystemExit(f"nothing more came within {TIMEOUT_S:g} s")


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live_first", description=__doc__)
    parser.add_argument("--records", type=int, default=RECORDS)
    records = parser.parse_args().records
    folder = Path(tempfile.mkdtemp(prefix="edge-agent-bench-", dir="/var/tmp"))
    try:
        for order in ORDERS:
            newer_s, all_s = run(folder, order, records)
            print(
                f"{order}: something new at the hub {newer_s:.2f} s after its first record,"
                f" {records:,} records behind it after {all_s:.1f} s",
                flush=True,
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
