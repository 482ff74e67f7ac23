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

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from operator import attrgetter

import msgspec

from edge_agent.digest.pending import LOOSE_ROWS, PendingRun, by_sender, counts_of, parts_of
from edge_agent.digest.tail import BODY_BYTES_MAX, PART_ROWS, StreamTail, Tail
from edge_agent.errors import StoreDamaged
from edge_agent.history import Way
from edge_agent.store import ERASED, Block, Gap
from edge_agent.values.aggregates import THINNED_SOURCE
from edge_agent.values.record import NANOSECONDS, UNSET_CLOCK_BEFORE_NS

#: A machine that is on the network has set its clock so long after its start.
WAIT_NS = 600 * NANOSECONDS
#: Blocks are taken together up to so many records, and bytes of them.
TOGETHER_RECORDS = 2000
TOGETHER_BYTES = 256 * 1024
#: Records between two pauses: about 1 ms.
_PAUSE_RECORDS = 256
#: A record of fewer bytes is smaller than what is kept beside it.
_TINY_BYTES = 16
_LOOSE_NUMBERS = 3 * LOOSE_ROWS
#: Fewer of a stream are put there one by one, and so are larger ones: those may soon be enough.
_GROUP_MIN = 4
_GROUP_WEIGHT_MAX = BODY_BYTES_MAX // LOOSE_ROWS
_RUNS = msgspec.msgpack.Decoder(list[PendingRun])


def waits(block: Block, boot_id: bytes, boot_ns: int) -> bool:
    """Whether a block's times may become known soon: its boot is running, for less than
    `WAIT_NS`, and its clock is not set.
    """
    unset = block.unset_boot
    return unset == ("", boot_id) and block.correction is None and boot_ns < WAIT_NS


class _Runs:
    """Runs of some blocks of a log, one behind the other. Their offsets count from ``first`` on."""

    __slots__ = ("count", "counts", "first", "log", "runs", "size")

    def __init__(self, block: Block) -> None:
        self.log, self.first = block.log, block.first
        self.count = self.size = 0
        self.runs: list[PendingRun] = []
        #: How many records each run has.
        self.counts: list[Iterable[int]] = []

    def add(self, block: Block, runs: list[PendingRun], counts: Iterable[int]) -> None:
        """Those of the block that follows."""
        further = block.first - self.first
        if further:
            for run in runs:
                run.offset += further
        self.runs += runs
        self.counts.append(counts)
        self.count += block.count
        self.size += block.raw_len


def together(items: Iterable[Block | Gap]) -> Iterator[list[Block] | Gap]:
    """Blocks that are taken in one go: what is done for each stream costs as much for one record of
    it as for twenty, and a commit has a record or two of each. Gaps come between them.
    """
    some: list[Block] = []
    count = size = 0
    for item in items:
        if isinstance(item, Gap):
            if some:
                yield some
            yield item
            some, count, size = [], 0, 0
            continue
        count, size = count + item.count, size + item.raw_len
        if some and (count > TOGETHER_RECORDS or size > TOGETHER_BYTES):
            yield some
            some, count, size = [], item.count, item.raw_len
        some.append(item)
    if some:
        yield some


def digest(blocks: Iterable[Block], after: int, tail: Tail, now_ns: int) -> Iterator[int]:
    """Take the records above the seq ``after`` of blocks of one log, in their order; pauses now and
    then, and tells how many it could not take because there are too many streams.
    """
    some: _Runs | None = None
    for block in blocks:
        if block.last <= after:
            continue
        runs = _runs_of(block, after)
        counts = None if runs is None else counts_of(runs, block.count)
        if runs is not None and counts is not None:
            some = some or _Runs(block)
            some.add(block, runs, counts)
            yield 0
            continue
        if some is not None:
            yield from _quick(some, tail)
            some = None
        yield from _slow(block, after, tail, now_ns)
    if some is not None:
        yield from _quick(some, tail)


def _runs_of(block: Block, after: int) -> list[PendingRun] | None:
    """The runs of a block that is all to be taken, as it is; None where records are looked at."""
    known = block.synced or block.stored_ns >= UNSET_CLOCK_BEFORE_NS
    plain = block.origin is None and not block.thinned and block.correction is None
    if not (plain and known and block.first > after):
        return None
    try:
        return _RUNS.decode(block.raw())
    except (ValueError, OverflowError, RecursionError, StoreDamaged):
        return None


