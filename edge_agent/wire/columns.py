"""A column is what all records of a list have under one key, such as their times."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime
from itertools import accumulate
from math import isfinite
from operator import itemgetter

from edge_agent.errors import ProtocolError
from edge_agent.values.record import NANOSECONDS, UNSET_CLOCK_BEFORE_NS, resolve_time, seconds_to_ns
from edge_agent.wire.encodings import Usual

_SET_CLOCK_FROM_S = UNSET_CLOCK_BEFORE_NS // NANOSECONDS
_DIGITS = str.maketrans("0123456789", "0000000000")
#: A little before the end of signed 64-bit nanoseconds; later times are looked at singly.
_SET_CLOCK_TO_S = 9_000_000_000


def values_of(key: str, records: list[Usual]) -> list[object]:
    """Each record's value of ``key``, None where it has none."""
    try:
        # All have it, as a rule, and then all of this happens in C.
        return list(map(itemgetter(key), records))
    except KeyError:
        return [record.get(key) for record in records]


def time_span(times: list[object] | None, arrival_ns: int) -> tuple[int, int] | None:
    """Earliest and latest resolved time; None where one of them is bad.

    ``times`` None: no record tells one.
    """
    if times is None:
        return arrival_ns, arrival_ns
    try:
        total = sum(times)  # type: ignore[arg-type]  # what is no number raises TypeError
        # Sorting floats is five times as fast as min() and max(), and nearly all come in order.
        ordered: list[float] = sorted(times)  # type: ignore[arg-type]  # numbers, or sum() had raised
    except (TypeError, OverflowError):
        if times.count(None) == len(times):
            return arrival_ns, arrival_ns
        if (span := _span_of_dates(times, arrival_ns)) is not None:
            return span
    else:
        # `resolve_time` only rises there, so the ends are enough.
        low, high = ordered[0], ordered[-1]
        is_relative = high <= 0 and isfinite(total) and bool not in set(map(type, times))
        if is_relative or _are_set(low, high, total):
            try:
                return resolve_time(low, arrival_ns)[0], resolve_time(high, arrival_ns)[0]
            except ProtocolError:
                return None
    try:
        found = [resolve_time(value, arrival_ns)[0] for value in times]
    except ProtocolError:
        return None
    return min(found), max(found)


def resolved(times: list[object] | None, count: int, arrival_ns: int) -> list[int]:
    """Each of ``count`` records' time, none of which is bad; ``times`` None: none tells one."""
    if times is None:
        return [arrival_ns] * count
    try:
        if _are_set(min(times), max(times), sum(times)):  # type: ignore[type-var, arg-type]  # what is no number raises TypeError
            return list(map(seconds_to_ns, times))  # type: ignore[arg-type]  # numbers, as sum() says
    except (TypeError, OverflowError):
        pass
    return [resolve_time(value, arrival_ns)[0] for value in times]


def _are_set(low: float, high: float, total: float) -> bool:
    """Whether numbers, the lowest and the highest of which these are, are all seconds since 1970 of
    a clock that was set. Booleans are not. A NaN spoils the order, but does not hide from the sum.
    """
    return low >= _SET_CLOCK_FROM_S and high <= _SET_CLOCK_TO_S and isfinite(total)


def _span_of_dates(times: list[object], arrival_ns: int) -> tuple[int, int] | None:
    """`time_span` of dates that are all of one kind; None where they have to be looked at singly.

    From the earliest one on, if that is taken as it says, `resolve_time` only rises.
    """
    kinds = set(map(type, times))
    try:
        if kinds == {datetime}:
            ordered = sorted(times)  # type: ignore[type-var]  # datetimes, all with a zone
        elif kinds == {str} and _are_alike(times):  # type: ignore[arg-type]  # text, all of it
            # Of one form, with one zone: they are in order where their digits are.
            ordered = sorted(times)  # type: ignore[type-var]  # text
        else:
            return None
        low_ns, quality = resolve_time(ordered[0], arrival_ns)
        if quality != "sensor":
            return None
        return low_ns, resolve_time(ordered[-1], arrival_ns)[0]
    except (ProtocolError, ValueError, TypeError):
        return None


def _are_alike(texts: list[str]) -> bool:
    """Whether texts are dates that differ in nothing but digits, and not in their zone.

    Raises:
        ValueError: one of them is no date.
    """
    form = texts[0].translate(_DIGITS)
    if "\n".join(texts).translate(_DIGITS) != "\n".join([form] * len(texts)):
        return False
    if form[-1:] != "Z" and len({text[-6:] for text in texts}) > 1:
        return False
    # That all of them are dates is found in C; what a date may look like is `resolve_time`'s.
    return len(list(map(datetime.fromisoformat, texts))) == len(texts)


def cuts(sizes: list[int], limit: int) -> Iterator[tuple[int, int]]:
    """Begin and end of pieces of at most ``limit`` bytes, or of one element that has more."""
    if sizes and sum(sizes) <= limit:
        yield 0, len(sizes)
        return
    ends = list(accumulate(sizes))
    begin = before = 0
    while begin < len(sizes):
        end = max(bisect_right(ends, before + limit), begin + 1)
        yield begin, end
        begin, before = end, ends[end - 1]
