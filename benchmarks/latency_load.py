"""Open-loop load: a record at each intended moment, whether or not earlier ones were acked.

Run as ``python -m benchmarks.latency_load '{"port": …, "rate": 1000, "seconds": 10}'``; prints
the percentiles of ack time minus *intended* send time, in milliseconds. Were the next record sent
only after the last ack, a stall would delay the load and vanish from the figures.
"""

from __future__ import annotations

import json
import select
import sys
import time

from benchmarks.load import Task, session_flow
from benchmarks.pump import Flow, receive

LEAST_SLEEP_S = 0.0005


def run(flow: Flow, rate: float, deadline_s: float) -> list[float]:
    """Send every message at its moment; latency per record in milliseconds, in order."""
    latencies: list[float] = []
    began = time.perf_counter() + 0.05
    flow.socket.setblocking(True)
    seen = sent = 0
    while seen < flow.total:
        now = time.perf_counter()
        if now - began > deadline_s:
            raise TimeoutError(f"{flow.total - seen} records were not acked in {deadline_s} s")
        due = min(flow.total, int((now - began) * rate) + 1) if now >= began else 0
        if due > sent:
            flow.socket.sendall(b"".join(flow.chunks[sent:due]))
            sent = due
        wait = LEAST_SLEEP_S if sent < flow.total else 0.05
        if select.select([flow.socket], [], [], wait)[0]:
            receive(flow)
            now = time.perf_counter()
            latencies += [
                (now - (began + index / rate)) * 1000 for index in range(seen, flow.acked)
            ]
            seen = flow.acked
    return latencies


def main() -> None:
    """Measure as the JSON argument says."""
    options = json.loads(sys.argv[1])
    rate, seconds = options["rate"], options["seconds"]
    task = Task(
        port=options["port"], records=int(rate * seconds), host=options["host"],
        source=options.get("source", "bench"),
    )  # fmt: skip
    flow = session_flow(task, 0, chunk_records=1)
    print("ready", flush=True)
    if not sys.stdin.readline():
        return  # who started this has gone
    latencies = sorted(run(flow, rate, seconds + 30))
    print(
        json.dumps(
            {
                "records": len(latencies),
                "p50_ms": latencies[len(latencies) // 2],
                "p99_ms": latencies[int(len(latencies) * 0.99)],
                "max_ms": latencies[-1],
            }
        )
    )


if __name__ == "__main__":
    main()
