"""In which line of a TOML file a key stands; `tomllib` does not tell.

Only for people: a file that is written in an unusual way (quoted keys, tables within one line) may
get the line of its table, and no file another meaning.
"""

from __future__ import annotations

import re

_HEADING = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"\s*([A-Za-z0-9_\-.\"']+)\s*=\s*(.*)$")
_TEXT = re.compile(r"[\"'](.*?)[\"']")
_LONG = ('"""', "'''")


def key_lines(text: str) -> dict[str, int]:
    """Dotted key to its line, from 1; tables too. ``[[upstream]]`` tables are found by their name,
    and by their place, ``upstream[0]``.
    """
    found: dict[str, int] = {}
    names: dict[str, str] = {}
    counts: dict[str, int] = {}
    table, until = "", ""
    for number, line in enumerate(text.splitlines(), 1):
        if until:
            until = "" if until in line else until
            continue
        if heading := _HEADING.match(line):
            table = _plain(heading[2])
            if heading[1] == "[[":
                place = counts.get(table, 0)
                counts[table] = place + 1
                table = f"{table}[{place}]"
            found.setdefault(table, number)
        elif given := _KEY.match(line):
            key = ".".join(filter(None, (table, _plain(given[1]))))
            found.setdefault(key, number)
            if given[1] == "name" and (name := _TEXT.match(given[2])):
                names[table] = f"{table.partition('[')[0]}.{name[1]}"
            until = next((mark for mark in _LONG if given[2].count(mark) % 2), "")
    for key, number in list(found.items()):
        own = next((one for one in names if key == one or key.startswith(f"{one}.")), None)
        if own is not None:
            found[names[own] + key[len(own) :]] = number
    return found


def line_of(key: str, lines: dict[str, int]) -> int | None:
    """The line of ``key``, or of the nearest table that it belongs to; None where there is none."""
    while key:
        if key in lines:
            return lines[key]
        key = key.rpartition(".")[0]
    return None


def _plain(key: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in key.split("."))
