"""Which seqs of a log have not been found yet, while a salvage looks for its blocks."""

from __future__ import annotations

from bisect import bisect_right

#: Holes in one log that are remembered, each of which a block may fill.
_HOLES_MAX = 50_000
_END = 2**63


class Holes:
    """The seqs of one log that no block has been found for. Only from ``first`` to ``last`` is one
    looked for.
    """

    def __init__(self, first: int) -> None:
        self.first, self.last = first, _END
        self._begins = [1]
        self._ends = [_END]

    def fill(self, first: int, last: int) -> bool:
        """Whether a block from ``first`` to ``last`` belongs there; then it is there."""
        at = bisect_right(self._begins, first) - 1
        if at < 0 or last > self._ends[at] or first < self.first or last > self.last:
            return False
        begin, end = self._begins[at], self._ends[at]
        rest = [(b, e) for b, e in ((begin, first - 1), (last + 1, end)) if b <= e]
        if len(self._begins) + len(rest) > _HOLES_MAX:
            # So many holes are not remembered; the first ones are given up.
            rest, at = rest[-1:], 0
        self._begins[at : at + 1] = [b for b, _ in rest]
        self._ends[at : at + 1] = [e for _, e in rest]
        return True

    def lacks(self, seq: int) -> bool:
        """Whether no block has been found that holds ``seq``."""
        at = bisect_right(self._begins, seq) - 1
        return at >= 0 and self.first <= seq <= min(self._ends[at], self.last)

    def missing(self, first: int, last: int) -> int:
        """How many of the seqs from ``first`` to ``last`` are in no block."""
        pairs = zip(self._begins, self._ends, strict=True)
        return sum(max(min(e, last) - max(b, first) + 1, 0) for b, e in pairs)
