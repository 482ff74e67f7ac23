"""A segment is some records of one stream, by time, as columns; this module makes and reads it.

Msgpack of `HistorySegment`. A record's fields lie in the **table** of its shape, that is, of its
keys in their order; maps within a record are opened, so that ``{"a": {"b": 1}}`` has a column
``a b``. What is the same for many records (log, source, whose clock, where it comes from) stands
once, in ``ways``. A record comes back as it was, but for when it was stored, which is not kept, the
order of its keys, and the sign of a zero.

A segment is **loose** while it is in memory, quickly made and put together, and **packed** on the
disk; both are read alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Any

import msgspec
from msgspec import Struct

from edge_agent.errors import StoreDamaged
from edge_agent.history.format.columns import (
    Column,
    Numbers,
    decode_column,
    encode_column,
    join_columns,
    numbers_of,
    pack_column,
)
from edge_agent.history.format.packing import (
    PackedNumbers,
    constant,
    join_loose,
    loose,
    repack,
    unpack,
)
from edge_agent.history.format.rows import Rows, Way
from edge_agent.values.record import Record

SEGMENT_FORMAT = 1
#: Records of one segment: an hour of one a second.
ROWS_MAX = 4096
#: Maps within maps are opened so deep, and no shape has more columns; further ones stay whole.
DEPTH_MAX = 8
COLUMNS_MAX = 256
#: More shapes than this in one segment: the rest of its records stay whole, in one column.
TABLES_MAX = 64

Path = tuple[str, ...]
"""Where a field stands in a record; ``()`` is the whole record."""


Look = Callable[[Path, list[int] | None, Numbers], tuple[int, int] | None]
"""Gets a field's path, the places of the records that have it (None: all), and its numbers; answers
with the least and the greatest of the numbers, where it knows them of integers and none is missing.
"""


class Table(Struct, array_like=True, frozen=True, gc=False):
    """The records of one shape: their places in the segment (None: all), and their columns."""

    paths: list[Path]
    places: PackedNumbers | None
    count: int
    columns: list[Column]


class HistorySegment(Struct, array_like=True, frozen=True, gc=False):
    """Records of one stream; see the module's docstring."""

    format: int
    count: int
    first_ns: int
    last_ns: int
    times: PackedNumbers
    seqs: PackedNumbers
    source_seqs: PackedNumbers
    origin_seqs: PackedNumbers
    ways: list[Way]
    way_of: PackedNumbers
    tables: list[Table]


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(HistorySegment)


def encode_segment(segment: HistorySegment) -> bytes:
    """As it is stored."""
    return _ENCODER.encode(segment)


def make_segment(rows: Rows) -> HistorySegment:
    """A loose segment of at most `ROWS_MAX` rows, at least one, in any order; sorts the rows."""
    if rows.times != sorted(rows.times):
        rows.sort()
    if rows.origin_seqs:
        rows.fill()
    return HistorySegment(
        SEGMENT_FORMAT,
        len(rows.times),
        rows.times[0],
        rows.times[-1],
        loose(rows.times),
        loose(rows.seqs),
        loose(rows.source_seqs),
        loose(rows.origin_seqs) if rows.origin_seqs else constant(0),
        rows.ways,
        loose(rows.way_of) if len(rows.ways) > 1 else constant(0),
        list(_tables_of(rows)),
    )


def join_segments(segments: Sequence[HistorySegment]) -> Iterator[HistorySegment | None]:
    """Segments of one stream as one, loose, of at most `ROWS_MAX` records in all. It comes last;
    None before it are places to pause at, every ms or so. Raises StoreDamaged.
    """
    try:
        yield from _join(segments)
    except OverflowError as error:
        raise StoreDamaged(f"a segment of history holds impossible numbers: {error}") from error


