r"""Text that somebody else wrote, made safe for where it is shown.

A peer chooses the names of its fields, its reasons for leaving and what its certificate says. None
of that may move the cursor of whoever looks, turn the direction of the line, or begin a line that
looks like the agent's own. What is shown instead of such a character is its escape: ``\x1b``,
``\u202e``.

- `printable`: one line, for a terminal or a log.
- `printable_lines`: several lines of our own, in which foreign text may stand.
- `json_text`: JSON that means the same, with such characters as escapes.
- `html_text`: a part of a page.
- `csv_text`: a cell that no spreadsheet takes for a formula.
- `grouped`: a whole number, its digits in groups of three.
- `often`: how often something happened.
- `without_repr`: what h11 says, as people write it.
- `ended`: a sentence, with one full stop.
- `cells_problem`: why records make no table.
- `why`: what an error says, without what whoever tells it says himself.
"""

from __future__ import annotations

import json
import re
from html import escape

#: Characters with which a spreadsheet lets a formula begin, also in their wide forms.
_FORMULA = tuple("=+-@\t\r＝＋－＠")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
#: Cells of one table, the empty ones included: 10,000 records of a field each that no other has are
#: a table of 100 million cells, 400 MB while it is made. No cell that holds something takes less
#: than two bytes where it is stored, so that of a mebibyte of records there are half a million.
CELLS_MAX = 10_000_000


def printable(text: str) -> str:
    """``text`` on one line, every control, invisible or direction-turning character escaped."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _escaped(one) for one in text)


def printable_lines(text: str) -> str:
    """As `printable`, line feeds and tabs stay."""
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))


def json_text(value: object, *, indent: int | None = None) -> str:
    """``value`` as JSON: on one line without blanks, or indented for eyes."""
    separators = (",", ":") if indent is None else None
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators)
    if text.isprintable():
        return text
    # Outside of its strings JSON has no such character but the line feeds of an indent.
    return "".join(one if one == "\n" or one.isprintable() else _json_escaped(one) for one in text)


def grouped(count: float) -> str:
    """``12 345``."""
    return f"{count:,.0f}".replace(",", " ")


def counted(count: int, noun: str) -> str:
    """``1 stream``, ``12 345 streams``; ``0 streams``."""
    return f"{grouped(count)} {noun}{'' if count == 1 else 's'}"


def often(count: int) -> str:
    """``once``, ``2 times``, ``12 345 times``."""
    return "once" if count == 1 else f"{grouped(count)} times"


def without_repr(text: str) -> str:
    """What h11 says of a request, without Python's words around the bytes that it quotes."""
    return re.sub(r"bytearray\(b(['\"].*)\)$", r"\1", text)


def html_text(text: str) -> str:
    """``text`` for a page, or for an attribute in quotes."""
    return escape(printable(text))


def csv_text(text: str) -> str:
    """``text`` for a cell, on one line. What would begin a formula gets an apostrophe in front, as
    a person would type it; a number stays a number.
    """
    if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text):
        text = f"'{text}"
    return printable(text)


def ended(text: str) -> str:
    """``text`` with a full stop behind it, unless it ends with a mark of its own."""
    text = text.rstrip()
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def why(error: BaseException) -> str:
    """The reason of ``error``: of an OSError without its number and its file, which are named
    before it.
    """
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _escaped(one: str) -> str:
    return one.encode("unicode_escape").decode()


def _json_escaped(one: str) -> str:
    units = one.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def cells_problem(rows: int, columns: int, most: int = CELLS_MAX) -> str | None:
    """Why records make no table, in a sentence without its end; None where they do."""
    if rows * columns <= most:
        return None
    return (
        f"{rows:,} records with {columns:,} different fields are a table of {rows * columns:,}"
        f" cells, of {most:,} that one may have"
    )
