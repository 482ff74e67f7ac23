"""One simulation from its first sensor to its last check: `simulate`."""

from __future__ import annotations

import hashlib
import logging
import random
import shutil
import tempfile
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final
from unittest.mock import patch

import trio

from edge_agent.forward.lanes import split
from tests.model.determinism import run_seeded
from tests.model.outages.disk import Fuse, disks
from tests.model.outages.http_hub import MODES, HttpHub
from tests.model.outages.invariants import LIVENESS_S, Watch
from tests.model.outages.machine import Machine
from tests.model.outages.plan import Fault, Plan
from tests.model.outages.sensors import Sender
from tests.model.outages.setting import PORTS, configuration
from tests.model.outages.wires import Link, Network

_LOOK_S: Final = 5.0  # From one look to the next while everything is on its way; simulated.
#: What was traced last is shown of a run that failed.
_TRACED: Final = 60
#: A machine that was killed comes back after this long at most.
_DOWN_MAX_S: Final = 60.0
#: Parts of a backlog that is sent newest first: it has some hundred records here.
_PART_RECORDS: Final = 20
#: Where stores are made: in memory, since what is simulated here is not the power failing.
_PLACE: Final = Path("/dev/shm")


@dataclass(slots=True)
class Result:
    """What came of one plan.

    ``counts`` are what happened, for people: kills, restarts, refused calls, answers of HTTP.
    ``digest`` is a hash of everything that was traced.
    """

    problems: list[str]
    outages: int
    acked: int
    checked: int
    discarded: int
    digest: str
    seconds: float
    traced: list[str]
    counts: dict[str, int] = field(default_factory=dict)


