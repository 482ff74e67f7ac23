"""Records and figures for eyes and for programs: tables, JSON, lines of JSON, CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from typing import IO, Any

#: Columns in front of the fields.
OWN_COLUMNS = ("seq", "stream", "time", "source")
#: In a CSV, besides: how far the time can be trusted.
CSV_COLUMNS = (*OWN_COLUMNS, "time_quality")
_AGGREGATE_COLUMNS = ("stream", "count", "min", "max", "mean", "first", "last")


def line(record: dict[str, Any]) -> str:
    """One record for a person, on one line: time, stream, fields."""
    if "missed" in record:
        return f"… {record['missed']} records were missed: this reader is too slow"
    fields = "  ".join(f"{name}={_cell(value)}" for name, value in record["fields"].items())
    return f"{record['time']}  {record['stream']}  {fields}"


def compact(value: object) -> str:
    """JSON on one line, without blanks."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def print_table(records: Sequence[dict[str, Any]], out: IO[str]) -> None:
    """Columns as wide as needed; a field that no record has is no column."""
    names = field_names(records)
    rows = [[_cell(record[name]) for name in OWN_COLUMNS] for record in records]
    for row, record in zip(rows, records, strict=True):
        row += [_cell(record["fields"].get(name)) for name in names]
    print_columns([*OWN_COLUMNS, *names], rows, out)


def print_csv(records: Sequence[dict[str, Any]], out: IO[str]) -> None:
    """RFC 4180 with a heading; a field named like a column of ours is ``field.NAME``."""
    write_csv(records, field_names(records), out, heading=True)


def write_csv(
    records: Iterable[dict[str, Any]], names: Sequence[str], out: IO[str], *, heading: bool
) -> None:
    """Rows with the fields ``names``, for answers that come in pages."""
    writer = csv.writer(out, lineterminator="\n")
    if heading:
        shown = [f"field.{name}" if name in CSV_COLUMNS else name for name in names]
        writer.writerow((*CSV_COLUMNS, *shown))
    for record in records:
        fields = record["fields"]
        # An answer leaves out what is the sensor's own (`edge_agent.live.render`).
        own = [record[name] for name in OWN_COLUMNS] + [record.get("time_quality", "sensor")]
        writer.writerow((*own, *(_cell(fields.get(name)) for name in names)))


def print_aggregates(aggregates: dict[str, dict[str, float]], form: str, out: IO[str]) -> None:
    """Figures per stream, in the format asked for."""
    told = [{"stream": stream, **figures} for stream, figures in aggregates.items()]
    if form == "json":
        print(json.dumps(aggregates, indent=2, ensure_ascii=False), file=out)
    elif form == "ndjson":
        for each in told:
            print(compact(each), file=out)
    else:
        rows = [[_cell(each.get(name)) for name in _AGGREGATE_COLUMNS] for each in told]
        if form == "csv":
            csv.writer(out, lineterminator="\n").writerows([_AGGREGATE_COLUMNS, *rows])
        else:
            print_columns(_AGGREGATE_COLUMNS, rows, out)


def field_names(records: Iterable[dict[str, Any]]) -> list[str]:
    """Every field of the records, in order of first appearance."""
    # A dict keeps the order of first appearance and drops repeats.
    return list(dict.fromkeys(name for record in records for name in record["fields"]))


def print_columns(heading: Sequence[str], rows: Sequence[Sequence[str]], out: IO[str]) -> None:
    """A heading and rows, columns as wide as needed."""
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    for row in (heading, *rows):
        print("  ".join(map(str.ljust, row, widths)).rstrip(), file=out)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        # Control characters of a sensor's text must not move the cursor of whoever looks.
        return value if value.isprintable() else value.encode("unicode_escape").decode()
    return compact(value)
