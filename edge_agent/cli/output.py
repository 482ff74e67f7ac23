"""Records and figures for eyes and for programs: tables, JSON, lines of JSON, CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import IO, Any

from edge_agent.output.csv_rows import cell, field_names, write_csv
from edge_agent.output.printable import csv_text, json_text, printable

#: Columns in front of the fields.
OWN_COLUMNS = ("seq", "stream", "time", "source")
#: What of a cell a table shows, and what of a value a line of `tail`.
_CELL_CHARACTERS = 60
_LINE_CHARACTERS = 200
_AGGREGATE_COLUMNS = ("stream", "count", "min", "max", "mean", "first", "last")


def line(record: dict[str, Any]) -> str:
    """One record for a person, on one line: time, stream, fields."""
    if "missed" in record:
        return f"… {record['missed']} records were missed: this reader is too slow"
    fields = "  ".join(
        f"{name}={_cut(cell(value), _LINE_CHARACTERS)}" for name, value in record["fields"].items()
    )
    of = f"  (of {record['count']})" if record.get("count", 1) > 1 else ""
    return printable(f"{record['time']}  {record['stream']}  {fields}{of}")


def print_table(records: Sequence[dict[str, Any]], out: IO[str]) -> None:
    """Columns as wide as needed; a field that no record has is no column."""
    names = field_names(records)
    rows = [[cell(record[name]) for name in OWN_COLUMNS] for record in records]
    for row, record in zip(rows, records, strict=True):
        row += [cell(record["fields"].get(name)) for name in names]
    print_columns([*OWN_COLUMNS, *names], rows, out)


def print_csv(records: Sequence[dict[str, Any]], out: IO[str]) -> None:
    """RFC 4180 with a heading; a field named like a column of ours is ``field.NAME``."""
    write_csv(records, field_names(records), out, heading=True)


def print_aggregates(aggregates: dict[str, dict[str, float]], form: str, out: IO[str]) -> None:
    """Figures per stream, in the format asked for."""
    told = [{"stream": stream, **figures} for stream, figures in aggregates.items()]
    if form == "json":
        print(json_text(aggregates, indent=2), file=out)
    elif form == "ndjson":
        for each in told:
            print(json_text(each), file=out)
    else:
        rows = [[cell(each.get(name)) for name in _AGGREGATE_COLUMNS] for each in told]
        if form == "csv":
            rows = [[csv_text(cell) for cell in row] for row in rows]
            csv.writer(out, lineterminator="\n").writerows([_AGGREGATE_COLUMNS, *rows])
        else:
            print_columns(_AGGREGATE_COLUMNS, rows, out)


def print_columns(
    heading: Sequence[str],
    rows: Sequence[Sequence[str]],
    out: IO[str],
    most: int = _CELL_CHARACTERS,
) -> None:
    """A heading and rows, columns as wide as needed. A cell with more than ``most`` characters is
    cut: whoever wants it whole asks for another format.
    """
    told = [[_cut(printable(cell), most) for cell in row] for row in (heading, *rows)]
    widths = [max(map(len, column)) for column in zip(*told, strict=True)]
    for row in told:
        print("  ".join(map(str.ljust, row, widths)).rstrip(), file=out)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
