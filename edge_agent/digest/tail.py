"""The tail: what is digested and not written yet, in memory as rows, then as columns.

Records of a stream gather as they were sent (`Pending`), or as `Rows` where each has to be looked
at, until there are `LOOSE_ROWS` of them; those become a loose segment for each hour that they fall
in. `Tail.bytes` says about what all of it occupies.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Container, Iterator
from itertools import chain

from edge_agent.digest.pending import Pending
from edge_agent.history import HistorySegment, Rows, encode_segment, make_segment, pack_segment
from edge_agent.history.keys import HOUR_NS
from edge_agent.store import LEAN_FROM_BYTES

#: Where it is full and has to be written.
TAIL_BYTES_MAX = 9 * 1024 * 1024
#: Rows of a loose segment, at most.
PART_ROWS = 512
#: So many rows over all streams, or bytes of them, and they become segments however few each stream
#: has.
PENDING_ROWS_MAX = 16_384
PENDING_BYTES_MAX = 4 * 1024 * 1024
#: What a row that is decoded takes, about.
ROW_BYTES = 500
#: Streams that history keeps; of others nothing is kept, which is counted.
SERIES_MAX = 50_000
_SEGMENT_BYTES = 600
#: What a column takes as an object, beside its bytes: a sixth of them where records have the same
#: keys, ten times as much where each has keys of its own.
_COLUMN_BYTES = 400
#: A segment that holds text or nested values is no larger than this, about; nor is what is decoded
#: together, unless it is one record: of arrays within arrays a byte may become 64.
BODY_BYTES_MAX = LEAN_FROM_BYTES


class StreamTail(Pending):
    """One stream's: records as they were sent, rows, and loose segments by hour."""

    __slots__ = ("rows", "segment_bytes", "segments")

    def __init__(self) -> None:
        super().__init__()
        self.rows = Rows()
        self.segments: dict[int, list[HistorySegment]] = {}
        #: What all of them occupy, about.
        self.segment_bytes = 0


class Tail:
    """All streams' tails. ``known``: streams that are in the file already."""

    def __init__(self, known: Container[str] = (), count: int = 0) -> None:
        self.streams: dict[str, StreamTail] = {}
        self._known, self._count = known, count
        self.rows = 0
        self.records = 0
        self._row_bytes = self._segment_bytes = 0

    @property
    def bytes(self) -> int:
        """What all of it occupies, about."""
        return self._row_bytes + self._segment_bytes

    def of(self, stream: str) -> StreamTail | None:
        """A stream's tail, made where there is none; None where that would be one too many."""
        found = self.streams.get(stream)
        if found is None:
            if stream not in self._known:
                if self._count >= SERIES_MAX:
                    return None
                self._count += 1
            found = self.streams[stream] = StreamTail()
        return found

    def added(self, count: int, size: int | None = None) -> Iterator[None]:
        """So many rows were added to streams, of so many bytes; None where they are decoded. What
        comes is to be gone through: where there are many, they become segments, with pauses.
        """
        self.rows += count
        self.records += count
        self._row_bytes += count * ROW_BYTES if size is None else size
        if self.rows >= PENDING_ROWS_MAX or self._row_bytes >= PENDING_BYTES_MAX:
            return self.settle_all()
        return iter(())

    def settle(self, stream: StreamTail, *, packs: bool = False) -> None:
        """A stream's rows become segments, packed ones where ``packs``."""
        for rows in _rows_of(stream):
            for hour, part in by_hour(rows):
                segment = make_segment(part)
                if packs:
                    segment = next(filter(None, pack_segment(segment)))
                stream.segments.setdefault(hour, []).append(segment)
                size = size_of(segment)
                stream.segment_bytes += size
                columns = sum(len(table.columns) for table in segment.tables)
                self._segment_bytes += size + columns * _COLUMN_BYTES
        count = stream.pending + len(stream.rows)
        # Each row as much as all have on the average.
        self._row_bytes -= self._row_bytes * count // max(self.rows, 1)
        self.rows -= count
        stream.clear()
        if len(stream.rows):
            stream.rows = Rows()

    def settle_all(self) -> Iterator[None]:
        """All rows become segments, with a pause after each stream."""
        for stream in list(self.streams.values()):
            if stream.pending or len(stream.rows):
                self.settle(stream)
                yield


def by_hour(rows: Rows) -> Iterator[tuple[int, Rows]]:
    """The rows of each hour, by time; of many, `PART_ROWS` at once, as one run may have more than
    a segment holds.
    """
    if rows.times != sorted(rows.times):
        rows.sort()
    times, begin = rows.times, 0
    while begin < len(times):
        hour = times[begin] // HOUR_NS
        end = min(bisect_left(times, (hour + 1) * HOUR_NS, begin), begin + PART_ROWS)
        yield hour, rows if end - begin == len(times) else rows.part(begin, end)
        begin = end


def _rows_of(stream: StreamTail) -> Iterator[Rows]:
    if stream.pending:
        yield stream.decoded()
    if len(stream.rows):
        yield stream.rows


def segments_of(stream: StreamTail, from_ns: int, to_ns: int) -> list[tuple[int, HistorySegment]]:
    """What a stream's tail has in a range: hour and segment. Its rows are looked at, not taken."""
    found = [(hour, segment) for hour, segments in stream.segments.items() for segment in segments]
    parts = chain.from_iterable(map(by_hour, _rows_of(stream)))
    found += [(hour, make_segment(part)) for hour, part in parts]
    return [(hour, one) for hour, one in found if one.last_ns >= from_ns and one.first_ns < to_ns]


def size_of(segment: HistorySegment) -> int:
    """What a loose segment has in bytes, about; what its columns take as objects is not in it."""
    return _SEGMENT_BYTES + len(encode_segment(segment))
