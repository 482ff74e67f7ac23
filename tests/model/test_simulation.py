"""Sensor, agent and hub in one process, in memory: twice from one seed, the same trace of events.

This is the seam that later simulations of faults stand on. Everything with a choice in it is passed
in: the clock is Trio's mock clock, chance comes from one seeded source, the scheduler is seeded,
the store is called inline, sockets are pairs of memory streams. What is left to differ between two
runs is a mistake.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

import trio

from edge_agent import agent
from edge_agent.client import Producer
from edge_agent.config import parse
from edge_agent.store import Block, Engine, StoreSettings, nowhere
from tests.manual_clock import ManualClock
from tests.model.determinism import SimulatedClock, run_inline, run_seeded
from tests.model.memory_network import MemoryNetwork

RECORDS = 60
Event = tuple[float, str, str, str]

HUB = """
[listen]
address = "127.0.0.1:1"
[http]
address = "off"
[store]
path = "{path}"
size = "16MiB"
"""
AGENT = (
    HUB.replace("127.0.0.1:1", "127.0.0.1:2")
    + """
[[upstream]]
name = "hub"
url = "ws://127.0.0.1:1/forward"
backoff_base = "100ms"
backoff_max = "2s"
"""
)


class Simulation:
    """One run: `run` leaves its trace in ``events``."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.folder = folder
        self.chance = chance
        self.network = MemoryNetwork()
        self.events: list[Event] = []

    async def run(self) -> None:
        """A sensor sends; the uplink is cut twice; everything stops once the hub has it all."""
        stop = trio.Event()
        with trio.fail_after(600):
            async with trio.open_nursery() as nursery:
                for name, text in (("hub", HUB), ("agent", AGENT)):
                    await nursery.start(self._agent(name, text, stop))
                nursery.start_soon(self._cut_twice)
                await self._sensor()
                await self._arrived()
                stop.set()

    def _agent(self, name: str, text: str, stop: trio.Event) -> Callable[..., Awaitable[None]]:
        config = parse(text.format(path=self.folder / name), name)
        return partial(
            agent.run,
            config,
            stop=stop,
            clock=SimulatedClock(),
            random=self.chance,
            entropy=self.chance.randbytes,
            run_blocking=run_inline,
            listen=self.network.listen,
            dial=self.network.dial,
            trace=partial(self._note, name),
            medium=nowhere,
        )

    def _note(self, who: str, event: str, facts: Mapping[str, object]) -> None:
        self.events.append((trio.current_time(), who, event, repr(sorted(facts.items()))))

    async def _sensor(self) -> None:
        async with Producer(
            "ws://127.0.0.1:2/ingest/simulated",
            source="sensor",
            random=self.chance,
            dial=self.network.dial,
        ) as producer:
            for number in range(RECORDS):
                await producer.send({"n": number})
                await trio.sleep(self.chance.uniform(0, 0.5))
            await producer.flush(timeout=60)

    async def _cut_twice(self) -> None:
        for _ in range(2):
            await trio.sleep(self.chance.uniform(2, 6))
            await self.network.cut("127.0.0.1:1")
            await trio.sleep(self.chance.uniform(0.5, 3))
            self.network.restore("127.0.0.1:1")

    async def _arrived(self) -> None:
        while not any(
            who == "agent" and event == "forward.acknowledged" and f"('upto', {RECORDS})" in facts
            for _, who, event, facts in self.events
        ):
            await trio.sleep(0.1)


def simulate(seed: int) -> tuple[list[Event], list[object]]:
    """The trace of one run, and the records at the hub afterwards."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulations: list[Simulation] = []

        async def main(chance: random.Random) -> None:
            simulations.append(Simulation(folder, chance))
            await simulations[0].run()

        run_seeded(seed, main)
        return simulations[0].events, hub_records(folder / "hub")


def hub_records(path: Path) -> list[object]:
    settings = StoreSettings(size=16 * 1024 * 1024)
    engine = Engine.open(path, settings, clock=ManualClock(), entropy=random.Random(0).randbytes)
    try:
        found: list[object] = []
        after = 0
        while items := engine.read("main", after, 1 << 20):
            for block in items:
                assert isinstance(block, Block), "nothing is trimmed here"
                found += [record.fields["n"] for record in block.records()]
            after = items[-1].last
        return found
    finally:
        engine.close()


def test_two_runs_from_one_seed_leave_the_same_trace() -> None:
    first, records = simulate(11)
    second, again = simulate(11)

    assert first == second
    assert records == again == list(range(RECORDS))
    assert {event for _, _, event, _ in first} >= {
        "commit", "welcome", "acked", "forward.opened", "forward.acknowledged",
        "forward.backing_off",
    }  # fmt: skip


def test_another_seed_leaves_another_trace_and_the_same_records() -> None:
    first, records = simulate(11)
    other, again = simulate(12)

    assert first != other
    assert records == again
