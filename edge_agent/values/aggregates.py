"""`Summary` keeps count, min, max, mean, first and last of numbers that come one at a time.

A value, because the product has one shape of aggregate: answers to queries, what rules derive, and
what a full log keeps of the records that it had to thin all show these figures by these names.

One number at a time, in any order. The sum carries Neumaier's compensation, so that the mean of a
year of readings is the mean and not what rounding left of it. First and last go by the records'
times, not by arrival; of equal times the later arrival is the last.
"""

from __future__ import annotations

from math import isfinite
from typing import Any

#: Elements of `Summary.state`.
STATE_LENGTH = 9
#: An aggregate has at most so many fields, with names of at most so many characters.
FIELDS_MAX = 64
FIELD_NAME_MAX = 100
#: What stands before the source of an aggregate that a full log made of its oldest records: no
#: sender can use it, which is how an aggregate is told from a measurement, here and upstream.
THINNED_SOURCE = "$thin/"
#: The field of such a record that says how many it stands for. Every other field's name ends in
#: one of `Summary.flat`'s, so that none of a sensor's can be taken for it.
THINNED_COUNT = "records"


class Summary:
    """The figures of one field, or of a part of it; see the module's docstring."""

    __slots__ = (
        "_rest",
        "_total",
        "count",
        "first",
        "first_ns",
        "last",
        "last_ns",
        "maximum",
        "minimum",
    )

    def __init__(self) -> None:
        self.count = 0
        self.minimum: float = 0
        self.maximum: float = 0
        self.first: float = 0
        self.first_ns = 0
        self.last: float = 0
        self.last_ns = 0
        self._total = 0.0
        self._rest = 0.0

    def add(self, value: float, time_ns: int) -> None:
        """One more number (`is_number`), measured at ``time_ns``."""
        if self.count == 0:
            self.minimum = self.maximum = self.first = self.last = value
            self.first_ns = self.last_ns = time_ns
        else:
            if value < self.minimum:
                self.minimum = value
            if value > self.maximum:
                self.maximum = value
            if time_ns < self.first_ns:
                self.first, self.first_ns = value, time_ns
            if time_ns >= self.last_ns:
                self.last, self.last_ns = value, time_ns
        self.count += 1
        self._sum(value)

    def merge(self, other: Summary) -> None:
        """All the numbers of ``other`` as well; of equal times its last one is the last."""
        if other.count == 0:
            return
        if self.count == 0:
            self.minimum, self.maximum = other.minimum, other.maximum
            self.first, self.first_ns = other.first, other.first_ns
            self.last, self.last_ns = other.last, other.last_ns
        else:
            self.minimum = min(self.minimum, other.minimum)
            self.maximum = max(self.maximum, other.maximum)
            if other.first_ns < self.first_ns:
                self.first, self.first_ns = other.first, other.first_ns
            if other.last_ns >= self.last_ns:
                self.last, self.last_ns = other.last, other.last_ns
        self.count += other.count
        self._sum(other._total)
        self._rest += other._rest

    def _sum(self, value: float) -> None:
        old = self._total
        self._total = total = old + value
        # What the addition rounded away: of the larger operand nothing is lost.
        if abs(old) >= abs(value):
            self._rest += (old - total) + value
        else:
            self._rest += (value - total) + old

    @property
    def mean(self) -> float:
        """Arithmetic mean; needs a count."""
        mean = (self._total + self._rest) / self.count
        # Sums beyond 1.8e308 overflow although every mean lies between the two extremes.
        return mean if isfinite(mean) else self.minimum / 2 + self.maximum / 2

    def figures(self) -> dict[str, float]:
        """By name, as answers show them."""
        return {
            "count": self.count,
            "min": self.minimum,
            "max": self.maximum,
            "mean": self.mean,
            "first": self.first,
            "last": self.last,
        }

    def flat(self, field: str) -> dict[str, float]:
        """As fields of a record: ``t_count``, ``t_min``, ``t_max``, ``t_mean`` and ``t_last``.

        Flat, so that a CSV has them as columns and a filter names them without a path.
        """
        return {
            f"{field}_count": self.count,
            f"{field}_min": self.minimum,
            f"{field}_max": self.maximum,
            f"{field}_mean": self.mean,
            f"{field}_last": self.last,
        }

    def state(self) -> list[Any]:
        """Everything, as plain values that msgpack keeps exactly."""
        return [
            self.count,
            self.minimum,
            self.maximum,
            self._total,
            self._rest,
            self.first,
            self.first_ns,
            self.last,
            self.last_ns,
        ]

    @classmethod
    def from_state(cls, state: list[Any]) -> Summary:
        """What `state` was taken of."""
        summary = cls()
        (
            summary.count,
            summary.minimum,
            summary.maximum,
            summary._total,
            summary._rest,
            summary.first,
            summary.first_ns,
            summary.last,
            summary.last_ns,
        ) = state
        return summary


def is_number(value: object) -> bool:
    """Whether a field's value counts: an int or a finite float; true and false do not."""
    if isinstance(value, float):
        return isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)
