"""Figures of a field by minute, by hour or by any other unit, in memory: made, cut, put together.

Of integers and decimals all but the sum of squares are exact, however often they are put together.
Put together from parts in any order, they are what they would have been all at once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from functools import partial
from itertools import chain, pairwise, repeat
from math import fsum
from operator import gt, mul, sub, truediv
from typing import NamedTuple

from edge_agent.history.format.columns import Numbers

#: Columns of numbers in a `Cells`, in the order in which they are stored.
NUMBERS = ("mins", "maxs", "sums", "firsts", "lasts")
COLUMNS = ("starts", "counts", *NUMBERS, "first_ns", "last_ns", "squares")


class Units(NamedTuple):
    """Where each minute, hour or other unit of some times begins and ends among them."""

    unit_ns: int
    bounds: list[tuple[int, int]]


class Cells:
    """Figures of one field by minute, by hour or by any other unit, as lists side by side.

    Numbers are ``value / 10**scale`` where they are integers; ``exact`` says that they are. Times
    are ns since 1970: the start of each unit, and of its first and last record. ``unit_ns`` is
    the length that all units have, 0 where nobody has said so.
    """

    __slots__ = (
        "counts", "exact", "first_ns", "firsts", "last_ns", "lasts", "maxs", "mins", "scale",
        "squares", "starts", "sums", "unit_ns",
    )  # fmt: skip

    def __init__(self, scale: int = 0, *, exact: bool = True, unit_ns: int = 0) -> None:
        self.scale, self.exact, self.unit_ns = scale, exact, unit_ns
        self.starts: list[int] = []
        self.counts: list[int] = []
        self.mins: list[float] = []
        self.maxs: list[float] = []
        self.sums: list[float] = []
        self.firsts: list[float] = []
        self.lasts: list[float] = []
        self.first_ns: list[int] = []
        self.last_ns: list[int] = []
        #: Squared deviations from the mean, summed, in the field's own unit.
        self.squares: list[float] = []

    def __len__(self) -> int:
        return len(self.starts)

    def rescaled(self, scale: int) -> Cells:
        """The same with more decimals; or as floats, for ``scale`` -1."""
        made = Cells(max(scale, 0), exact=scale >= 0, unit_ns=self.unit_ns)
        for name in ("starts", "counts", "first_ns", "last_ns", "squares"):
            setattr(made, name, getattr(self, name))
        for name in NUMBERS:
            values = getattr(self, name)
            if scale < 0:
                values = (
                    list(map(truediv, values, repeat(10**self.scale))) if self.exact else values
                )
            else:
                values = list(map(mul, values, repeat(10 ** (scale - self.scale))))
            setattr(made, name, values)
        return made


def cells_of(
    times: Sequence[int], numbers: Numbers, places: Sequence[int] | None, units: Units
) -> Cells:
    """The figures of a field's values. ``times`` are those of all records, rising, and ``units``
    theirs (`units_of`); ``places`` say which of them have the field (None: all).
    """
    values: Sequence[float] = numbers.values
    if places is not None:
        times = [times[place] for place in places]
    if numbers.missing:
        kept = [place for place in range(len(values)) if place not in numbers.missing]
        times, values = [times[place] for place in kept], [values[place] for place in kept]
    if places is not None or numbers.missing:
        units = units_of(times, units.unit_ns)
    exact = isinstance(values[0], int)
    cells = counts_of(times, units)
    cells.scale, cells.exact = numbers.scale, exact
    parts = [values[begin:end] for begin, end in units.bounds]
    cells.mins = list(map(min, parts))
    cells.maxs = list(map(max, parts))
    cells.sums = list(map(sum if exact else _sum, parts))
    cells.firsts = [part[0] for part in parts]
    cells.lasts = [part[-1] for part in parts]
    squares = partial(_squares, scale=numbers.scale, exact=exact)
    cells.squares = list(map(squares, parts, cells.sums))
    return cells


def counts_of(times: Sequence[int], units: Units) -> Cells:
    """How many records each unit has, and when: of a field that is 0 in all of them."""
    cells, bounds = Cells(unit_ns=units.unit_ns), units.bounds
    cells.starts = [times[begin] // units.unit_ns * units.unit_ns for begin, _ in bounds]
    cells.counts = [end - begin for begin, end in bounds]
    cells.first_ns = [times[begin] for begin, _ in bounds]
    cells.last_ns = [times[end - 1] for _, end in bounds]
    for name in NUMBERS:
        setattr(cells, name, [0] * len(bounds))
    cells.squares = [0.0] * len(bounds)
    return cells


def units_of(times: Sequence[int], unit_ns: int) -> Units:
    """Which of these times, rising, are of the same unit."""
    bounds, begin, count = [], 0, len(times)
    while begin < count:
        end = bisect_left(times, (times[begin] // unit_ns + 1) * unit_ns, begin, count)
        bounds.append((begin, end))
        begin = end
    return Units(unit_ns, bounds)


def _squares(part: Sequence[float], total: float, *, scale: int, exact: bool) -> float:
    count = len(part)
    if exact:
        wide = float(count * sum(map(mul, part, part)) - total * total) / count
        return wide / float(10 ** (2 * scale))
    mean = total / count
    deviations = list(map(sub, part, repeat(mean)))
    return _sum(list(map(mul, deviations, deviations)))


def _sum(values: Sequence[float]) -> float:
    try:
        return fsum(values)
    except (OverflowError, ValueError):
        # Too large for a float on the way, or of both infinities: what floats make of it.
        return float(sum(values))


def join_cells(parts: Iterable[Cells], unit_ns: int) -> Cells:
    """Several figures of one field as one, by units of ``unit_ns``, which theirs divide. Columns
    that a part was read without are left out.
    """
    found = [part for part in parts if len(part)]
    if not found:
        return Cells()
    exact = all(part.exact for part in found)
    scale = max(part.scale for part in found) if exact else -1
    alike = [
        part if part.exact == exact and (not exact or part.scale == scale) else part.rescaled(scale)
        for part in found
    ]
    return _chained(_by_unit(alike, unit_ns))


def _by_unit(parts: list[Cells], unit_ns: int) -> list[Cells]:
    """The parts by units of ``unit_ns``, one behind the other. Those that are so already, as most
    of a long range are, stay as they are.
    """
    made: list[Cells] = []
    others: list[Cells] = []
    for cluster in _clusters(parts, unit_ns):
        if len(cluster) > 1 or cluster[0].unit_ns != unit_ns:
            others += cluster
            continue
        if others:
            made.append(_grouped(_chained(others), unit_ns))
            others = []
        made += cluster
    if others:
        made.append(_grouped(_chained(others), unit_ns))
    return made


def _clusters(parts: list[Cells], unit_ns: int) -> Iterator[list[Cells]]:
    """The parts by time, those together that have units in common, in the order they came in."""
    order = sorted(range(len(parts)), key=lambda at: parts[at].starts[0] // unit_ns)
    cluster: list[int] = []
    last = 0
    for at in order:
        begin, end = parts[at].starts[0] // unit_ns, parts[at].starts[-1] // unit_ns
        if cluster and begin > last:
            yield [parts[one] for one in sorted(cluster)]
            cluster = []
        last = max(last, end) if cluster else end
        cluster.append(at)
    yield [parts[one] for one in sorted(cluster)]


def _chained(parts: Sequence[Cells]) -> Cells:
    """Figures alike one behind the other. Columns that a part was read without are left out."""
    if len(parts) == 1:
        return parts[0]
    joined = Cells(parts[0].scale, exact=parts[0].exact, unit_ns=parts[0].unit_ns)
    for name in COLUMNS:
        columns = [getattr(part, name) for part in parts]
        # What is in memory has all columns, what was read from roll-ups those that were asked for.
        if all(columns):
            setattr(joined, name, list(chain.from_iterable(columns)))
    return joined


def within(cells: Cells, from_ns: int, to_ns: int) -> Cells:
    """Those of the cells, which are in order, that begin in the range."""
    begin, end = bisect_left(cells.starts, from_ns), bisect_left(cells.starts, to_ns)
    if (begin, end) == (0, len(cells)):
        return cells
    made = Cells(cells.scale, exact=cells.exact, unit_ns=cells.unit_ns)
    for name in COLUMNS:
        setattr(made, name, getattr(cells, name)[begin:end])
    return made


def _grouped(cells: Cells, unit_ns: int) -> Cells:
    cells = copy(cells)
    cells.unit_ns = unit_ns
    starts = cells.starts
    if any(map(gt, starts, starts[1:])):
        order = sorted(range(len(starts)), key=starts.__getitem__)
        for name in COLUMNS:
            values = getattr(cells, name)
            setattr(cells, name, [values[i] for i in order] if values else values)
        starts = cells.starts
    units = [start // unit_ns for start in starts]
    bounds = [i for i, (one, two) in enumerate(pairwise(units), 1) if one != two]
    if len(bounds) + 1 == len(units):
        cells.starts = [unit * unit_ns for unit in units]
        return cells
    groups = list(pairwise([0, *bounds, len(units)]))
    made = Cells(cells.scale, exact=cells.exact, unit_ns=unit_ns)
    made.starts = [units[i] * unit_ns for i, _ in groups]
    made.counts = [sum(cells.counts[i:j]) for i, j in groups]
    if cells.mins:
        made.mins = [min(cells.mins[i:j]) for i, j in groups]
    if cells.maxs:
        made.maxs = [max(cells.maxs[i:j]) for i, j in groups]
    if cells.sums:
        add_up: Callable[[list[float]], float] = sum if cells.exact else _sum
        made.sums = [add_up(cells.sums[i:j]) for i, j in groups]
    if cells.first_ns:
        times = cells.first_ns
        first = [min(range(i, j), key=times.__getitem__) for i, j in groups]
        made.first_ns = [times[i] for i in first]
        made.firsts = [cells.firsts[i] for i in first] if cells.firsts else []
    if cells.last_ns:
        times = cells.last_ns
        # Of equal times the later part is the last, as of equal times the later record is.
        last = [max(range(j - 1, i - 1, -1), key=times.__getitem__) for i, j in groups]
        made.last_ns = [times[i] for i in last]
        made.lasts = [cells.lasts[i] for i in last] if cells.lasts else []
    if cells.squares:
        made.squares = [_joined_squares(cells, i, j) for i, j in groups]
    return made


def _joined_squares(cells: Cells, i: int, j: int) -> float:
    counts, sums, power = cells.counts[i:j], cells.sums[i:j], 10**cells.scale
    count, total = sum(counts), sum(sums)
    # Of integers the difference from the mean is exact until it is divided.
    apart = [
        (part * count - total * n) / (n * count * power)
        for n, part in zip(counts, sums, strict=True)
    ]
    between = [n * one * one for n, one in zip(counts, apart, strict=True)]
    return _sum([*cells.squares[i:j], *between])
