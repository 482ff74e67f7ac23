"""Figures of a field by step: from roll-ups where they know enough, otherwise from every value."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, repeat
from math import isfinite, sqrt
from operator import truediv
from typing import Any

from edge_agent.aggregates import is_number
from edge_agent.filter import Filter
from edge_agent.history.answers.reading import View
from edge_agent.history.format.columns import Numbers
from edge_agent.history.format.rollup import Cells, cells_of, field_in, join_cells, within
from edge_agent.history.format.segment import (
    Path,
    Segment,
    column_of,
    paths_of,
    records_of,
    times_of,
)
from edge_agent.history.keys import HOUR_NS, HOURS, MINUTE_NS, MINUTES, RAW
from edge_agent.history.question import ALL_NS, ROLLED_UP

#: What each aggregate needs of `Cells`, beside starts and counts.
_NEEDS = {
    "count": (), "min": ("mins",), "max": ("maxs",), "mean": ("sums",), "sum": ("sums",),
    "first": ("firsts", "first_ns"), "last": ("lasts", "last_ns"),
    "stddev": ("sums", "squares"),
}  # fmt: skip
#: How far before a range its first value's predecessor is looked for.
_BEFORE_NS = HOUR_NS
Figures = dict[int, list[Any]]
"""By start of a step: a value for each aggregate, None where there is none."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of each stream: ``from_ns`` and ``to_ns`` are whole steps."""

    from_ns: int
    to_ns: int
    step_ns: int
    aggregates: tuple[str, ...]
    filter: Filter | None

    @property
    def by_rollups(self) -> bool:
        """Whether roll-ups can answer."""
        return (
            self.filter is None
            and self.step_ns % MINUTE_NS == 0
            and set(self.aggregates) <= set(ROLLED_UP)
        )


def fields_of_stream(view: View, stream: str, number: int, from_ns: int, to_ns: int) -> list[Path]:
    """Fields of a stream that have numbers: those of its newest hours in the range."""
    found: dict[Path, None] = {}
    for _, segment in view.tail.get(stream, ()):
        found.update(
            dict.fromkeys(path for path in paths_of(segment) if _has_numbers(segment, path))
        )
    looked = 0
    for level in (MINUTES, HOURS):
        for bucket in reversed(view.buckets(level, from_ns, to_ns)):
            rollups = view.rollups(level, number, bucket)
            found.update(dict.fromkeys(path for one in rollups for path in one.paths))
            looked += bool(rollups)
            if looked >= 4:
                break
    return list(found)


def _has_numbers(segment: Segment, path: Path) -> bool:
    return any(True for _ in column_of(segment, path))


def cells_in(view: View, stream: str, number: int, path: Path, wanted: Wanted) -> Cells:
    """The figures of one field of one stream by step."""
    if wanted.step_ns == ALL_NS:
        return _all_in_one(view, stream, number, path, wanted)
    unit = wanted.step_ns
    if not wanted.by_rollups:
        return join_cells(_from_values(view, stream, number, path, wanted), unit)
    needs = frozenset(name for one in wanted.aggregates for name in _NEEDS[one])
    parts = list(_from_rollups(view, number, path, wanted, needs))
    for _, segment in view.tail.get(stream, ()):
        if segment.last_ns >= wanted.from_ns and segment.first_ns < wanted.to_ns:
            parts += _cells_of(segment, path, unit)
    return within(join_cells(parts, unit), wanted.from_ns, wanted.to_ns)


def _all_in_one(view: View, stream: str, number: int, path: Path, wanted: Wanted) -> Cells:
    """One figure for the whole range, made of minutes or of hours."""
    unit = HOUR_NS if wanted.from_ns % HOUR_NS == wanted.to_ns % HOUR_NS == 0 else MINUTE_NS
    cells = join_cells(
        [cells_in(view, stream, number, path, replace(wanted, step_ns=unit))], ALL_NS
    )
    cells.starts = [wanted.from_ns] * len(cells)
    return cells


def _from_rollups(
    view: View, number: int, path: Path, wanted: Wanted, needs: frozenset[str]
) -> Iterator[Cells]:
    from_ns, to_ns = wanted.from_ns, wanted.to_ns
    if wanted.step_ns % HOUR_NS == 0:
        for day in view.buckets(HOURS, from_ns, to_ns):
            for rollup in view.rollups(HOURS, number, day):
                cells = field_in(rollup, path, needs=needs)
                if cells is not None:
                    yield within(cells, from_ns, to_ns)
        from_ns = max(from_ns, (view.header.hours_until + 1) * 24 * HOUR_NS)
    for hour in view.buckets(MINUTES, from_ns, to_ns):
        for rollup in view.rollups(MINUTES, number, hour):
            cells = field_in(rollup, path, needs=needs)
            if cells is not None:
                yield within(cells, from_ns, to_ns)


def _cells_of(segment: Segment, path: Path, unit_ns: int) -> Iterator[Cells]:
    times = times_of(segment)
    for places, numbers in column_of(segment, path):
        yield cells_of(times, numbers, places, unit_ns)


def _from_values(
    view: View, stream: str, number: int, path: Path, wanted: Wanted
) -> Iterator[Cells]:
    times, values = values_in(view, stream, number, path, wanted, wanted.from_ns)
    if values:
        yield cells_of(times, Numbers(values, 0), None, wanted.step_ns)


