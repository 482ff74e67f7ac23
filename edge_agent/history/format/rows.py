"""This module holds records of one stream on their way into a segment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from edge_agent.values.record import TimeQuality


class Way(NamedTuple):
    """What many records of a stream have in common; ``quality`` to ``corrected`` as in `Record`."""

    log: str
    source: str
    quality: TimeQuality
    synced: bool
    corrected: bool
    origin: str = ""
    origin_epoch: str = ""
    origin_log: str = ""


class Rows:
    """Records of one stream, field by field; the way of record ``i`` is ``ways[way_of[i]]``.

    ``origin_seqs`` may be shorter: the rest is 0. Where all records have the same keys, ``columns``
    may have the fields by key, and ``fields`` is empty then.
    """

    __slots__ = (
        "columns", "fields", "origin_seqs", "seqs", "source_seqs", "times", "way_of", "ways",
    )  # fmt: skip

    def __init__(self) -> None:
        self.times: list[int] = []
        self.seqs: list[int] = []
        self.source_seqs: list[int] = []
        self.origin_seqs: list[int] = []
        self.way_of: list[int] = []
        self.ways: list[Way] = []
        self.fields: list[dict[str, Any]] = []
        self.columns: dict[str, list[Any]] = {}

    def __len__(self) -> int:
        return len(self.times)

    def fill(self) -> None:
        """Make `origin_seqs` as long as the others."""
        self.origin_seqs += [0] * (len(self.times) - len(self.origin_seqs))

    def way(self, way: Way) -> int:
        """The number of a way, for `way_of`."""
        if way not in self.ways:
            self.ways.append(way)
        return self.ways.index(way)

    def sort(self) -> None:
        """By time, and of equal times by seq."""
        order = sorted(range(len(self.times)), key=lambda i: (self.times[i], self.seqs[i]))
        self._become(self, itemgetter(*order) if len(order) > 1 else list)

    def extend(self, other: Rows) -> None:
        """Take another's rows, too."""
        self.fill()
        other.fill()
        numbers = [self.way(way) for way in other.ways]
        self.times += other.times
        self.seqs += other.seqs
        self.source_seqs += other.source_seqs
        self.origin_seqs += other.origin_seqs
        self.way_of += [numbers[number] for number in other.way_of]
        self.fields += other.fields

    def part(self, begin: int, end: int) -> Rows:
        """Some of the rows."""
        made = Rows()
        made.ways = self.ways
        made._become(self, itemgetter(slice(begin, end)))
        return made

    def _become(self, other: Rows, take: Callable[[list[Any]], Sequence[Any]]) -> None:
        """These of another's rows."""
        other.fill()
        for name in ("times", "seqs", "source_seqs", "origin_seqs", "way_of"):
            setattr(self, name, list(take(getattr(other, name))))
        self.fields = list(take(other.fields)) if other.fields else []
        self.columns = {key: list(take(values)) for key, values in other.columns.items()}