class World:
    """All machines, sensors and faults of a plan."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self._folder = str(folder)
        self.traced: deque[str] = deque(maxlen=_TRACED)
        self.hash = hashlib.blake2b(digest_size=8)
        self.happening = 0
        self.network = Network(PORTS)
        self.http = HttpHub(self.network) if plan.shape.http else None
        self.machines = {
            name: Machine(
                name,
                configuration(plan.shape, name, folder / name),
                folder / name,
                self.network,
                plan.seed,
                opened=self._opened,
                tell=self.tell,
            )
            for name in plan.shape.machines
        }
        self.senders = {
            sensor.name: Sender(
                sensor,
                f"ws://127.0.0.1:{_port(sensor.agent)}/ingest/t/{sensor.name}",
                self.network.dialer(sensor.name),
                folder / f"{sensor.name}.buffer",
                random.Random(f"{sensor.name} {plan.seed}"),
                pause=self._pause,
                padding=2000 if plan.shape.full else 10,
            )
            for sensor in plan.shape.sensors
        }
        self.watch = Watch(plan, self.machines, self.senders, self.http)
        self._chance = random.Random(f"world {plan.seed}")
        self._ends_once_wrong: trio.CancelScope | None = None

    async def run(self, *, to_the_end: bool) -> None:
        """Everything; what went wrong is in ``watch.problems``."""
        with trio.move_on_after(self.plan.ends + LIVENESS_S) as patience:
            async with trio.open_nursery() as nursery:
                if not to_the_end:
                    self._ends_once_wrong = nursery.cancel_scope
                if self.http is not None:
                    nursery.start_soon(self.http.run)
                async with trio.open_nursery() as machines:
                    for machine in self.machines.values():
                        machines.start_soon(machine.run)
                    await self._outages()
                    while not self.watch.settled():
                        await trio.sleep(_LOOK_S)
                    self.watch.finish()
                    for machine in self.machines.values():
                        machine.finish()
                nursery.cancel_scope.cancel()
        if self._ends_once_wrong is not None and self.watch.problems:
            return
        if patience.cancelled_caught:
            self.watch.problems.append(f"after {LIVENESS_S:g} s without faults: {self._standing()}")
        else:
            self.watch.files()

    async def _outages(self) -> None:
        async with trio.open_nursery() as nursery:
            for sender in self.senders.values():
                nursery.start_soon(sender.run)
            for fault in self.plan.faults:
                nursery.start_soon(self._strike, fault)

    async def _strike(self, fault: Fault) -> None:
        await trio.sleep_until(fault.at)
        self.tell("fault", f"{fault.kind} begins", {"of": fault.target})
        self.happening += 1
        self._begin(fault)
        await trio.sleep(fault.lasts)
        self._end(fault)
        self.happening -= 1
        self.tell("fault", f"{fault.kind} ends", {"of": fault.target})

    def _begin(self, fault: Fault) -> None:
        kind, machine = fault.kind, self.machines.get(fault.target)
        down_s = min(fault.lasts, _DOWN_MAX_S)
        if kind == "crash-sensor":
            self.senders[fault.target].crash(down_s)
        elif kind == "http":
            assert self.http is not None
            self.http.modes.append(MODES[int(fault.amount)])
        elif machine is None:
            self._link(fault.target).begin(kind, fault.amount)
        elif kind == "unplug":
            for link in self._links_of(fault.target):
                link.begin("cut", 0.0)
        elif kind == "stop":
            machine.stop(down_s)
        elif kind == "kill-now":
            machine.kill(down_s)
        elif kind.startswith("kill-"):
            machine.fuse(kind.removeprefix("kill-"), int(fault.amount), down_s)
        elif kind == "power-cut":
            machine.while_down = partial(machine.clock.reboot, synced=bool(fault.amount))
            machine.kill(down_s, silently=True)
        elif kind == "hub-lost":
            machine.while_down = partial(self._lose, machine)
            machine.kill(down_s)
        elif kind in ("clock-jump", "clock-far"):
            machine.clock.offset_s += fault.amount
        else:
            _refuse(machine, fault, down_s, 1)

    def _end(self, fault: Fault) -> None:
        kind, machine = fault.kind, self.machines.get(fault.target)
        if kind == "http":
            assert self.http is not None
            self.http.modes.remove(MODES[int(fault.amount)])
        elif kind == "crash-sensor":
            return
        elif machine is None:
            self._link(fault.target).end(kind, fault.amount)
        elif kind == "unplug":
            for link in self._links_of(fault.target):
                link.end("cut", 0.0)
        elif kind in ("clock-jump", "clock-far", "power-cut"):
            machine.clock.sync()
        elif kind.startswith("kill-"):
            machine.burn()
        elif kind not in ("stop", "hub-lost"):
            _refuse(machine, fault, 0.0, -1)

    def _lose(self, machine: Machine) -> None:
        shutil.rmtree(machine.folder, ignore_errors=True)
        self.watch.lost(machine.name)

    def _link(self, name: str) -> Link:
        who, _, to = name.partition(">")
        return self.network.link(who, to)

    def _links_of(self, machine: str) -> list[Link]:
        names = (name for name in self.plan.shape.links if machine in name.split(">"))
        return [self._link(name) for name in names]

    def _opened(self, machine: Machine) -> None:
        self.watch.opened(machine)

    def _pause(self) -> float | None:
        """Sensors are busy while something is wrong: what is nowhere yet can be lost."""
        if trio.current_time() >= self.plan.ends:
            return None
        return self._chance.uniform(1, 12) if self.happening else self._chance.uniform(10, 60)

    def tell(self, who: str, event: str, facts: Mapping[str, object]) -> None:
        """Something happened."""
        told = f"{trio.current_time():.6f} {who} {event} {sorted(facts.items())!r}"
        line = told.replace(self._folder, "")
        self.hash.update(line.encode())
        self.traced.append(line)
        # Not by a task that looks: it would change what the others do.
        if self._ends_once_wrong is not None and self.watch.problems:
            self._ends_once_wrong.cancel("something has gone wrong")
        if event == "forward.withheld":
            self.watch.withheld(int(str(facts["records"])))
        if event == "forward.rearranged":
            self.watch.divided += 1

    def _standing(self) -> str:
        waiting = [name for name, sender in self.senders.items() if not sender.done]
        behind = [
            f"{name} {ledger.positions} of {ledger.last}"
            for name in self.machines
            if (ledger := self.watch.standing(name)) is not None
        ]
        return f"sensors that are not done: {waiting}; positions: {'; '.join(behind)}"


def _refuse(machine: Machine, fault: Fault, down_s: float, step: int) -> None:
    """A disk begins, or ends, to refuse or to be slow."""
    disk = machine.disk
    if fault.kind == "hiccup":
        if step > 0:
            disk.fuses.append(Fuse(int(fault.amount) // 2, bool(int(fault.amount) & 1)))
        return
    how = (bool(int(fault.amount) & 1), bool(int(fault.amount) & 2))
    if fault.kind == "slow-disk":
        machine.call_s = max(0.0, machine.call_s + step * fault.amount)
        return
    if fault.kind == "read-fails":
        disk.unreadable += step
        return
    disk.refusing.append(how) if step > 0 else disk.refusing.remove(how)
    if fault.kind == "open-fails":
        disk.closed += step
        if step > 0 and fault.amount:
            machine.kill(down_s)


def _port(machine: str) -> int:
    return next(port for port, name in PORTS.items() if name == machine)


def simulate(plan: Plan, *, to_the_end: bool = True) -> Result:
    """Run it; never raises for what the agent does. Not ``to_the_end``: only as far as something
    has gone wrong.
    """
    worlds: list[World] = []
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    ended = 0.0

    async def main(_: random.Random) -> None:
        nonlocal ended
        worlds.append(World(plan, Path(folder)))
        with (
            patch.object(split, "PART_RECORDS", _PART_RECORDS),
            disks({each.folder: each.disk for each in worlds[0].machines.values()}),
        ):
            await worlds[0].run(to_the_end=to_the_end)
        ended = trio.current_time()

    try:
        with tempfile.TemporaryDirectory(dir=_PLACE if _PLACE.is_dir() else None) as folder:
            run_seeded(plan.seed, main)
        problems: list[str] = []
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what was looked for
        problems = [f"an error came out: {_told(error)}"]
    finally:
        logging.disable(before)
    world = worlds[0]
    watch = world.watch
    counts = {
        "kills": sum(machine.kills for machine in world.machines.values()),
        "restarts": sum(machine.restarts for machine in world.machines.values()),
        "refused by disks": sum(machine.disk.failed for machine in world.machines.values()),
        "hub lost": watch.hub_lost,
        "divided": watch.divided,
        "counted once by an aggregate": watch.counted,
    }
    if world.http is not None:
        counts |= {f"HTTP {mode or 'taken'}": n for mode, n in world.http.answers.items()}
    return Result(
        problems + watch.problems,
        len(plan.faults),
        sum(len(sender.book.acked) for sender in world.senders.values()),
        watch.checked,
        watch.discarded(),
        world.hash.hexdigest(),
        ended,
        list(world.traced),
        counts,
    )


def _told(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    frames = []
    at = error.__traceback__
    while at is not None:
        frames.append(f"{Path(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno}")
        at = at.tb_next
    return f"{type(error).__name__}: {error} (at {' '.join(frames[-6:])})"
