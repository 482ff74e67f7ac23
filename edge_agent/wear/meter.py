"""Bytes per day and write amplification, from counters and a clock alone.

Pure: whoever asks brings the `WrittenBytes`; `Meter` keeps enough of them to look back an hour, a
day and to the start. A counter of the kernel that goes back (32 bits that ran over, a device that
was taken away) counts as standing still for that stretch.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from edge_agent.values.record import DAY_S

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


HOUR_S = 3600.0
#: Nothing is said per day before so much time has passed: the first commits are no measure.
TELLING_S = 60.0
_HOUR_SPACING_S = 60.0
_DAY_SPACING_S = 300.0


@dataclass(frozen=True, slots=True)
class WrittenBytes:
    """All counters at one moment. ``own`` are bytes that this process had written, ``card`` those
    that the whole device got; None where nobody counts them.
    """

    at_s: float
    own: int | None
    card: int | None
    record_bytes: int
    block_bytes: int
    commits: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """What was written over one stretch of time.

    Attributes:
        seconds: how long the stretch was.
        written_bytes, written_per_day: by the agent; per day as the stretch's rate makes it, None
            while the stretch is too short to tell, or where nobody counts.
        card_bytes, card_per_day: the same to the whole card, by everybody.
        commits: synced transactions.
        bytes_per_commit: that the agent wrote, None without commits.
        amplification: bytes that the agent wrote for each encoded byte of records made durable.
        block_amplification: bytes of blocks as stored, for the same; below 1 where they compress.
    """

    seconds: float
    written_bytes: int | None
    written_per_day: float | None
    card_bytes: int | None
    card_per_day: float | None
    commits: int
    bytes_per_commit: float | None
    amplification: float | None
    block_amplification: float | None


class Meter:
    """A bounded memory of counters; ``first`` are those at the start."""

    def __init__(self, first: WrittenBytes) -> None:
        self._first = first
        self._hour: TimedValues[WrittenBytes] = TimedValues(HOUR_S, _HOUR_SPACING_S)
        self._day: TimedValues[WrittenBytes] = TimedValues(DAY_S, _DAY_SPACING_S)
        self.note(first)

    def note(self, now: WrittenBytes) -> None:
        """Remember the counters, as often as is needed."""
        self._hour.add(now.at_s, now)
        self._day.add(now.at_s, now)

    def hour(self, now: WrittenBytes) -> Stretch:
        """The last hour, or what there is of it."""
        return self._since(self._hour, now, HOUR_S)

    def day(self, now: WrittenBytes) -> Stretch:
        """The last 24 hours, or what there is of them."""
        return self._since(self._day, now, DAY_S)

    def since_start(self, now: WrittenBytes) -> Stretch:
        """Everything since the first counters."""
        return between(self._first, now)

    def _since(
        self, history: TimedValues[WrittenBytes], now: WrittenBytes, span_s: float
    ) -> Stretch:
        found = history.before(now.at_s - span_s)
        return between(self._first if found is None else found[1], now)


def between(old: WrittenBytes, new: WrittenBytes) -> Stretch:
    """What was written from ``old`` to ``new``."""
    seconds = new.at_s - old.at_s
    own, card = _grown(old.own, new.own), _grown(old.card, new.card)
    commits = new.commits - old.commits
    records = new.record_bytes - old.record_bytes
    return Stretch(
        seconds=seconds,
        written_bytes=own,
        written_per_day=_per_day(own, seconds),
        card_bytes=card,
        card_per_day=_per_day(card, seconds),
        commits=commits,
        bytes_per_commit=own / commits if own is not None and commits > 0 else None,
        amplification=own / records if own is not None and records > 0 else None,
        block_amplification=(
            (new.block_bytes - old.block_bytes) / records if records > 0 else None
        ),
    )


def _grown(old: int | None, new: int | None) -> int | None:
    return None if old is None or new is None else max(0, new - old)


def _per_day(size: int | None, seconds: float) -> float | None:
    return None if size is None or seconds < TELLING_S else size / seconds * DAY_S
