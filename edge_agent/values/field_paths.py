"""Lists of paths to fields, as questions, views, ``tail`` and ``top`` name and show them.

A path is the names of the maps and of the field in them, joined by dots. A name that has a dot, a
comma, a blank or a quote in it is written in backticks, as in a filter
(`edge_agent.values.filter`), and any other may be: ``params.`switch:0`.apower``. A backtick in such
a name is doubled; double quotes do as well. A field of the record whose very name has dots in it
goes before a path into maps.

Arrays have no paths.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from edge_agent.errors import ProtocolError
from edge_agent.values.aggregates import is_number
from edge_agent.values.field_path import MISSING

#: In a list of paths.
FIELDS_MAX = 64
PATH_CHARACTERS_MAX = 200
#: How many values of a record are looked at for numbers: a record may hold thousands of others.
LOOKED_AT_MAX = 256
DEPTH_MAX = 16

_PART = re.compile(r"""\s*(?:`((?:[^`]|``)+)`|"((?:[^"]|"")+)")\s*|([^.,`"]+)""")
_PLAIN = re.compile(r"""[^.,`"\s]+""")


class FieldPath(NamedTuple):
    """One field: as it was written, and the names on the way to it."""

    text: str
    parts: tuple[str, ...]

    def of(self, fields: Mapping[str, Any]) -> Any:
        """The value in a record's fields, `MISSING` where there is none."""
        if len(self.parts) > 1 and self.text in fields:
            return fields[self.text]
        value: Any = fields
        for part in self.parts:
            if not isinstance(value, Mapping) or part not in value:
                return MISSING
            value = value[part]
        return value


def parse_paths(text: str, *, most: int = FIELDS_MAX) -> tuple[FieldPath, ...]:
    """The paths of a list with commas, each once, ``most`` at most.

    Raises:
        ProtocolError: ``bad_query``, which says what was expected.
    """
    found: dict[str, FieldPath] = {}
    at = 0
    while True:
        parts, end = _parts_at(text, at)
        path = FieldPath(text[at:end].strip(), parts)
        found[path.text] = path
        if len(found) > most:
            raise ProtocolError("bad_query", f"fields: at most {most}, these are more")
        if end == len(text):
            return tuple(found.values())
        at = end + 1


def path_text(parts: tuple[str, ...]) -> str:
    """The path as it is written, with quotes where they are needed."""
    return ".".join(
        part if _PLAIN.fullmatch(part) else f"`{part.replace('`', '``')}`" for part in parts
    )


def numbers_and_words_of(
    fields: Mapping[str, Any], numbers_max: int, words_max: int
) -> tuple[dict[str, float], dict[str, str | bool]]:
    """The number fields of a record by their paths, and those that are text, true or false; at
    most so many of each, in the record's order.
    """
    numbers: dict[str, float] = {}
    words: dict[str, str | bool] = {}
    _gather(fields, (), (numbers, numbers_max), (words, words_max), LOOKED_AT_MAX)
    return numbers, words


def _gather(
    fields: Mapping[Any, Any],
    above: tuple[str, ...],
    numbers: tuple[dict[str, float], int],
    words: tuple[dict[str, str | bool], int],
    looks: int,
) -> int:
    """Put values where they belong, at most so many; how many more may be looked at."""
    for name, value in fields.items():
        if looks <= 0 or len(numbers[0]) >= numbers[1]:
            return 0
        looks -= 1
        if not isinstance(name, str):
            continue  # Within a map msgpack has other keys, too, and those have no path.
        found: tuple[dict[str, Any], int] | None = None
        if is_number(value):
            found = numbers
        elif isinstance(value, (str, bool)):
            found = words
        elif isinstance(value, dict) and len(above) < DEPTH_MAX:
            looks = _gather(value, (*above, name), numbers, words, looks)
        if found is not None and len(found[0]) < found[1]:
            # Most fields are on top and have plain names: these are their own paths.
            path = name if not above and name.isidentifier() else path_text((*above, name))
            if len(path) <= PATH_CHARACTERS_MAX:
                found[0][path] = value
    return looks


def _parts_at(text: str, at: int) -> tuple[tuple[str, ...], int]:
    """The parts of the path that begins at ``at``, and where it ends: at a comma, or at the end."""
    parts: list[str] = []
    while True:
        part = _PART.match(text, at)
        if part is None or not part[0].strip():
            break
        if part[1]:
            parts.append(part[1].replace("``", "`"))
        else:
            parts.append(part[2].replace('""', '"') if part[2] else part[3].strip())
        at = part.end()
        if at == len(text) or text[at] == ",":
            return tuple(parts), at
        if text[at] != ".":
            break
        at += 1
    shown = text[at : at + 30] or "the end"
    raise ProtocolError(
        "bad_query",
        "fields: expected names such as t or params.`switch:0`.apower, with commas between them,"
        f" at {at + 1}, found {shown!r}",
    )