def _join(segments: Sequence[HistorySegment]) -> Iterator[HistorySegment | None]:
    behind = all(one.last_ns <= two.first_ns for one, two in pairwise(segments))
    alike = {tuple(table.paths) for segment in segments for table in segment.tables}
    if not behind or len(alike) != 1:
        rows = Rows()
        for segment in segments:
            rows.extend(rows_of(segment))
            yield None
        yield make_segment(rows)
        return
    counts = [segment.count for segment in segments]
    times, seqs, source_seqs, origin_seqs = (
        join_loose([getattr(one, name) for one in segments], counts)
        for name in ("times", "seqs", "source_seqs", "origin_seqs")
    )
    ways, way_of = _joined_ways(segments)
    tables = []
    # Where there is one shape there is one table, and it has all records.
    for index, table in enumerate(segments[0].tables):
        columns = []
        sizes = [segment.tables[index].count for segment in segments]
        for number in range(len(table.columns)):
            parts = [segment.tables[index].columns[number] for segment in segments]
            columns.append(join_columns(parts, sizes))
            yield None
        tables.append(Table(table.paths, table.places, sum(sizes), columns))
    yield HistorySegment(
        SEGMENT_FORMAT,
        sum(counts),
        segments[0].first_ns,
        segments[-1].last_ns,
        times,
        seqs,
        source_seqs,
        origin_seqs,
        ways,
        way_of,
        tables,
    )


def pack_segment(
    segment: HistorySegment, look: Look | None = None
) -> Iterator[HistorySegment | None]:
    """A loose segment packed, which comes last; None before it are places to pause at. ``look`` is
    shown each column's numbers on the way. Raises StoreDamaged.
    """
    count, tables = segment.count, []
    for table in segment.tables:
        places = _places(segment, table)
        columns = []
        for path, column in zip(table.paths, table.columns, strict=True):
            numbers = None if look is None else numbers_of(column, table.count)
            ends = None if look is None or numbers is None else look(path, places, numbers)
            yield None
            columns.append(pack_column(column, table.count, numbers, ends))
            yield None
        packed = None if table.places is None else repack(table.places, table.count)
        tables.append(Table(table.paths, packed, table.count, columns))
    times = repack(segment.times, count, even=True)
    yield None
    yield msgspec.structs.replace(
        segment,
        times=times,
        seqs=repack(segment.seqs, count),
        source_seqs=repack(segment.source_seqs, count),
        origin_seqs=repack(segment.origin_seqs, count),
        way_of=repack(segment.way_of, count),
        tables=tables,
    )


def _joined_ways(segments: Sequence[HistorySegment]) -> tuple[list[Way], PackedNumbers]:
    ways = list(dict.fromkeys(way for segment in segments for way in segment.ways))
    if len(ways) == 1:
        return ways, constant(0)
    way_of: list[int] = []
    for segment in segments:
        numbers = [ways.index(way) for way in segment.ways]
        way_of += map(numbers.__getitem__, ways_of(segment))
    return ways, loose(way_of)


def decode_segment(raw: bytes | memoryview) -> HistorySegment:
    """The segment, its columns still packed. Raises StoreDamaged."""
    try:
        segment = _DECODER.decode(raw)
    except (ValueError, RecursionError) as error:
        raise StoreDamaged(f"a segment of history cannot be read: {error}") from error
    count = segment.count
    if segment.format != SEGMENT_FORMAT or not 1 <= count <= ROWS_MAX:
        raise StoreDamaged("a segment of history has an impossible header")
    whole = all(table.count == count for table in segment.tables if table.places is None)
    if not whole or sum(table.count for table in segment.tables) != count:
        raise StoreDamaged("a segment of history has more or fewer records than its tables")
    for table in segment.tables:
        if table.count < 1 or len(table.paths) != len(table.columns):
            raise StoreDamaged("a segment of history has an impossible table")
    return segment


def times_of(segment: HistorySegment) -> list[int]:
    """When the records were measured, rising, ns since 1970. Raises StoreDamaged."""
    return unpack(segment.times, segment.count)


