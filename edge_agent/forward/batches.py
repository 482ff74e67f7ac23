"""What goes out next: reading the log in batches, in order, without a hole.

Two ways, the same methods. `OpenBatches` reads on from a cursor and forgets: for sinks whose
upstream keeps the numbers itself. `PlannedBatches` fixes ranges durably before they are sent: for
keyed sinks (``plan.py`` says why), and it halves and sets aside what the upstream refuses.

A record waits for company at most ``batch_age`` after its commit; a full batch goes at once.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable
from itertools import islice
from math import inf

import msgspec
import trio

from edge_agent.clock import Clock, Reading
from edge_agent.config import Upstream
from edge_agent.errors import SinkError, SinkRefused
from edge_agent.forward.plan import (
    BOOTS_MAX,
    RANGES_MAX,
    SINGLES_MAX,
    Extent,
    Plan,
    decode_plan,
    encode_plan,
    plan_ranges,
)
from edge_agent.forward.rendering import RENDERING
from edge_agent.forward.sink import Batch
from edge_agent.log import Log
from edge_agent.record import NANOSECONDS, Record
from edge_agent.store import Block, Boot, Entry, Gap, Position, Quarantined

logger = logging.getLogger(__name__)

#: One read of the store; what a read transaction may copy at a time. Some three messages to a hub:
#: a larger read would be a longer wait between two of them, and more memory.
READ_BYTES = 256 * 1024


class SinkMisconfigured(SinkError):
    """The upstream refused `SINGLES_MAX` single records in a row: a person is needed."""


class OpenBatches:
    """Reads on from a cursor."""

    def __init__(self, upstream: Upstream, log: Log, name: str, clock: Clock) -> None:
        self._upstream, self._log, self._name, self._clock = upstream, log, name, clock
        self._consumer = f"upstream/{upstream.name}"
        self._cursor = 0

    def resume(self, next_seq: int) -> None:
        """Begin at ``next_seq``."""
        self._cursor = next_seq - 1

    async def next(self) -> Batch:
        """The next batch, at most ``batch_bytes`` as stored."""
        limit = min(READ_BYTES, self._upstream.batch_bytes)
        while True:
            await _gather(self._log, self._name, self._cursor, self._upstream, self._clock)
            self._log.note_handed(self._consumer, self._name, self._cursor)
            items = await self._log.read(self._name, self._cursor, limit)
            if items:
                self._log.note_handed(self._consumer, self._name, items[-1].last)
                return Batch(self._name, self._cursor + 1, items[-1].last, tuple(items))

    def sent(self, batch: Batch) -> None:
        """The sink has taken the batch: the next one follows it."""
        self._cursor = batch.last

    async def refused(self, batch: Batch, refusal: SinkRefused) -> int:
        """Not for these sinks: their upstream sets aside what it cannot use, and says so."""
        raise AssertionError(f"a sink that is not keyed refused {batch.first}: {refusal}")

    @property
    def exhausted(self) -> bool:
        """Never: see `refused`."""
        return False


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
        self._matches, self._clock = matches, clock
        self._plan = Plan(shape_of(upstream))
        self._floor = 0
        self._last_refusal = ""

    def restore(self, state: bytes | None, floor: int) -> None:
        """Take up the plan that an earlier run left."""
        self._plan = decode_plan(state, self._plan.shape, floor)
        self._floor = floor

    def resume(self, next_seq: int) -> None:
        """Begin at ``next_seq``, which is where the plan begins."""
        self._floor = next_seq - 1

    async def next(self) -> Batch:
        """The plan's first range; makes a new plan, durably, where there is none.

        Raises:
            SinkMisconfigured: too many single records were refused in a row.
        """
        if self.exhausted:
            raise SinkMisconfigured(
                f"{SINGLES_MAX} single records refused in a row, the last one: {self._last_refusal}"
            )
        while True:
            if not self._plan.ranges:
                await _gather(self._log, self._name, self._floor, self._upstream, self._clock)
                await self._make_plan()
            elif (batch := await self._load()) is not None:
                self._log.note_handed(self._consumer, self._name, batch.last)
                return batch

    def sent(self, batch: Batch) -> None:
        """Acknowledged, as far as a keyed sink goes."""
        self._plan.drop_first()
        self._plan.singles = 0
        self._floor = batch.last

    async def refused(self, batch: Batch, refusal: SinkRefused) -> int:
        """Halve the range, or put its only record in quarantine with the position."""
        records = list(islice(batch.records(self._matches), 2))
        plan = self._plan.copy()
        if len(records) > 1:
            plan.halve([(block.first, block.last) for block in batch.thinned_blocks])
            await self._keep(plan)
            return 0
        plan.drop_first()
        plan.singles += 1
        await self._set_aside(batch, plan, records, refusal)
        self._plan = plan
        self._floor = batch.last
        self._last_refusal = str(refusal)
        return len(records)

    @property
    def exhausted(self) -> bool:
        """Whether so many single records were refused in a row that `next` will raise."""
        return self._plan.singles >= SINGLES_MAX

    async def _make_plan(self) -> None:
        upstream, plan = self._upstream, self._plan.copy()
        extents, boots = await self._survey()
        plan.ranges = plan_ranges(
            extents, records_max=upstream.batch_records, bytes_max=upstream.batch_bytes
        )
        known = self._log.clock_offsets
        plan.offsets = {boot: known[boot] for boot in boots if boot in known}
        if plan.ranges:
            await self._keep(plan)

    async def _survey(self) -> tuple[list[Extent], set[Boot]]:
        """What there is to plan, and the boots whose clocks were not set when it came."""
        # Extents instead of blocks, so that never more than one read is held.
        extents: list[Extent] = []
        boots: set[Boot] = set()
        cursor, size = self._floor, 0
        while size < self._upstream.batch_bytes * RANGES_MAX:
            read = await self._log.read(self._name, cursor, READ_BYTES)
            if not read:
                break
            for item in read:
                encoded = records = 0
                if isinstance(item, Block):
                    encoded, boot = item.raw_len, item.unset_boot
                    records = item.count if item.thinned else 0
                    if boot is not None and boot not in boots:
                        if len(boots) == BOOTS_MAX:
                            return extents, boots
                        boots.add(boot)
                size += encoded
                begin = max(item.first, self._floor + 1)
                extents.append(Extent(begin, item.last, encoded, records))
            cursor = read[-1].last
        return extents, boots

    async def _load(self) -> Batch | None:
        (first, last), begun = self._plan.ranges[0], self._plan.begun
        items: list[Block | Gap] = []
        cursor = first - 1
        while cursor < last:
            read = await self._log.read(self._name, cursor, READ_BYTES)
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
        return Batch(self._name, first, last, tuple(items), begun, self._plan.moves)

    def _as_planned(self, item: Block | Gap) -> Block | Gap:
        if isinstance(item, Gap) or item.unset_boot is None:
            return item
        return item.corrected(self._plan.offsets)

    async def _keep(self, plan: Plan) -> None:
        """Make ``plan`` durable, and only then go by it: the store may refuse, and whoever tries
        again has to find what the disk has.
        """
        position = Position(self._consumer, self._name, self._floor, encode_plan(plan))
        await self._log.acknowledge(position, durable=True)
        self._plan = plan

    async def _set_aside(
        self, batch: Batch, plan: Plan, records: list[Record], refusal: SinkRefused
    ) -> None:
        now_ns = self._clock.read().wall_ns
        entry = Entry(
            positions=(Position(self._consumer, self._name, batch.last, encode_plan(plan)),),
            quarantine=tuple(
                Quarantined(
                    code=f"upstream_{refusal.code}",
                    reason=f"{self._consumer}: {refusal}",
                    stream=record.stream,
                    source=record.source,
                    number=record.source_seq,
                    arrival_ns=now_ns,
                    body=_body(record),
                )
                for record in records
            ),
        )
        ticket = await self._log.append(entry)
        await ticket.wait()
        for record in records:
            logger.warning(
                "%s refuses %s %d for good (in quarantine): %s",
                self._consumer,
                record.log,
                record.seq,
                refusal,
            )


def shape_of(upstream: Upstream) -> int:
    """Checksum of what decides how a range is rendered."""
    how = (upstream.format, upstream.compression, RENDERING)
    facts = (upstream.url, *how, tuple(upstream.streams))
    return zlib.crc32(repr(facts).encode())


async def _gather(log: Log, name: str, cursor: int, upstream: Upstream, clock: Clock) -> None:
    """Wait for a record past ``cursor``, then for a full batch or until it is old enough."""
    last = await log.wait_past(name, cursor)
    if last - cursor >= upstream.batch_records or not upstream.batch_age:
        return
    # How long it has been stored counts, so that nothing of a backlog waits.
    first = (await log.read(name, cursor, 1))[:1]
    wait = upstream.batch_age - _age_s(first[0], clock.read()) if first else 0.0
    if wait > 0:
        with trio.move_on_after(wait):
            await log.wait_past(name, cursor + upstream.batch_records - 1)


def _age_s(item: Block | Gap, now: Reading) -> float:
    """Since its commit, on the boot clock; what an earlier boot stored is old."""
    if isinstance(item, Gap) or item.boot_id != now.boot_id:
        return inf
    return (now.boot_ns - item.boot_ns) / NANOSECONDS


def _body(record: Record) -> bytes:
    try:
        return msgspec.msgpack.encode(record.fields)
    except (TypeError, ValueError, OverflowError):
        return repr(record.fields).encode()
