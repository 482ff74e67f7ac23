"""A fleet of sensors that sends while something is done to its agent: ``fleet.py OPTIONS COMMAND``.

Runs where the agent runs, with the agent's own Python. Each sensor has one session and sends a
record about once a second, with its number and its count. Once all are connected, the command is
run (a restart, an upgrade). It prints as JSON what the fleet met: connections that were refused or
broken before a session stood, how long until all sessions were back, and what of all that was sent
is in the store, and how often.
"""

from __future__ import annotations

import argparse
import json
import random
import ssl
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field

import trio

from edge_agent.client import Opened, Producer, Trouble
from edge_agent.net.dial import dial_tcp


@dataclass
class Fleet:
    """What all sensors met."""

    #: Connections that the kernel refused.
    refused: int = 0
    #: Attempts that came to no session, by their reasons.
    failed: Counter[str] = field(default_factory=Counter)
    #: Sensors with a session, and how often one was opened.
    open: set[int] = field(default_factory=set)
    opened: int = 0
    lost: int = 0
    #: When the first session was lost, and when the last one was back.
    first_loss: float | None = None
    back: float | None = None
    #: Each session that was opened after that: when.
    returned: list[float] = field(default_factory=list)
    #: What the agent asked to wait, and what chance made of it: the longest.
    longest_wait: float = 0.0
    sent: int = 0
    is_over: bool = False

    async def dial(self, host: str, port: int, tls: ssl.SSLContext | None) -> trio.abc.Stream:
        try:
            return await dial_tcp(host, port, tls)
        except OSError:
            self.refused += 1
            raise

    def on_open(self, number: int, sensors: int) -> None:
        self.open.add(number)
        self.opened += 1
        if self.first_loss is not None:
            self.returned.append(time.monotonic() - self.first_loss)
        if len(self.open) == sensors:
            self.back = time.monotonic()

    def on_close(self, number: int) -> None:
        self.open.discard(number)
        if self.is_over:
            return
        self.lost += 1
        if self.first_loss is None:
            self.first_loss = time.monotonic()

    def on_error(self, trouble: Trouble) -> None:
        if trouble.kind in ("unreachable", "refused"):
            self.failed[trouble.message] += 1
        elif trouble.kind == "stop" and trouble.retry_in is not None:
            self.longest_wait = max(self.longest_wait, trouble.retry_in)


async def sensor(
    number: int, fleet: Fleet, given: argparse.Namespace, done: trio.Event, dice: random.Random
) -> None:
    def opened(_: Opened) -> None:
        fleet.on_open(number, given.sensors)

    producer = Producer(
        f"ws://127.0.0.1:{given.port}/ingest/fleet/{given.name}",
        source=f"{given.name}/{number}",
        token=given.token,
        close_timeout=60,
        # A connection that waits while the next agent starts is not given up.
        connect_timeout=120,
        dial=fleet.dial,
        on_open=opened,
        on_close=lambda _reason: fleet.on_close(number),
        on_error=fleet.on_error,
    )
    async with producer:
        count = 0
        while not done.is_set():
            await producer.send({"sensor": number, "count": count})
            count += 1
            fleet.sent += 1
            with trio.move_on_after(dice.uniform(0.5, 1.5)):
                await done.wait()


async def until(condition: object, seconds: float) -> None:
    assert callable(condition)
    with trio.fail_after(seconds):
        while not condition():
            await trio.sleep(0.05)


async def run(given: argparse.Namespace) -> dict[str, object]:
    fleet, done, dice = Fleet(), trio.Event(), random.Random(7)
    async with trio.open_nursery() as nursery:
        for number in range(given.sensors):
            nursery.start_soon(sensor, number, fleet, given, done, dice)
            await trio.sleep(0.005)  # A network that comes up one by one.
        await until(lambda: len(fleet.open) == given.sensors, 120)
        await trio.sleep(1)
        fleet.refused, fleet.lost = 0, 0
        fleet.failed.clear()
        began, cpu = time.monotonic(), time.process_time()
        command = await trio.run_process(given.command, stdout=None, check=False)
        took = time.monotonic() - began
        await until(lambda: fleet.lost and len(fleet.open) == given.sensors, 120)
        assert fleet.first_loss is not None and fleet.back is not None
        back = fleet.back - fleet.first_loss
        cpu = time.process_time() - cpu
        await trio.sleep(1)
        fleet.is_over = True
        done.set()
    kept = stored(given)
    return {
        "sensors": given.sensors,
        "command": command.returncode,
        "command_s": round(took, 2),
        "refused": fleet.refused,
        "failed": dict(fleet.failed),
        "lost_sessions": fleet.lost,
        "all_back_s": round(back, 2),
        "half_back_s": round(sorted(fleet.returned)[len(fleet.returned) // 2], 2),
        "told_to_wait_s": round(fleet.longest_wait, 2),
        "fleet_cpu_s": round(cpu, 2),
        "sent": fleet.sent,
        "stored": len(kept),
        "more_than_once": sum(1 for times in kept.values() if times > 1),
    }


def stored(given: argparse.Namespace) -> Counter[tuple[int, int]]:
    """How often each record is in the store."""
    url = f"http://127.0.0.1:{given.http}/api/query?stream=fleet/{given.name}&format=ndjson&limit=100000"
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {given.token}"})
    with urllib.request.urlopen(asked, timeout=60) as answer:
        records = [json.loads(line)["fields"] for line in answer if line.strip()]
    return Counter((one["sensor"], one["count"]) for one in records)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sensors", type=int, default=500)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--http", type=int, default=8766)
    parser.add_argument("--token")
    parser.add_argument("--name", required=True, help="of the stream, for this run alone")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    print(json.dumps(trio.run(run, parser.parse_args())), flush=True)


if __name__ == "__main__":
    main()
