"""What a simulation goes through: drawn from a seed, made of plain values, easy to read and to cut.

A run's other choices (jitter, when sensors send) come from the same seed but not from this list,
so that a fault can be taken out of a plan and the rest stays much as it was.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

#: What `Shape.full` says of logs that put aggregates in the place of their oldest records.
THINS: Final = "thin-oldest"
#: Mean time between the beginnings of two faults, in seconds: they overlap now and then.
BETWEEN_S: Final = 30.0
#: Faults in one plan; the last ones restart nobody, since a restart cures what hangs.
FAULTS: Final = 32
WITHOUT_RESTARTS: Final = 8
FIFTY_SIX_YEARS_S: Final = 56 * 365.25 * 86_400.0


@dataclass(frozen=True, slots=True)
class Sensor:
    """``kind``: memory, disk, numbered or plain; ``form``: msgpack or json."""

    name: str
    agent: str
    kind: str
    form: str


@dataclass(frozen=True, slots=True)
class Shape:
    """Which machines there are. ``full`` is what an agent's small log does when it is full, ""
    where the log is large; ``http`` whether the agent has a second upstream.
    """

    agents: tuple[str, ...]
    middle: bool
    http: bool
    full: str
    sensors: tuple[Sensor, ...]
    commit_interval_ms: int

    @property
    def order(self) -> str:
        """What goes upstream first."""
        orders = {1000: "in order", 50: "newest first"}
        return orders.get(self.commit_interval_ms, "live first")

    @property
    def machines(self) -> tuple[str, ...]:
        """Everybody with a store."""
        return (*self.agents, *(("middle",) if self.middle else ()), "hub")

    @property
    def links(self) -> tuple[str, ...]:
        """Every way, as ``who dials>whom``."""
        above = "middle" if self.middle else "hub"
        ways = [f"{sensor.name}>{sensor.agent}" for sensor in self.sensors]
        ways += [f"{agent}>{above}" for agent in self.agents]
        ways += ["middle>hub"] if self.middle else []
        return (*ways, *(("agent>http",) if self.http else ()))


@dataclass(frozen=True, slots=True)
class Fault:
    """From ``at`` for ``lasts`` seconds of simulated time; ``amount`` as its kind needs it."""

    at: float
    kind: str
    target: str
    lasts: float
    amount: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """One simulation."""

    seed: int
    shape: Shape
    faults: tuple[Fault, ...]

    @property
    def ends(self) -> float:
        """When the last fault is over."""
        return max((fault.at + fault.lasts for fault in self.faults), default=0.0)

    def without(self, index: int) -> Plan:
        """The same with one fault less."""
        return replace(self, faults=self.faults[:index] + self.faults[index + 1 :])

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {self.shape}"]
        for fault in self.faults:
            amount = f", {fault.amount:g}" if fault.amount else ""
            lines.append(
                f"  {fault.at:8.2f} s: {fault.kind} of {fault.target}"
                f" for {fault.lasts:.2f} s{amount}"
            )
        return "\n".join(lines)


#: Kind of fault to its weight, whom it strikes, and its amount.
_Kinds = dict[str, tuple[float, str, Callable[[random.Random], float]]]
_KINDS: Final[_Kinds] = {
    # The network: refused and aborted; silent for ever; late; answers lost; slow.
    "cut": (4, "link", lambda chance: 0.0),
    "vanish": (3, "link", lambda chance: 0.0),
    "stall": (2, "link", lambda chance: 0.0),
    "lose-acks": (4, "link", lambda chance: 0.0),
    "slow": (2, "link", lambda chance: 10 ** chance.uniform(2, 4.5)),
    "unplug": (2, "machine", lambda chance: 0.0),
    # Restarts: clean; killed now, at the n-th step of its tasks, before or after the n-th call of
    # the store, within it at the n-th transaction, when the n-th thing was told; the machine loses
    # power, and its clock with it.
    "stop": (2, "machine", lambda chance: 0.0),
    "kill-now": (1, "machine", lambda chance: 0.0),
    "kill-step": (4, "machine", lambda chance: float(round(10 ** chance.uniform(0, 3.5)))),
    "kill-before-call": (2, "machine", lambda chance: float(round(10 ** chance.uniform(0, 1.7)))),
    "kill-after-call": (4, "machine", lambda chance: float(round(10 ** chance.uniform(0, 1.7)))),
    "kill-before-write": (2, "machine", lambda chance: float(chance.randrange(12))),
    "kill-after-write": (3, "machine", lambda chance: float(chance.randrange(12))),
    "kill-event": (3, "machine", lambda chance: float(round(10 ** chance.uniform(0, 1.7)))),
    "power-cut": (2, "machine", lambda chance: float(chance.choice((0, 0, 1)))),
    "crash-sensor": (3, "sensor", lambda chance: 0.0),
    # The disk: refuses before or after it has written, for a while or once; to be read, to be
    # opened; is slow.
    "write-fails": (4, "machine", lambda chance: float(chance.randrange(4))),
    "hiccup": (4, "machine", lambda chance: float(chance.randrange(24))),
    "read-fails": (2, "machine", lambda chance: 0.0),
    "open-fails": (1, "machine", lambda chance: float(chance.randrange(2))),
    "slow-disk": (1, "machine", lambda chance: 10 ** chance.uniform(-1, 1)),
    # The wall clock.
    "clock-jump": (2, "machine", lambda chance: chance.choice((-3 * 3600.0, 3600.0, -40.0))),
    "clock-far": (1, "agent", lambda chance: FIFTY_SIX_YEARS_S),
    # The HTTP server: `http_hub.MODES`.
    "http": (12, "http", lambda chance: float(chance.randrange(11))),
    # The hub's store is lost while it is down.
    "hub-lost": (0.4, "hub", lambda chance: 0.0),
}

_RESTARTS: Final = ("stop", "kill-", "power-cut", "crash-sensor", "open-fails", "hub-lost")
_LASTING: Final = {kind: facts for kind, facts in _KINDS.items() if not kind.startswith(_RESTARTS)}


def draw(seed: int, *, thins: bool = False) -> Plan:
    """The plan of ``seed``; ``thins``: one whose small logs thin, whatever was drawn for them."""
    chance = random.Random(f"plan {seed}")
    shape = _shape(chance)
    if thins:
        shape = replace(shape, full=THINS)
    faults: list[Fault] = []
    at = 3.0
    while len(faults) < FAULTS:
        kinds = _KINDS if len(faults) < FAULTS - WITHOUT_RESTARTS else _LASTING
        fault = _fault(chance, shape, at, faults, kinds)
        if fault is not None:
            faults.append(fault)
            at += chance.expovariate(1 / BETWEEN_S)
    return Plan(seed, shape, tuple(faults))


def _shape(chance: random.Random) -> Shape:
    agents = ("agent", "other") if chance.random() < 0.25 else ("agent",)
    kinds = ["memory", "disk", "numbered", "plain"]
    chance.shuffle(kinds)
    sensors = tuple(
        Sensor(f"s{number}", agents[number % len(agents)], kind, chance.choice(("msgpack", "json")))
        for number, kind in enumerate(kinds[: chance.choice((2, 3, 3, 4))])
    )
    return Shape(
        agents=agents,
        middle=chance.random() < 0.3,
        http=chance.random() < 0.5,
        full=chance.choice(("", "", "", "", "discard-oldest", "refuse", THINS)),
        sensors=sensors,
        commit_interval_ms=chance.choice((0, 50, 200, 1000)),
    )


def _fault(
    chance: random.Random, shape: Shape, at: float, before: list[Fault], kinds: _Kinds
) -> Fault | None:
    kind = chance.choices(list(kinds), [weight for weight, _, _ in kinds.values()])[0]
    _, struck, amount = kinds[kind]
    targets = {
        "link": shape.links,
        "machine": shape.machines,
        "agent": shape.agents,
        "sensor": tuple(sensor.name for sensor in shape.sensors),
        "http": ("http",) if shape.http else (),
        "hub": ("hub",),
    }[struck]
    if not targets or (kind == "hub-lost" and _may_have_trimmed(shape, before)):
        return None
    if kind == "clock-far" and any(fault.kind == "hub-lost" for fault in before):
        return None
    lasts = 10 ** chance.uniform(-0.5, 2.2)
    return Fault(round(at, 3), kind, chance.choice(targets), round(lasts, 3), amount(chance))


def _may_have_trimmed(shape: Shape, before: list[Fault]) -> bool:
    """A hub that lost its store gets what is still held; only then all of it."""
    return bool(shape.full) or any(fault.kind == "clock-far" for fault in before)
