"""Rows of an answer that has one for each record: whole records, or points. In order of time.

An hour of many streams may be more than there is memory for, and an answer mostly ends long before.
So an hour is looked through in slices of about `SLICE_ROWS`, all streams of a slice at a time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, pairwise
from operator import lt
from typing import Generic, NamedTuple, TypeVar

from edge_agent.history.answers.json_text import (
    Order,
    RowShape,
    orders_of,
    points_as_json,
    records_as_json,
    whole_table,
)
from edge_agent.history.answers.reading import View
from edge_agent.history.format.columns import decode_column
from edge_agent.history.format.packing import rises, unpack
from edge_agent.history.format.segment import HistorySegment, Path, records_of, times_of
from edge_agent.history.keys import HOUR_NS
from edge_agent.output.render import encode_json
from edge_agent.values.filter import Filter
from edge_agent.values.record import Record

#: Rows that are made at a time, about.
SLICE_ROWS = 8192
#: Where an hour has this many times more than was expected, its slices are made smaller.
_TOO_MANY = 4

Made = TypeVar("Made")
Stream = tuple[str, int]
"""Name and number in the file; 0 where only the tail knows it."""
MadeRows = tuple[Sequence[int] | None, list[Made]]
"""Rows, and which of a segment's records they are of; None for all that were asked for."""
Make = Callable[[HistorySegment, str, Sequence[int], int, int], MadeRows[Made]]
"""Rows of a segment's records from one place to another; it is given all of their times."""
Part = tuple[list[int], list[Made]]
"""Times of some rows, and the rows."""


