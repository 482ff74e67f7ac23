"""A recorded run as a sequence of moments, at each of which the power may be cut.

`History` joins what the traces of all starts tell into one order: what the process did to its
disk, and what it had promised to whom. `History.moments` walks through it; what is known at a
moment (`Known`) is what a survivor of a power cut at that moment is judged by.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import trio
from msgspec import Struct, structs

from tests.crash.conversations import Fact, facts_of
from tests.crash.disk import Disk
from tests.crash.hub import tokens_of
from tests.crash.recording import Op, read_ops
from tests.crash.workload import PHASES, Run

#: The agent's folder, within the one that is surely there.
AGENT: Final = "agent"
#: The phase of a second power cut.
RECOVERY: Final = "recovery"


class Known(Struct, frozen=True):
    """What had been said up to one moment.

    Attributes:
        phase: the part of the run.
        epoch: the store's, "" before anybody was told.
        acked: source to the number before which everything is acked.
        received: source to how many of `History.order` the agent had been given.
        greeted: source to the highest number that it said it begins at.
        forwarded: log to how many of `History.messages` had been on their way to the hub.
        arrived: log to the number before which the hub has told that it has everything.
        again: as ``acked``, of what was acked after a first power cut.
    """

    phase: str = PHASES[0]
    epoch: str = ""
    acked: dict[str, int] = {}
    received: dict[str, int] = {}
    greeted: dict[str, int] = {}
    forwarded: dict[str, int] = {}
    arrived: dict[str, int] = {}
    again: dict[str, int] = {}


@dataclass(frozen=True, slots=True)
class Moment:
    """The power may be cut here: behind the ``index``-th thing that happened.

    ``fresh`` is how many of the disk's pending things are new; ``shrinks`` whether what comes next
    makes pending things durable, so that this is the last moment for many a state.
    """

    index: int
    known: Known
    disk: Disk
    fresh: int
    shrinks: bool


@dataclass(slots=True)
class History:
    """One recorded run.

    Attributes:
        starts: the operations of each process, their places in one order of all.
        facts: what was said.
        order: source to all numbers that it ever sent, in order.
        messages: log to what was sent to the hub: first, last, the records' tokens.
        files, begin: what was on the disk and what was known when it began.
    """

    starts: list[list[Op]]
    facts: list[Fact]
    order: dict[str, list[int]] = field(default_factory=dict)
    messages: dict[str, list[tuple[int, int, list[str]]]] = field(default_factory=dict)
    files: dict[str, tuple[bytes, int] | None] = field(default_factory=dict)
    begin: Known = field(default_factory=Known)

    @classmethod
    def of(cls, run: Run) -> History:
        """From the traces that a run left."""
        starts: list[list[Op]] = []
        place = 0
        for trace in run.traces:
            ops = [
                replace(op, begin=op.begin + place, end=op.end + place)
                for op in read_ops(trace, run.folder / "disk")
            ]
            place = max(op.end for op in ops) + 1
            starts.append(ops)
        talks = [op for ops in starts for op in ops if op.kind in ("say", "hear")]
        history = cls(
            [[op for op in ops if op.kind not in ("say", "hear")] for ops in starts],
            facts_of(talks, run.port, run.hub_port),
        )
        history._add_starts()
        history._learn()
        return history

    def _add_starts(self) -> None:
        for number, ops in enumerate(self.starts[1:]):
            phase = PHASES[-2] if number == 0 else PHASES[-1]
            self.facts.append(Fact(ops[0].begin, "phase", phase))
        self.facts.sort(key=lambda fact: fact.place)

    def _learn(self) -> None:
        for place, fact in enumerate(self.facts):
            if fact.kind == "received":
                # What a sensor sends again after a break has the numbers that it had.
                held = self.order.setdefault(fact.name, [])
                held += [one for one in fact.numbers if not held or one > held[-1]]
            elif fact.kind == "forwarded":
                for segment in fact.segments:
                    tokens = [] if segment.block is None else tokens_of(segment)
                    held_messages = self.messages.setdefault(fact.name, [])
                    held_messages.append((segment.first, segment.last, tokens))
                self.facts[place] = replace(fact, number=len(fact.segments), segments=())

    def before(self, source: str, number: int) -> int:
        """How many of the source's numbers are below ``number``."""
        return bisect_left(self.order.get(source, []), number)

    def moments(self) -> Iterator[Moment]:
        """Every moment, in order. The disk is one and the same object, as of the moment."""
        disk = Disk(self.files)
        known = self.begin
        events = self._events()
        before = disk.count
        for index, (_, rank, start, what) in enumerate(events):
            fresh = 0
            if isinstance(what, Fact):
                known = self._after(known, what)
            else:
                if rank == _BEGIN:
                    disk.begin(what)
                else:
                    disk.end(what)
                    if what is self.starts[start][-1]:
                        disk.close_all()
                fresh = max(disk.count - before, 0)
                before = disk.count
            following = events[index + 1] if index + 1 < len(events) else None
            yield Moment(index, known, disk, fresh, _shrinks(following))

    def _events(self) -> list[tuple[int, int, int, Op | Fact]]:
        events: list[tuple[int, int, int, Op | Fact]] = []
        for start, ops in enumerate(self.starts):
            for op in ops:
                if op.kind in _WITH_BEGIN:
                    events.append((op.begin, _BEGIN, start, op))
                # A descriptor is free once its close has begun: another thread may be given it
                # before the end is told.
                place = op.begin if op.kind == "close" else op.end
                events.append((place, _END, start, op))
        events += [(fact.place, _FACT, 0, fact) for fact in self.facts]
        return sorted(events, key=lambda event: event[:2])

    def _after(self, known: Known, fact: Fact) -> Known:
        if fact.kind == "phase":
            return structs.replace(known, phase=fact.name)
        if fact.kind == "epoch":
            return structs.replace(known, epoch=fact.name)
        number = fact.number
        if fact.kind == "received":
            number = self.before(fact.name, fact.numbers[-1]) + 1
        elif fact.kind == "forwarded":
            number += known.forwarded.get(fact.name, 0)
        held: dict[str, int] = getattr(known, fact.kind)
        changed = {**held, fact.name: max(held.get(fact.name, 0), number)}
        return structs.replace(known, **{fact.kind: changed})


_BEGIN, _END, _FACT = 0, 1, 2
_WITH_BEGIN: Final = ("write", "sync", "mkdir", "unlink", "rmdir", "rename")


def _shrinks(event: tuple[int, int, int, Op | Fact] | None) -> bool:
    if event is None:
        return True
    _, rank, _, what = event
    return isinstance(what, Op) and rank == _END and what.kind in ("sync", "write")


def record(run: Run) -> History:
    """Record ``run`` and read it."""
    trio.run(run.record)
    return History.of(run)
