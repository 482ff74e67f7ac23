"""A question's view: history's file as of one commit, and the tail as of the same moment.

Opened in a process of its own, read-only. `View` gives the parts of one stream by bucket; a part
that is damaged is left out and counted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path as FolderPath
from typing import TypeVar

import lmdb

from edge_agent.errors import StoreDamaged
from edge_agent.history import keys
from edge_agent.history.answers.kept import KeptCells
from edge_agent.history.format.cells import Cells
from edge_agent.history.format.rollup import Rollup, cells_of_field, decode_rollup
from edge_agent.history.format.segment import HistorySegment, Path, decode_segment
from edge_agent.history.format.stored import (
    HistoryHeader,
    checked,
    read_header,
    read_value,
)
from edge_agent.history.keys import BUCKET_NS, HOUR_NS, HOURS, LEVELS, MONTH_DAYS, RAW, part_key
from edge_agent.seal import OPEN, KeyRing, is_sealed

Part = TypeVar("Part")
#: Of more buckets than this it is looked up which there are.
_LOOKED_AT = 2000
#: Of days, which are there only until they are a month, and where something came late for one.
_DAYS_LOOKED_AT = 2 * MONTH_DAYS

TailOf = Mapping[str, Sequence[tuple[int, HistorySegment]]]
"""By stream: hour and segment of what is not in the file yet."""


@dataclass(slots=True)
class View:
    """One moment of history. ``pause`` is called now and then, and may raise to end a question;
    ``seals`` open what is sealed.
    """

    txn: lmdb.Transaction[memoryview]
    header: HistoryHeader
    tail: TailOf
    pause: Callable[[], None]
    seals: KeyRing = OPEN
    kept: KeptCells = field(default_factory=KeptCells)
    damaged: int = 0
    _cursor: lmdb.Cursor[memoryview] = field(init=False)
    _range: dict[int, tuple[int, int] | None] = field(default_factory=dict)
    _known: dict[int, list[int]] = field(default_factory=dict)
    _hours: dict[str, dict[int, list[HistorySegment]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._cursor = self.txn.cursor()

    def segments(self, stream: str, number: int, hour: int) -> list[HistorySegment]:
        """All segments of a stream and hour, in the order in which they were written."""
        found = [
            segment
            for segment in (
                self._decoded(decode_segment, raw) for raw in self._get(RAW, hour, number)
            )
            if segment is not None
        ]
        return found + self._tail_of(stream).get(hour, [])

    def rollups(self, level: int, number: int, bucket: int) -> list[Rollup]:
        """All roll-ups of a stream and bucket, in the order in which they were written."""
        raws = self._get(level, bucket, number)
        return [
            one for one in (self._decoded(decode_rollup, raw) for raw in raws) if one is not None
        ]

    def cells(
        self, level: int, number: int, bucket: int, path: Path, needs: frozenset[str]
    ) -> Sequence[Cells]:
        """The figures of one field in each of these roll-ups that has it; not to be changed. Raises
        StoreDamaged.
        """
        place = (level, number, bucket, path, needs)
        found = self.kept.get(place)
        if found is not None:
            self.pause()
        else:
            damaged = self.damaged
            found = [
                cells
                for one in self.rollups(level, number, bucket)
                for cells in cells_of_field(one, path, needs=needs)
            ]
            # What is damaged is counted in each answer.
            if damaged == self.damaged:
                self.kept.put(place, found)
        return found

    def buckets(self, level: int, from_ns: int, to_ns: int) -> Sequence[int]:
        """The buckets of a level that meet the range and may hold something."""
        if level not in self._range:
            self._range[level] = self._ends(level)
        ends = self._range[level]
        if ends is None:
            return range(0)
        span = BUCKET_NS[level]
        found = range(max(from_ns // span, ends[0]), min(-(-to_ns // span), ends[1] + 1))
        if len(found) <= (_DAYS_LOOKED_AT if level == HOURS else _LOOKED_AT):
            return found
        # One record from 1970 among those of today: what lies between has nothing.
        there = self._there(level)
        return there[bisect_left(there, found.start) : bisect_left(there, found.stop)]

    def bucket_from(self, level: int, from_ns: int, to_ns: int) -> int | None:
        """The first bucket of a level that has something in the range; None without one."""
        self.pause()
        span = BUCKET_NS[level]
        if from_ns >= to_ns or not self._cursor.set_range(keys.bucket_key(level, from_ns // span)):
            return None
        key = bytes(self._cursor.key())
        if key[0] != level or (bucket := keys.split_key(key).bucket) * span >= to_ns:
            return None
        return bucket

    def hours(self, stream: str, from_ns: int, to_ns: int) -> list[int]:
        """The hours, rising, of which there may be records of a stream, in the file or the tail."""
        own = [*self._tail_of(stream)]
        first = bisect_left(own, from_ns // HOUR_NS)
        found = own[first : bisect_left(own, -(-to_ns // HOUR_NS))]
        return sorted({*found, *self.buckets(RAW, from_ns, to_ns)})

    def _tail_of(self, stream: str) -> dict[int, list[HistorySegment]]:
        """What the tail has of a stream, by hour, rising."""
        found = self._hours.get(stream)
        if found is None:
            found = self._hours[stream] = {}
            for hour, segment in sorted(self.tail.get(stream, ()), key=itemgetter(0)):
                found.setdefault(hour, []).append(segment)
        return found

    def _decoded(
        self, decode: Callable[[bytes | memoryview], Part], raw: bytes | memoryview
    ) -> Part | None:
        try:
            return decode(raw)
        except StoreDamaged:
            self.damaged += 1
            return None

    def _get(self, level: int, bucket: int, number: int) -> list[bytes | memoryview]:
        self.pause()
        found: list[bytes | memoryview] = []
        if not number:
            return found
        end = part_key(level, bucket, number + 1, 0)
        is_there = self._cursor.set_range(part_key(level, bucket, number, 0))
        while is_there and (key := bytes(self._cursor.key())) < end:
            raw = self._cursor.value()
            try:
                value = checked(key, raw)
                # What is open is not copied.
                found.append(read_value(key, raw, self.seals) if is_sealed(value) else value)
            except StoreDamaged:
                self.damaged += 1
            is_there = self._cursor.next()
        return found

    def _there(self, level: int) -> list[int]:
        """All buckets of a level that hold something."""
        if level not in self._known:
            found: list[int] = []
            cursor = self.txn.cursor()
            key = bytes((level,))
            while cursor.set_range(key) and cursor.key()[0] == level:
                found.append(keys.split_key(bytes(cursor.key())).bucket)
                key = keys.bucket_key(level, found[-1] + 1)
                self.pause()
            self._known[level] = found
        return self._known[level]

    def _ends(self, level: int) -> tuple[int, int] | None:
        assert level in LEVELS
        cursor = self.txn.cursor()
        if not cursor.set_range(bytes((level,))) or bytes(cursor.key())[0] != level:
            return None
        first = keys.split_key(bytes(cursor.key())).bucket
        if not cursor.set_range(bytes((level + 1,))):
            cursor.last()
        else:
            cursor.prev()
        return first, keys.split_key(bytes(cursor.key())).bucket


class HistoryReader:
    """The file, open for reading in this process; opened again where it was replaced."""

    def __init__(self, folder: FolderPath) -> None:
        self._folder, self._file = folder, folder / "data.mdb"
        self._env: lmdb.Environment | None = None
        self._which: tuple[int, int] = (0, 0)
        self._kept = KeptCells()

    def view(
        self, tail: TailOf, flushes: int, pause: Callable[[], None], seals: KeyRing = OPEN
    ) -> View | None:
        """The file as of now; None where it was written since ``tail`` was taken.

        Raises:
            StoreDamaged, lmdb.Error: it cannot be read.
        """
        try:
            txn = self._opened().begin(buffers=True)
        except lmdb.MapResizedError:
            # The share was made larger; what is mapped is as long as the file was.
            self.close()
            txn = self._opened().begin(buffers=True)
        try:
            header = read_header(txn)
        except BaseException:
            txn.abort()
            raise
        if header.flushes != flushes:
            txn.abort()
            return None
        self._kept.as_of(txn.id())
        return View(txn, header, tail, pause, seals, self._kept)

    def close(self) -> None:
        """Give the file back; the next `view` opens it again."""
        if self._env is not None:
            self._env.close()
            self._env = None
            self._kept = KeptCells()

    def _opened(self) -> lmdb.Environment:
        status = self._file.stat()
        which = (status.st_dev, status.st_ino)
        if self._env is not None and which != self._which:
            self.close()
        if self._env is None:
            self._env = lmdb.open(
                str(self._folder),
                subdir=True,
                readonly=True,
                create=False,
                readahead=False,
                max_dbs=0,
                max_readers=64,
                map_size=0,  # as long as the file says
                lib_version=0,
            )
            self._which = which
        return self._env