def fields_of(segment: HistorySegment) -> list[dict[str, Any]]:
    """The records' fields, by time. Raises StoreDamaged."""
    found: list[dict[str, Any]] = [{}] * segment.count
    for table in segment.tables:
        columns = [decode_column(column, table.count) for column in table.columns]
        fields = _assemble(table.paths, columns, table.count)
        places = _places(segment, table)
        if places is None:
            return fields
        for place, one in zip(places, fields, strict=True):
            found[place] = one
    return found


def fields_at(segment: HistorySegment, places: Sequence[int]) -> list[dict[str, Any]]:
    """The fields of some of the records, by their places. Raises StoreDamaged."""
    found: dict[int, dict[str, Any]] = {}
    wanted = frozenset(places)
    for table in segment.tables:
        own = _places(segment, table)
        rows = places if own is None else [n for n, place in enumerate(own) if place in wanted]
        if rows:
            decoded = [decode_column(column, table.count) for column in table.columns]
            columns = [[column[row] for row in rows] for column in decoded]
            fields = _assemble(table.paths, columns, len(rows))
            found.update(zip(rows if own is None else [own[n] for n in rows], fields, strict=True))
    if len(found) != len(wanted):
        raise StoreDamaged("a segment of history has records that are in none of its tables")
    return [found[place] for place in places]


def _places(segment: HistorySegment, table: Table) -> list[int] | None:
    """Where its records stand in the segment; None for all. Raises StoreDamaged."""
    if table.places is None:
        return None
    places = unpack(table.places, table.count)
    if min(places) < 0 or max(places) >= segment.count:
        raise StoreDamaged("a table of history names records that its segment does not have")
    return places


def ways_of(segment: HistorySegment) -> list[int]:
    """Which way each record has. Raises StoreDamaged."""
    way_of = unpack(segment.way_of, segment.count)
    if min(way_of) < 0 or max(way_of) >= len(segment.ways):
        raise StoreDamaged("a segment of history names a way that it does not have")
    return way_of


def records_of(segment: HistorySegment, stream: str) -> Iterator[Record]:
    """The records, by time. Raises StoreDamaged."""
    rows = rows_of(segment)
    ways = map(rows.ways.__getitem__, rows.way_of)
    numbers = (rows.times, rows.seqs, rows.source_seqs, rows.origin_seqs)
    for time_ns, seq, source_seq, origin_seq, way, fields in zip(
        *numbers, ways, rows.fields, strict=True
    ):
        yield Record(
            way.log,
            seq,
            stream,
            time_ns,
            way.quality,
            0,
            way.synced,
            way.source,
            source_seq,
            fields,
            way.origin,
            way.origin_epoch,
            way.origin_log,
            origin_seq,
            way.corrected,
        )


def rows_of(segment: HistorySegment) -> Rows:
    """The rows that the segment was made of, by time. Raises StoreDamaged."""
    rows, count = Rows(), segment.count
    rows.times = times_of(segment)
    rows.seqs = unpack(segment.seqs, count)
    rows.source_seqs = unpack(segment.source_seqs, count)
    rows.origin_seqs = unpack(segment.origin_seqs, count)
    rows.way_of, rows.ways = ways_of(segment), segment.ways
    rows.fields = fields_of(segment)
    return rows


def paths_of(segment: HistorySegment) -> list[Path]:
    """Every field that some record has, in their order."""
    return list(dict.fromkeys(path for table in segment.tables for path in table.paths))


def column_of(segment: HistorySegment, path: Path) -> Iterator[tuple[list[int] | None, Numbers]]:
    """The numbers of a field, and the places of their records (None: all), table by table.

    Raises StoreDamaged.
    """
    for table in segment.tables:
        if path in table.paths:
            numbers = numbers_of(table.columns[table.paths.index(path)], table.count)
            if numbers is not None:
                yield _places(segment, table), numbers


