"""Roll-ups, figures by minute or by hour: how they are stored and read.

For each field and each minute (hour) with a number: count, min, max, sum, first and last with their
times, and the sum of squared deviations from the mean. That one is kept as a float of 32 bits, all
others of integers and decimals as they are (`edge_agent.history.format.cells`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import add, sub

import msgspec
from msgspec import Struct

from edge_agent.errors import StoreDamaged
from edge_agent.history.format.cells import NUMBERS, Cells
from edge_agent.history.format.columns import SCALE_MAX
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
#: A part of history has 768 units at most: the hours of a month.
_UNITS_MAX = 4096
_TIMES = ("first_ns", "last_ns")
#: What is read of a field beside starts and counts.
_READ = (*NUMBERS, *_TIMES, "squares")
_PLACE = {name: number for number, name in enumerate(NUMBERS)}


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
    """Figures of one stream for some units; ``fields`` are `FieldFigures` in msgpack, which their
    ``paths`` tell apart. One path may have several, where its numbers were not always alike.
    """

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


def encode_rollup(unit_ns: int, records: Cells, fields: Iterable[tuple[Path, Cells]]) -> bytes:
    """Roll-ups of one stream: ``records`` counts all records of each unit."""
    *_, raw = encoding_rollup(unit_ns, records, fields)
    assert raw is not None
    return raw


def encoding_rollup(
    unit_ns: int, records: Cells, fields: Iterable[tuple[Path, Cells]]
) -> Iterator[bytes | None]:
    """As `encode_rollup`, which comes last; None before it are places to pause at."""
    place = {start: index for index, start in enumerate(records.starts)}
    paths: list[Path] = []
    raws: list[msgspec.Raw] = []
    for path, cells in fields:
        paths.append(path)
        raws.append(msgspec.Raw(_ENCODER.encode(_figures(cells, records, place))))
        yield None
    yield _ENCODER.encode(
        Rollup(
            ROLLUP_FORMAT,
            unit_ns,
            len(records),
            pack(records.starts, even=True),
            pack(records.counts),
            pack(list(map(sub, records.first_ns, records.starts)), even=True),
            pack(list(map(sub, records.last_ns, records.starts)), even=True),
            paths,
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


def cells_of_field(
    rollup: Rollup, path: Path, *, needs: frozenset[str] | None = None
) -> list[Cells]:
    """The figures of one field, in the order in which they are put together. Only the columns in
    ``needs`` are read, all where it is None. Raises StoreDamaged.
    """
    return [
        _cells_in(rollup, raw, needs)
        for own, raw in zip(rollup.paths, rollup.fields, strict=True)
        if own == path
    ]


def all_cells_of(
    rollup: Rollup, *, needs: frozenset[str] | None = None
) -> Iterator[tuple[Path, Cells]]:
    """The figures of each field; one may come several times. Raises StoreDamaged."""
    for path, raw in zip(rollup.paths, rollup.fields, strict=True):
        yield path, _cells_in(rollup, raw, needs)


def _cells_in(rollup: Rollup, raw: msgspec.Raw, needs: frozenset[str] | None) -> Cells:
    figures = _figures_in(rollup, raw)
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
    for name in _READ if needs is None else needs:
        values: list[int] | list[float]
        if name in _TIMES:
            own = getattr(figures, name)
            values = list(map(add, starts, unpack(own or getattr(rollup, name), count)))
        elif name == "squares":
            values = unpack_floats(*figures.squares, "f", count)
        elif exact:
            values = unpack(figures.numbers[_PLACE[name]], count)
        else:
            values = unpack_floats(*figures.floats[_PLACE[name]], "d", count)
        setattr(cells, name, values)
    return cells


def _figures_in(rollup: Rollup, raw: msgspec.Raw) -> FieldFigures:
    try:
        figures = _FIELD.decode(raw)
    except (ValueError, RecursionError) as error:
        raise StoreDamaged(f"a roll-up's field cannot be read: {error}") from error
    if not (1 <= figures.count <= rollup.count and 0 <= figures.scale <= SCALE_MAX):
        raise StoreDamaged("a roll-up's field has an impossible header")
    lists = figures.numbers or figures.floats
    if len(lists) != len(NUMBERS) or (figures.places is None and figures.count != rollup.count):
        raise StoreDamaged("a roll-up's field lacks figures")
    return figures
