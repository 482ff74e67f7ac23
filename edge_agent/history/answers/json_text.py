"""Records of a segment as JSON text, made from its columns without a `Record` for each.

The text says what `edge_agent.output.render` says. A table's columns become text at once, which is
five times as quick as one record after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from operator import mul, ne
from typing import Any

from edge_agent.history.format.columns import (
    DECIMAL,
    NUMBERS,
    TEXT,
    TRUTH,
    Column,
    Numbers,
    decode_column,
    scaled_in,
)
from edge_agent.history.format.packing import unpack
from edge_agent.history.format.rows import Way
from edge_agent.history.format.segment import HistorySegment, Path, Table
from edge_agent.history.keys import DAY_NS
from edge_agent.output.render import encode_json, to_dict
from edge_agent.output.weaving import HOLE, Texts, Words, taken, weave
from edge_agent.values.record import NANOSECONDS, Record, format_time

Order = tuple[int, str, str, int]
"""Time, stream, log and seq: no two records have the same."""

DAY_S = DAY_NS // NANOSECONDS
#: So many texts of seconds, and of parts of one, are kept.
_KEPT = 4096
#: What a record shows in front, in this order; everything else stands behind its fields.
_FRONT = ("seq", "stream", "time", "source", "fields")


class _Kept(dict[int, bytes]):
    """Texts by number, each made once; when there are ``most`` it begins anew."""

    def __init__(self, make: Callable[[int], str], most: int) -> None:
        self._make, self._most = make, most

    def __missing__(self, number: int) -> bytes:
        if len(self) >= self._most:
            self.clear()
        text = self[number] = self._make(number).encode()
        return text


#: By second since 1970: a moment's text until what is smaller.
_seconds = _Kept(lambda second: format_time(second * NANOSECONDS)[:-1], _KEPT)
#: By nanoseconds of a second: a moment's text behind its seconds.
_ends = _Kept(lambda nanos: format_time(nanos)[len("1970-01-01T00:00:00") :], _KEPT)
#: By day since 1970, and by second of a day: a moment's text in two parts.
_days = _Kept(lambda day: format_time(day * DAY_NS)[: len("1970-01-01T")], _KEPT)
_clock = _Kept(lambda second: format_time(second * NANOSECONDS)[len("1970-01-01T") :], _KEPT)


def _moments(times: Sequence[int]) -> list[Texts]:
    """As `format_time`, of many, in two columns: sensors measure in whole milliseconds, and who
    asks asks again soon.
    """
    nanos = [time_ns % NANOSECONDS for time_ns in times]
    return [
        taken(_seconds, [time_ns // NANOSECONDS for time_ns in times]),
        # Steps mostly begin with a second.
        taken(_ends, nanos) if any(nanos) else [_ends[0]] * len(nanos),
    ]


def _starts(times: Sequence[int]) -> list[Texts]:
    """As `_moments`, of starts of steps: of whole seconds, which are the same on many days."""
    seconds = [time_ns // NANOSECONDS for time_ns in times]
    if any(map(ne, map(mul, seconds, repeat(NANOSECONDS)), times)):
        return _moments(times)
    return [
        taken(_days, [second // DAY_S for second in seconds]),
        taken(_clock, [second % DAY_S for second in seconds]),
    ]


def start_texts(times: Sequence[int]) -> Iterator[str]:
    """As `format_time`, of many starts of steps."""
    parts = [one.behind(b"") if isinstance(one, Words) else one for one in _starts(times)]
    return map(bytes.decode, map(b"".join, zip(*parts, strict=True)))


def _values(values: Sequence[object]) -> list[bytes]:
    """The JSON of each of some numbers and nulls."""
    return encode_json(values)[1:-1].split(b",")


class RowShape:
    """How rows of a table are written: as arrays, or as objects where ``keys`` are given. A row has
    its time, the texts ``lead``, and ``width`` values.
    """

    def __init__(
        self, lead: Sequence[str], width: int, *, unix: bool, keys: Sequence[str] | None = None
    ) -> None:
        self._unix = unix
        time = HOLE if unix else b'"' + HOLE + HOLE + b'"'
        cells = [time, *map(encode_json, lead), *[HOLE] * width]
        if keys is None:
            self._shape = b"[" + b",".join(cells) + b"]"
        else:
            named = (encode_json(key) + b":" + cell for key, cell in zip(keys, cells, strict=True))
            self._shape = b"{" + b",".join(named) + b"}"

    def figures(self, times: Sequence[int], columns: Sequence[Sequence[object]]) -> list[bytes]:
        """Rows with columns of numbers and nulls; at least one row."""
        return self._woven(times, _starts, map(_values, columns))

    def rows(self, times: Sequence[int], columns: Iterable[Texts]) -> list[bytes]:
        """Rows with columns of JSON; at least one row."""
        return self._woven(times, _moments, columns)

    def _woven(
        self,
        times: Sequence[int],
        moments: Callable[[Sequence[int]], list[Texts]],
        columns: Iterable[Texts],
    ) -> list[bytes]:
        if self._unix:
            told: list[Texts] = [_values([time_ns / NANOSECONDS for time_ns in times])]
        else:
            told = moments(times)
        return weave([self._shape], (), [*told, *columns])


def records_as_json(
    segment: HistorySegment, stream: str, times: Sequence[int], begin: int, end: int
) -> list[bytes]:
    """The JSON of the records ``begin`` to ``end``, at least one. ``times`` are those of all.

    Raises StoreDamaged.
    """
    count = segment.count
    ways = segment.ways
    template, columns = _fields(segment, begin, end)
    seqs = _values(unpack(segment.seqs, count, begin, end))
    told: list[Texts] = [seqs, *_moments(times[begin:end]), *columns]
    way_of = unpack(segment.way_of, count, begin, end) if len(ways) > 1 else [0] * (end - begin)
    if any(way.origin for way in ways):
        origin_seqs = _values(unpack(segment.origin_seqs, count, begin, end))
        has = [bool(way.origin) for way in ways]
        told.append(
            [text if has[way] else b"" for text, way in zip(origin_seqs, way_of, strict=True)]
        )
    templates = [
        _template_of(way, stream, template, origin=len(told) > len(columns) + 3) for way in ways
    ]
    return weave(templates, way_of, told)


def points_as_json(
    segment: HistorySegment, times: Sequence[int], begin: int, end: int, paths: Sequence[Path],
    shape: RowShape,
) -> list[bytes] | None:  # fmt: skip
    """As `records_as_json`, rows with the values of ``paths``; None where some record has not all
    of them.
    """
    table = whole_table(segment, paths)
    if table is None:
        return None
    columns = [
        _column(table.columns[table.paths.index(path)], table.count, begin, end) for path in paths
    ]
    return shape.rows(times[begin:end], columns)


def whole_table(segment: HistorySegment, paths: Sequence[Path]) -> Table | None:
    """The table of all records, where each of them has all of ``paths``."""
    table = segment.tables[0]
    is_whole = table.places is None and set(paths) <= set(table.paths)
    return table if is_whole else None


def orders_of(
    segment: HistorySegment, stream: str, times: Sequence[int], begin: int, end: int
) -> Iterator[Order]:
    """The order of each of the records ``begin`` to ``end``."""
    logs: Iterable[str] = repeat(segment.ways[0].log)
    if len(segment.ways) > 1:
        way_of = unpack(segment.way_of, segment.count, begin, end)
        logs = [segment.ways[number].log for number in way_of]
    seqs = unpack(segment.seqs, segment.count, begin, end)
    return zip(times[begin:end], repeat(stream), logs, seqs, strict=False)


def _template_of(way: Way, stream: str, fields: bytes, *, origin: bool) -> bytes:
    """A record's JSON, to be filled with its seq, its time in two parts, what ``fields`` needs, and
    if ``origin`` is one of the columns, its seq there or nothing.
    """
    name, source = encode_json(stream), encode_json(way.source)
    head = b'{"seq":\0,"stream":%b,"time":"\0\0","source":%b,"fields":' % (name, source)
    return head + fields + _tail(way) + HOLE * (origin and not way.origin)


def _tail(way: Way) -> bytes:
    """What stands behind a record's fields."""
    shown = to_dict(
        Record(
            way.log, 0, "", 0, way.quality, 0, way.synced, way.source, 0, {}, way.origin,
            way.origin_epoch, way.origin_log, 0, way.corrected,
        )
    )  # fmt: skip
    rest = {key: value for key, value in shown.items() if key not in _FRONT}
    if not rest:
        return b"}"
    text = b"," + encode_json(rest)[1:]
    if not way.origin:
        return text
    # The origin comes last, and in it its seq.
    assert text.endswith(b'"seq":0}}')
    return text[: -len(b"0}}")] + HOLE + b"}}"


