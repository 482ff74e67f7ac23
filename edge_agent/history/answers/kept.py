"""Figures of roll-ups that were read, kept for the next question: who draws a chart asks again.

They are kept as long as the file is as it was, and as long as there is room; those that were asked
for longest ago go first.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_agent.history.format.cells import Cells
from edge_agent.history.format.segment import Path

#: Numbers that are kept: some charts of a day by minute. They take 36 bytes each.
NUMBERS_MAX = 20_000

Place = tuple[int, int, int, Path, frozenset[str]]
"""Level, series, bucket, field, and which columns."""


class KeptCells:
    """The figures of fields by place, part by part. Nobody changes them."""

    def __init__(self) -> None:
        self._found: dict[Place, Sequence[Cells]] = {}
        self._numbers = 0
        self._as_of = -1

    def as_of(self, transaction: int) -> None:
        """From now on the file is as this transaction left it."""
        if transaction != self._as_of:
            self._found.clear()
            self._numbers, self._as_of = 0, transaction

    def get(self, place: Place) -> Sequence[Cells] | None:
        """The figures; None where they are not kept."""
        found = self._found.pop(place, None)
        if found is not None:
            self._found[place] = found
        return found

    def put(self, place: Place, found: Sequence[Cells]) -> None:
        """Keep them, and as many others as there is room for."""
        self._found[place] = found
        self._numbers += _numbers_in(place, found)
        while self._numbers > NUMBERS_MAX:
            oldest = next(iter(self._found))
            self._numbers -= _numbers_in(oldest, self._found.pop(oldest))


def _numbers_in(place: Place, found: Sequence[Cells]) -> int:
    # And about as much for what stands around them.
    return 10 + sum(map(len, found)) * (2 + len(place[-1]))
