"""What all records of a list have under one key, and what follows from it for the list."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from math import isfinite
from operator import itemgetter

from edge_agent.errors import ProtocolError
from edge_agent.record import NANOSECONDS, UNSET_CLOCK_BEFORE_NS, resolve_time
from edge_agent.wire.encodings import Usual

_SET_CLOCK_FROM_S = UNSET_CLOCK_BEFORE_NS // NANOSECONDS
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
    else:
        # Within these bounds, which leave out booleans, `resolve_time` only rises, so the ends are
        # enough. A NaN spoils the order, but does not hide from the sum.
        low, high = ordered[0], ordered[-1]
        if low >= _SET_CLOCK_FROM_S and high <= _SET_CLOCK_TO_S and isfinite(total):
            return resolve_time(low, arrival_ns)[0], resolve_time(high, arrival_ns)[0]
    try:
        resolved = [resolve_time(value, arrival_ns)[0] for value in times]
    except ProtocolError:
        return None
    return min(resolved), max(resolved)


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