def rows_in(
    view: View,
    streams: Sequence[Stream],
    range_ns: tuple[int, int],
    make: Make[Made],
    *,
    newest_first: bool,
    few: int,
) -> Iterator[Part[Made]]:
    """The rows of all streams in a range, in order, slice by slice; all of one moment lie in one.
    ``few``: so many are probably enough.
    """
    from_ns, to_ns = range_ns
    hours = {hour for stream, _ in streams for hour in view.hours(stream, from_ns, to_ns)}
    # A little more, as records are not spread quite evenly.
    slices = _Slices(view, streams, make, max(min(few + few // 16, SLICE_ROWS), 256))
    for hour in sorted(hours, reverse=newest_first):
        begin, end = max(hour * HOUR_NS, from_ns), min((hour + 1) * HOUR_NS, to_ns)
        for found in slices.of(hour, begin, end, newest_first):
            yield _in_order(found, newest_first)


class _MadeOf(NamedTuple, Generic[Made]):
    """Rows made of a segment's records ``begin`` to ``end``, or of those at ``places`` alone."""

    segment: HistorySegment
    stream: str
    times: Sequence[int]
    begin: int
    end: int
    places: Sequence[int] | None
    rows: list[Made]

    def own_times(self) -> Iterable[int]:
        if self.places is None:
            return self.times[self.begin : self.end]
        return map(self.times.__getitem__, self.places)

    def orders(self) -> Iterable[Order]:
        orders = orders_of(self.segment, self.stream, self.times, self.begin, self.end)
        if self.places is None:
            return orders
        every = list(orders)
        return [every[place - self.begin] for place in self.places]


def _in_order(found: list[_MadeOf[Made]], newest_first: bool) -> Part[Made]:
    times = list(chain.from_iterable(one.own_times() for one in found))
    rows = list(chain.from_iterable(one.rows for one in found))
    if _is_behind(found) or all(map(lt, times, times[1:])):
        # As most often: one stream, whose segments lie one behind the other.
        if newest_first:
            times.reverse()
            rows.reverse()
        return times, rows
    keys: Sequence[int] | Sequence[Order] = times
    if len(set(times)) < len(times):
        keys = [order for one in found for order in one.orders()]
    order = sorted(range(len(times)), key=keys.__getitem__, reverse=newest_first)
    return [times[place] for place in order], [rows[place] for place in order]


def _is_behind(found: Sequence[_MadeOf[Made]]) -> bool:
    """Whether it is seen at once that each row is of a later moment than the one before."""
    return all(rises(one.segment.times) for one in found) and all(
        one.times[one.end - 1] < two.times[two.begin] for one, two in pairwise(found)
    )


class _Slices(Generic[Made]):
    """Makes the rows of an hour slice by slice."""

    def __init__(self, view: View, streams: Sequence[Stream], make: Make[Made], rows: int) -> None:
        self._view, self._streams, self._make, self._rows = view, streams, make, rows

    def of(
        self, hour: int, begin: int, end: int, newest_first: bool
    ) -> Iterator[list[_MadeOf[Made]]]:
        count = 0
        for segment, _ in self._segments(hour):
            if segment.last_ns >= begin and segment.first_ns < end:
                # As if they were spread evenly.
                span = segment.last_ns - segment.first_ns + 1
                within = min(segment.last_ns + 1, end) - max(segment.first_ns, begin)
                count += max(segment.count * within // span, 1)
        if not count:
            return
        width = (end - begin) * self._rows // count
        yield from self._part(hour, begin, end, width, newest_first)

    def _part(
        self, hour: int, begin: int, end: int, width: int, newest_first: bool
    ) -> Iterator[list[_MadeOf[Made]]]:
        width = max(width, 1)
        starts = (
            range(end - width, begin - width, -width) if newest_first else range(begin, end, width)
        )
        for one in starts:
            start, stop = max(one, begin), min(one + width, end)
            found = self._made(hour, start, stop)
            if found is None:
                yield from self._part(hour, start, stop, (stop - start) // 8, newest_first)
            elif found:
                yield found

    def _made(self, hour: int, begin: int, end: int) -> list[_MadeOf[Made]] | None:
        """The rows of a slice; None where they are too many and the slice can be smaller."""
        found: list[_MadeOf[Made]] = []
        count = 0
        for segment, stream in self._segments(hour):
            if segment.last_ns < begin or segment.first_ns >= end:
                continue
            times = times_of(segment)
            first, last = bisect_left(times, begin), bisect_left(times, end)
            if count + last - first > self._rows * _TOO_MANY and end - begin > 1:
                return None
            if first < last:
                made = self._make(segment, stream, times, first, last)
                found.append(_MadeOf(segment, stream, times, first, last, *made))
                count += len(made[1])
        return found

    def _segments(self, hour: int) -> Iterator[tuple[HistorySegment, str]]:
        for stream, number in self._streams:
            for segment in self._view.segments(stream, number, hour):
                yield segment, stream


def json_rows(wanted: Filter | None) -> Make[bytes]:
    """Makes records as JSON text."""

    def make(
        segment: HistorySegment, stream: str, times: Sequence[int], begin: int, end: int
    ) -> MadeRows[bytes]:
        kept = None if wanted is None else _kept(segment, stream, begin, end, wanted)
        if kept == []:
            return kept, []
        texts = records_as_json(segment, stream, times, begin, end)
        return kept, texts if kept is None else [texts[place - begin] for place in kept]

    return make


def record_rows(wanted: Filter | None) -> Make[Record]:
    """Makes records as they are."""

    def make(
        segment: HistorySegment, stream: str, times: Sequence[int], begin: int, end: int
    ) -> MadeRows[Record]:
        records = list(records_of(segment, stream))[begin:end]
        if wanted is None:
            return None, records
        kept = [place for place, record in enumerate(records) if wanted(record)]
        return [begin + place for place in kept], [records[place] for place in kept]

    return make


def point_rows(paths: Sequence[Path], wanted: Filter | None) -> Make[list[object]]:
    """Makes rows with room for the time, the stream, and the values of fields; none for a record
    that has none of them.
    """

    def make(
        segment: HistorySegment, stream: str, times: Sequence[int], begin: int, end: int
    ) -> MadeRows[list[object]]:
        table = None if wanted is not None else whole_table(segment, paths)
        if table is not None:
            columns = [table.columns[table.paths.index(path)] for path in paths]
            whole = (decode_column(one, table.count)[begin:end] for one in columns)
            return None, [[None, stream, *values] for values in zip(*whole, strict=True)]
        rows = _found(segment, stream, paths, begin, end)
        places = sorted(rows)
        if rows and wanted is not None:
            kept = _kept(segment, stream, begin, end, wanted)
            places = sorted(rows.keys() & kept)
        return places, [rows[place] for place in places]

    return make


def json_points(
    paths: Sequence[Path], wanted: Filter | None, *, unix: bool, keys: Sequence[str] | None
) -> Make[bytes]:
    """Makes the rows of `point_rows` as JSON."""
    row_by_row = point_rows(paths, wanted)

    def make(
        segment: HistorySegment, stream: str, times: Sequence[int], begin: int, end: int
    ) -> MadeRows[bytes]:
        shape = RowShape((stream,), len(paths), unix=unix, keys=keys)
        if wanted is None:
            whole = points_as_json(segment, times, begin, end, paths, shape)
            if whole is not None:
                return None, whole
        places, rows = row_by_row(segment, stream, times, begin, end)
        assert places is not None
        columns = ([encode_json(row[index]) for row in rows] for index in range(2, 2 + len(paths)))
        return places, shape.rows([times[place] for place in places], columns)

    return make


def _found(
    segment: HistorySegment, stream: str, paths: Sequence[Path], begin: int, end: int
) -> dict[int, list[object]]:
    """By place: a row for each record that has one of the fields."""
    rows: dict[int, list[object]] = {}
    for table in segment.tables:
        places: Sequence[int] | None = None
        for index, path in enumerate(paths, 2):
            if path not in table.paths:
                continue
            if places is None:
                found = table.places
                places = range(table.count) if found is None else unpack(found, table.count)
            values = decode_column(table.columns[table.paths.index(path)], table.count)
            first, last = bisect_left(places, begin), bisect_left(places, end)
            for place, value in zip(places[first:last], values[first:last], strict=True):
                row = rows.get(place)
                if row is None:
                    row = rows[place] = [None, stream, *[None] * len(paths)]
                row[index] = value
    return rows


def _kept(segment: HistorySegment, stream: str, begin: int, end: int, wanted: Filter) -> list[int]:
    records = list(records_of(segment, stream))[begin:end]
    return [place for place, record in enumerate(records, begin) if wanted(record)]