def values_in(
    view: View, stream: str, number: int, path: Path, wanted: Wanted, from_ns: int
) -> tuple[list[int], list[float]]:
    """Every number of a field from ``from_ns`` on, by time."""
    found: list[tuple[int, float]] = []
    hours = {*view.buckets(RAW, from_ns, wanted.to_ns)}
    hours |= {
        h
        for h in view.tail_hours(stream)
        if from_ns < (h + 1) * HOUR_NS and h * HOUR_NS < wanted.to_ns
    }
    for hour in sorted(hours):
        part: list[tuple[int, float]] = []
        for segment in view.segments(stream, number, hour):
            part += _values(segment, stream, path, wanted.filter)
        part.sort(key=_time_of)
        found += part
    times = [time_ns for time_ns, _ in found]
    begin, end = bisect_left(times, from_ns), bisect_left(times, wanted.to_ns)
    return times[begin:end], [value for _, value in found[begin:end]]


def _time_of(pair: tuple[int, float]) -> int:
    return pair[0]


def _values(
    segment: Segment, stream: str, path: Path, wanted: Filter | None
) -> Iterator[tuple[int, float]]:
    if wanted is not None:
        for record in records_of(segment, stream):
            if wanted(record):
                value = _at(record.fields, path)
                if is_number(value):
                    yield record.time_ns, value
        return
    times = times_of(segment)
    for places, numbers in column_of(segment, path):
        values = numbers.floats()
        for index, place in enumerate(range(len(times)) if places is None else places):
            if index not in numbers.missing:
                yield times[place], values[index]


def _at(fields: Any, path: Path) -> Any:
    for part in path:
        if not isinstance(fields, dict):
            return None
        fields = fields.get(part)
    return fields


def figures(view: View, stream: str, number: int, path: Path, wanted: Wanted) -> Figures:
    """Every aggregate that is wanted of one field of one stream, by step."""
    from_values = [name for name in wanted.aggregates if name not in ROLLED_UP]
    found: Figures = {}
    if from_values:
        # The value before the range is where the first step's changes begin.
        times, values = values_in(view, stream, number, path, wanted, wanted.from_ns - _BEFORE_NS)
        found = _by_step(times, values, wanted)
    cells = cells_in(view, stream, number, path, wanted)
    return shown(cells, wanted.aggregates, found)


def shown(cells: Cells, aggregates: Sequence[str], extra: Figures) -> Figures:
    """The aggregates of cells; ``extra`` has those that need every value, in their order."""
    columns: list[list[Any] | None] = [
        _column(cells, name) if name in ROLLED_UP else None for name in aggregates
    ]
    if all(column is not None for column in columns):
        rows = map(list, zip(*(column or [] for column in columns), strict=True))
        return dict(zip(cells.starts, rows, strict=True))
    others = [name for name in aggregates if name not in ROLLED_UP]
    made: Figures = {}
    for index, start in enumerate(cells.starts):
        more = dict(zip(others, extra.get(start, [None] * len(others)), strict=True))
        made[start] = [
            more[name] if column is None else column[index]
            for name, column in zip(aggregates, columns, strict=True)
        ]
    return made


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


def _by_step(times: Sequence[int], values: Sequence[float], wanted: Wanted) -> Figures:
    """Aggregates that need every value, by step. The times may begin before the range."""
    names = [name for name in wanted.aggregates if name not in ROLLED_UP]
    if wanted.step_ns == ALL_NS:
        steps = [wanted.from_ns if time_ns >= wanted.from_ns else -1 for time_ns in times]
        length_ns = wanted.to_ns - wanted.from_ns
    else:
        steps = [time_ns // wanted.step_ns * wanted.step_ns for time_ns in times]
        length_ns = wanted.step_ns
    bounds = [0, *(i for i, (a, b) in enumerate(pairwise(steps), 1) if a != b), len(steps)]
    made: Figures = {}
    for i, j in pairwise(bounds):
        if i < j and steps[i] >= wanted.from_ns:
            span = _Span(times, values, i, j, steps[i], length_ns)
            made[steps[i]] = [_FROM_VALUES[name](span) for name in names]
    return made


@dataclass(frozen=True, slots=True)
class _Span:
    """The values ``i`` to ``j`` are those of one step."""

    times: Sequence[int]
    values: Sequence[float]
    i: int
    j: int
    start_ns: int
    step_ns: int


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
    values = span.values[max(span.i - 1, 0) : span.j]
    return sum(after - before if after >= before else after for before, after in pairwise(values))


def _rate(span: _Span) -> float:
    return _increase(span) / (span.step_ns / 1e9)


def _time_weighted(span: _Span) -> float | None:
    """The mean of a value that holds until the next one; from the step's first known value on."""
    i = span.i - 1 if span.i > 0 else span.i
    end_ns = span.start_ns + span.step_ns
    times = [max(time_ns, span.start_ns) for time_ns in span.times[i : span.j]]
    lengths = [after - before for before, after in pairwise([*times, end_ns])]
    total = sum(lengths)
    if not total:
        return None
    mean = sum(v * n for v, n in zip(span.values[i : span.j], lengths, strict=True)) / total
    return mean if isfinite(mean) else None


_FROM_VALUES: dict[str, Callable[[_Span], float | None]] = {
    "p50": _percentile(0.5),
    "p95": _percentile(0.95),
    "p99": _percentile(0.99),
    "increase": _increase,
    "rate": _rate,
    "twmean": _time_weighted,
}
