"""Finds whole records of a log in the order of their seqs, for who sends them once more.

History is in order of time, and a log in order of arrival, which is mostly the same and need not
be: a record may come days late. So it is noted once for each hour which seqs it has (a look through
the time that is asked for). Then the records of the next seqs are brought together, some ten
thousand at a time, from all segments that have such seqs; questions are answered out of those.

Both are done in steps, between which others may ask. What is remembered from one question to the
next only saves work. An hour's seqs hold for good: a record never changes its hour, and a flush
only adds seqs above the position that it began with.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from operator import attrgetter
from typing import Any, Final, NamedTuple

from edge_agent.errors import StoreDamaged
from edge_agent.history import keys
from edge_agent.history.answers.reading import View
from edge_agent.history.answers.recalled_blocks import PLACES_MAX, SentRow, blocks_of, body_of
from edge_agent.history.ask import Recall, RecalledBlock
from edge_agent.history.format.packing import unpack
from edge_agent.history.format.rollup import decode_rollup, records_in
from edge_agent.history.format.segment import (
    HistorySegment,
    decode_segment,
    fields_at,
    times_of,
    ways_of,
)
from edge_agent.history.format.stored import read_value, scan
from edge_agent.history.keys import DAY_NS, HOUR_NS, HOURS, MINUTES, MONTHS, RAW
from edge_agent.values.stream_names import compile_patterns

#: Records that are brought together at a time, of so many bytes at most.
READY_RECORDS: Final = 40_000
READY_BYTES: Final = 20 * 1024 * 1024
#: What such a record takes beside its map.
_ROW_BYTES: Final = 350
#: Orders for which some are kept ready; with more under way at once they are brought together anew.
_READY_ORDERS: Final = 3
#: Orders that are under way at once, each log of each upstream; with more, each begins anew.
_ORDERS_KEPT: Final = 16
_EVER: Final = 2**62

_seq_of = attrgetter("seq")

Whose = tuple[str, str, tuple[str, ...], int, int]
"""Epoch, log, patterns, from and to: what an order is about."""


class _Segment(NamedTuple):
    """One segment with records that are asked for: their lowest and highest seq, their number, and
    where it is found. ``in_memory``: it is in no file yet.
    """

    low: int
    high: int
    records: int
    stream: str
    key: bytes
    in_memory: HistorySegment | None


class _Gathering:
    """Records of the seqs ``after`` < seq <= ``upto``, brought together segment by segment; there
    are no more than fit, so that ``upto`` may become less on the way. ``flushes``: as of which
    flush the segments lie where they are said to.
    """

    def __init__(self, after: int, upto: int, parts: Sequence[_Segment], flushes: int) -> None:
        self.after, self.upto, self.flushes = after, upto, flushes
        self.left = [*reversed(parts)]
        self.rows: list[SentRow] = []
        self._found: dict[int, SentRow] = {}
        self._size = 0

    def covers(self, seq: int) -> bool:
        """Whether what follows a seq is, or will be, here."""
        return self.after <= seq < self.upto

    def add(self, rows: Iterator[SentRow]) -> None:
        """These belong to it, as far as there is room."""
        for row in rows:
            other = self._found.get(row.seq)
            # A number was given twice where the newest records of a log were lost once.
            if row.seq <= self.upto and (other is None or other.time_ns < row.time_ns):
                self._found[row.seq] = row
                self._size += len(row.body) + _ROW_BYTES
                if self._size > READY_BYTES and len(self._found) > 1:
                    self._halve()

    def finish(self) -> None:
        """All segments were looked at."""
        self.rows, self._found = sorted(self._found.values(), key=_seq_of), {}

    def _halve(self) -> None:
        kept = sorted(self._found)[: len(self._found) // 2]
        self.upto = kept[-1]
        self._found = {seq: self._found[seq] for seq in kept}
        self._size = sum(len(row.body) + _ROW_BYTES for row in self._found.values())


class _Index:
    """What is known of a time, of some streams and one log. ``hours``: lowest and highest seq of
    each, and how many. What is ``left`` is to be looked at, of ``coarse`` ones only for a survey:
    records that are known as minutes or hours only. ``damaged`` parts could not be read.
    """

    def __init__(self, view: View, wanted: Recall) -> None:
        self.flushes = view.header.flushes
        self.known = view.header.positions.get(wanted.log, 0)
        matches = compile_patterns(wanted.patterns)
        self.names: dict[int, str] = {}
        for key, raw in scan(view.txn, keys.SERIES):
            name = read_value(key, raw, view.seals).decode()
            if matches(name):
                self.names[keys.series_of(key)] = name
        self.matches = matches
        self.gathering: _Gathering | None = None
        self.hours: dict[int, tuple[int, int, int]] = {}
        self.coarse = self.damaged = 0
        span = (wanted.from_ns, wanted.to_ns)
        raw_from, minutes_from = (_oldest(view, level) for level in (RAW, MINUTES))
        self.raw_left = [*reversed(view.buckets(RAW, *span))]
        hours = view.buckets(MINUTES, *span)
        days = view.buckets(HOURS, *span)
        self.coarse_left = [(MINUTES, hour) for hour in hours if hour < raw_from]
        # A day with minutes has its hours, too.
        before = min(minutes_from, raw_from)
        self.coarse_left += [(HOURS, day) for day in days if (day + 1) * 24 <= before]
        self.coarse_left += [(MONTHS, month) for month in view.buckets(MONTHS, *span)]
        self.coarse_until_ns = min(wanted.to_ns, before // 24 * DAY_NS)


class Recaller:
    """Answers a process's questions of this kind."""

    def __init__(self) -> None:
        self._known: OrderedDict[Whose, _Index] = OrderedDict()

    def looked(self, view: View, wanted: Recall, enough: Callable[[], bool]) -> bool:
        """Look on for what is asked for until it is known, or it is ``enough`` for now; whether it
        is known.
        """
        index = self._for(view, wanted)
        while index.raw_left:
            self._note_hour(view, wanted, index, index.raw_left.pop())
            if enough():
                return False
        if wanted.limit_bytes:
            return self._gathered(view, wanted, index, enough)
        while index.coarse_left:
            self._count_coarse(view, wanted, index, *index.coarse_left.pop())
            if enough():
                return False
        return True

    def survey(self, view: View, wanted: Recall) -> dict[str, Any]:
        """How many records there are, the first seq of them (0 for none), how many are only known
        as minutes or hours, and how many parts are damaged.
        """
        index = self._for(view, wanted)
        count, firsts = 0, list[int]()
        partly = [*_in_memory(view, wanted, index)]
        for hour, (low, high, found) in index.hours.items():
            if low > wanted.after and high <= wanted.upto:
                count += found
                firsts.append(low)
            elif low <= wanted.upto and high > wanted.after:
                partly += self._segments(view, wanted, index, hour, again=True)
        for part in partly:
            numbers = _seqs(view, part, wanted, index)
            begin = bisect_right(numbers, wanted.after)
            end = bisect_right(numbers, wanted.upto)
            if begin < end:
                count += end - begin
                firsts.append(numbers[begin])
        told = {"count": count, "first": min(firsts, default=0)}
        return told | {"coarse": index.coarse, "damaged": index.damaged}

    def found(self, view: View, wanted: Recall) -> tuple[list[RecalledBlock], int]:
        """The first of the records, and up to which seq that is all of them; once `looked`."""
        gathering = self._for(view, wanted).gathering
        assert gathering is not None and gathering.covers(wanted.after)
        bound = min(gathering.upto, wanted.upto)
        begin = bisect_right(gathering.rows, wanted.after, key=_seq_of)
        kept: list[SentRow] = []
        size = 0
        for number in range(begin, len(gathering.rows)):
            row = gathering.rows[number]
            if row.seq > bound:
                break
            size += len(row.body)
            if kept:
                size += min(row.seq - kept[-1].seq, PLACES_MAX)
                if size > wanted.limit_bytes:
                    bound = kept[-1].seq
                    break
            kept.append(row)
        return list(blocks_of(kept)), bound

    def _for(self, view: View, wanted: Recall) -> _Index:
        """The index that fits the question; a new one where there is none."""
        span = (wanted.from_ns, wanted.to_ns)
        whose = (view.header.epoch, wanted.log, wanted.patterns, *span)
        index = self._known.pop(whose, None)
        flushes = view.header.flushes
        if index is None or (index.flushes != flushes and wanted.upto > index.known):
            index = _Index(view, wanted)
        self._known[whose] = index
        if len(self._known) > _ORDERS_KEPT:
            self._known.popitem(last=False)
        for other in [*self._known.values()][:-_READY_ORDERS]:
            other.gathering = None
        return index

    def _gathered(
        self, view: View, wanted: Recall, index: _Index, enough: Callable[[], bool]
    ) -> bool:
        """Bring records together; whether those that follow are there."""
        gathering, flushes = index.gathering, view.header.flushes
        is_lost = gathering is not None and gathering.left and gathering.flushes != flushes
        if gathering is None or is_lost or not gathering.covers(wanted.after):
            upto, parts = self._chosen(view, wanted, index)
            gathering = index.gathering = _Gathering(wanted.after, upto, parts, flushes)
            gathering.finish()
        while gathering.left:
            part = gathering.left.pop()
            if part.low <= gathering.upto:
                gathering.add(_sent(view, part, wanted, index, gathering))
            if not gathering.left:
                gathering.finish()
            if enough():
                break
        return not gathering.left

    def _note_hour(self, view: View, wanted: Recall, index: _Index, hour: int) -> None:
        found = self._segments(view, wanted, index, hour)
        if found:
            index.hours[hour] = (
                min(one.low for one in found),
                max(one.high for one in found),
                sum(one.records for one in found),
            )

    def _segments(
        self, view: View, wanted: Recall, index: _Index, hour: int, *, again: bool = False
    ) -> list[_Segment]:
        """Those of an hour that have records that are asked for."""
        found: list[_Segment] = []
        span = (keys.bucket_key(RAW, hour), keys.bucket_key(RAW, hour + 1))
        for key, raw in scan(view.txn, *span):
            stream = index.names.get(keys.series_of(key))
            if stream is None:
                continue
            view.pause()
            try:
                segment = decode_segment(read_value(key, raw, view.seals))
                numbers = _seqs_of(segment, wanted)
            except StoreDamaged:
                index.damaged += not again
                continue
            if numbers:
                found.append(_noted(numbers, stream, key))
        return found

    def _count_coarse(
        self, view: View, wanted: Recall, index: _Index, level: int, bucket: int
    ) -> None:
        span = (keys.bucket_key(level, bucket), keys.bucket_key(level, bucket + 1))
        until_ns = index.coarse_until_ns if level == MONTHS else wanted.to_ns
        for key, raw in scan(view.txn, *span):
            if keys.series_of(key) in index.names:
                view.pause()
                try:
                    cells = records_in(decode_rollup(read_value(key, raw, view.seals)))
                except StoreDamaged:
                    continue
                index.coarse += sum(
                    count
                    for start, count in zip(cells.starts, cells.counts, strict=True)
                    if wanted.from_ns <= start < until_ns
                )

    def _rising(self, view: View, wanted: Recall, index: _Index) -> Iterator[_Segment]:
        """The segments that may have what is asked for, by their lowest seq."""
        waiting: list[tuple[int, int, _Segment]] = []
        number = 0
        for one in _in_memory(view, wanted, index):
            number += 1
            heappush(waiting, (one.low, number, one))
        hours = sorted(
            (low, hour)
            for hour, (low, high, _) in index.hours.items()
            if high > wanted.after and low <= wanted.upto
        )
        for low, hour in hours:
            while waiting and waiting[0][0] < low:
                yield heappop(waiting)[2]
            for one in self._segments(view, wanted, index, hour, again=True):
                if one.high > wanted.after and one.low <= wanted.upto:
                    number += 1
                    heappush(waiting, (one.low, number, one))
        while waiting:
            yield heappop(waiting)[2]

    def _chosen(self, view: View, wanted: Recall, index: _Index) -> tuple[int, list[_Segment]]:
        """The segments that have the first records, and up to which seq."""
        bound = wanted.upto
        chosen: list[_Segment] = []
        taken: list[int] = []
        for part in self._rising(view, wanted, index):
            if part.low > bound:
                break
            numbers = _seqs(view, part, wanted, index)
            begin = bisect_right(numbers, wanted.after)
            end = min(bisect_right(numbers, bound), begin + READY_RECORDS)
            taken += numbers[begin:end]
            chosen.append(part)
            if len(taken) >= 2 * READY_RECORDS:
                taken.sort()
                del taken[READY_RECORDS:]
                bound = taken[-1]
        taken.sort()
        return (taken[READY_RECORDS - 1] if len(taken) > READY_RECORDS else bound), chosen


