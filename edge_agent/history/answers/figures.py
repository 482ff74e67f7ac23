"""Figures of a field by step: from roll-ups where they know enough, otherwise from every value.

A range is worked on in spans of `SPAN_STEPS` steps (`spans_of`), and what is put together is put
together early, so that no range needs more memory than its answer.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import pairwise, repeat
from math import isfinite, sqrt
from operator import truediv
from typing import Any

from edge_agent.errors import ProtocolError
from edge_agent.history.answers.reading import View
from edge_agent.history.format.cells import Cells, cells_of, join_cells, units_of, within
from edge_agent.history.format.columns import Numbers
from edge_agent.history.format.segment import (
    HistorySegment,
    Path,
    column_of,
    records_of,
    times_of,
)
from edge_agent.history.keys import (
    BUCKET_NS,
    DAY_NS,
    HOUR_NS,
    HOURS,
    MINUTE_NS,
    MINUTES,
    MONTHS,
    RAW,
)
from edge_agent.history.question import ALL_NS, ROLLED_UP
from edge_agent.values.aggregates import is_number
from edge_agent.values.filter import Filter

#: What each aggregate needs of `Cells`, beside starts and counts.
_NEEDS = {
    "count": (), "min": ("mins",), "max": ("maxs",), "mean": ("sums",), "sum": ("sums",),
    "first": ("firsts", "first_ns"), "last": ("lasts", "last_ns"),
    "stddev": ("sums", "squares"),
}  # fmt: skip
#: Steps that are worked on at a time.
SPAN_STEPS = 10_000
#: Figures that are held until they are put together.
_CELLS_MAX = 20_000
#: Values of one span: percentiles have to sort them.
VALUES_MAX = 1_000_000


@dataclass(slots=True)
class FiguresByStep:
    """Starts of steps, rising, and a column for each aggregate, None where it has no value."""

    starts: list[int]
    columns: list[list[Any]]

    def __len__(self) -> int:
        return len(self.starts)

    def extend(self, later: FiguresByStep) -> None:
        """Take what follows, too."""
        self.starts += later.starts
        for column, more in zip(self.columns, later.columns, strict=True):
            column += more


def side_by_side(found: Sequence[FiguresByStep], width: int) -> tuple[list[int], list[list[Any]]]:
    """The steps that some of them have, and everybody's columns, of which each has ``width``; None
    where one has no such step.
    """
    starts = found[0].starts if found else []
    if any(one.starts != starts for one in found):
        starts = sorted({start for one in found for start in one.starts})
    columns = []
    for one in found:
        own = one.columns
        if one.starts != starts:
            place = dict(zip(one.starts, range(len(one)), strict=True))
            places = [place.get(start, -1) for start in starts]
            own = [[*column, None] for column in own] or [[None]] * width
            own = [list(map(column.__getitem__, places)) for column in own]
        columns += own
    return starts, columns


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of each stream: ``from_ns`` and ``to_ns`` are whole steps, and the value before
    a step's first one is looked for ``back_ns`` before the step.
    """

    from_ns: int
    to_ns: int
    step_ns: int
    aggregates: tuple[str, ...]
    filter: Filter | None
    back_ns: int = 0

    @property
    def by_rollups(self) -> bool:
        """Whether roll-ups can answer."""
        return (
            self.filter is None
            and (self.step_ns == ALL_NS or self.step_ns % MINUTE_NS == 0)
            and set(self.aggregates) <= set(ROLLED_UP)
        )


