"""Takes the records of a log's blocks into the tail, and says when rows become columns.

What is not taken: places of erased records, and the aggregates that a full log put in the place of
records (`edge_agent.store.thinning`), because history has seen those records.

A record has the time that it is read with now. Where that is a clock's that was not set, it may be
wrong. While a machine has just been started, such records of its boot wait in the log for the clock
to be set (`waits`); later they are taken with the time that they have. Where that is before 2020,
which no clock of ours means, they are taken at the time at which their block was stored here, if
that is known, else at the time of digesting. Their way says that the clock was not set.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from edge_agent.aggregates import THINNED_SOURCE
from edge_agent.digest.tail import BODY_BYTES_MAX, LOOSE_ROWS, Tail
from edge_agent.errors import StoreDamaged
from edge_agent.history import Way
from edge_agent.record import (
    NANOSECONDS,
    UNSET_CLOCK_BEFORE_NS,
    TimeQuality,
)
from edge_agent.store import ERASED, Block, time_of

#: A machine that is on the network has set its clock so long after its start.
WAIT_NS = 600 * NANOSECONDS
#: Records between two pauses: about 1 ms.
_PAUSE_RECORDS = 256
#: Dates that a sensor sends mean themselves; until 2106, 2**32 s, microseconds survive as a float.
_EARLIEST, _LATEST = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
_RUNS = msgspec.msgpack.Decoder(list[tuple[str, str, int, int, bool, int, list[dict[str, Any]]]])


def waits(block: Block, boot_id: bytes, boot_ns: int) -> bool:
    """Whether a block's times may become known soon: its boot is running, for less than
    `WAIT_NS`, and its clock is not set.
    """
    unset = block.unset_boot
    return unset == ("", boot_id) and block.correction is None and boot_ns < WAIT_NS


def digest(block: Block, after: int, tail: Tail, now_ns: int) -> Iterator[int]:
    """Take the records above the seq ``after``; pauses now and then, and tells how many it could
    not take because there are too many streams.
    """
    known = block.synced or block.stored_ns >= UNSET_CLOCK_BEFORE_NS
    plain = block.origin is None and not block.thinned and block.correction is None
    if plain and known and block.first > after:
        try:
            runs = _RUNS.decode(block.raw())
        except (ValueError, OverflowError, RecursionError, StoreDamaged):
            # One record that cannot be read hides no other where each is read by itself.
            runs = None
        if runs is not None:
            yield from _quick(block, runs, tail)
            return
    yield from _slow(block, after, tail, now_ns)


def _quick(block: Block, runs: list[Any], tail: Tail) -> Iterator[int]:
    seq, done, log = block.first, 0, block.log
    weight = block.raw_len // block.count
    streams = tail.streams
    quality: TimeQuality
    for stream, source, source_seq, arrival_ns, synced, _, maps in runs:
        count, first = len(maps), seq
        seq += count
        if stream == ERASED or source.startswith(THINNED_SOURCE):
            continue
        kept = streams.get(stream) or tail.of(stream)
        if kept is None:
            yield count
            continue
        rows = kept.rows
        known, times, way_of = rows.known, rows.times, rows.way_of
        for fields in maps:
            value = fields.pop("time", None)
            if type(value) is datetime and _EARLIEST <= value < _LATEST:
                quality, time_ns = "sensor", round(value.timestamp() * 1_000_000) * 1000
            else:
                time_ns, quality = time_of(value, arrival_ns)
            if "stream" in fields:
                del fields["stream"]
            way = known.get((source, quality, synced))
            if way is None:
                way = rows.way(Way(log, source, quality, synced, False))
                known[source, quality, synced] = way
            times.append(time_ns)
            way_of.append(way)
        if count == 1:
            rows.seqs.append(first)
            rows.source_seqs.append(source_seq)
        else:
            rows.seqs += range(first, seq)
            rows.source_seqs += range(source_seq, source_seq + count) if source_seq else [0] * count
        rows.fields += maps
        done += count
        if len(times) >= LOOSE_ROWS or weight * len(times) > BODY_BYTES_MAX:
            tail.settle(kept)
        if done >= _PAUSE_RECORDS:
            yield from _added(tail, done)
            done = 0
    yield from _added(tail, done)


def _added(tail: Tail, count: int) -> Iterator[int]:
    for _ in tail.added(count):
        yield 0
    yield 0


def _slow(block: Block, after: int, tail: Tail, now_ns: int) -> Iterator[int]:
    known = block.synced or block.correction is not None
    otherwise_ns = block.when_ns if known else now_ns
    weight = block.raw_len // block.count
    try:
        for done, record in enumerate(block.records()):
            if record.seq <= after or record.stream == ERASED:
                continue
            if record.source.startswith(THINNED_SOURCE):
                continue
            kept = tail.of(record.stream)
            if kept is None:
                yield 1
                continue
            rows = kept.rows
            way = Way(
                record.log,
                record.source,
                record.quality,
                record.synced,
                record.corrected,
                record.origin,
                record.origin_epoch,
                record.origin_log,
            )
            lost = record.time_ns < UNSET_CLOCK_BEFORE_NS and record.quality != "sensor"
            rows.times.append(otherwise_ns if lost else record.time_ns)
            rows.way_of.append(rows.way(way))
            rows.seqs.append(record.seq)
            rows.source_seqs.append(record.source_seq)
            if record.origin_seq:
                rows.origin_seqs += [0] * (len(rows.seqs) - 1 - len(rows.origin_seqs))
                rows.origin_seqs.append(record.origin_seq)
            rows.fields.append(record.fields)
            if len(rows) >= LOOSE_ROWS or weight * len(rows) > BODY_BYTES_MAX:
                tail.settle(kept)
            for _ in tail.added(1):
                yield 0
            if done % _PAUSE_RECORDS == 0:
                yield 0
    except StoreDamaged:
        # Its checksum was right, so it was written like this; what lies behind it is sound.
        return