def _oldest(view: View, level: int) -> int:
    """The first bucket of a level, in hours; far in the future where there is none."""
    found = view.buckets(level, -_EVER, _EVER)
    return found[0] if found else _EVER // HOUR_NS


def _segment(view: View, part: _Segment, index: _Index) -> HistorySegment | None:
    """The segment; None where it has been damaged since it was looked at first."""
    if part.in_memory is not None:
        return part.in_memory
    view.pause()
    raw = view.txn.get(part.key)
    try:
        return None if raw is None else decode_segment(read_value(part.key, raw, view.seals))
    except StoreDamaged:
        index.damaged += 1
        return None


def _noted(
    numbers: Sequence[int], stream: str, key: bytes, segment: HistorySegment | None = None
) -> _Segment:
    return _Segment(min(numbers), max(numbers), len(numbers), stream, key, segment)


def _in_memory(view: View, wanted: Recall, index: _Index) -> Iterator[_Segment]:
    for stream, found in view.tail.items():
        if index.matches(stream):
            for _, segment in found:
                numbers = _seqs_of(segment, wanted)
                if numbers:
                    yield _noted(numbers, stream, b"", segment)


def _places(segment: HistorySegment, wanted: Recall) -> Sequence[int]:
    """Where a segment's records that are asked for stand in it."""
    places: Sequence[int] = range(segment.count)
    if any(way.log != wanted.log for way in segment.ways):
        way_of, ways = ways_of(segment), segment.ways
        places = [place for place in places if ways[way_of[place]].log == wanted.log]
    if segment.first_ns < wanted.from_ns or segment.last_ns >= wanted.to_ns:
        times = times_of(segment)
        places = [place for place in places if wanted.from_ns <= times[place] < wanted.to_ns]
    return places


