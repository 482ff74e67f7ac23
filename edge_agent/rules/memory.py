"""Steps that remember: deadband and limit.

What they remember is in memory alone, of the `STREAMS_MAX` streams that were written last. After a
restart they begin anew: the first record of each stream is stored. They go by the records' own
times, so that what was gathered while a sensor was away is judged as if it had come in time.

**What is sent again.** Where the store or the connection fails, a sensor sends again what it has no
ack for, and it is judged a second time. What a step remembers of the first time must not keep it
out: it may never have been stored. So a number that is not above the last one of its source makes
the step forget that stream.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import msgpack

from edge_agent.rules.steps import Act, Fields, Outcome, Spot
from edge_agent.values.record import NANOSECONDS

#: When there are more, the one that was not written for longest is forgotten.
STREAMS_MAX = 4096
#: Of one stream; when there are more, all are forgotten.
_SOURCES_MAX = 16
#: Of a longer value a hash is remembered, so that streams of long texts do not add up.
_VALUE_CHARACTERS_MAX = 40
#: Stretches of one stream whose records are counted: of several sources whose clocks differ.
_STRETCHES_MAX = 8
_MISSING = object()

T = TypeVar("T")


class StreamMemory(Generic[T]):
    """Something for each stream; ``make`` makes what there is of a new one."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._held: dict[str, tuple[T, dict[str, tuple[int, int]]]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def of(self, spot: Spot) -> T:
        """What is remembered of the stream at ``spot``."""
        held = self._held.pop(spot.stream, None)
        if held is None:
            if len(self._held) >= STREAMS_MAX:
                del self._held[next(iter(self._held))]
            held = (self._make(), {})
        number, source = spot.number, spot.source
        if number:
            numbers = held[1]
            last, turn = numbers.get(source, (0, 0))
            # Of one turn several records may have one number: they were one.
            if number < last or (number == last and turn != spot.turn):
                held = (self._make(), {})
            elif len(numbers) >= _SOURCES_MAX and source not in numbers:
                numbers.clear()
            held[1][source] = (number, spot.turn)
        self._held[spot.stream] = held
        return held[0]


class _Last:
    """The values that were let through last, and the time of that record."""

    __slots__ = ("time_ns", "values")

    def __init__(self) -> None:
        self.time_ns: int | None = None
        self.values: dict[str, Any] = {}


def deadband(widths: Mapping[str, float], max_silence_s: float) -> Act:
    """Leaves out a record whose fields have all changed by less than their width since the last
    one that was let through, unless that one is ``max_silence_s`` away. One that has none of the
    fields passes; a field that comes, goes or is no number has changed where it is another.
    """
    silence_ns = round(max_silence_s * NANOSECONDS)
    memory = StreamMemory(_Last)

    def act(fields: Fields, spot: Spot) -> Outcome:
        values = {name: _remembered(fields[name]) for name in widths if name in fields}
        if not values or spot.again:
            return fields
        last, time_ns = memory.of(spot), spot.time_ns()
        if (
            last.time_ns is not None
            and abs(time_ns - last.time_ns) < silence_ns
            and values.keys() == last.values.keys()
            and all(_is_near(values[name], last.values[name], widths[name]) for name in values)
        ):
            return None
        last.time_ns, last.values = time_ns, values
        return fields

    return act


def _remembered(value: Any) -> Any:
    if value is None or isinstance(value, (int, float)):
        return value
    if isinstance(value, str) and len(value) <= _VALUE_CHARACTERS_MAX:
        return value
    return hashlib.blake2b(msgpack.packb(value), digest_size=16).digest()


def _is_near(value: Any, before: Any, width: float) -> bool:
    if type(value) in (int, float) and type(before) in (int, float):
        # Two NaN are near one another, and to nothing else.
        is_same = value == before or (value != value and before != before)
        return bool(is_same or abs(value - before) < width)
    return type(value) is type(before) and bool(value == before)


def limiter(most: int, each_s: float) -> Act:
    """Leaves out what is more than ``most`` records of a stream in one stretch of ``each_s``;
    stretches begin at multiples of their length since 1970.
    """
    each_ns = round(each_s * NANOSECONDS)
    memory: StreamMemory[dict[int, int]] = StreamMemory(dict)

    def act(fields: Fields, spot: Spot) -> Outcome:
        if spot.again:
            return fields
        counts = memory.of(spot)
        stretch = spot.time_ns() // each_ns
        count = counts.pop(stretch, 0)
        if not count and len(counts) >= _STRETCHES_MAX:
            del counts[next(iter(counts))]
        counts[stretch] = min(count + 1, most + 1)
        return fields if count < most else None

    return act
