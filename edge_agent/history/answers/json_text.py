"""Records of a segment as JSON text, made from its columns without a `Record` for each.

The text says what `edge_agent.render` says. A table's columns become text at once, which is five
times as quick as one record after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import repeat
from typing import Any

from edge_agent.history.format.columns import (
    DECIMAL,
    NUMBERS,
    TEXT,
    TRUTH,
    Column,
    Numbers,
    decode_column,
    numbers_of,
)
from edge_agent.history.format.packing import unpack
from edge_agent.history.format.rows import Way
from edge_agent.history.format.segment import HistorySegment, Path, Table
from edge_agent.history.keys import HOUR_NS, MINUTE_NS
from edge_agent.record import NANOSECONDS, Record
from edge_agent.render import encode_json, to_dict

Order = tuple[int, str, str, int]
"""Time, stream, log and seq: no two records have the same."""

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - the zone is written by hand, which is quicker
_TWO = tuple(f"{number:02}" for number in range(60))
_SECONDS = tuple(text.encode() for text in _TWO)
#: So many texts of minutes, and of parts of a second, are kept.
_KEPT = 4096
#: What a record shows in front, in this order; everything else stands behind its fields.
_FRONT = ("seq", "stream", "time", "source", "fields")


def moment(time_ns: int) -> str:
    """As `format_time`, in a quarter of the time: neighbours are of the same hour."""
    hour, rest = divmod(time_ns, HOUR_NS)
    seconds, nanos = divmod(rest, NANOSECONDS)
    text = f"{_until_hour(hour)}{_TWO[seconds // 60]}:{_TWO[seconds % 60]}"
    return f"{text}.{nanos:09}".rstrip("0") + "Z" if nanos else text + "Z"


@lru_cache(64)
def _until_hour(hour: int) -> str:
    return (_EPOCH + timedelta(0, hour * 3600)).isoformat()[: len("1970-01-01T00:")]


class _Minutes(dict[int, bytes]):
    """By minute since 1970: a moment's text until its seconds."""

    def __missing__(self, minute: int) -> bytes:
        if len(self) >= _KEPT:
            self.clear()
        text = self[minute] = moment(minute * MINUTE_NS)[: -len("00Z")].encode()
        return text


class _Ends(dict[int, bytes]):
    """By nanoseconds of a second: a moment's text behind its seconds."""

    def __missing__(self, nanos: int) -> bytes:
        if len(self) >= _KEPT:
            self.clear()
        text = self[nanos] = (f".{nanos:09}".rstrip("0") + "Z" if nanos else "Z").encode()
        return text


_minutes, _ends = _Minutes(), _Ends()


def _moments(times: Iterable[int]) -> list[bytes]:
    """As `moment`, of many, in a third of the time: sensors measure in whole milliseconds."""
    found = []
    for time_ns in times:
        minute, rest = divmod(time_ns, MINUTE_NS)
        second, nanos = divmod(rest, NANOSECONDS)
        found.append(_minutes[minute] + _SECONDS[second] + _ends[nanos])
    return found


def records_as_json(
    segment: HistorySegment, stream: str, times: Sequence[int], begin: int, end: int
) -> list[tuple[Order, bytes]]:
    """The order and the JSON of the records ``begin`` to ``end``.

    Raises StoreDamaged.
    """
    within = slice(begin, end)
    seqs = unpack(segment.seqs, segment.count)[within]
    told: list[Iterable[object]] = [seqs, _moments(times[within]), _fields(segment, begin, end)]
    shapes = [_shape(way, stream) for way in segment.ways]
    if len(segment.ways) == 1:
        if segment.ways[0].origin:
            told.append(unpack(segment.origin_seqs, segment.count)[within])
        texts: Iterable[bytes] = map(shapes[0].__mod__, zip(*told, strict=True))
    else:
        way_of = unpack(segment.way_of, segment.count)[within]
        origin_seqs = unpack(segment.origin_seqs, segment.count)[within]
        texts = [
            shapes[number] % ((*row, origin_seq) if segment.ways[number].origin else row)
            for number, origin_seq, row in zip(
                way_of, origin_seqs, zip(*told, strict=True), strict=True
            )
        ]
    return list(zip(orders_of(segment, stream, times, begin, end), texts, strict=True))


def points_as_json(
    segment: HistorySegment, stream: str, times: Sequence[int], begin: int, end: int,
    paths: Sequence[Path],
) -> list[tuple[Order, bytes]] | None:  # fmt: skip
    """As `records_as_json`, rows ``[time, stream, value, …]`` with the values of ``paths``; None
    where some record has not all of them.
    """
    table = whole_table(segment, paths)
    if table is None:
        return None
    columns = [
        _column(table.columns[table.paths.index(path)], table.count, begin, end) for path in paths
    ]
    name = encode_json(stream).replace(b"%", b"%%")
    shape = b'["%%b",%b%b]' % (name, b",%b" * len(columns))
    texts = map(shape.__mod__, zip(_moments(times[begin:end]), *columns, strict=True))
    return list(zip(orders_of(segment, stream, times, begin, end), texts, strict=True))


