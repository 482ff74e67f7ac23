"""Tables that history answers, for eyes and for programs."""

from __future__ import annotations

import csv
from typing import IO, Any

from edge_agent.cli.output import print_columns
from edge_agent.output.printable import csv_text, json_text

#: Digits that a person looks at; other formats have all.
_DIGITS = 4


def print_answer(answer: dict[str, Any], form: str, out: IO[str]) -> None:
    """A table in the format asked for: table, json, ndjson or csv."""
    columns, rows = answer["columns"], answer["rows"]
    if form == "json":
        told = {name: value for name, value in answer.items() if name not in ("columns", "rows")}
        print(json_text({"columns": columns, "rows": rows, **told}, indent=2), file=out)
    elif form == "ndjson":
        for row in rows:
            print(json_text(dict(zip(columns, row, strict=True))), file=out)
    elif form == "csv":
        writer = csv.writer(out, lineterminator="\n")
        writer.writerows([[csv_text(_plain(cell)) for cell in row] for row in (columns, *rows)])
    else:
        columns = [_column(name, cells) for name, *cells in zip(columns, *rows, strict=True)]
        heading, *lines = zip(*columns, strict=True)
        print_columns(heading, lines, out)


def _column(name: str, cells: list[object]) -> list[str]:
    """Numbers stand below one another at their right end."""
    shown = [name, *map(_shown, cells)]
    if any(isinstance(cell, str) for cell in cells) or not cells:
        return shown
    width = max(map(len, shown))
    return [text.rjust(width) for text in shown]


def _plain(cell: object) -> str:
    if cell is None:
        return ""
    return cell if isinstance(cell, str) else json_text(cell)


def _shown(cell: object) -> str:
    if not isinstance(cell, float):
        return _plain(cell)
    if 1 <= abs(cell) < 1e15:
        return f"{cell:.{_DIGITS}f}".rstrip("0").rstrip(".")
    return f"{cell:.{_DIGITS}g}"
