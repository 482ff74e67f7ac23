"""The times of a file: which column holds them, how they are written, and what its order decides.

Where clocks go back, an hour of local times occurs twice. A file in order of time shows which of
the two is meant, by the step back between them (in a file with the newest first, by the step
forward). Rows are held until that is seen; where the order does not decide, they are bad rows: an
hour that is wrong without a word is worse than one that somebody has to look at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from edge_agent.values.record import as_sent, datetime_to_ns
from edge_agent.values.time_format import Moments, TimeFormat, parse_format

#: Rows held at most until the order decides: an hour twice, 14 rows a second.
HELD_ROWS_MAX = 100_000
#: A smaller step against the order of a file may be a row that came too late.
_JUMP_MIN = timedelta(minutes=10)
#: Two rows further apart than this belong to different nights.
_SAME_NIGHT = timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class TimeReader:
    """How the times of one file are written.

    Attributes:
        column: name of the column or key that holds the time.
        form: how it is written.
    """

    column: str = "time"
    form: TimeFormat = field(default_factory=TimeFormat)

    @classmethod
    def parse(cls, column: str | None, form: str | None, zone: str | None) -> TimeReader:
        """From command line options.

        Raises:
            ConfigError: no such zone, or a format that is none.
        """
        written = parse_format(form, zone, form_key="--time-format", zone_key="--tz")
        return cls(column or "time", written)


@dataclass(frozen=True, slots=True)
class Row:
    """One record as read; ``line`` is where it ends, counted from 1."""

    line: int
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BadRow:
    """One record that cannot be sent, and why."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class TimedRow:
    """One record, and what its time may mean: one moment, or two.

    ``reason`` is what a bad row says where nothing decides between the two.
    """

    line: int
    fields: dict[str, Any]
    moments: Moments
    reason: str = field(repr=False, default="")

    def at(self, moment: datetime | float) -> Row:
        """The record, measured at ``moment``."""
        # A file's dates were written down by somebody: they are history, not an unset clock.
        time: object = moment
        if isinstance(moment, datetime):
            time = as_sent(datetime_to_ns(moment), moment)
        return Row(self.line, {**self.fields, "time": time})


def in_order(rows: Iterable[Row | BadRow | TimedRow]) -> Iterator[Row | BadRow]:
    """The rows, each with one moment, in the order in which they came."""
    held: list[Row | BadRow | TimedRow] = []
    before: datetime | None = None
    has_repeats = False
    for row in rows:
        moment = _moment(row)
        if held:
            is_more = len(held) < HELD_ROWS_MAX and _may_follow(held, row)
            if is_more and (moment is None or (isinstance(row, TimedRow) and len(row.moments) > 1)):
                held.append(row)
                continue
            yield from _decided(held, before, moment, has_repeats)
            held = []
        if isinstance(row, TimedRow) and len(row.moments) > 1:
            held = [row]
            continue
        if moment is not None:
            has_repeats |= moment == before
            before = moment
        yield row.at(row.moments[0]) if isinstance(row, TimedRow) else row
    yield from _decided(held, before, None, has_repeats)


def _moment(row: Row | BadRow | TimedRow) -> datetime | None:
    """When the row was measured, or the earlier of two; None where it does not say."""
    if not isinstance(row, TimedRow):
        return None
    first = row.moments[0]
    return first if isinstance(first, datetime) else None


def _may_follow(held: list[Row | BadRow | TimedRow], row: Row | BadRow | TimedRow) -> bool:
    first, moment = _moment(held[0]), _moment(row)
    return first is None or moment is None or abs(moment - first) < _SAME_NIGHT


def _decided(
    held: list[Row | BadRow | TimedRow],
    before: datetime | None,
    after: datetime | None,
    has_repeats: bool,
) -> Iterator[Row | BadRow]:
    twice = [row for row in held if isinstance(row, TimedRow)]
    times = [moment for row in twice if (moment := _moment(row)) is not None]
    switch = _switch(times, before, after, has_repeats) if times else None
    is_rising = switch is not None and switch[1]
    number = 0
    for row in held:
        if not isinstance(row, TimedRow):
            yield row
        elif switch is None:
            yield BadRow(row.line, row.reason)
        else:
            is_later = (number >= switch[0]) == is_rising
            yield row.at(row.moments[1 if is_later else 0])
        number += isinstance(row, TimedRow)


def _switch(
    times: list[datetime], before: datetime | None, after: datetime | None, has_repeats: bool
) -> tuple[int, bool] | None:
    """Where the second of the two hours begins, and whether the file has the oldest first; None
    where its order does not say. ``times`` are local ones, told by the earlier of their moments.
    """
    is_rising = _is_rising(times, before, after)
    if is_rising is None:
        return None
    steps = [
        index
        for index, (one, next_one) in enumerate(pairwise(times), 1)
        if (next_one < one if is_rising else next_one > one)
    ]
    if not steps and len(times) == 2 and times[0] == times[1] and not has_repeats:
        # An hourly file has no step back, but the same hour twice, and no other one twice.
        steps = [1]
    return (steps[0], is_rising) if len(steps) == 1 and _is_a_jump(times, steps[0]) else None


def _is_a_jump(times: list[datetime], index: int) -> bool:
    """Whether the step at ``index`` is a clock put back, and no disorder among the rows."""
    sizes = [abs(one - other) for one, other in pairwise(times)]
    step = sizes[index - 1]
    return step == timedelta(0) or (step >= _JUMP_MIN and step == max(sizes))


def _is_rising(
    times: list[datetime], before: datetime | None, after: datetime | None
) -> bool | None:
    """Whether times rise in the file, as its rows around those hours show, or else those in it."""
    if before is not None and after is not None:
        return after > before
    if before is not None:
        return times[0] > before
    if after is not None:
        return after > times[-1]
    up = sum(one < next_one for one, next_one in pairwise(times))
    down = sum(one > next_one for one, next_one in pairwise(times))
    return None if up == down else up > down
