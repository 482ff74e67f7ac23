"""A bounded memory of what was at which time, to look back by about a given stretch."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class TimedValues(Generic[T]):
    """Values by time, oldest first: at least ``spacing_s`` apart, reaching back ``span_s``.

    Times are the boot clock's seconds and never go back.
    """

    def __init__(self, span_s: float, spacing_s: float) -> None:
        self._spacing_s = spacing_s
        # One more than the span holds, so that the oldest lies at or before its beginning.
        self._values: deque[tuple[float, T]] = deque(maxlen=int(span_s / spacing_s) + 2)

    def add(self, at_s: float, value: T) -> None:
        """Remember ``value``, unless the last one is nearer than the spacing."""
        if not self._values or at_s - self._values[-1][0] >= self._spacing_s:
            self._values.append((at_s, value))

    def before(self, at_s: float) -> tuple[float, T] | None:
        """The youngest of at least that age, else the oldest there is; None while empty."""
        found = self._values[0] if self._values else None
        for entry in self._values:
            if entry[0] > at_s:
                break
            found = entry
        return found
