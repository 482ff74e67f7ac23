"""Functions that tests and recipes name as hooks."""

from __future__ import annotations

from typing import Any


def dew_point(stream: str, fields: dict[str, Any]) -> dict[str, Any] | None:
    """A field more; a record without a temperature is left out."""
    if "t" not in fields:
        return None
    fields["dew"] = round(fields["t"] - (100 - fields["h"]) / 5, 1)
    return fields


def apart(stream: str, fields: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Each field in a stream below."""
    return [(f"{stream}/{name}", {"value": value}) for name, value in fields.items()]


def as_told(stream: str, fields: dict[str, Any]) -> Any:
    """Whatever a test wants it to answer."""
    return ANSWERS[fields["say"]]


ANSWERS: dict[str, Any] = {
    "same": {"say": "same"},
    "elsewhere": [("other/1", {"t": 1})],
    "no_stream": [("greenhouse/1/a b", {"t": 1})],
    "set": {"t": {1, 2}},
    "object": {"t": object()},
    "big": {"t": 2**64},
    "keys": {1: 2},
    "inner_keys": {"t": {1: 2}},
    "deep": {"t": [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]},
    "time": {"t": 1, "time": "noon"},
    "text": "hello",
    "pairs": [("greenhouse/1", 7)],
    "many": [("greenhouse/1", {"t": 1})] * 1001,
    "none": [],
    "stream": {"t": 1, "stream": "other/1"},
}
