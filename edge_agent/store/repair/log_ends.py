"""This module finds where a log begins and ends, by its many headers in a damaged file.

Each commit writes a log's header anew, beside our stamp, and leaves the older ones where they were
until their pages are used again. Within one file ``first`` and ``last`` only ever rise. So where
the newest root is not known for sure, the header that is furthest is the newest, and the others say
how sure that is: a commit that another one followed was made; the last one of all may have been
cut short, or may have been acked and have lost its root to the card. What only that one says is
therefore no more than possible.

An example: a root of commit 7 that leads to records 1 to 80 is there, and a page with the stamp of
commit 8 says that records 11 to 90 are. If nothing is found of 81 to 90, those ten may be lost, or
were never acked. If the pages tell of a commit 9, commit 8 was made, and they are lost.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Ends:
    """What is to be found of a log.

    Attributes:
        low: no record below it is looked for: trimmed for sure.
        first: what is missing from ``low`` up to here may have been trimmed.
        sure: what is missing from ``first`` up to it is lost.
        last: what is missing behind ``sure`` up to it may be lost, or was never acked.
    """

    low: int
    first: int
    sure: int
    last: int


@dataclass(slots=True)
class LogEnds:
    """Every header of one log that was seen, by the commit that wrote it, 0 where its page does not
    say. ``newest``: the first and last seq by the tree of a root that is known to be the newest.
    """

    newest: tuple[int, int] | None = None
    _seen: set[tuple[int, int, int]] = field(default_factory=set)

    def see(self, commit: int, first: int, last: int) -> None:
        """Note one more."""
        self._seen.add((commit, first, last))

    def ends(self, latest: int, roots: Collection[int]) -> Ends:
        """What that comes to. ``latest``: the highest commit that any page tells of, ``roots``:
        those that a root leads to.
        """
        if self.newest is not None:
            first, last = self.newest
            behind = [end for commit, _, end in self._seen if commit > max(roots, default=0)]
            return Ends(first, first, last, max(behind, default=last))
        if not self._seen:
            return Ends(1, 1, 0, 0)
        seen = [(last, first) for _, first, last in self._seen]
        last, first = max(seen)
        made = [
            (end, begin)
            for commit, begin, end in self._seen
            if 0 < commit < latest or commit in roots
        ]
        if not made:
            # What the last but one says: no commit is cut short that another one followed.
            made = [one for one in seen if one[1] < first] or seen
            return Ends(max(begin for _, begin in made), first, last, last)
        return Ends(max(begin for _, begin in made), first, max(made)[0], last)
