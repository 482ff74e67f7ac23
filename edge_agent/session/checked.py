"""A peer's maps, taken key by key, each value looked at before anybody uses it.

A reader is a function that gives a value back as what it was expected to be, or raises ValueError
with a sentence: ``whole(1, 9)`` takes 5, and of "5" says ``expected a whole number from 1 to 9, got
'5'``. `take` puts the key in front of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def take(told: dict[str, Any], key: str, read: Callable[[object], T], *default: T) -> T:
    """What ``read`` makes of the value of ``key``; the default, if any, where the key is missing.

    Raises:
        ValueError: it is missing and has no default, or ``read`` refuses it.
    """
    if key not in told:
        if default:
            return default[0]
        raise ValueError(f"{key} is missing")
    try:
        return read(told[key])
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def read_map(value: object) -> dict[str, Any]:
    """A map."""
    if isinstance(value, dict):
        return value
    raise ValueError(f"expected a map, got {value!r:.60}")


def read_bool(value: object) -> bool:
    """True or false."""
    if isinstance(value, bool):
        return value
    raise ValueError(f"expected true or false, got {value!r:.60}")


def whole(least: int, most: int) -> Callable[[object], int]:
    """A reader of whole numbers."""

    def read(value: object) -> int:
        # A bool is an int as well, and 1.0 equals 1: neither is meant.
        if type(value) is int and least <= value <= most:
            return value
        raise ValueError(f"expected a whole number from {least} to {most}, got {value!r:.60}")

    return read


def seconds(least: float, most: float) -> Callable[[object], float]:
    """A reader of durations, whole or not."""

    def read(value: object) -> float:
        if isinstance(value, (int, float)) and type(value) is not bool and least <= value <= most:
            return float(value)
        raise ValueError(f"expected {least} to {most} seconds, got {value!r:.60}")

    return read


def text(least: int, most: int) -> Callable[[object], str]:
    """A reader of text, of ``least`` to ``most`` characters."""

    def read(value: object) -> str:
        if not isinstance(value, str) or not least <= len(value) <= most:
            raise ValueError(f"expected text of {least} to {most} characters, got {value!r:.60}")
        # Half a surrogate pair, as JSON's escapes can make it, could not be stored or passed on.
        value.encode()
        return value

    return read


def or_null(read: Callable[[object], T]) -> Callable[[object], T | None]:
    """A reader of what ``read`` takes, or null."""
    return lambda value: None if value is None else read(value)
