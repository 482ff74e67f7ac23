"""kill -9 at any moment, of the agent and now and then of its hub, while sensors send and the agent
forwards. At the end everything that was sent is at the hub, once and in order.

What this shows: a process that dies at any instruction loses nothing that it acked, doubles
nothing, and its successor starts by itself. What it does not show: anything about power. The page
cache outlives a process, so even a store that never synced would pass; power cuts are the business
of ``states``, and failed syncs that of ``faults``.

Sensors live on through all kills, one with its buffer in memory, one with it on disk. The moments
are drawn from a seed, from the first instruction after the fork on, so that starts are cut short as
well. What the machine does meanwhile is not drawn: the same seed tries the same moments, not the
same run.

``python -m tests.crash.kills KILLS SEED`` does one world's share.
"""

from __future__ import annotations

import multiprocessing
import random
import signal
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import trio

from benchmarks.ports import free_port
from edge_agent.client import Producer
from edge_agent.net.backoff import Backoff
from tests.crash.faulty import scratch
from tests.crash.proof import Outcome, Scale
from tests.crash.world import AGENT, HUB, Kept, compare, numbers_in

#: Longest life of a process before it is killed, in seconds. It listens after a twentieth of one.
LIFE_S = 0.7
#: One kill in so many is the hub's.
HUB_EVERY = 5
#: For everything after the last kill.
END_S = 60.0
_PAD = "x" * 100


@dataclass(slots=True)
class Killed:
    """What came of one world."""

    agent: int = 0
    hub: int = 0
    before_listening: int = 0
    sent: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: list[str] = field(default_factory=list)


async def run_world(kills: int, seed: int) -> Killed:
    """One hub, one agent, two sensors, so many kills."""
    came = Killed()
    with tempfile.TemporaryDirectory(prefix="kills-", dir=scratch()) as place:
        folder = Path(place)
        try:
            with trio.fail_after(kills * 4 * LIFE_S + END_S):
                await _play(folder, kills, random.Random(seed), came)
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to this world
            came.wrong.append(f"{type(error).__name__}: {error}")
    return came


async def _play(folder: Path, kills: int, dice: random.Random, came: Killed) -> None:
    ports = [free_port() for _ in range(4)]
    starts = kills + 20
    hub_config = HUB.replace("16MiB", "64MiB")
    hub = Kept(folder, "hub", hub_config, (ports[0], ports[1]), starts_max=starts)
    config = AGENT.format(share="20%", port=hub.port)
    agent = Kept(folder, "agent", config, (ports[2], ports[3]), starts_max=starts)
    sent = {"memory": 0, "disk": 0}
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.keep)
        await nursery.start(agent.keep)
        pace = Backoff(0.02, 0.1, slow=0.1)
        async with (
            Producer(f"{agent.url}/ingest/memory", source="memory", backoff=pace) as memory,
            Producer(
                f"{agent.url}/ingest/disk", source="disk", backoff=pace,
                buffer_path=folder / "buffer.sqlite3",
            ) as disk,
        ):  # fmt: skip
            async with trio.open_nursery() as sending:
                # Dice of their own: what the machine does must not change when kills come.
                for name, producer in (("memory", memory), ("disk", disk)):
                    sending.start_soon(_send, producer, name, sent, random.Random(dice.random()))
                await _kill(agent, hub, kills, dice, came)
                sending.cancel_scope.cancel()
            await memory.flush(END_S)
            await disk.flush(END_S)
            # A number is taken before it is sent, so a cut in between leaves one that never was.
            sent.update(memory=memory.acked, disk=disk.acked)
        await agent.delivered()
        for kept in (agent, hub):
            code = await kept.stop()
            odd = [end for end in (*kept.ended, -code) if end not in (0, -signal.SIGKILL)]
            came.wrong += [f"{kept.name} ended with {end}: {kept.output[-500:]}" for end in odd]
    came.sent = sum(sent.values())
    arrived = await trio.to_thread.run_sync(numbers_in, folder / "hub")
    came.lost, came.doubled, wrong = compare(sent, arrived)
    came.wrong += wrong


async def _send(producer: Producer, name: str, sent: dict[str, int], dice: random.Random) -> None:
    while True:
        first, count = sent[name] + 1, dice.randint(1, 10)
        sent[name] += count
        await producer.send([{"n": n, "pad": _PAD} for n in range(first, first + count)])
        await trio.sleep(dice.uniform(0.005, 0.03))


async def _kill(agent: Kept, hub: Kept, kills: int, dice: random.Random, came: Killed) -> None:
    for number in range(1, kills + 1):
        victim = hub if number % HUB_EVERY == 0 else agent
        await victim.forked()
        # Some for sure in the time in which it starts.
        span = LIFE_S / 10 if dice.random() < 0.2 else LIFE_S
        await trio.sleep(dice.uniform(0, span))
        came.before_listening += not victim.listening
        victim.kill()
        if victim is hub:
            came.hub += 1
        else:
            came.agent += 1


def run_share(share: tuple[int, int]) -> Killed:
    """One world in this process: kills and seed."""
    return trio.run(run_world, *share)


def prove(scale: Scale, seed: int) -> Outcome:
    """``scale.tries`` kills, in as many worlds as processes may be busy."""
    worlds = scale.processes
    shares = [
        (len(range(world, scale.tries, worlds)), seed * 1000 + world) for world in range(worlds)
    ]
    if worlds == 1:
        came = [run_share(shares[0])]
    else:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(worlds, mp_context=spawn) as pool:
            came = list(pool.map(run_share, shares))
    line = (
        f"{sum(one.agent for one in came)} kills of the agent and {sum(one.hub for one in came)} of"
        f" the hub, {sum(one.before_listening for one in came)} of them before it listened;"
        f" {sum(one.sent for one in came)} records sent, lost {sum(one.lost for one in came)},"
        f" duplicates {sum(one.doubled for one in came)}, seed {seed} (the page cache survives a"
        " kill: this says nothing about power cuts)"
    )
    failures = [
        f"{text} (again: python -m tests.crash.kills {share[0]} {share[1]})"
        for share, one in zip(shares, came, strict=True)
        for text in one.wrong
    ]
    return Outcome((line,), tuple(failures))


def main() -> int:
    """One world."""
    came = run_share((int(sys.argv[1]), int(sys.argv[2])))
    print(came)
    return 1 if came.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