def _quick(some: _Runs, tail: Tail) -> Iterator[int]:
    """Put runs beside others of their streams; they are decoded together."""
    log, first, runs, counts = some.log, some.first, some.runs, chain.from_iterable(some.counts)
    weight = some.size // some.count
    few = len(runs) < _GROUP_MIN * len(tail.streams)
    if few or len(runs) < some.count or weight > _GROUP_WEIGHT_MAX:
        yield from _one_by_one(log, first, runs, counts, weight, tail)
        return
    # Most sensors send single records: those of one stream are put there at once.
    groups = by_sender(runs)
    yield 0
    senders = Counter(stream for stream, _, _ in groups)
    rest: list[PendingRun] = []
    done = 0
    for (stream, source, synced), group in groups.items():
        kept = tail.streams.get(stream)
        # Where senders take turns the order is to stay.
        one = senders[stream] == 1 and len(group) >= _GROUP_MIN
        if kept is None or not one or not kept.sends(log, source, synced):
            rest += group
            continue
        for begin in range(0, len(group), LOOSE_ROWS):
            part = group[begin : begin + LOOSE_ROWS]
            kept.put_all(first, part)
            done += len(part)
            if len(kept.numbers) >= _LOOSE_NUMBERS or kept.more > LOOSE_ROWS:
                yield from _settled(tail, kept, done, weight)
                done = 0
        if done >= _PAUSE_RECORDS:
            yield from _added(tail, done, weight)
            done = 0
    yield from _added(tail, done, weight)
    rest.sort(key=attrgetter("offset"))
    yield from _one_by_one(log, first, rest, repeat(1), weight, tail)


def _one_by_one(
    log: str, first: int, runs: list[PendingRun], counts: Iterable[int], weight: int, tail: Tail
) -> Iterator[int]:
    done, find = 0, tail.streams.get
    for run, count in zip(runs, counts, strict=False):
        kept = find(run.stream)
        if (
            kept is None
            or run.source != kept.source
            or run.synced is not kept.synced
            or log != kept.log
        ):
            if run.stream == ERASED or run.source.startswith(THINNED_SOURCE):
                continue
            kept = tail.of(run.stream)
            if kept is None:
                yield count
                continue
            kept.sent_by(log, run.source, synced=run.synced)
        if count > LOOSE_ROWS or (count > 1 and len(run.records) > BODY_BYTES_MAX):
            yield from _long(run, first, kept, tail, weight)
            continue
        kept.numbers.extend((first + run.offset, run.source_seq, run.arrival_ns))
        kept.body += run.records
        if count > 1:
            kept.more += count - 1
        done += count
        if len(kept.numbers) >= _LOOSE_NUMBERS or kept.more > LOOSE_ROWS or (
            len(kept.body) > BODY_BYTES_MAX
        ):  # fmt: skip
            yield from _settled(tail, kept, done, weight)
            done = 0
        elif done >= _PAUSE_RECORDS:
            yield from _added(tail, done, weight)
            done = 0
    yield from _added(tail, done, weight)


def _long(run: PendingRun, first: int, kept: StreamTail, tail: Tail, weight: int) -> Iterator[int]:
    """A run of many records, some at a time."""
    for part, count in parts_of(run, BODY_BYTES_MAX):
        yield from _added(tail, count, weight)
        kept.numbers.extend((first + part.offset, part.source_seq, part.arrival_ns))
        kept.body += part.records
        kept.more += count - 1
        tail.settle(kept)
        yield 0


def _settled(tail: Tail, kept: StreamTail, count: int, weight: int) -> Iterator[int]:
    yield from _added(tail, count, weight)
    tail.settle(kept)
    yield 0


def _added(tail: Tail, count: int, weight: int) -> Iterator[int]:
    for _ in tail.added(count, count * weight):
        yield 0
    yield 0


def _slow(block: Block, after: int, tail: Tail, now_ns: int) -> Iterator[int]:
    known = block.synced or block.correction is not None
    otherwise_ns = block.when_ns if known else now_ns
    weight = block.raw_len // block.count
    # A block may have a million records with next to nothing in them, whose numbers would take
    # twenty times what the records take.
    packs = weight < _TINY_BYTES
    rows_max = PART_ROWS if packs else LOOSE_ROWS
    try:
        for done, record in enumerate(block.records(lean=True)):
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
            # An age may well lead behind 2020, as long as our own clock stood this side of it.
            ours_ns = record.stored_ns if record.quality == "relative" else record.time_ns
            lost = ours_ns < UNSET_CLOCK_BEFORE_NS and record.quality != "sensor"
            rows.times.append(otherwise_ns if lost else record.time_ns)
            rows.way_of.append(rows.way(way))
            rows.seqs.append(record.seq)
            rows.source_seqs.append(record.source_seq)
            if record.origin_seq:
                rows.origin_seqs += [0] * (len(rows.seqs) - 1 - len(rows.origin_seqs))
                rows.origin_seqs.append(record.origin_seq)
            rows.fields.append(record.fields)
            if len(rows) >= rows_max or weight * len(rows) > BODY_BYTES_MAX:
                tail.settle(kept, packs=packs)
            for _ in tail.added(1):
                yield 0
            if done % _PAUSE_RECORDS == 0:
                yield 0
    except StoreDamaged:
        # Its checksum was right, so it was written like this; what lies behind it is sound.
        return
