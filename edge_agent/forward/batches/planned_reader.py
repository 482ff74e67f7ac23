"""This module reads the log for a lane to a keyed upstream, in order, without a hole.

`PlannedBatches` fixes ranges durably before they are sent (``plan.py`` says why), and it halves and
sets aside what the upstream refuses. Its methods are those of `open_reader.OpenBatches`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import islice

import trio

from edge_agent.config import Upstream
from edge_agent.errors import SinkError, SinkRefused
from edge_agent.forward.batch_wait import wait_for_batch
from edge_agent.forward.batches.aside import quarantined
from edge_agent.forward.batches.batch_limit import (
    CUTS_MAX,
    HALVED_BYTES_MIN,
    SMALL_CUTS_MAX,
    SUSPECTED_AFTER_S,
    BatchLimit,
)
from edge_agent.forward.batches.batch_pace import BatchPace
from edge_agent.forward.batches.open_reader import READ_BYTES
from edge_agent.forward.batches.plan import (
    BOOTS_MAX,
    RANGES_MAX,
    SINGLES_MAX,
    Extent,
    Plan,
    Range,
    decode_plan,
    encode_plan,
    plan_ranges,
    shape_of,
)
from edge_agent.forward.max_age import as_expired, is_expired
from edge_agent.forward.sink import Batch
from edge_agent.log import Log
from edge_agent.store import Block, Boot, Entry, Gap, Position, whole_consumer
from edge_agent.system.clock import Clock
from edge_agent.values.record import Record

logger = logging.getLogger(__name__)

_EXTENTS_MAX = 10_000
#: What one entry of the log takes into quarantine.
_ASIDE_RECORDS = 200


class SinkMisconfigured(SinkError):
    """The upstream refused `SINGLES_MAX` single records in a row: a person is needed."""


class PlannedBatches:
    """Follows a durable plan. ``matches`` are the upstream's patterns."""

    def __init__(
        self,
        upstream: Upstream,
        log: Log,
        name: str,
        consumer: str,
        matches: Callable[[str], bool],
        clock: Clock,
    ) -> None:
        self._upstream, self._log, self._name, self._consumer = upstream, log, name, consumer
        #: The number of the order that these batches are sent for, 0 for none.
        self.resent = 0
        self._matches, self._clock = matches, clock
        self._plan = Plan(shape_of(upstream))
        self._pace = BatchPace(int(upstream.batch_bytes), upstream.batch_records)
        #: When the last batch was given.
        self._given_at = 0.0
        self._floor = 0
        #: Up to there it may have records: the second half of a range was sent with the first.
        self._handed = 0
        self._last_refusal = ""
        #: Streams of the single records that were refused in a row.
        self.refused_streams: set[str] = set()
        #: How often in a row the first batch was cut off.
        self._cuts = 0
        self._suspected_at = 0.0
        #: Ranges that may have been sent, so that they come as they are once more, whatever the
        #: limits are today.
        self._as_they_were: set[Range] = set()
        self._is_new = True
        #: Batches that were acknowledged since a position was last made durable for them.
        self._unkept = 0

    def restore(self, state: bytes | None, floor: int) -> None:
        """Take up the plan that an earlier run left."""
        self._plan = decode_plan(state, self._plan.shape, floor)
        ranges = self._plan.ranges
        if floor < self._floor:
            self._handed = 0  # By order: what it gets again may have been thinned meanwhile.
        self._floor, self._cuts = floor, 0
        self._pace.restored()
        if self._is_new and ranges:
            # An earlier run may have sent all of it: a kill takes the newest positions.
            self._handed = ranges[-1][1]
            self._as_they_were.update(ranges)
        self._is_new = False
        self._as_they_were = self._as_they_were.intersection(ranges).union(ranges[:1])

    def resume(self, next_seq: int) -> None:
        """Begin at ``next_seq``, which is where the plan begins."""
        self._floor = next_seq - 1

    @property
    def limit(self) -> BatchLimit:
        """How large a batch gets through."""
        return self._plan.limit

    @property
    def plain(self) -> bool:
        """Whether the upstream was found to take only what is not compressed."""
        return self._plan.plain

    async def next(self) -> Batch:
        """The plan's first range; makes a new plan, durably, where there is none.

        Raises:
            SinkMisconfigured: too many single records were refused in a row.
        """
        if self.exhausted:
            raise SinkMisconfigured(
                f"{SINGLES_MAX} single records refused in a row, the last one: {self._last_refusal}"
            )
        if self._unkept >= RANGES_MAX:
            # Not waited for. After a kill no more of a long plan comes again than of a short one.
            self._unkept = 0
            position = Position(self._consumer, self._name, self._floor)
            await self._log.append(Entry(positions=(position,)), soon=True)
        while True:
            if self._plan.again:
                batch = await self._load_again()
            elif not self._plan.ranges:
                await wait_for_batch(
                    self._log, self._name, self._floor, self._upstream, self._clock
                )
                await self._make_plan()
                continue
            else:
                batch = await self._load()
            if batch is not None and not await self._made_smaller(batch):
                self._handed = max(self._handed, batch.last)
                self._log.note_handed(self._consumer, self._name, self._handed)
                self._given_at = trio.current_time()
                return batch

    def sent(self, batch: Batch, sent_bytes: int = 0) -> None:
        """Acknowledged, as far as a keyed sink goes."""
        plan = self._plan
        if not batch.again:
            plan.drop_first()
            self._floor = batch.last
            self._unkept += 1
        self.acquit()
        self._cuts = 0
        if sent_bytes:
            most, stored = int(self._upstream.batch_bytes), batch.stored_bytes
            plan.limit = plan.limit.after_pass(stored, sent_bytes, most)
            took = trio.current_time() - self._given_at
            self._pace.answered(stored, batch.stored_records, took)
            if plan.ranges and not self._is_handed and self._pace.too_large(len(plan.ranges)):
                plan.ranges.clear()  # The link is slower than they were planned for.

    async def sent_again(self, *, release: bool) -> None:
        """The first of what a person wanted sent once more is done; ``release``: it has arrived and
        leaves quarantine, in the same commit.
        """
        plan = self._plan.copy()
        _, number = plan.again.pop(0)
        position = Position(self._consumer, self._name, self._floor, encode_plan(plan))
        entry = Entry(positions=(position,), released=(number,) if release else ())
        await (await self._log.append(entry)).wait()
        self._plan, self._cuts = plan, 0

    def acquit(self) -> None:
        """It is not the configuration: the upstream does take records."""
        self._plan.singles = 0
        self.refused_streams.clear()

    async def refused(self, batch: Batch, refusal: SinkRefused) -> tuple[int, int]:
        """Halve the range, or put what is refused of it in quarantine with the position; how many
        records that were, and how many others of the batch the upstream has taken.
        """
        records, taken = self._refused_of(batch, refusal)
        plan = self._plan.copy()
        if batch.again:
            # It is in quarantine still.
            await self.sent_again(release=False)
            return 0, 0
        if records is None:
            plan.halve(batch.whole)
            await self._keep(plan)
            return 0, 0
        plan.drop_first()
        plan.singles = 0 if refusal.records else plan.singles + 1
        await self._set_aside(batch, plan, records, refusal)
        self._last_refusal = self.named(batch, str(refusal))
        self.refused_streams |= {record.stream for record in records}
        return len(records), taken

    async def cut(self, batch: Batch, sent_bytes: int, *, at_once: bool = False) -> bool:
        """The batch was cut off on its way: once more, or too often. Whether its range was halved,
        and what is planned from now on made smaller.
        """
        self._cuts += 1
        self._pace.failed()
        if self._cuts == 1:
            wait = 0.0 if sent_bytes > HALVED_BYTES_MIN else SUSPECTED_AFTER_S
            self._suspected_at = trio.current_time() + wait
        above = self._is_above(batch, int(self._upstream.batch_bytes))
        too_often = self._cuts >= CUTS_MAX and sent_bytes > HALVED_BYTES_MIN
        if self._is_single(batch) or not (at_once or above or too_often):
            return False
        plan = self._plan.copy()
        plan.limit = plan.limit.after_cut(batch.stored_bytes, sent_bytes)
        plan.halve(batch.whole)
        await self._keep(plan)
        self._cuts = 0
        return True

    def suspects(self) -> bool:
        """Whether what is not made smaller was cut off so often that it may be its own fault; true
        once in a while.
        """
        now = trio.current_time()
        if self._cuts < SMALL_CUTS_MAX or now < self._suspected_at:
            return False
        self._suspected_at = now + SUSPECTED_AFTER_S
        return True

    async def use_plain(self) -> None:
        """What is sent from now on is not compressed."""
        plan = self._plan.copy()
        plan.plain, plan.singles = True, 0
        await self._keep(plan)

    def named(self, batch: Batch, message: str) -> str:
        """``message`` with which records it is about."""
        records = list(islice(batch.records(self._matches), 2))
        if len(records) == 1:
            (one,) = records
            return f"{message} (record {one.seq} of log {self._name}, stream {one.stream})"
        return f"{message} (records {batch.first} to {batch.last} of log {self._name})"

    @property
    def exhausted(self) -> bool:
        """Whether so many single records were refused in a row that `next` will raise."""
        return self._plan.singles >= SINGLES_MAX

    @property
    def _is_handed(self) -> bool:
        """Whether the first range, or a part of it, may have been sent."""
        return self._plan.ranges[0][0] <= self._handed

    def is_first_single(self, batch: Batch) -> bool:
        """Whether it is a single record, the first of a row to be refused."""
        return not self._plan.singles and self._is_single(batch)

    def streams_of(self, batch: Batch) -> set[str]:
        """The stream of a single record; of several none is known to be at fault."""
        records = list(islice(batch.records(self._matches), 2))
        return {record.stream for record in records} if len(records) == 1 else set()

    def _is_single(self, batch: Batch) -> bool:
        return len(list(islice(batch.records(self._matches), 2))) < 2

    def _refused_of(self, batch: Batch, refusal: SinkRefused) -> tuple[list[Record] | None, int]:
        """What is to be set aside, None where that is not known yet; how many others there are."""
        if not refusal.records:
            records = list(islice(batch.records(self._matches), 2))
            return (records if len(records) < 2 else None), 0
        everything = list(batch.records(self._matches))
        if len(everything) < 2:
            return everything, 0
        records = [record for record in everything if record.seq in refusal.records]
        # Where it names all of them the reason may lie elsewhere: find out as with any refusal.
        taken = len(everything) - len(records)
        return (records, taken) if records and taken else (None, 0)

    def _is_above(self, batch: Batch, stored: int) -> bool:
        """Whether the batch is larger than planned today: by more than what is only reckoned."""
        return (
            batch.stored_bytes > stored * 5 // 4
            or batch.stored_records > self._upstream.batch_records
        )

    async def _made_smaller(self, batch: Batch) -> bool:
        """Halve the first range, durably, where it was planned larger."""
        ranges, configured = self._plan.ranges, int(self._upstream.batch_bytes)
        most = min(configured, self._plan.limit.stored or configured)
        if (
            batch.again
            or ranges[0] in self._as_they_were
            or batch.whole
            or not self._is_above(batch, most)
            or self._is_single(batch)
        ):
            return False
        plan = self._plan.copy()
        plan.halve()
        await self._keep(plan)
        return True

    async def _make_plan(self) -> None:
        plan = self._plan.copy()
        pace = self._pace
        configured = int(self._upstream.batch_bytes)
        limit = plan.limit.stored or configured
        most = min(limit, configured if pace.starting else pace.bytes)
        records = self._upstream.batch_records if pace.starting else pace.records
        extents, boots, expired = await self._survey(most, records, pace.ranges_max)
        plan.expired = max(plan.expired, expired)
        plan.ranges = plan_ranges(
            extents,
            records_max=pace.records,
            bytes_max=min(pace.bytes, limit),
            ranges_max=pace.ranges_max,
            grows_to=(self._upstream.batch_records, limit) if pace.starting else None,
        )
        pace.planned(len(plan.ranges))
        known = self._log.clock_offsets
        plan.offsets = {boot: known[boot] for boot in boots if boot in known}
        if plan.ranges:
            # A plan of many batches is a backlog, which would wait for each at a log that commits
            # seldom; one of few is today's records, and rides on the commit that comes anyway.
            await self._keep(plan, soon=len(plan.ranges) >= RANGES_MAX)

    async def _survey(
        self, most_bytes: int, most: int, ranges: int
    ) -> tuple[list[Extent], set[Boot], int]:
        """What there is to plan where each of so many ranges has at most so many bytes and records;
        the boots whose clocks were not set when it came; and up to where it is too old to be sent.
        """
        now, expired = self._clock.read(), 0
        # Extents instead of blocks, so that never more than one read is held.
        extents: list[Extent] = []
        boots: set[Boot] = set()
        cursor, size, given = self._floor, 0, 0
        enough, enough_bytes = most * ranges, most_bytes * ranges
        # What is too old has no size, and may be years of small blocks.
        while given < enough and size < enough_bytes and len(extents) < _EXTENTS_MAX:
            read = await self._log.read(self._name, cursor, READ_BYTES)
            if not read:
                break
            for item in read:
                encoded = records = 0
                begin = max(item.first, self._floor + 1)
                if is_expired(item, now, self._upstream.max_age):
                    expired = item.last
                elif isinstance(item, Block):
                    encoded, boot = item.raw_len, item.unset_boot
                    records = item.count if item.thinned else 0
                    given += records or item.last - begin + 1
                    if boot is not None and boot not in boots:
                        if len(boots) == BOOTS_MAX:
                            return extents, boots, expired
                        boots.add(boot)
                size += encoded
                extents.append(Extent(begin, item.last, encoded, records))
            cursor = read[-1].last
        return extents, boots, expired

    async def _load(self) -> Batch | None:
        (first, last), begun = self._plan.ranges[0], self._plan.begun
        items: list[Block | Gap] = []
        cursor = first - 1
        while cursor < last:
            read = await self._log.read(self._name, cursor, READ_BYTES, last)
            if not read:
                # The log ends before the plan does: this is another store's plan.
                self._plan.ranges.clear()
                return None
            items.extend(self._as_planned(item) for item in read if item.first <= last)
            cursor = read[-1].last
        end = items[-1]
        if isinstance(end, Block) and end.thinned and end.last > last and end.first != begun:
            # It was thinned since the range was planned, together with what follows the range.
            self._plan.ranges.clear()
            return None
        # What was trimmed at the front since the range was planned is not in the bytes, so it
        # must not be in the key either.
        if isinstance(items[0], Gap) and items[0].reason == "trimmed" and items[0].last < last:
            first = max(first, items[0].last + 1)
        plan = self._plan
        return Batch(
            self._name, first, last, tuple(items), begun, plan.moves, plan.plain, resent=self.resent
        )

    async def _load_again(self) -> Batch | None:
        """The first record that a person wants sent once more; None where it is gone meanwhile."""
        (seq, number), plan = self._plan.again[0], self._plan
        read = await self._log.read(self._name, seq - 1, 1)
        if read and isinstance(read[0], Block) and read[0].first <= seq <= read[0].last:
            items = (self._as_planned(read[0]),)
            return Batch(self._name, seq, seq, items, 0, plan.moves, plan.plain, number)
        text = "%s: record %d of log %s was to be sent again, but is no longer there"
        logger.warning(text, self._consumer, seq, self._name)
        await self.sent_again(release=False)
        return None

    def _as_planned(self, item: Block | Gap) -> Block | Gap:
        if isinstance(item, Gap):
            return item
        if item.last <= self._plan.expired:
            return as_expired(item)
        if item.unset_boot is None:
            return item
        return item.corrected(self._plan.offsets)

    async def _keep(self, plan: Plan, *, soon: bool = False) -> None:
        """Make ``plan`` durable, and only then go by it: the store may refuse, and whoever tries
        again has to find what the disk has.
        """
        position = Position(self._consumer, self._name, self._floor, encode_plan(plan))
        await self._log.acknowledge(position, durable=True, soon=soon)
        self._plan, self._unkept = plan, 0

    async def _set_aside(
        self, batch: Batch, plan: Plan, records: Sequence[Record], refusal: SinkRefused
    ) -> None:
        """Put ``records`` in quarantine, and go by ``plan`` behind the batch: in one entry, or the
        plan with the last of many.
        """
        position = Position(self._consumer, self._name, batch.last, encode_plan(plan))
        for start in range(0, max(len(records), 1), _ASIDE_RECORDS):
            now_ns = self._clock.read().wall_ns
            part = tuple(
                quarantined(
                    record,
                    refusal,
                    consumer=whole_consumer(self._consumer),
                    log=self._name,
                    now_ns=now_ns,
                )
                for record in records[start : start + _ASIDE_RECORDS]
            )
            is_last = start + _ASIDE_RECORDS >= len(records)
            entry = Entry(positions=(position,) if is_last else (), quarantine=part)
            await (await self._log.append(entry)).wait()
        self._plan, self._floor, self._cuts = plan, batch.last, 0
