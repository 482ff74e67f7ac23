"""Many sessions that are opened at once and then say nothing.

Run as ``python -m benchmarks.idle_load '{"host": …, "port": …, "sessions": 1000, …}'``; prints one
JSON object: how long until the last welcome, and what memory and CPU of the process ``pid`` were
while the sessions were held. Pings are answered.
"""

from __future__ import annotations

import json
import select
import sys
import time
from typing import Any

from benchmarks.sessions import Sensor, take_acks, welcome_all
from benchmarks.watching import process_seconds, rss_anon_mb


def hold(options: dict[str, Any]) -> dict[str, Any]:
    """All at once on the word, then silence; look at the agent meanwhile."""
    count, address, pid = options["sessions"], (options["host"], options["port"]), options["pid"]
    names = [f"idle/{index}" for index in range(count)]
    print("ready", flush=True)
    sys.stdin.readline()
    sensors = welcome_all(address, names, names)
    _answer_pings(sensors, options["settle_s"])
    memory, cpu = rss_anon_mb(pid), process_seconds(pid)
    _answer_pings(sensors, options["hold_s"])
    cpu = process_seconds(pid) - cpu
    return {
        "sessions": len(sensors),
        "welcomed_s": max(sensor.welcomed_s for sensor in sensors),
        "rss_anon_mb": max(memory, rss_anon_mb(pid)),
        "core": cpu / options["hold_s"],
    }


def _answer_pings(sensors: list[Sensor], seconds: float) -> None:
    by_descriptor = {sensor.socket.fileno(): sensor for sensor in sensors}
    with select.epoll() as poller:
        for descriptor in by_descriptor:
            poller.register(descriptor, select.EPOLLIN)
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            for descriptor, _ in poller.poll(left):
                take_acks(by_descriptor[descriptor])


def main() -> None:
    """Hold sessions as the JSON argument says."""
    print(json.dumps(hold(json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()
