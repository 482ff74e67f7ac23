"""`HistoryWriter` flushes the tail, makes hours of the minutes of a day that is over, and forgets.

It is driven from outside: nothing here waits or asks for the time. What takes longer than some 2 ms
is a generator that pauses, so that whoever drives it can let others run.

A flush writes, for each hour and stream that something came for, a segment and its minutes. What
an hour that is over has of a stream is put together as one part, the minutes of a day that is over
become its hours, and what is older than its age or beyond the share goes, the finest first.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import msgspec

from edge_agent.digest.block import digest, together
from edge_agent.digest.file import NEVER, Flush, HistoryFile
from edge_agent.digest.months import Months
from edge_agent.digest.tail import TAIL_BYTES_MAX, Tail, size_of
from edge_agent.history import (
    HISTORY_FORMAT,
    ROWS_MAX,
    Cells,
    HistorySegment,
    Numbers,
    Path,
    all_cells_of,
    cells_of,
    counts_of,
    decode_rollup,
    encode_rollup,
    encode_segment,
    join_cells,
    join_segments,
    keys,
    pack_segment,
    paths_of,
    records_in,
    times_of,
    units_of,
)
from edge_agent.history.keys import (
    DAY_NS,
    HOUR_NS,
    HOURS,
    MINUTE_NS,
    MINUTES,
    MONTH_DAYS,
    MONTHS,
    RAW,
    part_key,
)
from edge_agent.store import Block, Boot, Gap

#: An hour or a day is over when the clock is past it by so much: records come late.
GRACE_NS = 10 * MINUTE_NS
#: Fields of a stream that have roll-ups.
FIELDS_MAX = 64
#: A segment is made of no more bytes than this, loose.
_SEGMENT_BYTES_MAX = 512 * 1024
#: Days whose hours one flush makes.
_DAYS_MAX = 3
#: Keys that one flush deletes at most, but for those of the last bucket.
_DELETES_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Keep:
    """How long each level is kept, in ns."""

    raw_ns: int
    minutes_ns: int
    hours_ns: int


class HistoryWriter:
    """The history of one store; see the module's docstring."""

    def __init__(self, file: HistoryFile, keep: Keep) -> None:
        self.file = file
        self.tail = Tail(file.numbers, len(file.numbers))
        self._keep = keep
        self._months = Months(file)
        #: Everything up to these positions is in the tail or in the file.
        self.digested = dict(file.header.positions)
        #: Records that were trimmed or damaged before they were digested, or were of a stream too
        #: many, since the last flush.
        self.missed = 0
        #: Boots whose clocks were not set when their records came into the tail.
        self.undated: set[Boot] = set()
        #: The newest hour that something was flushed for.
        self._newest = NEVER
        #: Of the file, as of the tail: a flush changes both at once only for those in this thread.
        self.flushes = file.header.flushes

    def take(self, items: Sequence[Block | Gap], now_ns: int) -> Iterator[None]:
        """Digest what a log holds behind its position; pauses now and then.

        Ends early where the tail is full: records that compress well are many in one read, and each
        may lie in an hour of its own.
        """
        for some in together(items):
            last = some if isinstance(some, Gap) else some[-1]
            after = self.digested.get(last.log, 0)
            if isinstance(some, Gap):
                # What was trimmed before history began is not missed, nor what was never there: a
                # restored store passes numbers over.
                if after and some.reason == "trimmed":
                    self.missed += some.last - max(some.first, after + 1) + 1
            else:
                for skipped in digest(some, after, self.tail, now_ns):
                    self.missed += skipped
                    yield
                self._note_undated(some, after)
            self.digested[last.log] = max(after, last.last)
            if self.tail.bytes >= TAIL_BYTES_MAX:
                return

    def _note_undated(self, blocks: Iterable[Block], after: int) -> None:
        for block in blocks:
            if block.last > after and block.correction is None and block.unset_boot is not None:
                self.undated.add(block.unset_boot)

    def forget_tail(self) -> None:
        """Begin again behind what the file holds: the logs give the same records, with times that
        are known by now.
        """
        self._begin_tail()
        self.digested = dict(self.file.header.positions)

    def rewind(self, log: str, last: int) -> None:
        """The log has lost its newest records; what comes there now is new."""
        self.digested[log] = min(self.digested.get(log, 0), last)

    def flush(self, now_ns: int, *, trusted: bool = True) -> Iterator[Flush | None]:
        """All of the tail as one transaction, which comes last; None before it are pauses. Once it
        is written, `flushed` is to be called; nothing may be digested in between. ``trusted``: the
        clock is set, so that it can say what is old.
        """
        yield from _pauses(self.tail.settle_all())
        header = self.file.header
        flush = Flush(header)
        buckets: dict[int, dict[str, list[HistorySegment]]] = {}
        for stream, tail in self.tail.streams.items():
            for hour, segments in tail.segments.items():
                buckets.setdefault(hour, {})[stream] = segments
        for hour, bucket in sorted(buckets.items()):
            yield from self._bucket(hour, bucket, flush)
        until = header.hours_until
        yield from self._late_hours([h for h in buckets if h // 24 <= until], flush)
        if trusted:
            over = (now_ns - GRACE_NS) // HOUR_NS
            yield from self._close_hours(range(over - 2, over), flush)
            days, until = self._days_over(until, buckets, now_ns)
            for day in days:
                yield from self._close_day(day, flush)
        self._newest = max([self._newest, *buckets])
        yield from self._forget(now_ns if trusted else None, until, flush)
        oldest = (now_ns - self._keep.hours_ns) // DAY_NS if trusted else NEVER
        yield from self._months.join(flush, oldest)
        yield from self._months.cut(flush, oldest)
        flush.header = msgspec.structs.replace(
            header,
            format=HISTORY_FORMAT,
            positions=dict(self.digested),
            flushes=header.flushes + 1,
            records=header.records + self.tail.records,
            missed=header.missed + self.missed,
            hours_until=until,
        )
        yield flush

    def flushed(self) -> None:
        """The flush is on the disk."""
        self._begin_tail()
        self.flushes = self.file.header.flushes

    def _begin_tail(self) -> None:
        self.tail = Tail(self.file.numbers, len(self.file.numbers))
        self.missed = 0
        self.undated.clear()

    def _number(self, stream: str, flush: Flush) -> int:
        number = self.file.numbers.get(stream)
        if number is None:
            # Behind the last one: those in between may be erased, or lost, and are not given again.
            number = next(reversed(self.file.names), 0) + 1
            self.file.numbers[stream] = number
            self.file.names[number] = stream
        if number not in self.file.written:
            flush.series[number] = stream
        return number

    def _bucket(
        self, hour: int, bucket: dict[str, list[HistorySegment]], flush: Flush
    ) -> Iterator[None]:
        """A segment and its minutes for each stream of one hour; several where they are many."""
        parts: dict[int, int] = {}
        for level in (RAW, MINUTES):
            _count_parts(self.file.part_keys(level, hour, hour), parts)
            yield
        for stream, segments in bucket.items():
            number = self._number(stream, flush)
            part = parts.get(number, 0)
            minutes = part_key(MINUTES, hour, number, min(part, keys.PARTS_MAX))
            records: list[Cells] = []
            fields: dict[Path, list[Cells]] = {}
            for group in _groups(segments, self.tail.streams[stream].segment_bytes):
                segment = yield from _last(join_segments(group))
                packed = yield from _figured(segment, records, fields)
                key = part_key(RAW, hour, number, min(part, keys.PARTS_MAX))
                flush.puts[key] = encode_segment(packed)
                part += 1
                yield
            flush.puts[minutes] = _rollup(records, fields, MINUTE_NS)
            yield

    def _minutes_of(self, hour: int, flush: Flush) -> dict[int, dict[bytes, bytes]]:
        """The minutes of an hour by series, as they are once ``flush`` is written."""
        found: dict[int, dict[bytes, bytes]] = {}
        gone = set(flush.deletes)
        for place, value in self.file.parts(MINUTES, hour, hour):
            key = part_key(*place)
            if key not in gone:
                found.setdefault(place.series, {})[key] = value
        for key in flush.puts.of_bucket(MINUTES, hour):
            found.setdefault(keys.split_key(key).series, {})[key] = flush.puts[key]
        return found

    def _close_hours(self, hours: range, flush: Flush) -> Iterator[None]:
        """Minutes of an hour that is over become one part for each stream."""
        for hour in hours:
            for series, parts in self._minutes_of(hour, flush).items():
                if len(parts) > 1:
                    joined = yield from _joined_rollups([*parts.values()], MINUTE_NS)
                    flush.put_instead(parts, (MINUTES, hour, series), [joined])
                yield

    def _days_over(self, until: int, came: Iterable[int], now_ns: int) -> tuple[list[int], int]:
        """The oldest days that are over and have no hours yet, and up to which day none are left
        then.
        """
        over = (now_ns - GRACE_NS) // DAY_NS
        days = {hour // 24 for hour in came if until < hour // 24 < over}
        bucket = self.file.bucket_from(MINUTES, (until + 1) * 24)
        for _ in range(_DAYS_MAX):
            if bucket is None or bucket // 24 >= over:
                break
            days.add(bucket // 24)
            bucket = self.file.bucket_from(MINUTES, (bucket // 24 + 1) * 24)
        if len(days) < _DAYS_MAX:
            return sorted(days), max(until, over - 1)
        first = sorted(days)[:_DAYS_MAX]
        return first, first[-1]

    def _close_day(self, day: int, flush: Flush) -> Iterator[None]:
        """The minutes of a day that is over become its hours."""
        found: dict[int, list[bytes]] = {}
        for hour in range(day * 24, day * 24 + 24):
            for series, parts in self._minutes_of(hour, flush).items():
                joined = yield from _joined_rollups([*parts.values()], HOUR_NS)
                found.setdefault(series, []).append(joined)
        for series, rollups in found.items():
            joined = yield from _joined_rollups(rollups, HOUR_NS)
            flush.puts[part_key(HOURS, day, series, 0)] = joined

    def _late_hours(self, hours: Sequence[int], flush: Flush) -> Iterator[None]:
        """What came for days that have their hours already becomes further parts of them."""
        for hour in hours:
            day = hour // 24
            parts: dict[int, int] = {}
            _count_parts(self.file.part_keys(HOURS, day, day), parts)
            _count_parts(flush.puts.of_bucket(HOURS, day), parts)
            for key in flush.puts.of_bucket(MINUTES, hour):
                series = keys.split_key(key).series
                part = parts.get(series, 0)
                parts[series] = part + 1
                joined = yield from _joined_rollups([flush.puts[key]], HOUR_NS)
                flush.puts[part_key(HOURS, day, series, min(part, keys.PARTS_MAX))] = joined

    def _forget(self, now_ns: int | None, until: int, flush: Flush) -> Iterator[None]:
        """What is too old goes; then, beyond the share, the oldest of the finest level."""
        usage = self.file.usage()
        ages = {
            RAW: self._keep.raw_ns, MINUTES: self._keep.minutes_ns, MONTHS: self._keep.hours_ns,
            HOURS: self._keep.hours_ns,
        }  # fmt: skip
        coming = sum(self.file.room(len(value)) for value in flush.puts.values())
        # Pages are not full everywhere.
        excess = usage.used_bytes + coming * 5 // 4 - usage.limit_bytes
        for level, keep_ns in ages.items():
            oldest = usage.oldest[level]
            if oldest is None:
                continue
            # The hour that is being filled stays, and minutes until their day has its hours, unless
            # nothing else is left.
            filling = max(self._newest - 1, oldest)
            newest = {
                RAW: filling, MINUTES: until * 24 + 23, MONTHS: until // MONTH_DAYS, HOURS: until,
            }[level]  # fmt: skip
            if level == MINUTES and excess > 0:
                newest = filling
            old = NEVER if now_ns is None else (now_ns - keep_ns) // keys.BUCKET_NS[level]
            for bucket, size, found in self.file.buckets(level, oldest, newest):
                if (bucket >= old and excess <= 0) or len(flush.deletes) > _DELETES_MAX:
                    break
                flush.deletes += found
                if level == MONTHS:
                    # What came late for its days, too.
                    days = bucket * MONTH_DAYS, (bucket + 1) * MONTH_DAYS - 1
                    flush.deletes += self.file.part_keys(HOURS, *days)
                excess -= size
                yield


def _pauses(steps: Iterator[object]) -> Iterator[None]:
    for _ in steps:
        yield None


def _count_parts(found: Iterable[bytes], parts: dict[int, int]) -> None:
    """Raise ``parts``, by series, to the number behind the parts under these keys."""
    for key in found:
        place = keys.split_key(key)
        parts[place.series] = max(parts.get(place.series, 0), place.part + 1)


def _groups(segments: Sequence[HistorySegment], bytes_max: int) -> Iterator[list[HistorySegment]]:
    """Segments that become one, within what one may hold. All have ``bytes_max`` at most."""
    segments = sorted(segments, key=lambda one: one.first_ns)
    if bytes_max <= _SEGMENT_BYTES_MAX and sum(one.count for one in segments) <= ROWS_MAX:
        # Most are like this, and need not be encoded to know what each has.
        yield segments
        return
    group: list[HistorySegment] = []
    count = size = 0
    for segment in segments:
        weight = size_of(segment)
        full = count + segment.count > ROWS_MAX or size + weight > _SEGMENT_BYTES_MAX
        if group and full:
            yield group
            group, count, size = [], 0, 0
        group.append(segment)
        count, size = count + segment.count, size + weight
    if group:
        yield group


def _last(steps: Iterator[HistorySegment | None]) -> Generator[None, None, HistorySegment]:
    """The segment that comes last, after as many pauses as there are steps before it."""
    for step in steps:
        if step is not None:
            return step
        yield
    raise AssertionError("a segment comes last")


def _figured(
    segment: HistorySegment, records: list[Cells], fields: dict[Path, list[Cells]]
) -> Generator[None, None, HistorySegment]:
    """The segment packed. Its figures by minute are added to those of its stream meanwhile, as
    that is when its columns are read.
    """
    times = times_of(segment)
    minutes = units_of(times, MINUTE_NS)
    records.append(counts_of(times, minutes))
    found: dict[Path, list[Cells]] = {}

    def look(path: Path, places: list[int] | None, numbers: Numbers) -> tuple[int, int] | None:
        if path not in found and len(found) >= FIELDS_MAX:
            return None
        cells = cells_of(times, numbers, places, minutes)
        found.setdefault(path, []).append(cells)
        if cells.exact and not numbers.missing:
            return cast(tuple[int, int], (min(cells.mins), max(cells.maxs)))
        return None

    yield
    packed = yield from _last(pack_segment(segment, look))
    for path in paths_of(segment):
        if path in found and (path in fields or len(fields) < FIELDS_MAX):
            fields.setdefault(path, []).extend(found[path])
    return packed


def _joined_rollups(raws: Sequence[bytes], unit_ns: int) -> Generator[None, None, bytes]:
    """Several roll-ups of a stream as one, by units that theirs divide; pauses before it."""
    rollups = [decode_rollup(raw) for raw in raws]
    fields: dict[Path, list[Cells]] = {}
    for rollup in rollups:
        for path, cells in all_cells_of(rollup):
            if path in fields or len(fields) < FIELDS_MAX:
                fields.setdefault(path, []).append(cells)
        yield
    return _rollup(list(map(records_in, rollups)), fields, unit_ns)


def _rollup(records: list[Cells], fields: dict[Path, list[Cells]], unit_ns: int) -> bytes:
    joined = {path: join_cells(parts, unit_ns) for path, parts in fields.items()}
    return encode_rollup(unit_ns, join_cells(records, unit_ns), joined.items())
