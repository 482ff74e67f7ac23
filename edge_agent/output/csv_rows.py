"""Records as CSV, RFC 4180, for `edge-agent export`, ``query`` and files that go elsewhere."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from typing import IO, Any

from edge_agent.output.printable import csv_text, json_text

#: Columns in front of the fields; the last one says how far the time can be trusted.
CSV_COLUMNS = ("seq", "stream", "time", "source", "time_quality")


def write_csv(
    records: Iterable[dict[str, Any]],
    names: Sequence[str],
    out: IO[str],
    *,
    heading: bool,
    own: Sequence[str] = CSV_COLUMNS,
) -> None:
    """Rows with the fields ``names`` behind the columns ``own``, for answers that come in pages. A
    field named like a column of ours is ``field.NAME``.
    """
    writer = csv.writer(out, lineterminator="\n")
    if heading:
        shown = [f"field.{name}" if name in own else csv_text(name) for name in names]
        writer.writerow((*own, *shown))
    for record in records:
        fields = record["fields"]
        # An answer leaves out what is the sensor's own (`edge_agent.output.render`).
        told = {"time_quality": "sensor", **record}
        values = [*(told[name] for name in own), *(fields.get(name) for name in names)]
        writer.writerow([csv_text(one) if isinstance(one, str) else cell(one) for one in values])


def field_names(records: Iterable[dict[str, Any]]) -> list[str]:
    """Every field of the records, in order of first appearance."""
    # A dict keeps the order of first appearance and drops repeats.
    return list(dict.fromkeys(name for record in records for name in record["fields"]))


def cell(value: object) -> str:
    """A value as text: nothing for null, JSON for what is no text."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json_text(value)