def _tables_of(rows: Rows) -> Iterator[Table]:
    columns = rows.columns
    if not columns:
        yield from _tables(rows.fields)
        return
    kinds = [set(map(type, column)) for column in columns.values()]
    if any(dict in one for one in kinds):
        columns_of = zip(*columns.values(), strict=True)
        yield from _opened([dict(zip(columns, row, strict=True)) for row in columns_of])
        return
    encoded = list(map(encode_column, columns.values(), kinds))
    yield Table([(key,) for key in columns], None, len(rows.times), encoded)


def _tables(fields: Sequence[dict[str, Any]]) -> Iterator[Table]:
    keys = list(fields[0])
    columns = _columns(fields, keys) if len(keys) <= COLUMNS_MAX else None
    if columns is not None:
        kinds = [set(map(type, column)) for column in columns]
        if not any(dict in one for one in kinds):
            encoded = list(map(encode_column, columns, kinds))
            yield Table([(key,) for key in keys], None, len(fields), encoded)
            return
    yield from _opened(fields)


def _columns(fields: Sequence[dict[str, Any]], keys: Sequence[str]) -> list[list[Any]] | None:
    """The values of each key; None where not all records have just these keys."""
    if set(map(len, fields)) != {len(keys)}:
        return None
    try:
        if len(keys) > 1:
            return list(map(list, zip(*map(itemgetter(*keys), fields), strict=True)))
        return [list(map(itemgetter(key), fields)) for key in keys]
    except KeyError:
        return None


def _opened(fields: Sequence[dict[str, Any]]) -> Iterator[Table]:
    """Tables by shape, where records differ or hold maps."""
    shapes: dict[tuple[Path, ...], list[tuple[int, list[Any]]]] = {}
    whole: list[tuple[int, list[Any]]] = []
    for place, one in enumerate(fields):
        leaves = list(_leaves(one, ()))
        paths = tuple(path for path, _ in leaves)
        if len(paths) > COLUMNS_MAX or (paths not in shapes and len(shapes) >= TABLES_MAX):
            whole.append((place, [one]))
        else:
            shapes.setdefault(paths, []).append((place, [value for _, value in leaves]))
    if whole:
        shapes[((),)] = whole
    for paths, found in shapes.items():
        places, rows = zip(*found, strict=True)
        columns = list(map(list, zip(*rows, strict=True))) if paths else []
        every = len(places) == len(fields)
        yield _table(list(paths), columns, None if every else list(places), len(places))


def _table(
    paths: list[Path], columns: list[list[Any]], places: list[int] | None, count: int
) -> Table:
    packed = None if places is None else loose(places)
    encoded = [encode_column(column, set(map(type, column))) for column in columns]
    return Table(paths, packed, count, encoded)


def _leaves(fields: dict[Any, Any], above: Path) -> Iterator[tuple[Path, Any]]:
    for key, value in fields.items():
        path = (*above, key)
        if isinstance(value, dict) and value and len(path) < DEPTH_MAX and _is_open(value):
            yield from _leaves(value, path)
        else:
            yield path, value


def _is_open(value: dict[Any, Any]) -> bool:
    return all(isinstance(key, str) for key in value)


def _assemble(
    paths: Sequence[Path], columns: Sequence[list[Any]], count: int
) -> list[dict[str, Any]]:
    if list(paths) == [()]:
        if not all(isinstance(one, dict) for one in columns[0]):
            raise StoreDamaged("a record of history is no map")
        return columns[0]
    if not paths:
        return [{} for _ in range(count)]
    if all(len(path) == 1 for path in paths):
        keys = [path[0] for path in paths]
        return [dict(zip(keys, values, strict=True)) for values in zip(*columns, strict=True)]
    return [_nested(zip(paths, values, strict=True)) for values in zip(*columns, strict=True)]


def _nested(leaves: Iterable[tuple[Path, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for path, value in leaves:
        inner = fields
        for key in path[:-1]:
            inner = inner.setdefault(key, {})
            if not isinstance(inner, dict):
                raise StoreDamaged("a field of history lies within another that is no map")
        inner[path[-1]] = value
    return fields
