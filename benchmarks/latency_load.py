"""Open-loop load: a record at each intended moment, whether or not earlier ones were acked.

Run as ``python -m benchmarks.latency_load '{"host": …, "rate": 1000, "seconds": 10}'``; prints
the percentiles of ack time minus *intended* send time, in milliseconds. Were the next record sent
only after the last ack, a stall would delay the load and vanish from the figures.
"""

from __future__ import annotations

import json
import select
import sys
import time

from benchmarks.load import Connection, start_connection, take

LEAST_SLEEP_S = 0.0005


def run(connection: Connection, rate: float, deadline_s: float) -> list[float]:
    """Send every frame at its moment; latency per record in milliseconds, in order."""
    total = connection.total
    latencies: list[float] = []
    began = time.perf_counter() + 0.05
    connection.socket.setblocking(True)
    seen = 0
    while seen < total:
        now = time.perf_counter()
        if now - began > deadline_s:
            raise TimeoutError(f"{total - seen} records were not acked in {deadline_s} s")
        due = min(total, int((now - began) * rate) + 1) if now >= began else 0
        if due > connection.sent:
            connection.socket.sendall(b"".join(connection.frames[connection.sent : due]))
            connection.sent = due
        wait = LEAST_SLEEP_S if connection.sent < total else 0.05
        if select.select([connection.socket], [], [], wait)[0]:
            take(connection)
            now = time.perf_counter()
            latencies += [
                (now - (began + index / rate)) * 1000 for index in range(seen, connection.acked)
            ]
            seen = connection.acked
    return latencies


def main() -> None:
    """Measure as the JSON argument says."""
    options = json.loads(sys.argv[1])
    count = int(options["rate"] * options["seconds"])
    connection = start_connection({**options, "records": count, "connections": 1, "batch": 1}, 0)
    print("ready", flush=True)
    sys.stdin.readline()
    latencies = sorted(run(connection, options["rate"], options["seconds"] + 30))
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
