"""Records as Parquet or Arrow, through the extra ``arrow`` (pyarrow): for `edge-agent export`, and
for files that go elsewhere.

A column has one type, which has to be known before the first record is written: `Kinds` looks at
all records first. What has several types, or one that a column cannot have, is JSON text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import IO, Any

from edge_agent.errors import NotColumnar
from edge_agent.extras import library_needed
from edge_agent.output.printable import cells_problem, json_text
from edge_agent.values.record import NANOSECONDS

FORMS = ("parquet", "arrow")
#: Columns in front of the fields; a field of such a name is called ``field.NAME``.
OWN = ("log", "seq", "stream", "time", "source", "time_quality")
#: Cells of one page (`edge_agent.output.printable`), which are lists before they are columns.
PAGE_CELLS_MAX = 5_000_000
_INT64 = 1 << 63
#: From the narrowest to the widest.
_INTEGER, _NUMBER, _TRUTH, _TEXT, _ANY = "int64", "float64", "bool_", "string", "json"


class Kinds:
    """The type of each field's column, as far as records were looked at."""

    def __init__(self) -> None:
        self._kinds: dict[str, str | None] = {}

    def look_at(self, records: Iterable[dict[str, Any]]) -> None:
        """Some more records."""
        for record in records:
            for name, value in record["fields"].items():
                self._kinds[name] = _joined(self._kinds.get(name), _kind_of(value))

    def items(self) -> Iterator[tuple[str, str]]:
        """Each field and its kind; a field that was always null is text."""
        for name, kind in self._kinds.items():
            yield name, kind or _TEXT


@contextmanager
def columnar_writer(
    out: IO[bytes], form: str, kinds: Kinds, own: Sequence[str] = OWN
) -> Iterator[ColumnarWriter]:
    """Writes pages of records to ``out`` as ``form`` parquet or arrow, with the columns ``own`` in
    front of their fields.

    Raises:
        NotColumnar: pyarrow is missing.
    """
    arrow = needed()
    writer = ColumnarWriter(arrow, dict(kinds.items()), own)
    if form == "parquet":
        from pyarrow import parquet

        with parquet.ParquetWriter(out, writer.schema, compression="zstd") as target:
            writer.write_batch = target.write_batch
            yield writer
    else:
        with arrow.ipc.new_file(out, writer.schema) as target:
            writer.write_batch = target.write_batch
            yield writer


def needed() -> Any:
    """The library. Raises NotColumnar, which says how to get it."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise NotColumnar(f"parquet and arrow need {library_needed('arrow')}") from error
    return pa


class ColumnarWriter:
    """Makes a batch of each page; memory holds one page."""

    def __init__(self, arrow: Any, kinds: dict[str, str], own: Sequence[str] = OWN) -> None:
        self._arrow, self._kinds, self._own = arrow, kinds, own
        types = {
            "seq": arrow.int64(),
            "time": arrow.timestamp("ns", tz="UTC"),
        }
        columns = [(name, types.get(name, arrow.string())) for name in own]
        for name, kind in kinds.items():
            shown = f"field.{name}" if name in own else name
            columns.append((shown, arrow.string() if kind == _ANY else getattr(arrow, kind)()))
        self.schema = arrow.schema(columns)
        self.write_batch: Any = None

    def write(self, records: list[dict[str, Any]]) -> None:
        """One page.

        Raises:
            NotColumnar: a column cannot hold what came, or they are too many cells.
        """
        if problem := cells_problem(len(records), len(self._kinds), PAGE_CELLS_MAX):
            raise NotColumnar(f"{problem}: take fewer streams at a time, or NDJSON")
        # An answer leaves out what is usual (`edge_agent.output.render`).
        usual = {"log": "main", "time_quality": "sensor"}
        columns: list[list[Any]] = [
            [{**usual, **record}[name] for record in records]
            if name != "time"
            else [time_ns_of(record[name]) for record in records]
            for name in self._own
        ]
        for name, kind in self._kinds.items():
            values = [record["fields"].get(name) for record in records]
            if kind == _ANY:
                values = [None if value is None else json_text(value) for value in values]
            elif kind == _NUMBER:
                values = [None if value is None else float(value) for value in values]
            columns.append(values)
        try:
            arrays = [
                self._arrow.array(values, type=field.type)
                for values, field in zip(columns, self.schema, strict=True)
            ]
        except (self._arrow.ArrowException, TypeError, ValueError) as error:
            raise NotColumnar(
                f"other records came while this was written; try again ({error})"
            ) from error
        self.write_batch(self._arrow.record_batch(arrays, schema=self.schema))


def time_ns_of(text: str) -> int:
    """Ns since 1970 of a time as answers have it."""
    whole, _, part = text.removesuffix("Z").partition(".")
    seconds = round(datetime.fromisoformat(f"{whole}+00:00").timestamp())
    return seconds * NANOSECONDS + int(part.ljust(9, "0") or 0)


def _kind_of(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return _TRUTH
    if isinstance(value, int):
        return _INTEGER if -_INT64 <= value < _INT64 else _ANY
    return _NUMBER if isinstance(value, float) else _TEXT if isinstance(value, str) else _ANY


def _joined(one: str | None, two: str | None) -> str | None:
    if one is None or two is None or one == two:
        return one or two
    return _NUMBER if {one, two} == {_INTEGER, _NUMBER} else _ANY
