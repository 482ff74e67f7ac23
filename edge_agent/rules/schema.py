"""The step that looks at a record's fields: what does not fit goes to quarantine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge_agent.config import Schema
from edge_agent.rules.steps import Act, Fields, Outcome, Spot, Unfit

CODE = "bad_schema"
_MISSING = object()


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_TYPES: dict[str, Callable[[object], bool]] = {
    "number": _is_number,
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "text": lambda value: isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
    "map": lambda value: isinstance(value, dict),
    "list": lambda value: isinstance(value, list),
    "any": lambda value: True,
}


def checker(schema: Schema, rule: str) -> Act:
    """Wants the types and ranges of ``schema``. A range is for numbers, where there is one."""
    kinds = [
        (name, kind.removesuffix("?"), _TYPES[kind.removesuffix("?")], kind.endswith("?"))
        for name, kind in schema.types.items()
    ]
    ranges = [(name, low, high) for name, (low, high) in schema.ranges.items()]

    def act(fields: Fields, spot: Spot) -> Outcome:
        for name, kind, fits, may_be_missing in kinds:
            value = fields.get(name, _MISSING)
            if value is _MISSING:
                if not may_be_missing:
                    raise Unfit(CODE, f"rule {rule}: {name}: expected {kind}, got nothing")
            elif not fits(value):
                raise Unfit(CODE, f"rule {rule}: {name}: expected {kind}, got {_shown(value)}")
        for name, low, high in ranges:
            value = fields.get(name, _MISSING)
            # Not a number is in no range.
            if _is_number(value) and not low <= value <= high:
                raise Unfit(
                    CODE, f"rule {rule}: {name}: expected {low:g} to {high:g}, got {_shown(value)}"
                )
        return fields

    return act


def _shown(value: Any) -> str:
    return f"{value!r:.60}"
