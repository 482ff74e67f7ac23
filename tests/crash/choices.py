"""Which of the images that a power cut may leave are tried: there are far more than can be.

At every moment: nothing of what is pending, all of it, and for each thing that has just become
pending, only it, all but it, and everything up to it. Before pending things become durable: every
tail of them, too. The rest are random parts, most of them where most is pending. Which are drawn
follows from the seed and the moment alone, so that one of them can be drawn again.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from tests.crash.history import History, Moment
from tests.crash.inodes import Pending

#: How likely each pending thing survives, for random parts; mostly torn in the middle.
_PARTS = (0.5, 0.5, 0.5, 0.1, 0.9, 0.25, 0.75)
#: With fewer pending things than that all their parts are among the others.
_FEW = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """How many images of a history to try: ``kept`` of those with a pattern (0 to 1), and
    ``drawn`` random parts for each thing pending when something becomes durable.
    """

    seed: int
    kept: float
    drawn: float

    @classmethod
    def of(cls, history: History, tries: int, seed: int) -> Plan:
        """For ``tries`` images in all, about."""
        patterned = room = 0
        for moment in history.moments():
            pending = len(moment.disk.pending)
            patterned += 3 * moment.fresh + (pending if moment.shrinks else 0)
            room += pending if moment.shrinks and pending > _FEW else 0
        # Where few are wanted, half of them are random all the same.
        kept = min(1.0, tries / 2 / max(patterned, 1))
        # Some are the same as others, or drawn twice.
        left = max(1.1 * tries - kept * patterned, 0)
        return cls(seed, kept, left / max(room, 1))


def choices(moment: Moment, plan: Plan) -> Iterator[list[Pending]]:
    """Parts of what is pending at ``moment``."""
    dice = random.Random(f"{plan.seed} {moment.index}")
    pending = list(moment.disk.pending)
    yield []
    if not pending:
        return
    yield pending
    fresh = len(pending) - moment.fresh
    for index in range(max(fresh, 0), len(pending)):
        for part in (
            [pending[index]],
            pending[:index] + pending[index + 1 :],
            pending[: index + 1],
        ):
            if plan.kept == 1.0 or dice.random() < plan.kept:
                yield part
    if moment.shrinks:
        for index in range(1, len(pending)):
            if plan.kept == 1.0 or dice.random() < plan.kept:
                yield pending[index:]
        if len(pending) > _FEW:
            yield from _random_parts(pending, plan, dice)


def _random_parts(
    pending: list[Pending], plan: Plan, dice: random.Random
) -> Iterator[list[Pending]]:
    count = plan.drawn * len(pending)
    count = int(count) + (dice.random() < count % 1)
    for _ in range(count):
        part = dice.choice(_PARTS)
        yield [item for item in pending if dice.random() < part]
