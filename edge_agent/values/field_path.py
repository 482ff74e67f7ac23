"""One path to a value within a record, as rules and filters name it: ``params."switch:0".apower``.

A path is names joined by dots. A name with other characters than letters, digits, ``_``, ``-`` and
``:`` stands in double quotes or backticks. A number also means an element of a list: ``relays.0``.
"""

from __future__ import annotations

import re
from typing import Any, Final

#: What `look_up` gives where there is nothing.
MISSING: Final = object()
#: Names in one path; a record is no deeper than ``limits.record_depth``.
_NAMES_MAX = 64

_NAME = r'(?:"[^"]+"|`[^`]+`|[\w:-]+)'
_QUOTES = '"`'
_PATH = re.compile(rf"{_NAME}(?:\.{_NAME})*")
_NAMES = re.compile(_NAME)


def parse_path(text: str) -> tuple[str, ...]:
    """The names of a path.

    Raises:
        ValueError: it is none; says what was expected.
    """
    names = tuple(name[1:-1] if name[0] in _QUOTES else name for name in _NAMES.findall(text))
    if not _PATH.fullmatch(text) or len(names) > _NAMES_MAX:
        raise ValueError('a path such as t, a.b or a."b:0".c')
    return names


def look_up(fields: dict[str, Any], path: tuple[str, ...]) -> Any:
    """The value at ``path``; `MISSING` where there is none."""
    value: Any = fields
    for name in path:
        if isinstance(value, dict):
            value = value.get(name, MISSING)
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return MISSING
    return value
