"""The tail: what is digested and not written yet, in memory as rows, then as columns.

Records of a stream gather as `Rows` until there are `LOOSE_ROWS` of them; those become a loose
segment for each hour that they fall in. `Tail.bytes` says about what all of it occupies.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Container, Iterator
from dataclasses import dataclass, field

from edge_agent.history import HistorySegment, Rows, encode_segment, make_segment
from edge_agent.history.keys import HOUR_NS

#: Rows of a stream that become a segment together: fewer cost more for each, more lie around as
#: Python objects, some 500 bytes each.
LOOSE_ROWS = 128
_PART_ROWS = 512
#: So many rows over all streams, and they become segments however few each stream has.
PENDING_ROWS_MAX = 8192
ROW_BYTES = 500
#: Streams that history keeps; of others nothing is kept, which is counted.
SERIES_MAX = 50_000
_SEGMENT_BYTES = 600
#: A segment that holds text or nested values is no larger than this, about.
BODY_BYTES_MAX = 128 * 1024


@dataclass(slots=True)
class StreamTail:
    """One stream's: rows, and loose segments by hour."""

    rows: Rows = field(default_factory=Rows)
    segments: dict[int, list[HistorySegment]] = field(default_factory=dict)


class Tail:
    """All streams' tails. ``known``: streams that are in the file already."""

    def __init__(self, known: Container[str] = (), count: int = 0) -> None:
        self.streams: dict[str, StreamTail] = {}
        self._known, self._count = known, count
        self.rows = 0
        self.records = 0
        self.bytes = 0

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

    def added(self, count: int) -> Iterator[None]:
        """So many rows were added to streams. What comes is to be gone through: where there are
        many, they become segments, with pauses.
        """
        self.rows += count
        self.records += count
        self.bytes += count * ROW_BYTES
        return self.settle_all() if self.rows >= PENDING_ROWS_MAX else iter(())

    def settle(self, stream: StreamTail) -> None:
        """A stream's rows become segments."""
        rows, stream.rows = stream.rows, Rows()
        if not len(rows):
            return
        self.rows -= len(rows)
        self.bytes -= len(rows) * ROW_BYTES
        for hour, part in by_hour(rows):
            segment = make_segment(part)
            stream.segments.setdefault(hour, []).append(segment)
            self.bytes += size_of(segment)

    def settle_all(self) -> Iterator[None]:
        """All rows become segments, with a pause after each stream."""
        for stream in list(self.streams.values()):
            self.settle(stream)
            yield


def by_hour(rows: Rows) -> Iterator[tuple[int, Rows]]:
    """The rows of each hour, by time; of many, `_PART_ROWS` at once, as one run may have more than
    a segment holds.
    """
    if rows.times != sorted(rows.times):
        rows.sort()
    times, begin = rows.times, 0
    while begin < len(times):
        hour = times[begin] // HOUR_NS
        end = min(bisect_left(times, (hour + 1) * HOUR_NS, begin), begin + _PART_ROWS)
        yield hour, rows if end - begin == len(times) else rows.part(begin, end)
        begin = end


def segments_of(stream: StreamTail, from_ns: int, to_ns: int) -> list[tuple[int, HistorySegment]]:
    """What a stream's tail has in a range: hour and segment. Its rows are looked at, not taken."""
    found = [(hour, segment) for hour, segments in stream.segments.items() for segment in segments]
    if len(stream.rows):
        found += [(hour, make_segment(part)) for hour, part in by_hour(stream.rows)]
    return [(hour, one) for hour, one in found if one.last_ns >= from_ns and one.first_ns < to_ns]


def size_of(segment: HistorySegment) -> int:
    """What a loose segment occupies in memory, about."""
    return _SEGMENT_BYTES + len(encode_segment(segment))
