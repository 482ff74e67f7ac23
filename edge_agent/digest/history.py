"""`History` puts the parts together: it digests blocks into the tail, flushes it, and forgets.

It is driven from outside: nothing here waits or asks for the time. What takes longer than some 2 ms
is a generator that pauses, so that whoever drives it can let others run.

A flush writes, for each hour and stream that something came for, a segment and its minutes. Minutes
of an hour that is over are put together as one part, those of a day that is over become its hours,
and what is older than its age or beyond the share goes, the finest first.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from edge_agent.digest.block import digest
from edge_agent.digest.file import Flush, HistoryFile
from edge_agent.digest.tail import Tail, size_of
from edge_agent.history import (
    ROWS_MAX,
    Cells,
    Numbers,
    Path,
    Segment,
    cells_of,
    column_of,
    decode_rollup,
    encode_rollup,
    encode_segment,
    field_in,
    join_cells,
    join_segments,
    keys,
    paths_of,
    records_in,
    times_of,
)
from edge_agent.history.keys import DAY_NS, HOUR_NS, HOURS, MINUTE_NS, MINUTES, RAW, part_key
from edge_agent.store import Block, Gap

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


class History:
    """The history of one store; see the module's docstring."""

    def __init__(self, file: HistoryFile, keep: Keep) -> None:
        self.file = file
        self.tail = Tail()
        self._keep = keep
        #: Everything up to these positions is in the tail or in the file.
        self.digested = dict(file.header.positions)
        self.missed = 0
        self.skipped = 0
        #: The newest hour that something was flushed for.
        self._newest = -(2**31)

    def take(self, items: Sequence[Block | Gap], now_ns: int) -> Iterator[None]:
        """Digest what a log holds behind its position; pauses now and then."""
        for item in items:
            after = self.digested.get(item.log, 0)
            if isinstance(item, Gap):
                # What was trimmed before history began is not missed.
                if after:
                    self.missed += item.last - max(item.first, after + 1) + 1
            elif item.last > after:
                for skipped in digest(item, after, self.tail, now_ns):
                    self.skipped += skipped
                    yield
            self.digested[item.log] = max(after, item.last)

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
        buckets: dict[int, dict[str, list[Segment]]] = {}
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
            for day in self._days_over(until, buckets, now_ns):
                yield from self._close_day(day, flush)
                until = day
        self._newest = max([self._newest, *buckets])
        self._forget(now_ns if trusted else None, until, flush)
        flush.header = msgspec.structs.replace(
            header,
            positions=dict(self.digested),
            flushes=header.flushes + 1,
            records=header.records + self.tail.records,
            missed=header.missed + self.missed,
            hours_until=until,
        )
        yield flush

    def flushed(self) -> None:
        """The flush is on the disk."""
        self.tail = Tail()
        self.missed = 0

    def _number(self, stream: str, flush: Flush) -> int:
        number = self.file.numbers.get(stream)
        if number is None:
            number = len(self.file.numbers) + 1
            self.file.numbers[stream] = number
            self.file.names[number] = stream
        if number not in self.file.written:
            flush.series[number] = stream
        return number

    def _bucket(self, hour: int, bucket: dict[str, list[Segment]], flush: Flush) -> Iterator[None]:
        """A segment and its minutes for each stream of one hour; several where they are many."""
        parts: dict[int, int] = {}
        for level in (RAW, MINUTES):
            for key in self.file.part_keys(level, hour, hour):
                found = keys.split_key(key)
                parts[found.series] = max(parts.get(found.series, 0), found.part + 1)
        for stream, segments in sorted(bucket.items()):
            number = self._number(stream, flush)
            part = parts.get(number, 0)
            for group in _groups(segments):
                place = (hour, number, min(part, keys.PARTS_MAX))
                minutes = yield from _minutes(group)
                if minutes is not None:
                    flush.puts.append((part_key(MINUTES, *place), minutes))
                for step in join_segments(group):
                    if step is not None:
                        flush.puts.append((part_key(RAW, *place), encode_segment(step)))
                    yield
                part += 1

    def _minutes_of(self, hour: int, flush: Flush) -> dict[int, list[tuple[bytes, bytes]]]:
        """The minutes of an hour by series, as they are once ``flush`` is written."""
        found: dict[int, list[tuple[bytes, bytes]]] = {}
        gone = set(flush.deletes)
        stored = [
            (part_key(*place), value) for place, value in self.file.parts(MINUTES, hour, hour)
        ]
        for key, value in [one for one in stored if one[0] not in gone] + flush.puts:
            place = keys.split_key(key)
            if (place.level, place.bucket) == (MINUTES, hour):
                found.setdefault(place.series, []).append((key, value))
        return found

    def _close_hours(self, hours: range, flush: Flush) -> Iterator[None]:
        """Minutes of hours that are over become one part for each stream."""
        for hour in hours:
            for series, parts in self._minutes_of(hour, flush).items():
                if len(parts) > 1:
                    gone = {key for key, _ in parts}
                    flush.puts = [put for put in flush.puts if put[0] not in gone]
                    flush.deletes += sorted(gone)
                    joined = joined_rollups([value for _, value in parts], MINUTE_NS)
                    flush.puts.append((part_key(MINUTES, hour, series, 0), joined))
                yield

    def _days_over(self, until: int, came: Iterable[int], now_ns: int) -> range:
        """Days that are over and have no hours yet, the oldest three of them."""
        over = (now_ns - GRACE_NS) // DAY_NS
        oldest = self.file.usage().oldest[MINUTES]
        first = (
            until + 1
            if until
            else min([*came, *([] if oldest is None else [oldest])], default=0) // 24
        )
        return range(first, min(over, first + _DAYS_MAX)) if first else range(0)

    def _close_day(self, day: int, flush: Flush) -> Iterator[None]:
        """The minutes of a day that is over become its hours."""
        found: dict[int, list[bytes]] = {}
        for hour in range(day * 24, day * 24 + 24):
            for series, parts in self._minutes_of(hour, flush).items():
                found.setdefault(series, []).append(
                    joined_rollups([value for _, value in parts], HOUR_NS)
                )
                yield
        for series, rollups in found.items():
            joined = joined_rollups(rollups, HOUR_NS)
            flush.puts.append((part_key(HOURS, day, series, 0), joined))
            yield

    def _late_hours(self, hours: Sequence[int], flush: Flush) -> Iterator[None]:
        """What came for days that have their hours already becomes further parts of them."""
        for hour in hours:
            day = hour // 24
            used = [keys.split_key(key) for key in self.file.part_keys(HOURS, day, day)]
            used += [place for place in map(keys.split_key, (k for k, _ in flush.puts))
                     if (place.level, place.bucket) == (HOURS, day)]  # fmt: skip
            parts: dict[int, int] = {}
            for place in used:
                parts[place.series] = max(parts.get(place.series, 0), place.part + 1)
            for key, value in list(flush.puts):
                place = keys.split_key(key)
                if (place.level, place.bucket) == (MINUTES, hour):
                    part = parts.get(place.series, 0)
                    parts[place.series] = part + 1
                    joined = joined_rollups([value], HOUR_NS)
                    flush.puts.append((part_key(HOURS, day, place.series, part), joined))
                    yield

    def _forget(self, now_ns: int | None, until: int, flush: Flush) -> None:
        """What is too old goes; then, beyond the share, the oldest of the finest level."""
        usage = self.file.usage()
        ages = {RAW: self._keep.raw_ns, MINUTES: self._keep.minutes_ns, HOURS: self._keep.hours_ns}
        excess = usage.used_bytes + sum(len(value) for _, value in flush.puts) - usage.limit_bytes
        for level, keep_ns in ages.items():
            oldest = usage.oldest[level]
            if oldest is None:
                continue
            # Minutes stay until their day has its hours; the hour that is being filled stays.
            newest = {MINUTES: until * 24 + 23, HOURS: until, RAW: max(self._newest - 1, oldest)}
            old = -(2**31) if now_ns is None else (now_ns - keep_ns) // keys.BUCKET_NS[level]
            for bucket, size, found in self.file.buckets(level, oldest, newest[level]):
                if (bucket >= old and excess <= 0) or len(flush.deletes) > _DELETES_MAX:
                    break
                flush.deletes += found
                excess -= size


