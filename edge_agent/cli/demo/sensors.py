"""Sensors that are only simulated; what they do with the agent is real."""

from __future__ import annotations

import math
import random as random_module
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import trio

from edge_agent.cli.demo.compare import SensorLedger, fingerprint
from edge_agent.cli.sensor.host import HostReader
from edge_agent.client import Producer, Trouble

#: What the last acks may take when the demo ends.
FLUSH_TIMEOUT = 30.0


@dataclass(slots=True)
class Sensor:
    """One source.

    Attributes:
        name: its stream; the source is ``demo/NAME``.
        interval: seconds between messages.
        at_once: records in a message.
        read: the fields of the next record.
    """

    name: str
    interval: float
    at_once: int
    read: Callable[[], dict[str, Any]]
    ledger: SensorLedger = field(default_factory=SensorLedger)

    @property
    def source(self) -> str:
        """Who sends."""
        return f"demo/{self.name}"

    async def run(self, port: int, stop: trio.Event) -> None:
        """Send until ``stop``, then wait for the last acks, bounded."""
        producer = Producer(
            f"ws://127.0.0.1:{port}/ingest/{self.name}",
            source=self.source,
            on_ack=self._acked,
            on_error=self._trouble,
        )
        async with producer:
            while not stop.is_set():
                await producer.send([self._next() for _ in range(self.at_once)])
                with trio.move_on_after(self.interval):
                    await stop.wait()
            with trio.move_on_after(FLUSH_TIMEOUT):
                await producer.flush()

    def _next(self) -> dict[str, Any]:
        fields = {"n": len(self.ledger.sent) + 1, **self.read()}
        # The fingerprint is of the fields alone; time is a key beside them for whoever reads.
        self.ledger.sent.append(fingerprint(fields))
        return {**fields, "time": datetime.now(UTC)}

    def _acked(self, number: int) -> None:
        self.ledger.acked = number

    def _trouble(self, trouble: Trouble) -> None:
        if trouble.kind == "nack":
            self.ledger.refused.add(trouble.number)


def make_sensors(count: int, seed: int = 0) -> list[Sensor]:
    """The host itself and ``count`` simulated sensors: slow ones, and one gateway in batches."""
    host = HostReader("/", time.monotonic)
    sensors = [Sensor("host", 1.0, 1, host.read)]
    for index in range(count):
        climate = _climate(random_module.Random(seed + index))
        is_gateway = index == count - 1 and count > 1
        name = "workshop/vibration" if is_gateway else f"greenhouse/{index + 1}"
        sensors.append(Sensor(name, 0.5 if is_gateway else 0.1, 50 if is_gateway else 1, climate))
    return sensors


def _climate(random: random_module.Random) -> Callable[[], dict[str, Any]]:
    """Four fields that drift, so that they compress like real ones."""
    state = {"t": 20 + 5 * random.random(), "h": 60.0, "lux": 800.0}
    begin = random.random() * math.tau

    def read() -> dict[str, Any]:
        nonlocal begin
        begin += 0.01
        state["t"] += random.gauss(0, 0.02) + 0.01 * math.sin(begin)
        state["h"] = min(100.0, max(0.0, state["h"] + random.gauss(0, 0.1)))
        state["lux"] = max(0.0, state["lux"] + random.gauss(0, 4))
        rounded: dict[str, Any] = {name: round(value, 3) for name, value in state.items()}
        return {**rounded, "ok": True}

    return read
