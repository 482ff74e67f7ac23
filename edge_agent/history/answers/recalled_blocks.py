"""This module makes blocks of a log out of what history keeps of its records. Pure.

A record gets the seq, the stream, the source and the number that it had, and a form in which its
time and whose clock gave it are read as history knows them: a sensor's time stands in the record,
any other is its arrival. Keys are in order, so that the same records are always the same bytes.

What lies between two of them and is not asked for becomes places without a record (`ERASED`) where
it is little, and ends the block where it is much. Records of other agents are in blocks of theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from edge_agent.history.ask import RecalledBlock
from edge_agent.history.format.rows import Way
from edge_agent.values.record import ERASED, array_header, as_sent
from edge_agent.zstd import zstd

#: A block ends with the record with which it has so many bytes.
BLOCK_BYTES: Final = 64 * 1024
#: So many seqs between two records may be places without one: a byte each.
PLACES_MAX: Final = 256
#: How far times of one block lie apart whose clock was put right: the store believes as much.
_SPREAD_NS: Final = 3_500 * 1_000_000_000
#: What a run takes beside its names and records.
_RUN_BYTES: Final = 32
_COMPRESS_FROM: Final = 512
_LEVEL: Final = 3
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EMPTY: Final = b"\x80"
_ENCODER = msgspec.msgpack.Encoder()
_SORTING = msgspec.msgpack.Encoder(order="deterministic")

Place = tuple[bool, bool, str, str, str, int]
"""What all records of a block share: whether our clock was set, or put right; agent, epoch and log
of their origin, and by how much its seqs are above ours.
"""


class SentRow(NamedTuple):
    """A record on its way into a block; ``body`` is its map as `body_of` made it."""

    seq: int
    time_ns: int
    stream: str
    way: Way
    source_seq: int
    origin_seq: int
    body: bytes


def body_of(fields: dict[str, Any], time_ns: int, way: Way) -> bytes:
    """The record's map as its sender could have sent it."""
    if way.quality == "sensor":
        moment = _EPOCH + timedelta(microseconds=time_ns // 1000)
        fields = {**fields, "time": as_sent(time_ns, moment)}
    elif way.quality == "relative":
        # An age of nothing before the arrival that it then has; before 1970, an age before that.
        fields = {**fields, "time": min(time_ns, 0) / 1e9}
    elif way.quality == "unset":
        fields = {**fields, "time": 1}
    try:
        return _SORTING.encode(fields)
    except TypeError:  # A map in it has keys of several kinds, which have no order.
        return _ENCODER.encode(fields)


def blocks_of(rows: Iterable[SentRow]) -> Iterator[RecalledBlock]:
    """Blocks of these records, whose seqs rise."""
    block: _OpenBlock | None = None
    for row in rows:
        if block is None or not block.takes(row):
            if block is not None:
                yield block.made()
            block = _OpenBlock(row)
        block.add(row)
    if block is not None:
        yield block.made()


class _OpenBlock:
    """One that is being made."""

    def __init__(self, first: SentRow) -> None:
        self._first, self._next = first, first.seq
        self._place = _place_of(first)
        self._low = self._high = first.time_ns
        self._runs: list[tuple[tuple[Any, ...], list[bytes]]] = []
        self._size = 0

    def takes(self, row: SentRow) -> bool:
        """Whether a record may follow in this block."""
        gap = row.seq - self._next
        if _place_of(row) != self._place or self._size >= BLOCK_BYTES:
            return False
        if gap > (0 if row.way.origin else PLACES_MAX):
            return False
        low, high = min(self._low, row.time_ns), max(self._high, row.time_ns)
        return not row.way.corrected or high - low <= _SPREAD_NS

    def add(self, row: SentRow) -> None:
        """It follows."""
        gap = row.seq - self._next
        if gap:
            head = (ERASED, "", 0, max(row.time_ns, 0), row.way.synced, self._offset(self._next))
            self._runs.append((head, [_EMPTY] * gap))
        arrival_ns = max(row.time_ns, 0)
        if self._runs and not gap and self._follows(row):
            self._runs[-1][1].append(row.body)
        else:
            way = row.way
            numbered = (way.source, row.source_seq, arrival_ns, way.synced)
            self._runs.append(((row.stream, *numbered, self._offset(row.seq)), [row.body]))
            self._size += _RUN_BYTES + len(row.stream) + len(way.source)
        self._next = row.seq + 1
        self._size += gap + len(row.body)
        self._low, self._high = min(self._low, row.time_ns), max(self._high, row.time_ns)

    def made(self) -> RecalledBlock:
        """As the store would have it."""
        first, way = self._first, self._first.way
        raw = array_header(len(self._runs)) + b"".join(
            _ENCODER.encode((*head, msgspec.Raw(array_header(len(bodies)) + b"".join(bodies))))
            for head, bodies in self._runs
        )
        packed = zstd.compress(raw, _LEVEL) if len(raw) >= _COMPRESS_FROM else raw
        smaller = len(packed) < len(raw)
        origin = (way.origin, way.origin_epoch, way.origin_log, first.origin_seq)
        return RecalledBlock(
            first.seq,
            self._next - first.seq,
            int(smaller),
            len(raw),
            packed if smaller else raw,
            self._low,
            self._high,
            way.synced,
            way.corrected,
            origin if way.origin else None,
        )

    def _offset(self, seq: int) -> int:
        return seq - self._first.seq

    def _follows(self, row: SentRow) -> bool:
        """Whether it goes on where the last run ends."""
        (stream, source, source_seq, arrival_ns, synced, _), bodies = self._runs[-1]
        numbered = source_seq + len(bodies) if source_seq else 0
        # A sensor's own time does not need the arrival.
        arrives = row.way.quality == "sensor" or max(row.time_ns, 0) == arrival_ns
        return (
            arrives
            and (stream, source, synced) == (row.stream, row.way.source, row.way.synced)
            and numbered == row.source_seq
        )


def _place_of(row: SentRow) -> Place:
    way = row.way
    shift = row.origin_seq - row.seq if way.origin else 0
    clock = (way.synced, way.corrected and not way.synced)
    return (*clock, way.origin, way.origin_epoch, way.origin_log, shift)
