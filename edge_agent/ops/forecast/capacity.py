"""How long the room lasts while an upstream is away, and how soon a backlog drains: values alone.

Positions are sampled with the time (`PositionSample`), so that rates need nothing of the data path.
A lane is one log on its way to one upstream. It is *behind* when something waits that should have
gone: the upstream is out of reach, or the oldest record is older than it takes in the ordinary
course. Only of lanes that are behind anything is said.

**Loss.** A log gives up first what every upstream has, however young; so there is room for the
share less what is undelivered. It fills at the rate at which records come in ("today's rate": over
the last hour), less the rate at which the lane takes them, both at the mean size that a record has
in this log. What an upstream need not have (``required = false``) also goes by age.

**Drain.** The backlog over what goes out more than comes in, over the last two minutes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Ending = Literal["share", "age"]


@dataclass(frozen=True, slots=True)
class PositionSample:
    """Positions at one moment: the newest of each log, and each lane's floor by upstream and log;
    with them what each log had discarded and refused.
    """

    last: Mapping[str, int]
    floors: Mapping[tuple[str, str], int]
    discarded: Mapping[str, int]
    refused: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class LogRates:
    """What happened over one stretch: records a second into each log, out by each lane; and how
    many records each log discarded and refused in it. ``seconds`` is 0 where nothing is known.
    """

    seconds: float
    into: Mapping[str, float]
    out: Mapping[tuple[str, str], float]
    discarded: Mapping[str, int]
    refused: Mapping[str, int]


NOTHING = LogRates(0.0, {}, {}, {}, {})


@dataclass(frozen=True, slots=True)
class LaneBacklog:
    """One log on its way to one upstream, now. ``age_s``: of its oldest undelivered record, 0 where
    that is not known; ``late_s``: how old that may become in the ordinary course.
    """

    upstream: str
    log: str
    connected: bool
    required: bool
    backlog: int
    age_s: float
    late_s: float

    @property
    def behind(self) -> bool:
        """Whether something waits that should have gone."""
        return self.backlog > 0 and (not self.connected or self.age_s > self.late_s)


@dataclass(frozen=True, slots=True)
class Room:
    """One log's room. ``held`` are positions from its oldest to its newest; ``keep_s`` is how long
    it keeps records at most, None while the clock may not decide that.
    """

    log: str
    bytes: int
    share_bytes: int
    held: int
    keep_s: float | None


@dataclass(frozen=True, slots=True)
class Loss:
    """In how many seconds the oldest undelivered record is due, and why."""

    seconds: float
    ending: Ending


@dataclass(frozen=True, slots=True)
class Drain:
    """A backlog on its way out. ``seconds`` is None where it does not drain at this rate."""

    seconds: float | None
    out_per_s: float
    into_per_s: float


def between(old: PositionSample, new: PositionSample, seconds: float) -> LogRates:
    """What happened from ``old`` to ``new``. A floor that was rewound counts as standing still."""
    if seconds <= 0:
        return NOTHING
    return LogRates(
        seconds,
        {log: max(0, last - old.last.get(log, last)) / seconds for log, last in new.last.items()},
        {
            lane: max(0, floor - old.floors.get(lane, floor)) / seconds
            for lane, floor in new.floors.items()
        },
        _more(old.discarded, new.discarded),
        _more(old.refused, new.refused),
    )


def loss(
    room: Room, lanes: Iterable[LaneBacklog], today: LogRates, recent: LogRates
) -> Loss | None:
    """The first loss that the log's lanes lead to; None where none is in sight, or nothing can be
    said yet.
    """
    into = today.into.get(room.log, 0.0)
    if not into or not recent.seconds or room.held <= 0 or room.bytes <= 0:
        return None
    found = []
    for lane in lanes:
        if lane.log != room.log or not lane.behind:
            continue
        out = recent.out.get((lane.upstream, lane.log), 0.0) if lane.connected else 0.0
        growing = into - out
        if growing <= 0 or (lane.connected and out >= recent.into.get(room.log, 0.0)):
            continue
        each = room.bytes / room.held
        left = room.share_bytes - min(lane.backlog, room.held) * each
        found.append(Loss(max(0.0, left / (growing * each)), "share"))
        if not lane.required and room.keep_s is not None and lane.age_s > 0:
            # The oldest undelivered one ages more slowly where some still go out.
            found.append(Loss(max(0.0, (room.keep_s - lane.age_s) / (growing / into)), "age"))
    return min(found, key=lambda each: each.seconds, default=None)


def drain(lanes: Iterable[LaneBacklog], recent: LogRates) -> Drain | None:
    """How the backlog of one upstream's ``lanes`` drains; None where none is behind and connected,
    or nothing can be said yet.
    """
    behind = [lane for lane in lanes if lane.behind and lane.connected]
    if not behind or not recent.seconds:
        return None
    out = sum(recent.out.get((lane.upstream, lane.log), 0.0) for lane in behind)
    into = sum(recent.into.get(lane.log, 0.0) for lane in behind)
    backlog = sum(lane.backlog for lane in behind)
    return Drain(backlog / (out - into) if out > into else None, out, into)


def _more(old: Mapping[str, int], new: Mapping[str, int]) -> dict[str, int]:
    return {name: max(0, count - old.get(name, count)) for name, count in new.items()}
