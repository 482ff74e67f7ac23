"""This module keeps the seqs of a log that a salvage has not found yet."""

from __future__ import annotations

from bisect import bisect_right

#: Holes in one log that are remembered, each of which a block may fill.
_HOLES_MAX = 50_000
_END = 2**63


class Holes:
    """The seqs of one log that no block has been found for. Only from ``first`` to ``last`` is one
    looked for. ``forgotten``: seqs in holes that were too many to be remembered.
    """

    def __init__(self, first: int) -> None:
        self.first, self.last = first, _END
        self.forgotten = 0
        self._begins = [1]
        self._ends = [_END]

    def fill(self, first: int, last: int) -> bool:
        """Whether a block from ``first`` to ``last`` belongs there; then it is there."""
        at = bisect_right(self._begins, first) - 1
        if at < 0 or last > self._ends[at] or first < self.first or last > self.last:
            return False
        begin, end = self._begins[at], self._ends[at]
        rest = [(b, e) for b, e in ((begin, first - 1), (last + 1, end)) if b <= e]
        self._begins[at : at + 1] = [b for b, _ in rest]
        self._ends[at : at + 1] = [e for _, e in rest]
        if len(self._begins) > _HOLES_MAX:
            # The first of all is what was trimmed; the next one lies between blocks.
            self.forgotten += self._ends.pop(1) - self._begins.pop(1) + 1
        return True

    def lacks(self, seq: int) -> bool:
        """Whether no block has been found that holds ``seq``."""
        at = bisect_right(self._begins, seq) - 1
        return at >= 0 and self.first <= seq <= min(self._ends[at], self.last)

    def missing(self, first: int, last: int) -> int:
        """How many of the seqs from ``first`` to ``last`` are in no block."""
        pairs = zip(self._begins, self._ends, strict=True)
        return sum(max(min(e, last) - max(b, first) + 1, 0) for b, e in pairs)
