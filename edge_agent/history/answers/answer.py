"""An answer: its rows, and how they are written as JSON, lines of JSON or CSV, piece by piece.

Whole records look as everywhere (`edge_agent.render`). Figures and points are a table: ``time``,
``stream`` (unless grouped otherwise), and a column for each field and aggregate. JSON has it as
``{"columns": […], "rows": [[…]], …}``, a line of JSON as an object, both with ``truncated`` and
what else is to be said at the end.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from heapq import merge
from itertools import chain, islice
from operator import itemgetter
from typing import Any

from edge_agent.errors import ProtocolError
from edge_agent.filter import Filter, compile_filter
from edge_agent.history.answers.figures import (
    Figures,
    Wanted,
    cells_in,
    fields_of_stream,
    figures,
    shown,
    values_in,
)
from edge_agent.history.answers.reading import View
from edge_agent.history.format.rollup import join_cells
from edge_agent.history.format.segment import Path, records_of
from edge_agent.history.keys import HOUR_NS, MINUTE_NS, RAW
from edge_agent.history.question import (
    ALL_NS,
    FIELDS_MAX,
    FROM_VALUES,
    Question,
    format_next,
    format_path,
)
from edge_agent.moments import bad_query
from edge_agent.printable import csv_text
from edge_agent.record import NANOSECONDS, Record, format_time
from edge_agent.render import encode_json, to_csv, to_json

#: Rows of one piece.
PIECE_ROWS = 500
#: A table that is filled has no more steps for each stream.
FILLED_MAX = 100_000
_DAY_S = 86_400
FORMATS = ("json", "ndjson", "csv")

Stream = tuple[str, int]
"""Name and number; 0 where only the tail knows it."""


@dataclass(slots=True)
class Outcome:
    """What is said at the end of an answer."""

    rows: int = 0
    truncated: bool = False
    next: str | None = None
    seconds: float = 0.0
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Answer:
    """The answer to one question about some streams; `pieces` writes it."""

    view: View
    question: Question
    streams: Sequence[Stream]
    #: Times as seconds since 1970 instead of text.
    unix: bool = False
    outcome: Outcome = field(default_factory=Outcome)

    def pieces(self, form: str) -> Iterator[bytes]:
        """The answer in the form ``json``, ``ndjson`` or ``csv``; `outcome` is whole at its end."""
        if self.question.kind == "records":
            yield from self._record_pieces(form)
            return
        columns, rows = self._table()
        limited = self._limited(rows)
        if form == "csv":
            yield _csv([columns])
            for part in _parts(limited):
                yield _csv(part)
        elif form == "ndjson":
            for part in _parts(limited):
                yield b"".join(
                    encode_json(dict(zip(columns, row, strict=True))) + b"\n" for row in part
                )
        else:
            yield b'{"columns":' + encode_json(columns) + b',"rows":['
            yield from _joined(map(encode_json, part) for part in _parts(limited))
            yield b"]," + self._rest()

    def _rest(self) -> bytes:
        said = {
            "truncated": self.outcome.truncated,
            "next": self.outcome.next,
            **self.outcome.notes,
        }
        if self.view.damaged:
            said["damaged"] = self.view.damaged
        return encode_json(said)[1:] + b"\n"

    # Whole records.

    def _record_pieces(self, form: str) -> Iterator[bytes]:
        records = self._limited_records()
        if form == "csv":
            # Its heading has every field that some record has.
            yield to_csv(list(records))
        elif form == "ndjson":
            for part in _parts(records):
                yield b"".join(to_json(one) + b"\n" for one in part)
        else:
            yield b'{"records":['
            yield from _joined(map(to_json, part) for part in _parts(records))
            yield b"]," + self._rest()

    def _limited_records(self) -> Iterator[Record]:
        question = self.question
        first_ns = question.to_ns - 1 if question.newest_first else question.from_ns
        at_ns, same = None, 0
        for record in self._records():
            if record.time_ns != at_ns:
                at_ns, same = record.time_ns, 0
            same += 1
            if at_ns == first_ns and same <= question.skip:
                continue
            if self.outcome.rows >= question.limit:
                self.outcome.truncated = True
                self.outcome.next = format_next(at_ns, same - 1)
                return
            self.outcome.rows += 1
            yield record

    def _records(self) -> Iterator[Record]:
        """Every record that is wanted, by time, of equal times by stream and seq."""
        question, view = self.question, self.view
        wanted = self._filter()
        hours = {*view.buckets(RAW, question.from_ns, question.to_ns)}
        first, end = question.from_ns // HOUR_NS, -(-question.to_ns // HOUR_NS)
        for stream, _ in self.streams:
            hours |= {hour for hour in view.tail_hours(stream) if first <= hour < end}
        for hour in sorted(hours, reverse=question.newest_first):
            found = [
                record
                for stream, number in self.streams
                for segment in view.segments(stream, number, hour)
                if segment.last_ns >= question.from_ns and segment.first_ns < question.to_ns
                for record in records_of(segment, stream)
                if question.from_ns <= record.time_ns < question.to_ns
                and (wanted is None or wanted(record))
            ]
            found.sort(key=_order, reverse=question.newest_first)
            yield from found

    # Tables.

    def _limited(self, rows: Iterable[list[Any]]) -> Iterator[list[Any]]:
        for row in rows:
            if self.outcome.rows >= self.question.limit:
                self.outcome.truncated = True
                return
            self.outcome.rows += 1
            yield row

    def _table(self) -> tuple[list[str], Iterator[list[Any]]]:
        question = self.question
        paths = list(question.fields)
        if not paths:
            for stream, number in self.streams:
                found = fields_of_stream(
                    self.view, stream, number, question.from_ns, question.to_ns
                )
                paths = list(dict.fromkeys((*paths, *found)))
            if len(paths) > FIELDS_MAX:
                self.outcome.notes["fields_left_out"] = len(paths) - FIELDS_MAX
                paths = paths[:FIELDS_MAX]
        group = (
            []
            if question.group == "none"
            else ["stream" if question.group == "stream" else "group"]
        )
        names = [format_path(path) for path in paths]
        if question.kind == "points":
            return ["time", "stream", *names], self._points(paths)
        columns = [f"{name}_{one}" for name in names for one in question.aggregates]
        return ["time", *group, *columns], self._figures(paths)

    def _time(self, time_ns: int) -> Any:
        return time_ns / NANOSECONDS if self.unix else moment(time_ns)

    def _points(self, paths: Sequence[Path]) -> Iterator[list[Any]]:
        question = self.question
        wanted = Wanted(question.from_ns, question.to_ns, 0, (), self._filter())
        rows = [self._points_of(stream, paths, wanted) for stream in self.streams]
        for time_ns, row in merge(*rows, key=itemgetter(0), reverse=question.newest_first):
            row[0] = self._time(time_ns)
            yield row

    def _points_of(
        self, stream: Stream, paths: Sequence[Path], wanted: Wanted
    ) -> Iterator[tuple[int, list[Any]]]:
        found: dict[int, list[Any]] = {}
        for index, path in enumerate(paths, 2):
            pairs = values_in(self.view, *stream, path, wanted, wanted.from_ns)
            for time_ns, value in zip(*pairs, strict=True):
                row = found.get(time_ns)
                if row is None:
                    row = found[time_ns] = [None, stream[0], *[None] * len(paths)]
                row[index] = value
        for time_ns in sorted(found, reverse=self.question.newest_first):
            yield time_ns, found[time_ns]

    def _filter(self) -> Filter | None:
        return compile_filter(self.question.filter) if self.question.filter else None

    def _figures(self, paths: Sequence[Path]) -> Iterator[list[Any]]:
        question = self.question
        step_ns = question.step_ns
        unit = MINUTE_NS if step_ns == ALL_NS else step_ns
        from_ns, to_ns = question.from_ns // unit * unit, -(-question.to_ns // unit) * unit
        wanted = Wanted(from_ns, to_ns, step_ns, question.aggregates, self._filter())
        for name, members in self._groups().items():
            columns = [self._column(members, path, wanted) for path in paths]
            if any(columns):
                yield from self._rows(name, columns, wanted)

    def _groups(self) -> dict[str, list[Stream]]:
        group = self.question.group
        found: dict[str, list[Stream]] = {}
        for stream in self.streams:
            if group == "stream":
                name = stream[0]
            elif group == "none":
                name = ""
            else:
                parts = stream[0].split("/")
                name = parts[int(group) - 1] if int(group) <= len(parts) else ""
            found.setdefault(name, []).append(stream)
        return found

    def _column(self, members: Sequence[Stream], path: Path, wanted: Wanted) -> Figures:
        if len(members) == 1:
            return figures(self.view, *members[0], path, wanted)
        if set(wanted.aggregates) & set(FROM_VALUES):
            raise bad_query(
                f"aggregate: {', '.join(FROM_VALUES)} are of single streams; group by stream"
            )
        parts = [cells_in(self.view, *member, path, wanted) for member in members]
        return shown(join_cells(parts, wanted.step_ns), wanted.aggregates, {})

    def _rows(self, name: str, columns: Sequence[Figures], wanted: Wanted) -> Iterator[list[Any]]:
        question, width = self.question, len(wanted.aggregates)
        lead = [] if question.group == "none" else [name]
        empty: list[Any] = [None] * width
        starts = sorted({start for column in columns for start in column})
        if question.fill != "none" and wanted.step_ns != ALL_NS:
            starts = self._filled(wanted)
            columns = _fill(columns, starts, question.fill, width)
        if question.newest_first:
            starts.reverse()
        if len(columns) == 1:
            only = columns[0]
            for start in starts:
                yield [self._time(start), *lead, *only.get(start, empty)]
            return
        for start in starts:
            values = chain.from_iterable(column.get(start, empty) for column in columns)
            yield [self._time(start), *lead, *values]

    def _filled(self, wanted: Wanted) -> list[int]:
        count = (wanted.to_ns - wanted.from_ns) // wanted.step_ns
        if count > FILLED_MAX:
            raise bad_query(
                f"fill: at most {FILLED_MAX} steps, these are {count}; set from and step"
            )
        return list(range(wanted.from_ns, wanted.to_ns, wanted.step_ns))


def _fill(
    columns: Sequence[Figures], starts: Sequence[int], fill: str, width: int
) -> list[Figures]:
    made: list[Figures] = []
    for column in columns:
        filled: Figures = {}
        before = [None] * width if fill in ("null", "previous") else [float(fill)] * width
        for start in starts:
            found = column.get(start)
            filled[start] = before if found is None else found
            if fill == "previous" and found is not None:
                before = found
        made.append(filled)
    return made


def check_form(form: str) -> None:
    """Raises ProtocolError (``bad_query``) where there is no such form of answers."""
    if form not in FORMATS:
        raise ProtocolError("bad_query", f"format: expected json, ndjson or csv, got {form[:60]!r}")


def moment(time_ns: int) -> str:
    """As `format_time`, quicker for many of one day."""
    seconds, nanos = divmod(time_ns, NANOSECONDS)
    if nanos:
        return format_time(time_ns)
    day, second = divmod(seconds, _DAY_S)
    return f"{_date(day)}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z"


@lru_cache(maxsize=64)
def _date(day: int) -> str:
    return format_time(day * _DAY_S * NANOSECONDS)[:10]


def _order(record: Record) -> tuple[int, str, int]:
    return record.time_ns, record.stream, record.seq


def _parts(rows: Iterator[Any]) -> Iterator[list[Any]]:
    while part := list(islice(rows, PIECE_ROWS)):
        yield part


def _joined(parts: Iterable[Iterable[bytes]]) -> Iterator[bytes]:
    separator = b""
    for part in parts:
        yield separator + b",".join(part)
        separator = b","


def _csv(rows: Sequence[Sequence[Any]]) -> bytes:
    target = io.StringIO(newline="")
    writer = csv.writer(target)
    for row in rows:
        writer.writerow([csv_text(cell) if isinstance(cell, str) else cell for cell in row])
    return target.getvalue().encode()