def spans_of(
    view: View, members: Sequence[tuple[str, int]], wanted: Wanted, *, newest_first: bool
) -> Iterator[Wanted]:
    """What is wanted, in spans of whole steps, without those in which there is nothing."""
    step, from_ns, to_ns = wanted.step_ns, wanted.from_ns, wanted.to_ns
    if step == ALL_NS:
        yield wanted
        return
    hours = set[int]()
    for stream, _ in members:
        hours.update(hour for hour, _ in view.tail.get(stream, ()))
    if wanted.by_rollups:
        width = step * SPAN_STEPS
        levels = (MONTHS, HOURS, MINUTES) if step % HOUR_NS == 0 else (MINUTES,)
    else:
        # Every value of a span is in memory.
        width = step * max(HOUR_NS // step, 1)
        levels = (RAW,)
    numbers = {hour * HOUR_NS // width for hour in hours}
    numbers |= {((hour + 1) * HOUR_NS - 1) // width for hour in hours}
    for level in levels:
        length, at_ns = BUCKET_NS[level], from_ns
        while (bucket := view.bucket_from(level, at_ns, to_ns)) is not None:
            first, last = bucket * length // width, ((bucket + 1) * length - 1) // width
            numbers.update(range(first, last + 1))
            # What else the last of these spans has in it changes nothing.
            at_ns = max((last + 1) * width, (bucket + 1) * length)
    for number in sorted(numbers, reverse=newest_first):
        view.pause()
        begin, end = max(number * width, from_ns), min((number + 1) * width, to_ns)
        if begin < end:
            yield replace(wanted, from_ns=begin, to_ns=end)


def cells_in(view: View, stream: str, number: int, path: Path, wanted: Wanted) -> Cells:
    """The figures of one field of one stream by step."""
    if wanted.by_rollups:
        return together(_from_rollups(view, stream, number, path, wanted), wanted)
    unit = MINUTE_NS if wanted.step_ns == ALL_NS else wanted.step_ns
    parts = (
        cells_of(times, _alike(values), None, units_of(times, unit))
        for times, values in _values_by_hour(view, stream, number, path, wanted, wanted.from_ns)
    )
    return together(parts, wanted)


def _alike(values: list[float]) -> Numbers:
    """All integers, or all floats."""
    return Numbers(values if set(map(type, values)) == {int} else list(map(float, values)), 0)


def together(parts: Iterable[Cells], wanted: Wanted) -> Cells:
    """Figures of finer units, or of several streams, by step."""
    held: list[Cells] = []
    count = 0
    for part in parts:
        held.append(part)
        count += len(part)
        if count > _CELLS_MAX:
            held = [_joined(held, wanted)]
            count = len(held[0])
    return _joined(held, wanted)


def _joined(parts: list[Cells], wanted: Wanted) -> Cells:
    if wanted.step_ns != ALL_NS:
        return join_cells(parts, wanted.step_ns)
    # They are kept as they are.
    parts = list(map(copy, parts))
    for part in parts:
        part.starts, part.unit_ns = [0] * len(part), 0
    cells = join_cells(parts, ALL_NS)
    cells.starts = [wanted.from_ns] * len(cells)
    return cells


def _from_rollups(
    view: View, stream: str, number: int, path: Path, wanted: Wanted
) -> Iterator[Cells]:
    needs = frozenset(name for one in wanted.aggregates for name in _NEEDS[one])
    from_ns, to_ns = wanted.from_ns, wanted.to_ns
    unit = wanted.step_ns
    if unit == ALL_NS:
        # Hours where there are whole ones, minutes at both ends.
        unit = MINUTE_NS
        middle = (-(-from_ns // HOUR_NS) * HOUR_NS, to_ns // HOUR_NS * HOUR_NS)
        coarse = middle if middle[0] < middle[1] else (from_ns, from_ns)
    else:
        coarse = (from_ns, to_ns) if unit % HOUR_NS == 0 else (from_ns, from_ns)
    # Days that have hours of their own; later ones have minutes alone.
    coarse_end = min(coarse[1], (view.header.hours_until + 1) * DAY_NS)
    if coarse[0] < coarse_end:
        # What came late for a month lies with its days, and is the later one of two.
        yield from _level(view, MONTHS, number, path, needs, coarse[0], coarse_end)
        yield from _level(view, HOURS, number, path, needs, coarse[0], coarse_end)
        yield from _level(view, MINUTES, number, path, needs, from_ns, coarse[0])
        yield from _level(view, MINUTES, number, path, needs, coarse_end, to_ns)
    else:
        yield from _level(view, MINUTES, number, path, needs, from_ns, to_ns)
    for _, segment in view.tail.get(stream, ()):
        if segment.last_ns >= from_ns and segment.first_ns < to_ns:
            times = times_of(segment)
            units = units_of(times, unit)
            for places, numbers in column_of(segment, path):
                cells = within(cells_of(times, numbers, places, units), from_ns, to_ns)
                yield _only(cells, needs)


def _only(cells: Cells, needs: frozenset[str]) -> Cells:
    """Without the columns that roll-ups are read without: all parts have the same ones."""
    made = Cells(cells.scale, exact=cells.exact, unit_ns=cells.unit_ns)
    made.starts, made.counts = cells.starts, cells.counts
    for name in needs:
        setattr(made, name, getattr(cells, name))
    return made


def _level(
    view: View, level: int, number: int, path: Path, needs: frozenset[str], from_ns: int, to_ns: int
) -> Iterator[Cells]:
    if from_ns >= to_ns:
        return
    span = BUCKET_NS[level]
    for bucket in view.buckets(level, from_ns, to_ns):
        is_whole = from_ns <= bucket * span and (bucket + 1) * span <= to_ns
        for cells in view.cells(level, number, bucket, path, needs):
            yield cells if is_whole else within(cells, from_ns, to_ns)


def _values_by_hour(
    view: View, stream: str, number: int, path: Path, wanted: Wanted, from_ns: int
) -> Iterator[tuple[list[int], list[float]]]:
    """Every number of a field from ``from_ns`` on, hour by hour, by time."""
    for hour in view.hours(stream, from_ns, wanted.to_ns):
        times: list[int] = []
        values: list[float] = []
        for segment in view.segments(stream, number, hour):
            if segment.last_ns < from_ns or segment.first_ns >= wanted.to_ns:
                continue
            for some, numbers in _values(segment, stream, path, wanted.filter):
                times += some
                values += numbers
        if times != sorted(times):
            order = sorted(range(len(times)), key=times.__getitem__)
            times, values = [times[i] for i in order], [values[i] for i in order]
        begin, end = bisect_left(times, from_ns), bisect_left(times, wanted.to_ns)
        if begin < end:
            yield times[begin:end], values[begin:end]


def _values(
    segment: HistorySegment, stream: str, path: Path, wanted: Filter | None
) -> Iterator[tuple[list[int], list[float]]]:
    if wanted is not None:
        found = [
            (record.time_ns, value)
            for record in records_of(segment, stream)
            if wanted(record) and is_number(value := _at(record.fields, path))
        ]
        yield [time_ns for time_ns, _ in found], [value for _, value in found]
        return
    all_times = times_of(segment)
    for places, numbers in column_of(segment, path):
        values = numbers.floats()
        times = all_times if places is None else [all_times[place] for place in places]
        if numbers.missing:
            kept = [place for place in range(len(values)) if place not in numbers.missing]
            times, values = [times[place] for place in kept], [values[place] for place in kept]
        yield times, values


def _at(fields: Any, path: Path) -> Any:
    for part in path:
        if not isinstance(fields, dict):
            return None
        fields = fields.get(part)
    return fields


def figures(view: View, stream: str, number: int, path: Path, wanted: Wanted) -> FiguresByStep:
    """Every aggregate that is wanted of one field of one stream, by step."""
    if all(name in ROLLED_UP for name in wanted.aggregates):
        return shown(cells_in(view, stream, number, path, wanted), wanted.aggregates)
    times, values = array("q"), array("d")
    before_ns = wanted.from_ns - wanted.back_ns
    for some, numbers in _values_by_hour(view, stream, number, path, wanted, before_ns):
        times.extend(some)
        values.extend(numbers)
        if len(times) > VALUES_MAX:
            raise ProtocolError(
                "too_long",
                f"aggregate: one step has more than {VALUES_MAX} values of {stream}; ask for a"
                " smaller step, or for count, min, max, mean, sum, first, last or stddev alone",
            )
    begin = bisect_left(times, wanted.from_ns)
    if begin == len(times):
        return FiguresByStep([], [[] for _ in wanted.aggregates])
    unit = MINUTE_NS if wanted.step_ns == ALL_NS else wanted.step_ns
    own = times[begin:]
    cells = cells_of(own, Numbers(values[begin:].tolist(), 0), None, units_of(own, unit))
    return shown(together([cells], wanted), wanted.aggregates, _by_step(times, values, wanted))


def shown(
    cells: Cells, aggregates: Sequence[str], extra: Mapping[int, list[Any]] | None = None
) -> FiguresByStep:
    """The aggregates of cells; ``extra`` has by step those that need every value, in order."""
    others = [name for name in aggregates if name not in ROLLED_UP]
    known = extra or {}
    rows = [known.get(start, [None] * len(others)) for start in cells.starts if others]
    more = iter(map(list, zip(*rows, strict=True)) if rows else [[] for _ in others])
    return FiguresByStep(
        cells.starts,
        [_column(cells, name) if name in ROLLED_UP else next(more) for name in aggregates],
    )


def _column(cells: Cells, name: str) -> list[Any]:
    power = 10**cells.scale
    if name == "count":
        return cells.counts
    if name == "stddev":
        return [
            sqrt(max(squares, 0.0) / (count - 1)) if count > 1 else None
            for squares, count in zip(cells.squares, cells.counts, strict=True)
        ]
    if name == "mean":
        means = map(truediv, cells.sums, cells.counts)
        return list(map(truediv, means, repeat(power)) if power > 1 else means)
    values: list[float] = getattr(cells, {"sum": "sums"}.get(name, f"{name}s"))
    return list(map(truediv, values, repeat(power))) if power > 1 else values


def _by_step(times: Sequence[int], values: Sequence[float], wanted: Wanted) -> dict[int, list[Any]]:
    """Aggregates that need every value, by step. The times may begin before the range."""
    names = [name for name in wanted.aggregates if name not in ROLLED_UP]
    begin, count = bisect_left(times, wanted.from_ns), len(times)
    made: dict[int, list[Any]] = {}
    while begin < count:
        if wanted.step_ns == ALL_NS:
            start_ns, end_ns = wanted.from_ns, wanted.to_ns
        else:
            start_ns = times[begin] // wanted.step_ns * wanted.step_ns
            end_ns = start_ns + wanted.step_ns
        end = bisect_left(times, end_ns, begin, count)
        known = begin > 0 and times[begin - 1] >= start_ns - wanted.back_ns
        span = _Span(times, values, begin, end, begin - known, start_ns, end_ns)
        made[start_ns] = [_FROM_VALUES[name](span) for name in names]
        begin = end
    return made


@dataclass(frozen=True, slots=True)
class _Span:
    """The values ``i`` to ``j`` are those of one step; the one before them is at ``before``, which
    is ``i`` where there is none.
    """

    times: Sequence[int]
    values: Sequence[float]
    i: int
    j: int
    before: int
    start_ns: int
    end_ns: int


def _percentile(part: float) -> Callable[[_Span], float]:
    def percentile(span: _Span) -> float:
        values = sorted(span.values[span.i : span.j])
        place = (len(values) - 1) * part
        low = int(place)
        high = min(low + 1, len(values) - 1)
        return values[low] + (values[high] - values[low]) * (place - low)

    return percentile


def _increase(span: _Span) -> float:
    """How much a counter has grown; one that is smaller than before began at 0 again."""
    values = span.values[span.before : span.j]
    return sum(after - before if after >= before else after for before, after in pairwise(values))


def _rate(span: _Span) -> float:
    return _increase(span) / ((span.end_ns - span.start_ns) / 1e9)


def _time_weighted(span: _Span) -> float | None:
    """The mean of a value that holds until the next one; from the step's first known value on."""
    times = [max(time_ns, span.start_ns) for time_ns in span.times[span.before : span.j]]
    lengths = [after - before for before, after in pairwise([*times, span.end_ns])]
    total = sum(lengths)
    values = span.values[span.before : span.j]
    mean = sum(v * n for v, n in zip(values, lengths, strict=True)) / total
    return mean if isfinite(mean) else None


_FROM_VALUES: dict[str, Callable[[_Span], float | None]] = {
    "p50": _percentile(0.5),
    "p95": _percentile(0.95),
    "p99": _percentile(0.99),
    "increase": _increase,
    "rate": _rate,
    "twmean": _time_weighted,
}