def _fields(segment: HistorySegment, begin: int, end: int) -> tuple[bytes, list[Texts]]:
    """The template of the records' fields, and what fills it."""
    found = [b"{}"] * (end - begin)
    for table in segment.tables:
        if table.places is None:
            return _texts(table, begin, end) if table.paths else (HOLE, [found])
        places = unpack(table.places, table.count)
        wanted = [index for index, place in enumerate(places) if begin <= place < end]
        if wanted and table.paths:
            template, columns = _texts(table, wanted[0], wanted[-1] + 1)
            texts = weave([template], (), columns)
            for index in wanted:
                found[places[index] - begin] = texts[index - wanted[0]]
    return HOLE, [found]


def _texts(table: Table, begin: int, end: int) -> tuple[bytes, list[Texts]]:
    """The fields of a table's records ``begin`` to ``end``."""
    columns = [_column(column, table.count, begin, end) for column in table.columns]
    return (HOLE if table.paths == [()] else _template(table.paths)), columns


def _column(column: Column, count: int, begin: int, end: int) -> Texts:
    if column.kind == DECIMAL and not column.others and not column.whole:
        return _decimals(column, count, begin, end)
    values: list[Any] = decode_column(column, count)[begin:end]
    if column.kind == TRUTH or (column.kind in NUMBERS and not column.others):
        return _values(values)
    if column.kind == TEXT:
        known = {text: encode_json(text) for text in set(values)}
        return list(map(known.__getitem__, values))
    return list(map(encode_json, values))


def _decimals(column: Column, count: int, begin: int, end: int) -> Words:
    """A sensor says the same few values again and again, so each becomes text once. They are floats
    also where none of them has a fraction: 5.0 was sent, and is told as 5.0.
    """
    scaled = scaled_in(column, count, begin, end)
    different = list(set(scaled))
    texts = _values(list(map(float, Numbers(different, column.scale).floats())))
    return Words(dict(zip(different, texts, strict=True)), scaled)


def _template(paths: Sequence[Path]) -> bytes:
    """The fields of one record, `HOLE` for each value; maps within maps are opened and closed."""
    text, first = [b"{"], True
    above: Path = ()
    for path in paths:
        same = 0
        while same < min(len(above), len(path) - 1) and above[same] == path[same]:
            same += 1
        text.append(b"}" * (len(above) - same))
        text.append(b"" if first else b",")
        for key in path[same:-1]:
            text += (encode_json(key), b":{")
        text += (encode_json(path[-1]), b":", HOLE)
        above, first = path[:-1], False
    text.append(b"}" * (len(above) + 1))
    return b"".join(text)