def _seqs_of(segment: HistorySegment, wanted: Recall) -> list[int]:
    numbers = unpack(segment.seqs, segment.count)
    places = _places(segment, wanted)
    return numbers if len(places) == segment.count else [numbers[place] for place in places]


def _seqs(view: View, part: _Segment, wanted: Recall, index: _Index) -> list[int]:
    """The seqs of a segment that are asked for, rising."""
    segment = _segment(view, part, index)
    return sorted(_seqs_of(segment, wanted)) if segment is not None else []


def _sent(
    view: View, part: _Segment, wanted: Recall, index: _Index, meant: _Gathering
) -> Iterator[SentRow]:
    """The records of a segment that are asked for and belong together now."""
    segment = _segment(view, part, index)
    if segment is None:
        return
    count = segment.count
    seqs = unpack(segment.seqs, count)
    places = [
        place for place in _places(segment, wanted) if meant.after < seqs[place] <= meant.upto
    ]
    if not places:
        return
    times, way_of = times_of(segment), ways_of(segment)
    source_seqs = unpack(segment.source_seqs, count)
    origin_seqs = unpack(segment.origin_seqs, count)
    for place, fields in zip(places, fields_at(segment, places), strict=True):
        way, time_ns = segment.ways[way_of[place]], times[place]
        numbers = (source_seqs[place], origin_seqs[place])
        body = body_of(fields, time_ns, way)
        yield SentRow(seqs[place], time_ns, part.stream, way, *numbers, body)
