"""Common parts of several profiles: words for on and off, and numbers in texts."""

from __future__ import annotations

import re
from typing import Any

_SWITCHED = {"ON": True, "OFF": False}
#: Not "007", which is a name.
_NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")


def switched(value: Any) -> Any:
    """``ON`` and ``OFF`` as true and false, all else as it is."""
    return _SWITCHED.get(value, value) if isinstance(value, str) else value


def number_or(value: str) -> Any:
    """The number that a text is; the text where it is none."""
    if len(value) > 40 or _NUMBER.fullmatch(value) is None:
        return value
    return float(value) if re.search(r"[.eE]", value) else int(value)


def part_of_stream(name: str) -> str:
    """A name as one part of a stream's: what cannot stand there becomes a dash; "" for nothing."""
    part = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")
    return "" if part in (".", "..") else part
