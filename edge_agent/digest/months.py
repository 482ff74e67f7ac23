"""Months of history: the roll-ups by hour of 32 days as one part for each stream.

A year of one stream is twelve parts instead of 365, and a question of it takes a fifth of the time.
`Months` adds to a flush, so that the days go in the transaction that writes their month. A month is
joined once all of its days have hours of their own, a bounded part of all in each flush. What comes
late for one of its days is a further part of that day, beside the month, as it was before; when
there are `JOIN_FROM` of them, they are joined with it. Files of before there were months are joined
the same way, from the oldest month on.

Nothing is put together that an answer would have kept apart: figures whose numbers are alike become
one column, others stay beside it (`_Column`), so that each hour is what its day said. Where several
parts of one hour are joined, floats and sums of squares may differ in their last digits, as always.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from edge_agent.digest.file import NEVER, Flush, HistoryFile
from edge_agent.errors import StoreDamaged
from edge_agent.history import (
    Cells,
    Path,
    all_cells_of,
    decode_rollup,
    encoding_rollup,
    join_cells,
    keys,
    records_in,
    within,
)
from edge_agent.history.keys import DAY_NS, HOUR_NS, HOURS, MONTH_DAYS, MONTHS

#: So many parts of a stream's days are joined; fewer stay as they are.
JOIN_FROM = 8
#: What one flush joins at most: streams of a month, and bytes that it writes.
JOINS_MAX, JOIN_BYTES_MAX = 64, 1024 * 1024
#: How often one flush looks which of a month's days there are, and how many keys of each at a time.
LOOKS_MAX, KEYS_MAX = 40, 256
#: Parts are made of about so many bytes of days: a stream of many fields has several for a month.
PART_BYTES_MAX = 256 * 1024
#: Of more columns than this for one field, one is made.
_COLUMNS_MAX = 16
_BEGIN = (NEVER // MONTH_DAYS, 0)


@dataclass(slots=True)
class _Column:
    """Figures of a field that have the same scale, or are all floats, by hour. Of two columns with
    the same hour the later one has what came later.
    """

    alike: tuple[bool, int]
    parts: list[Cells] = field(default_factory=list)
    hours: set[int] = field(default_factory=set)

    def take(self, cells: Cells) -> None:
        self.parts.append(cells)
        self.hours.update(cells.starts)


@dataclass(slots=True)
class _Joining:
    """What is known of a stream's month while it is read."""

    records: list[Cells] = field(default_factory=list)
    fields: dict[Path, list[_Column]] = field(default_factory=dict)
    read_bytes: int = 0

    def read(self, raw: bytes) -> Iterator[None]:
        """Take a part, which is newer than those before; pauses. Raises StoreDamaged."""
        rollup = decode_rollup(raw)
        self.records.append(records_in(rollup))
        self.read_bytes += len(raw)
        for path, cells in all_cells_of(rollup):
            _add(self.fields.setdefault(path, []), cells)
            yield

    def columns(self) -> Iterator[tuple[Path, Cells]]:
        """The figures of each field by hour."""
        for path, columns in self.fields.items():
            if len(columns) > _COLUMNS_MAX:
                yield path, join_cells([part for one in columns for part in one.parts], HOUR_NS)
                continue
            for one in columns:
                yield path, join_cells(one.parts, HOUR_NS)


def _add(columns: list[_Column], cells: Cells) -> None:
    alike = (cells.exact, cells.scale)
    for one in reversed(columns):
        if one.alike == alike:
            one.take(cells)
            return
        if not one.hours.isdisjoint(cells.starts):
            # What is in front of this one came before it.
            break
    columns.append(_Column(alike))
    columns[-1].take(cells)


