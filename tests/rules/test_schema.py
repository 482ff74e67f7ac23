"""What does not fit is set aside, with the reason."""

from __future__ import annotations

import math
from typing import Any

import pytest

from edge_agent.config import Schema
from tests.rules.support import apply, reasons, rule

SCHEMA = Schema(
    types={"t": "number", "n": "integer?", "s": "text?", "b": "bool?", "m": "map?", "l": "list?"},
    ranges={"t": (-40, 85)},
)


@pytest.mark.parametrize(
    "record",
    [
        {"t": 1},
        {"t": -40.0, "n": 1, "s": "x", "b": False, "m": {}, "l": [], "other": None},
        {"t": 85},
    ],
)
def test_what_fits_passes_untouched(record: dict[str, Any]) -> None:
    ruled = apply([rule(schema=SCHEMA)], record)
    assert not ruled.rejects and len(ruled.runs) == 1


@pytest.mark.parametrize(
    "record, reason",
    [
        ({}, "rule r: t: expected number, got nothing"),
        ({"t": True}, "rule r: t: expected number, got True"),
        ({"t": 99.5}, "rule r: t: expected -40 to 85, got 99.5"),
        ({"t": math.nan}, "rule r: t: expected -40 to 85, got nan"),
        ({"t": 1, "n": 1.0}, "rule r: n: expected integer, got 1.0"),
        ({"t": 1, "s": None}, "rule r: s: expected text, got None"),
        ({"t": 1, "b": 1}, "rule r: b: expected bool, got 1"),
    ],
)
def test_what_does_not_fit_is_set_aside(record: dict[str, Any], reason: str) -> None:
    ruled = apply([rule(schema=SCHEMA)], record)
    assert ruled.runs == () and reasons(ruled) == [(0, "bad_schema", reason)]


def test_a_range_is_for_numbers_that_are_there() -> None:
    ranges = rule(schema=Schema(ranges={"t": (0, 1)}))
    assert not apply([ranges], {"h": 1}, {"t": "x"}, {"t": 1}).rejects