def whole_table(segment: HistorySegment, paths: Sequence[Path]) -> Table | None:
    """The table of all records, where each of them has all of ``paths``."""
    table = segment.tables[0]
    is_whole = table.places is None and set(paths) <= set(table.paths)
    return table if is_whole else None


def orders_of(
    segment: HistorySegment, stream: str, times: Sequence[int], begin: int, end: int
) -> Iterator[Order]:
    """The order of each of the records ``begin`` to ``end``."""
    within = slice(begin, end)
    logs: Iterable[str] = repeat(segment.ways[0].log)
    if len(segment.ways) > 1:
        way_of = unpack(segment.way_of, segment.count)[within]
        logs = [segment.ways[number].log for number in way_of]
    seqs = unpack(segment.seqs, segment.count)[within]
    return zip(times[within], repeat(stream), logs, seqs, strict=False)


def _shape(way: Way, stream: str) -> bytes:
    """A record's JSON, to be filled with its seq, its time, its fields and the origin's seq."""
    name, source = (encode_json(text).replace(b"%", b"%%") for text in (stream, way.source))
    head = b'{"seq":%%d,"stream":%b,"time":"%%b","source":%b,"fields":%%b' % (name, source)
    return head + _tail(way)


def _tail(way: Way) -> bytes:
    """What stands behind a record's fields; with ``%d`` in place of the origin's seq."""
    shown = to_dict(
        Record(
            way.log, 0, "", 0, way.quality, 0, way.synced, way.source, 0, {}, way.origin,
            way.origin_epoch, way.origin_log, 0, way.corrected,
        )
    )  # fmt: skip
    rest = {key: value for key, value in shown.items() if key not in _FRONT}
    if not rest:
        return b"}"
    text = b"," + encode_json(rest)[1:].replace(b"%", b"%%")
    if not way.origin:
        return text
    # The origin comes last, and in it its seq.
    assert text.endswith(b'"seq":0}}')
    return text[: -len(b"0}}")] + b"%d}}"


def _fields(segment: HistorySegment, begin: int, end: int) -> list[bytes]:
    found = [b"{}"] * (end - begin)
    for table in segment.tables:
        if table.places is None:
            return _texts(table, begin, end) if table.paths else found
        places = unpack(table.places, table.count)
        wanted = [index for index, place in enumerate(places) if begin <= place < end]
        if wanted and table.paths:
            texts = _texts(table, wanted[0], wanted[-1] + 1)
            for index in wanted:
                found[places[index] - begin] = texts[index - wanted[0]]
    return found


def _texts(table: Table, begin: int, end: int) -> list[bytes]:
    """The fields of a table's records ``begin`` to ``end``."""
    columns = [_column(column, table.count, begin, end) for column in table.columns]
    if table.paths == [()]:
        return columns[0]
    return list(map(_template(table.paths).__mod__, zip(*columns, strict=True)))


def _column(column: Column, count: int, begin: int, end: int) -> list[bytes]:
    if column.kind == DECIMAL and not column.others and not column.whole:
        return _decimals(column, count, begin, end)
    values: list[Any] = decode_column(column, count)[begin:end]
    if column.kind == TRUTH or (column.kind in NUMBERS and not column.others):
        return encode_json(values)[1:-1].split(b",")
    if column.kind == TEXT:
        known = {text: encode_json(text) for text in set(values)}
        return list(map(known.__getitem__, values))
    return list(map(encode_json, values))


def _decimals(column: Column, count: int, begin: int, end: int) -> list[bytes]:
    """A sensor says the same few values again and again, so each becomes text once."""
    numbers = numbers_of(column, count)
    assert numbers is not None
    scaled = numbers.values[begin:end]
    different = list(set(scaled))
    floats = Numbers(different, numbers.scale).floats()
    texts = encode_json(floats)[1:-1].split(b",")
    return list(map(dict(zip(different, texts, strict=True)).__getitem__, scaled))


def _template(paths: Sequence[Path]) -> bytes:
    """The fields of one record, ``%b`` for each value; maps within maps are opened and closed."""
    text, first = [b"{"], True
    above: Path = ()
    for path in paths:
        same = 0
        while same < min(len(above), len(path) - 1) and above[same] == path[same]:
            same += 1
        text.append(b"}" * (len(above) - same))
        text.append(b"" if first else b",")
        for key in path[same:-1]:
            text += (_key(key), b":{")
        text += (_key(path[-1]), b":%b")
        above, first = path[:-1], False
    text.append(b"}" * (len(above) + 1))
    return b"".join(text)


def _key(key: str) -> bytes:
    return encode_json(key).replace(b"%", b"%%")