class Months:
    """Joins days into months, and cuts off what is too old of them."""

    def __init__(self, file: HistoryFile) -> None:
        self._file = file
        #: The month and series where the next flush goes on.
        self._at = _BEGIN
        #: Days before it are in no month any more.
        self._cut = NEVER
        #: Months of streams with a part that is sound and cannot be read: they stay as they are.
        self._unreadable: set[tuple[int, int]] = set()

    def join(self, flush: Flush, oldest_day: int) -> Iterator[None]:
        """Join what is over of what the file holds and ``flush`` does not delete; without days
        before ``oldest_day``. It goes on where the last flush stopped, and begins anew at the end.
        """
        over = (self._file.header.hours_until + 1) // MONTH_DAYS
        gone = set(flush.deletes)
        joins = size = looks = 0
        at, self._at = self._at, _BEGIN
        month = self._month_from(at[0])
        while month is not None and month < over:
            series: int | None = at[1] if month == at[0] else 0
            while series is not None:
                if looks == LOOKS_MAX:
                    self._at = (month, series)
                    return
                looks += 1
                found, behind = yield from self._look(month, series)
                for number, days in sorted(found.items()):
                    days = [key for key in days if key not in gone]
                    if len(days) < JOIN_FROM or (month, number) in self._unreadable:
                        continue
                    if joins == JOINS_MAX or size > JOIN_BYTES_MAX:
                        self._at = (month, number)
                        return
                    joins += 1
                    try:
                        size += yield from self._join(month, number, days, flush, oldest_day)
                    except StoreDamaged:
                        self._unreadable.add((month, number))
                series = behind
            month = self._month_from(month + 1)

    def _look(
        self, month: int, series: int
    ) -> Generator[None, None, tuple[dict[int, list[bytes]], int | None]]:
        """Keys of a month's days by series, from one on; and the series where to look on."""
        found: dict[int, list[bytes]] = {}
        last = keys.SERIES_LAST
        for day in range(month * MONTH_DAYS, (month + 1) * MONTH_DAYS):
            listed = self._file.keys_from(HOURS, day, series, KEYS_MAX, upto=last)
            for key in listed:
                found.setdefault(keys.split_key(key).series, []).append(key)
            if len(listed) == KEYS_MAX:
                # Not all parts of the last one may be among them. If it is the only one, those that
                # are come first.
                last = max(keys.split_key(listed[-1]).series - 1, series)
            yield
        some = {number: listed for number, listed in found.items() if number <= last}
        return some, None if last == keys.SERIES_LAST else last + 1

    def _month_from(self, month: int) -> int | None:
        """The first month with days that are not joined."""
        day = self._file.bucket_from(HOURS, month * MONTH_DAYS)
        return None if day is None else day // MONTH_DAYS

    def _join(
        self, month: int, series: int, days: list[bytes], flush: Flush, oldest_day: int
    ) -> Generator[None, None, int]:
        """The bytes of what is written. Months are read first, as days beside one came later; what
        is damaged stays where it is.
        """
        joining, read, free = _Joining(), list[bytes](), 0
        newest_first = sorted(days, key=lambda key: -keys.split_key(key).bucket)
        months = self._file.keys_from(MONTHS, month, series, keys.PARTS_MAX, upto=series)
        for key in [*months, *newest_first]:
            place = keys.split_key(key)
            raw = self._file.part(key)
            if raw is None:
                free = max(free, place.part + 1) if place.level == MONTHS else free
                continue
            yield from joining.read(raw)
            read.append(key)
            yield
        if len(read) < JOIN_FROM:
            return 0
        values = list[bytes]()
        columns = list[tuple[Path, Cells]]()
        for column in joining.columns():
            columns.append(column)
            yield
        records = join_cells(joining.records, HOUR_NS)
        for first, last in _stretches(month, joining.read_bytes, oldest_day):
            values += yield from _encoded(records, columns, first * DAY_NS, last * DAY_NS)
        flush.put_instead(read, (MONTHS, month, series), values, first=free)
        return sum(map(len, values))

    def cut(self, flush: Flush, oldest_day: int) -> Iterator[None]:
        """Days before ``oldest_day`` leave the month in which it lies; earlier months are forgotten
        as a whole.
        """
        if oldest_day == self._cut:
            return
        month, cuts = oldest_day // MONTH_DAYS, 0
        gone = set(flush.deletes)
        for key in self._all_keys(month):
            raw = None if key in gone else self._file.part(key)
            yield
            if raw is None:
                continue
            try:
                rollup = decode_rollup(raw)
                records = records_in(rollup)
                if records.starts[0] >= oldest_day * DAY_NS:
                    continue
                if cuts == JOINS_MAX:
                    return
                columns = []
                for column in all_cells_of(rollup):
                    columns.append(column)
                    yield
            except StoreDamaged:
                continue
            cuts += 1
            end_ns = (month + 1) * MONTH_DAYS * DAY_NS
            left = yield from _encoded(records, columns, oldest_day * DAY_NS, end_ns)
            place = keys.split_key(key)
            flush.put_instead([key], (MONTHS, month, place.series), left, first=place.part)
        self._cut = oldest_day

    def _all_keys(self, month: int) -> Iterator[bytes]:
        series = 0
        while listed := self._file.keys_from(MONTHS, month, series, KEYS_MAX):
            last = keys.split_key(listed[-1]).series
            if len(listed) == KEYS_MAX and last > series:
                listed = [key for key in listed if keys.split_key(key).series < last]
                last -= 1
            yield from listed
            series = last + 1


def _stretches(month: int, size: int, oldest_day: int) -> Iterable[tuple[int, int]]:
    """The days of each part of a month that is made of so many bytes."""
    count = min(-(-size // PART_BYTES_MAX), MONTH_DAYS)
    days = [month * MONTH_DAYS + MONTH_DAYS * index // count for index in range(count + 1)]
    return [(max(one, oldest_day), two) for one, two in pairwise(days)]


def _encoded(
    records: Cells, columns: Sequence[tuple[Path, Cells]], from_ns: int, to_ns: int
) -> Generator[None, None, list[bytes]]:
    """The part of a range as a list of one; of none where the range has nothing. Pauses."""
    some = within(records, from_ns, to_ns)
    if not len(some):
        return []
    cut = ((path, within(cells, from_ns, to_ns)) for path, cells in columns)
    for raw in encoding_rollup(HOUR_NS, some, ((path, one) for path, one in cut if len(one))):
        if raw is not None:
            return [raw]
        yield
    raise AssertionError("a roll-up comes last")