def _pauses(steps: Iterator[object]) -> Iterator[None]:
    for _ in steps:
        yield None


def _groups(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    """Segments that become one, which has its limits."""
    group: list[Segment] = []
    count = size = 0
    for segment in sorted(segments, key=lambda one: one.first_ns):
        weight = size_of(segment)
        if group and (count + segment.count > ROWS_MAX or size + weight > _SEGMENT_BYTES_MAX):
            yield group
            group, count, size = [], 0, 0
        group.append(segment)
        count, size = count + segment.count, size + weight
    if group:
        yield group


def _minutes(segments: Sequence[Segment]) -> Generator[None, None, bytes | None]:
    """The roll-up of these segments by minute, pauses before it."""
    records: list[Cells] = []
    fields: dict[Path, list[Cells]] = {}
    for segment in segments:
        part = segment_cells(segment, MINUTE_NS)
        records.append(part[0])
        for path, cells in part[1].items():
            if path in fields or len(fields) < FIELDS_MAX:
                fields.setdefault(path, []).append(cells)
        yield
    joined = {path: join_cells(parts, MINUTE_NS) for path, parts in fields.items()}
    return encode_rollup(MINUTE_NS, join_cells(records, MINUTE_NS), joined)


def segment_cells(segment: Segment, unit_ns: int) -> tuple[Cells, dict[Path, Cells]]:
    """How many records a segment has by unit, and the figures of its fields."""
    times = times_of(segment)
    records = cells_of(times, Numbers([0] * len(times), 0), None, unit_ns)
    fields: dict[Path, Cells] = {}
    for path in paths_of(segment):
        found = [
            cells_of(times, numbers, places, unit_ns)
            for places, numbers in column_of(segment, path)
        ]
        if found:
            fields[path] = found[0] if len(found) == 1 else join_cells(found, unit_ns)
    return records, fields


def joined_rollups(raws: Sequence[bytes], unit_ns: int) -> bytes:
    """Several roll-ups of a stream as one, by units that theirs divide. Raises StoreDamaged."""
    rollups = [decode_rollup(raw) for raw in raws]
    paths = dict.fromkeys(path for rollup in rollups for path in rollup.paths)
    fields = {
        path: join_cells(filter(None, (field_in(one, path) for one in rollups)), unit_ns)
        for path in paths
    }
    return encode_rollup(unit_ns, join_cells(map(records_in, rollups), unit_ns), fields)
