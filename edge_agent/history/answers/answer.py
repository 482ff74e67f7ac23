"""An answer: its rows, and how they are written as JSON, lines of JSON or CSV, piece by piece.

Whole records look as everywhere (`edge_agent.output.render`). Figures and points are a table:
``time``, ``stream`` (unless grouped otherwise), and a column for each field and aggregate. JSON has
it as ``{"columns": […], "rows": [[…]], …}``, a line of JSON as an object. JSON ends with
``truncated``, ``next`` and what else is to be said; the same is `Answer.outcome`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, repeat
from typing import Any, TypeVar

from edge_agent.errors import ProtocolError
from edge_agent.history.answers.fields import fields_of_stream
from edge_agent.history.answers.figures import (
    FiguresByStep,
    Wanted,
    cells_in,
    figures,
    shown,
    side_by_side,
    spans_of,
    together,
)
from edge_agent.history.answers.json_text import RowShape, start_texts
from edge_agent.history.answers.reading import View
from edge_agent.history.answers.rows import (
    Make,
    Part,
    Stream,
    json_points,
    json_rows,
    point_rows,
    record_rows,
    rows_in,
)
from edge_agent.history.format.segment import Path
from edge_agent.history.question import (
    ALL_NS,
    FIELDS_MAX,
    FROM_VALUES,
    Question,
    format_next,
)
from edge_agent.output.render import cell_of, encode_json, to_csv, to_json
from edge_agent.values.field_paths import path_text
from edge_agent.values.filter import Filter, compile_filter
from edge_agent.values.moments import bad_query
from edge_agent.values.record import NANOSECONDS, Record, format_time

#: A piece has about this size, and is one row where that is larger.
PIECE_BYTES = 64 * 1024
#: What an answer has at most. Rows end there and say where to go on.
ANSWER_BYTES_MAX = 16 * 1024 * 1024
#: Rows that are made text at once.
_BATCH_ROWS = 250
#: A table that is filled has no more cells for each stream.
FILLED_MAX = 1_000_000
#: What a record in memory occupies beyond its text, about.
_RECORD_BYTES = 600

Made = TypeVar("Made")
Block = tuple[str, list[int], list[list[Any]]]
"""Some rows of figures: what they are of, starts of steps, and a column for each aggregate."""


@dataclass(slots=True)
class Outcome:
    """What is said at the end of an answer."""

    rows: int = 0
    truncated: bool = False
    next: str | None = None
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Answer:
    """The answer to one question about some streams; `pieces` writes it."""

    view: View
    question: Question
    streams: Sequence[Stream]
    outcome: Outcome = field(default_factory=Outcome)
    _size: int = 0

    def pieces(self, form: str) -> Iterator[bytes]:
        """The answer in the form ``json``, ``ndjson`` or ``csv``, or as ``parts``: the columns if
        it is a table, then rows or records in JSON, comma between them. `outcome` is whole at its
        end.
        """
        if self.question.kind == "records":
            yield from self._record_pieces(form)
            return
        columns, paths = self._columns()
        if form == "csv":
            yield _csv([columns])
            for batch in _batches(self._rows_of(paths)):
                yield self._weighed(_csv(batch))
            return
        if form == "ndjson":
            for piece in self._lines(columns, paths):
                yield piece + b"\n"
            return
        told = encode_json(columns)
        yield told if form == "parts" else b'{"columns":' + told + b',"rows":['
        yield from self._joined(self._table_pieces(paths, b","), form)

    def _lines(self, columns: Sequence[str], paths: Sequence[Path]) -> Iterator[bytes]:
        if len(set(columns)) == len(columns):
            return self._table_pieces(paths, b"\n", columns)
        # Of two columns of one name an object has the last.
        rows = self._rows_of(paths)
        lines = (encode_json(dict(zip(columns, row, strict=True))) for row in rows)
        return map(self._weighed, _pieces(lines, b"\n"))

    def _table_pieces(
        self, paths: Sequence[Path], separator: bytes, keys: Sequence[str] | None = None
    ) -> Iterator[bytes]:
        if self.question.kind == "points":
            make = json_points(paths, self._filter(), unix=self.question.unix, keys=keys)
            yield from self._texts(make, separator)
            return
        blocks = self._limited_figures(paths)
        texts = chain.from_iterable(self._shown(block, keys) for block in blocks)
        for batch in _batches(texts):
            whole = separator.join(batch)
            pieces = [whole] if len(whole) <= PIECE_BYTES else _pieces(batch, separator)
            yield from map(self._weighed, pieces)

    def _joined(self, pieces: Iterator[bytes], form: str) -> Iterator[bytes]:
        if form == "parts":
            yield from pieces
            return
        separator = b""
        for piece in pieces:
            yield separator + piece
            separator = b","
        yield b"]," + encode_json(self.told())[1:] + b"\n"

    def told(self) -> dict[str, Any]:
        """What stands behind the rows."""
        told = {
            "truncated": self.outcome.truncated,
            "next": self.outcome.next,
            **self.outcome.notes,
        }
        if self.view.damaged:
            told["damaged"] = self.view.damaged
        return told

    def _weighed(self, piece: bytes) -> bytes:
        self._size += len(piece)
        if self._size > ANSWER_BYTES_MAX and self.question.kind == "figures":
            raise ProtocolError(
                "too_long",
                f"the answer has more than {ANSWER_BYTES_MAX // 2**20} MiB; ask for less time, a"
                " larger step, or fewer streams, fields or aggregates",
            )
        return piece

    # Whole records, and points.

    def _record_pieces(self, form: str) -> Iterator[bytes]:
        if form == "csv":
            # Its heading has every field that some record has.
            found: list[Record] = []
            for _, batch in self._ordered(record_rows(self._filter())):
                found += batch
                self._size += sum(_RECORD_BYTES + len(to_json(record)) for record in batch)
            yield to_csv(found)
            return
        separator = b"\n" if form == "ndjson" else b","
        pieces = self._texts(json_rows(self._filter()), separator)
        if form == "ndjson":
            for piece in pieces:
                yield piece + b"\n"
            return
        if form == "json":
            yield b'{"records":['
        yield from self._joined(pieces, form)

    def _texts(self, make: Make[bytes], separator: bytes) -> Iterator[bytes]:
        for _, batch in self._ordered(make, len):
            yield self._weighed(separator.join(batch))

    def _ordered(
        self, make: Make[Made], size: Callable[[Made], int] = lambda _: 0
    ) -> Iterator[Part[Made]]:
        """The rows behind those that the answer before had, until the limit; so many at a time that
        they are a piece.
        """
        question, outcome = self.question, self.outcome
        first_ns = question.to_ns - 1 if question.newest_first else question.from_ns
        slices = rows_in(
            self.view, self.streams, (question.from_ns, question.to_ns), make,
            newest_first=question.newest_first, few=question.limit + question.skip + 1,
        )  # fmt: skip
        for times, rows in slices:
            # Only the first slice has rows of the moment at which the answer before ended.
            at = times[: question.skip].count(first_ns)
            while at < len(rows):
                if outcome.rows >= question.limit or self._size > ANSWER_BYTES_MAX:
                    outcome.truncated = True
                    outcome.next = format_next(*_place(times, at))
                    return
                batch = rows[at : at + min(question.limit - outcome.rows, _BATCH_ROWS)]
                while len(batch) > 1 and sum(map(size, batch)) + len(batch) > PIECE_BYTES:
                    batch = batch[: len(batch) // 2]
                outcome.rows += len(batch)
                yield times[at : at + len(batch)], batch
                at += len(batch)

    # Tables.

    def _columns(self) -> tuple[list[str], list[Path]]:
        """What stands above the columns, and the fields that are asked for."""
        question = self.question
        paths = list(question.fields)
        if not paths:
            for stream, number in self.streams:
                found = fields_of_stream(self.view, stream, number, *question.span_ns)
                paths = list(dict.fromkeys((*paths, *found)))
            if len(paths) > FIELDS_MAX:
                self.outcome.notes["fields_left_out"] = len(paths) - FIELDS_MAX
                paths = paths[:FIELDS_MAX]
        names = [path_text(path) for path in paths]
        if question.kind == "points":
            return ["time", "stream", *names], paths
        named = {"stream": ["stream"], "none": []}.get(question.group, ["group"])
        figured = [f"{name}_{one}" for name in names for one in question.aggregates]
        return ["time", *named, *figured], paths

    def _rows_of(self, paths: Sequence[Path]) -> Iterator[Sequence[Any]]:
        if self.question.kind == "points":
            return self._points(paths)
        return chain.from_iterable(map(self._rows, self._limited_figures(paths)))

    @property
    def _time(self) -> Callable[[int], Any]:
        return (lambda time_ns: time_ns / NANOSECONDS) if self.question.unix else format_time

    def _points(self, paths: Sequence[Path]) -> Iterator[list[Any]]:
        time = self._time
        for times, batch in self._ordered(point_rows(paths, self._filter())):
            for time_ns, row in zip(times, batch, strict=True):
                row[0] = time(time_ns)
                yield row

    def _filter(self) -> Filter | None:
        return compile_filter(self.question.filter) if self.question.filter else None

    def _limited_figures(self, paths: Sequence[Path]) -> Iterator[Block]:
        for name, starts, columns in self._figures(paths):
            room = self.question.limit - self.outcome.rows
            self.outcome.rows += min(len(starts), room)
            if starts and room:
                yield name, starts[:room], [column[:room] for column in columns]
            if len(starts) > room:
                self.outcome.truncated = True
                return

    def _figures(self, paths: Sequence[Path]) -> Iterator[Block]:
        question = self.question
        wanted = Wanted(
            *question.span_ns, question.step_ns, question.aggregates, self._filter(),
            question.back_ns,
        )  # fmt: skip
        for name, members in self._groups().items():
            if question.fill != "none" and wanted.step_ns != ALL_NS:
                yield from self._filled(name, members, paths, wanted)
                continue
            for span in spans_of(self.view, members, wanted, newest_first=question.newest_first):
                found = [self._column(members, path, span) for path in paths]
                yield self._block(name, *side_by_side(found, len(wanted.aggregates)))

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

    def _column(self, members: Sequence[Stream], path: Path, wanted: Wanted) -> FiguresByStep:
        if len(members) == 1:
            return figures(self.view, *members[0], path, wanted)
        if set(wanted.aggregates) & set(FROM_VALUES):
            raise bad_query(
                f"aggregate: {', '.join(FROM_VALUES)} are of single streams; group by stream"
            )
        parts = (cells_in(self.view, *member, path, wanted) for member in members)
        return shown(together(parts, wanted), wanted.aggregates)

    def _block(self, name: str, starts: list[int], columns: list[list[Any]]) -> Block:
        if self.question.newest_first:
            starts, columns = starts[::-1], [column[::-1] for column in columns]
        return name, starts, columns

    def _lead(self, name: str) -> list[str]:
        return [] if self.question.group == "none" else [name]

    def _rows(self, block: Block) -> Iterator[Sequence[Any]]:
        name, starts, columns = block
        lead = map(repeat, self._lead(name))
        times = map(self._time, starts) if self.question.unix else start_texts(starts)
        return zip(times, *lead, *columns, strict=False)

    def _shown(self, block: Block, keys: Sequence[str] | None) -> list[bytes]:
        name, starts, columns = block
        shape = RowShape(self._lead(name), len(columns), unix=self.question.unix, keys=keys)
        return shape.figures(starts, columns)

    def _filled(
        self, name: str, members: Sequence[Stream], paths: Sequence[Path], wanted: Wanted
    ) -> Iterator[Block]:
        """Rows for all steps; none for a stream that has nothing in the whole range."""
        width = len(wanted.aggregates)
        count = (wanted.to_ns - wanted.from_ns) // wanted.step_ns
        most = FILLED_MAX // max(width * len(paths), 1)
        if count > most:
            raise bad_query(
                f"fill: at most {most} steps of so many figures, these are {count}; ask for less"
                " time or a larger step"
            )
        found = [FiguresByStep([], [[] for _ in range(width)]) for _ in paths]
        for span in spans_of(self.view, members, wanted, newest_first=False):
            for column, path in zip(found, paths, strict=True):
                column.extend(self._column(members, path, span))
        if any(found):
            starts = list(range(wanted.from_ns, wanted.to_ns, wanted.step_ns))
            columns = [values for one in found for values in _fill(one, starts, self.question.fill)]
            yield self._block(name, starts, columns)


def _place(times: Sequence[int], at: int) -> tuple[int, int]:
    """The moment of a row, and how many of that moment stand before it."""
    before = at
    while before and times[before - 1] == times[at]:
        before -= 1
    return times[at], at - before


def _fill(figures: FiguresByStep, starts: Sequence[int], fill: str) -> list[list[Any]]:
    width = len(figures.columns)
    known = dict(zip(figures.starts, zip(*figures.columns, strict=True), strict=True))
    before: tuple[Any, ...] = (None if fill in ("null", "previous") else float(fill),) * width
    filled = []
    for start in starts:
        found = known.get(start)
        filled.append(before if found is None else found)
        if fill == "previous" and found is not None:
            before = found
    return list(map(list, zip(*filled, strict=True)))


def _batches(rows: Iterator[Made]) -> Iterator[list[Made]]:
    while batch := list(islice(rows, _BATCH_ROWS)):
        yield batch


def _pieces(texts: Iterable[bytes], separator: bytes) -> Iterator[bytes]:
    """The texts in pieces of `PIECE_BYTES`."""
    held: list[bytes] = []
    size = 0
    for text in texts:
        if held and size + len(text) > PIECE_BYTES:
            yield separator.join(held)
            held, size = [], 0
        held.append(text)
        size += len(text) + 1
    if held:
        yield separator.join(held)


def _csv(rows: Sequence[Sequence[Any]]) -> bytes:
    target = io.StringIO(newline="")
    writer = csv.writer(target)
    for row in rows:
        writer.writerow([cell_of(one) for one in row])
    return target.getvalue().encode()
