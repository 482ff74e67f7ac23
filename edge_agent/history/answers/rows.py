"""Rows of an answer that has one for each record: whole records, or points. In order of time.

An hour of many streams may be more than there is memory for, and an answer mostly ends long before.
So an hour is looked through in slices of about `SLICE_ROWS`, all streams of a slice at a time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Generic, TypeVar

from edge_agent.filter import Filter
from edge_agent.history.answers.json_text import (
    Order,
    moment,
    orders_of,
    points_as_json,
    records_as_json,
    whole_table,
)
from edge_agent.history.answers.reading import View
from edge_agent.history.format.columns import decode_column
from edge_agent.history.format.packing import unpack
from edge_agent.history.format.segment import HistorySegment, Path, records_of, times_of
from edge_agent.history.keys import HOUR_NS
from edge_agent.record import Record
from edge_agent.render import encode_json

#: Rows that are made at a time, about.
SLICE_ROWS = 8192
#: Where an hour has this many times more than was expected, its slices are made smaller.
_TOO_MANY = 4

Made = TypeVar("Made")
Stream = tuple[str, int]
"""Name and number in the file; 0 where only the tail knows it."""
Make = Callable[[HistorySegment, str, Sequence[int], int, int], Iterable[tuple[Order, Made]]]
"""Rows of a segment's records from one place to another; it is given all of their times."""

_order_of = itemgetter(0)


def rows_in(
    view: View,
    streams: Sequence[Stream],
    range_ns: tuple[int, int],
    make: Make[Made],
    *,
    newest_first: bool,
    few: int,
) -> Iterator[list[tuple[Order, Made]]]:
    """The rows of all streams in a range, in order, slice by slice; all of one moment lie in one.
    ``few``: so many are probably enough.
    """
    from_ns, to_ns = range_ns
    hours = {hour for stream, _ in streams for hour in view.hours(stream, from_ns, to_ns)}
    slices = _Slices(view, streams, make, max(min(few * 5 // 4, SLICE_ROWS), 256))
    for hour in sorted(hours, reverse=newest_first):
        begin, end = max(hour * HOUR_NS, from_ns), min((hour + 1) * HOUR_NS, to_ns)
        for part in slices.of(hour, begin, end, newest_first):
            part.sort(key=_order_of, reverse=newest_first)
            yield part


class _Slices(Generic[Made]):
    """Makes the rows of an hour slice by slice."""

    def __init__(self, view: View, streams: Sequence[Stream], make: Make[Made], rows: int) -> None:
        self._view, self._streams, self._make, self._rows = view, streams, make, rows

    def of(
        self, hour: int, begin: int, end: int, newest_first: bool
    ) -> Iterator[list[tuple[Order, Made]]]:
        count = 0
        for segment, _ in self._segments(hour):
            if segment.last_ns >= begin and segment.first_ns < end:
                # As if they were spread evenly.
                span = segment.last_ns - segment.first_ns + 1
                within = min(segment.last_ns + 1, end) - max(segment.first_ns, begin)
                count += max(segment.count * within // span, 1)
        if not count:
            return
        yield from self._part(hour, begin, end, -(-count // self._rows), newest_first)

    def _part(
        self, hour: int, begin: int, end: int, pieces: int, newest_first: bool
    ) -> Iterator[list[tuple[Order, Made]]]:
        width = max(-(-(end - begin) // pieces), 1)
        starts = range(begin, end, width)
        for start in reversed(starts) if newest_first else starts:
            stop = min(start + width, end)
            found = self._made(hour, start, stop)
            if found is None:
                yield from self._part(hour, start, stop, 8, newest_first)
            elif found:
                yield found

    def _made(self, hour: int, begin: int, end: int) -> list[tuple[Order, Made]] | None:
        """The rows of a slice; None where they are too many and the slice can be smaller."""
        found: list[tuple[Order, Made]] = []
        for segment, stream in self._segments(hour):
            if segment.last_ns < begin or segment.first_ns >= end:
                continue
            times = times_of(segment)
            first, last = bisect_left(times, begin), bisect_left(times, end)
            if len(found) + last - first > self._rows * _TOO_MANY and end - begin > 1:
                return None
            if first < last:
                found += self._make(segment, stream, times, first, last)
        return found

    def _segments(self, hour: int) -> Iterator[tuple[HistorySegment, str]]:
        for stream, number in self._streams:
            for segment in self._view.segments(stream, number, hour):
                yield segment, stream


def json_rows(wanted: Filter | None) -> Make[bytes]:
    """Makes records as JSON text."""
    if wanted is None:
        return records_as_json

    def make(
        segment: HistorySegment, stream: str, times: Sequence[int], begin: int, end: int
    ) -> Iterator[tuple[Order, bytes]]:
        kept = _kept(segment, stream, begin, end, wanted)
        for place, row in enumerate(records_as_json(segment, stream, times, begin, end), begin):
            if place in kept:
                yield row

    return make


def record_rows(wanted: Filter | None) -> Make[Record]:
    """Makes records as they are."""

    def make(
        segment: HistorySegment, stream: str, times: Sequence[int], begin: int, end: int
    ) -> Iterator[tuple[Order, Record]]:
        for record in list(records_of(segment, stream))[begin:end]:
            if wanted is None or wanted(record):
                yield (record.time_ns, stream, record.log, record.seq), record

    return make


def point_rows(paths: Sequence[Path], wanted: Filter | None) -> Make[list[object]]:
    """Makes rows with room for the time, the stream, and the values of fields; none for a record
    that has none of them.
    """

    def make(
        segment: HistorySegment, stream: str, times: Sequence[int], begin: int, end: int
    ) -> Iterator[tuple[Order, list[object]]]:
        orders = orders_of(segment, stream, times, begin, end)
        table = None if wanted is not None else whole_table(segment, paths)
        if table is not None:
            columns = [table.columns[table.paths.index(path)] for path in paths]
            whole = (decode_column(one, table.count)[begin:end] for one in columns)
            for order, *values in zip(orders, *whole, strict=True):
                yield order, [None, stream, *values]
            return
        rows = _found(segment, stream, paths, begin, end)
        if not rows:
            return
        kept = None if wanted is None else _kept(segment, stream, begin, end, wanted)
        order_of = list(orders)
        for place, row in rows.items():
            if kept is None or place in kept:
                yield order_of[place - begin], row

    return make


def json_points(paths: Sequence[Path], wanted: Filter | None) -> Make[bytes]:
    """Makes the rows of `point_rows` as JSON text, with the time as text."""
    row_by_row = point_rows(paths, wanted)

    def make(
        segment: HistorySegment, stream: str, times: Sequence[int], begin: int, end: int
    ) -> Iterable[tuple[Order, bytes]]:
        if wanted is None:
            whole = points_as_json(segment, stream, times, begin, end, paths)
            if whole is not None:
                return whole
        rows = row_by_row(segment, stream, times, begin, end)
        return [(order, encode_json([moment(order[0]), *row[1:]])) for order, row in rows]

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


def _kept(segment: HistorySegment, stream: str, begin: int, end: int, wanted: Filter) -> set[int]:
    records = list(records_of(segment, stream))[begin:end]
    return {place for place, record in enumerate(records, begin) if wanted(record)}
