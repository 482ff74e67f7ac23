"""Roll-ups, figures by minute or by hour: their encoding, decoding and joining.

For each field and each minute (hour) with a number: count, min, max, sum, first and last with their
times, and the sum of squared deviations from the mean. Of integers and decimals all but the last
are exact, however often they are put together; that one is kept as a float of 32 bits. Put together
from parts in any order, they are what they would have been all at once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain, pairwise, repeat
from math import fsum
from operator import add, gt, mul, sub, truediv
from typing import NamedTuple

import msgspec
from msgspec import Struct

from edge_agent.errors import StoreDamaged
from edge_agent.history.format.columns import SCALE_MAX, Numbers
from edge_agent.history.format.packing import (
    PackedNumbers,
    pack,
    pack_floats,
    unpack,
    unpack_floats,
)
from edge_agent.history.format.segment import Path

ROLLUP_FORMAT = 1
_INT64 = 1 << 63
#: A part of history has 60 units at most.
_UNITS_MAX = 4096
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
    joined = Cells(max(scale, 0), exact=exact)
    alike = [
        part if part.exact == exact and (not exact or part.scale == scale) else part.rescaled(scale)
        for part in found
    ]
    for name in COLUMNS:
        columns = [getattr(part, name) for part in alike]
        # What is in memory has all columns, what was read from roll-ups those that were asked for.
        if all(columns):
            setattr(joined, name, list(chain.from_iterable(columns)))
    is_behind = all(one.starts[-1] < two.starts[0] for one, two in pairwise(found))
    if is_behind and all(part.unit_ns == unit_ns for part in found):
        # Of these units already, each once, and in order.
        joined.unit_ns = unit_ns
        return joined
    return _grouped(joined, unit_ns)


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
    made = Cells(cells.scale, exact=cells.exact)
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


class FieldFigures(Struct, array_like=True, frozen=True, gc=False):
    """A `Cells` as it is stored. ``places``: which of the roll-up's units it has, None for all.
    Numbers are packed integers, or else floats in ``floats``. ``counts`` and times are None where
    each record of the unit has the field.
    """

    scale: int
    count: int
    places: PackedNumbers | None
    counts: PackedNumbers | None
    first_ns: PackedNumbers | None
    last_ns: PackedNumbers | None
    numbers: list[PackedNumbers]
    floats: list[tuple[bool, bytes]]
    squares: tuple[bool, bytes]


class Rollup(Struct, array_like=True, frozen=True, gc=False):
    """Figures of one stream for some units; ``fields`` are `FieldFigures` in msgpack."""

    format: int
    unit_ns: int
    count: int
    starts: PackedNumbers
    counts: PackedNumbers
    first_ns: PackedNumbers
    last_ns: PackedNumbers
    paths: list[Path]
    fields: list[msgspec.Raw]


_ENCODER = msgspec.msgpack.Encoder()
_ROLLUP = msgspec.msgpack.Decoder(Rollup)
_FIELD = msgspec.msgpack.Decoder(FieldFigures)


def encode_rollup(unit_ns: int, records: Cells, fields: dict[Path, Cells]) -> bytes:
    """Roll-ups of one stream: ``records`` counts all records of each unit."""
    place = {start: index for index, start in enumerate(records.starts)}
    raws = [
        msgspec.Raw(_ENCODER.encode(_figures(cells, records, place))) for cells in fields.values()
    ]
    return _ENCODER.encode(
        Rollup(
            ROLLUP_FORMAT,
            unit_ns,
            len(records),
            pack(records.starts, even=True),
            pack(records.counts),
            pack(list(map(sub, records.first_ns, records.starts)), even=True),
            pack(list(map(sub, records.last_ns, records.starts)), even=True),
            list(fields),
            raws,
        )
    )


def _figures(cells: Cells, records: Cells, place: dict[int, int]) -> FieldFigures:
    every = cells.starts == records.starts
    alike = every and cells.counts == records.counts
    exact = cells.exact and all(
        min(values) >= -_INT64 and max(values) < _INT64
        for values in (getattr(cells, name) for name in NUMBERS)
    )
    if cells.exact and not exact:
        cells = cells.rescaled(-1)
    columns = [getattr(cells, name) for name in NUMBERS]
    return FieldFigures(
        cells.scale,
        len(cells),
        None if every else pack([place[start] for start in cells.starts]),
        None if alike else pack(cells.counts),
        None if alike else pack(list(map(sub, cells.first_ns, cells.starts)), even=True),
        None if alike else pack(list(map(sub, cells.last_ns, cells.starts)), even=True),
        list(map(pack, columns)) if exact else [],
        [] if exact else [pack_floats(column, "d") for column in columns],
        pack_floats([min(square, 3e38) for square in cells.squares], "f"),
    )


def decode_rollup(raw: bytes | memoryview) -> Rollup:
    """The roll-up, its fields still encoded. Raises StoreDamaged."""
    try:
        rollup = _ROLLUP.decode(raw)
    except (ValueError, RecursionError) as error:
        raise StoreDamaged(f"a roll-up of history cannot be read: {error}") from error
    if rollup.format != ROLLUP_FORMAT or not 1 <= rollup.count <= _UNITS_MAX or rollup.unit_ns < 1:
        raise StoreDamaged("a roll-up of history has an impossible header")
    if len(rollup.paths) != len(rollup.fields):
        raise StoreDamaged("a roll-up of history has more or fewer figures than fields")
    return rollup


def records_in(rollup: Rollup) -> Cells:
    """How many records each unit has, and when. Raises StoreDamaged."""
    count, cells = rollup.count, Cells(unit_ns=rollup.unit_ns)
    cells.starts = unpack(rollup.starts, count)
    cells.counts = unpack(rollup.counts, count)
    cells.first_ns = list(map(add, cells.starts, unpack(rollup.first_ns, count)))
    cells.last_ns = list(map(add, cells.starts, unpack(rollup.last_ns, count)))
    for name in NUMBERS:
        setattr(cells, name, [0] * count)
    cells.squares = [0.0] * count
    return cells


def field_in(rollup: Rollup, path: Path, *, needs: frozenset[str] | None = None) -> Cells | None:
    """The figures of one field; None where it has none. Only the columns in ``needs`` are read, all
    where it is None. Raises StoreDamaged.
    """
    if path not in rollup.paths:
        return None
    figures = _figures_in(rollup, path)
    exact, count = bool(figures.numbers), figures.count
    cells = Cells(figures.scale, exact=exact, unit_ns=rollup.unit_ns)
    starts = unpack(rollup.starts, rollup.count)
    if figures.places is not None:
        places = unpack(figures.places, count)
        if min(places) < 0 or max(places) >= rollup.count:
            raise StoreDamaged("a roll-up's field names units that it does not have")
        starts = list(map(starts.__getitem__, places))
    cells.starts = starts
    cells.counts = unpack(rollup.counts if figures.counts is None else figures.counts, count)
    for name, own, common in (
        ("first_ns", figures.first_ns, rollup.first_ns),
        ("last_ns", figures.last_ns, rollup.last_ns),
    ):
        if needs is None or name in needs:
            offsets = unpack(common if own is None else own, count)
            setattr(cells, name, list(map(add, starts, offsets)))
    for number, name in enumerate(NUMBERS):
        if needs is None or name in needs:
            values: list[int] | list[float]
            if exact:
                values = unpack(figures.numbers[number], count)
            else:
                values = unpack_floats(*figures.floats[number], "d", count)
            setattr(cells, name, values)
    if needs is None or "squares" in needs:
        cells.squares = unpack_floats(*figures.squares, "f", count)
    return cells


def _figures_in(rollup: Rollup, path: Path) -> FieldFigures:
    try:
        figures = _FIELD.decode(rollup.fields[rollup.paths.index(path)])
    except (ValueError, RecursionError) as error:
        raise StoreDamaged(f"a roll-up's field cannot be read: {error}") from error
    if not (1 <= figures.count <= rollup.count and 0 <= figures.scale <= SCALE_MAX):
        raise StoreDamaged("a roll-up's field has an impossible header")
    lists = figures.numbers or figures.floats
    if len(lists) != len(NUMBERS) or (figures.places is None and figures.count != rollup.count):
        raise StoreDamaged("a roll-up's field lacks figures")
    return figures
