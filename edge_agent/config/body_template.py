"""Bodies as a service wants them: JSON with placeholders, checked when the configuration loads.

A placeholder is a name in braces, ``{stream}``. It stands for a value *in JSON*, quotes included,
so that nothing in a record can break out of its place; what else stands in a template is passed on
as it is. JSON's own braces are never mistaken for one: behind them stands a quote or a bracket.

``{fields.t}`` is one value, by its path (`edge_agent.values.field_path`), null where the record has
none. Pure; how the values are put in is in ``forward/sinks/http/templates.py``.
"""

from __future__ import annotations

import json
import re
from typing import Final

from edge_agent.values.field_path import parse_path

#: What a record has for a template.
PLACEHOLDERS: Final = (
    *("id", "agent", "seq", "stream", "time", "time_s", "time_ms", "time_ns", "source", "fields"),
    "time_quality",
)
#: What stands for all records of a request, in an envelope.
RECORDS: Final = "records"
#: Behind ``fields.`` stands a path, in quotes whatever a key may have; else a brace begins nothing
#: but a name, as ``{v1.2 beta}`` is somebody's text.
_PLACE: Final = re.compile(r"\{(fields\.[^{}]+|[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_-]+)?)\}")


class TemplateProblem(ValueError):
    """What was expected of a template, and what was found."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"expected {expected}, found {found}")
        self.expected, self.found = expected, found


def template_parts(text: str) -> tuple[str, ...]:
    """A template in parts: text, the name of a placeholder, text, and so on, text in the end.

    Raises:
        TemplateProblem: a placeholder that is none, or what comes of it is no JSON.
    """
    parts = tuple(_PLACE.split(text))
    for name in parts[1::2]:
        _check_name(name)
    if len(parts) == 1:
        raise TemplateProblem("a placeholder such as {stream} or {fields}", "none")
    _check_json(parts, '"x"')
    return parts


def _check_name(name: str) -> None:
    first, _, path = name.partition(".")
    if path and first == "fields":
        try:
            parse_path(path)
        except ValueError as error:
            raise TemplateProblem(f"behind fields. {error}", f"{{{name}}}") from None
    elif name not in PLACEHOLDERS:
        known = ", ".join(f"{{{one}}}" for one in PLACEHOLDERS)
        raise TemplateProblem(f"one of {known}, {{fields.NAME}}", f"{{{name}}}")


def envelope_parts(text: str) -> tuple[str, str]:
    """What stands before and behind the records.

    Raises:
        TemplateProblem: there is no ``{records}``, or what comes of it is no JSON.
    """
    parts = tuple(_PLACE.split(text))
    if parts[1::2] != (RECORDS,):
        found = ", ".join(f"{{{name}}}" for name in parts[1::2]) or "none"
        raise TemplateProblem("{records} once, and no other placeholder", found)
    # Two of them: where there is room for one value alone, this is no JSON.
    _check_json(parts, '"x","y"')
    return parts[0], parts[2]


def _check_json(parts: tuple[str, ...], sample: str) -> None:
    try:
        made = "".join(sample if index % 2 else part for index, part in enumerate(parts))
        json.loads(made)
    except (ValueError, RecursionError) as error:
        expected = "JSON once values stand in it, placeholders without quotes around them"
        raise TemplateProblem(expected, f"{error} in {made[:60]}") from None
