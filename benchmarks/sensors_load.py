"""Many slow sensors in one process: each message at its own moment, from its own connection.

Run as ``python -m benchmarks.sensors_load '{"host": …, "port": …, "sensors": 500, …}'``; prints one
JSON object. Every sensor sends single records at the moments of `schedule`, whether or not earlier
ones were acked (open loop); the latency of an ack counts from the scheduled moment.

What is measured must be the agent, so this side is one epoll loop without tasks over frames that
were masked before the clock started. It tells how late it sent and what part of a core it took: a
run in which it fell behind says nothing about the agent (`LATE_MS`).
"""

from __future__ import annotations

import gc
import json
import random
import select
import sys
import time
import zlib
from dataclasses import dataclass, field
from typing import Any

from benchmarks.load import frame
from benchmarks.records import encoded_records
from benchmarks.sessions import STALLED_AFTER_S, Sensor, take_acks, welcome_all
from benchmarks.watching import process_seconds

#: The run is void where one message in a hundred was sent later than this.
LATE_MS = 5.0
#: How far a message may be off its even place, as a part of its sensor's period.
JITTER = 0.2
#: Acks taken before the clock is looked at again, so that a burst of them makes nothing late.
ACKS_AT_A_TIME = 16


def schedule(
    sensors: int, rate: float, seconds: float, *, jitter: float = JITTER, seed: int = 1
) -> list[tuple[float, int]]:
    """When, in seconds from the start, which sensor sends; in order of time.

    Each sensor has its own phase within the period ``sensors / rate`` and every message is off its
    place by up to half of ``jitter`` periods either way, so that neither sensors nor messages
    march in step.
    """
    period = sensors / rate
    dice = random.Random(seed)
    phases = list(range(sensors))
    dice.shuffle(phases)
    rounds = round(seconds / period)
    found = [
        ((turn + (phase + 0.5) / sensors + jitter * (dice.random() - 0.5)) * period, index)
        for turn in range(rounds)
        for index, phase in enumerate(phases)
    ]
    earliest = min(moment for moment, _ in found)
    return sorted((moment - min(earliest, 0.0), index) for moment, index in found)


def percentile(ordered: list[float], part: float) -> float:
    """The value below which ``part`` of ``ordered`` lies, nearest rank."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


@dataclass(slots=True)
class Findings:
    """What `run` saw, in seconds; one entry a message, warm-up left out."""

    latencies: list[float] = field(default_factory=list)
    lateness: list[float] = field(default_factory=list)
    server_cpu: float = 0.0
    own_cpu: float = 0.0
    seconds: float = 0.0


def run(sensors: list[Sensor], plan: list[tuple[float, int]], pid: int, warm_s: float) -> Findings:
    """Send everything at its moment and wait for every ack."""
    found = Findings()
    poller = select.epoll()
    by_descriptor = {sensor.socket.fileno(): sensor for sensor in sensors}
    for descriptor in by_descriptor:
        poller.register(descriptor, select.EPOLLIN)
    clock = time.perf_counter
    warm_until = next((at for at, (due, _) in enumerate(plan) if due >= warm_s), 0)
    at, unacked, total = 0, len(plan), len(plan)
    heard = clock()
    measured_from = 0.0
    began = clock() + 0.05
    while unacked:
        now = clock() - began
        while at < total and plan[at][0] <= now:
            if at == warm_until:
                found.server_cpu, found.own_cpu = -process_seconds(pid), -time.process_time()
                measured_from = now
            due, index = plan[at]
            sensor = sensors[index]
            sensor.socket.send(sensor.frames[len(sensor.due)])
            sensor.due.append(due)
            now = clock() - began
            if at >= warm_until:
                found.lateness.append(now - due)
            at += 1
        # Not the epoll's own timeout, which is rounded up to milliseconds.
        wait = max(0.0, plan[at][0] - now) if at < total else 0.05
        if not select.select([poller], [], [], wait)[0]:
            if clock() - heard > STALLED_AFTER_S:
                raise TimeoutError(f"{unacked} messages were not acked in {STALLED_AFTER_S} s")
            continue
        for descriptor, _ in poller.poll(0, ACKS_AT_A_TIME):
            sensor = by_descriptor[descriptor]
            acked = take_acks(sensor)
            heard = clock()
            found.latencies += [
                heard - began - due for due in sensor.due[sensor.acked : acked] if due >= warm_s
            ]
            unacked -= acked - sensor.acked
            sensor.acked = acked
    found.server_cpu += process_seconds(pid)
    found.own_cpu += time.process_time()
    found.seconds = clock() - began - measured_from
    return found


def report(found: Findings) -> dict[str, Any]:
    """In the units of the tables, with the verdict on the load itself."""
    latencies, lateness = sorted(found.latencies), sorted(found.lateness)
    late_ms = percentile(lateness, 0.99) * 1000
    return {
        "messages": len(latencies),
        "seconds": found.seconds,
        "server_cpu_us": found.server_cpu / len(latencies) * 1e6,
        "p50_ms": percentile(latencies, 0.5) * 1000,
        "p99_ms": percentile(latencies, 0.99) * 1000,
        "max_ms": latencies[-1] * 1000,
        "late_p99_ms": late_ms,
        "late_max_ms": lateness[-1] * 1000,
        "load_core": found.own_cpu / found.seconds,
        "fell_behind": late_ms > LATE_MS,
    }


def send(options: dict[str, Any]) -> dict[str, Any]:
    """Open the sessions, wait for the word, send, report."""
    count, address = options["sensors"], (options["host"], options["port"])
    plan = schedule(count, options["rate"], options["seconds"])
    sources = [f"sensor/{index}" for index in range(count)]
    sensors = welcome_all(address, sources, [f"bench/{index}" for index in range(count)])
    records = encoded_records()
    checksums = {}
    for index, sensor in enumerate(sensors):
        mine = sum(1 for _, who in plan if who == index)
        # Neighbouring sensors send different stretches of the generated records.
        chosen = [records[(index * 197 + at) % len(records)] for at in range(mine)]
        sensor.frames = [frame(record) for record in chosen]
        checksums[sensor.source] = [mine, zlib.crc32(b"".join(chosen))]
    # The lists above are many objects; looking at them again would cost the loop milliseconds.
    gc.freeze()
    gc.disable()
    print("ready", flush=True)
    sys.stdin.readline()
    found = run(sensors, plan, options["pid"], options["warm_s"])
    return {**report(found), "acked": len(plan), "checksums": checksums}


def main() -> None:
    """Measure as the JSON argument says."""
    print(json.dumps(send(json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()
