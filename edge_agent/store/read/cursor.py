"""This module reads blocks and gaps from a position on, within one read transaction.

A log has no holes when written, so what is missing below its first seq was trimmed, and what is
missing above it was damaged or lost in a salvage. Readers always get a `Gap` that says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType

import lmdb

from edge_agent.errors import StoreDamaged
from edge_agent.seal import OPEN, KeyRing
from edge_agent.store.clock.correction import Offsets, correction_of
from edge_agent.store.format import keys
from edge_agent.store.format.block import Block, Gap, decode_block, peek
from edge_agent.store.format.values import LogHeader, PositionValue, decode
from edge_agent.store.retention.policy import HeldBlock
from edge_agent.store.settings import ConsumerSettings

#: `near` trusts that no sensor's clock runs further ahead of the agent's than this.
NEAR_MARGIN_NS = 3600 * 1_000_000_000
#: Blocks that `near` looks at one by one once it is close.
NEAR_STEPS = 256
#: Blocks of a log, newest first, among which `last_dated` looks for one dated by a set clock.
DATED_STEPS = 256
_UNKNOWN_NS = 2**63 - 1


def log_header(txn: lmdb.Transaction[memoryview], log: str) -> LogHeader | None:
    """The log's header as this transaction sees it; None for a log that does not exist."""
    key = keys.log_key(log)
    raw = txn.get(key)
    return None if raw is None else decode(key, raw, LogHeader)


def read_blocks(
    txn: lmdb.Transaction[memoryview],
    log: str,
    after: int,
    limit_bytes: int,
    offsets: Offsets = MappingProxyType({}),
    seals: KeyRing = OPEN,
    upto: int | None = None,
) -> list[Block | Gap]:
    """What follows ``after``: see `Engine.read`. ``offsets``: what is known of boots' clocks;
    ``seals`` open what is sealed.
    """
    header = log_header(txn, log)
    if header is None or after >= header.last:
        return []
    blocks = BlockCursor(txn, header)
    want = max(after, 0) + 1
    blocks.seek(want)
    items: list[Block | Gap] = []
    size = 0
    while want <= header.last and (not items or size < limit_bytes):
        if items and upto is not None and want > upto:
            break
        found = _next(blocks, log, header, want, seals)
        if isinstance(found, Block):
            size += len(found.payload)
            if items and size > limit_bytes:
                break
            if offsets and not (found.synced and found.unset_boot is None):
                found = found.corrected(offsets)
        want = found.last + 1
        _append(items, found)
    return items


def cut_off(items: list[Block | Gap], last: int) -> list[Block | Gap]:
    """Without what lies behind ``last``, where a block ends."""
    kept = [item for item in items if item.first <= last]
    if kept and isinstance(kept[-1], Gap) and kept[-1].last > last:
        kept[-1] = Gap(kept[-1].log, kept[-1].first, last, kept[-1].reason)
    return kept


def near(
    txn: lmdb.Transaction[memoryview],
    log: str,
    time_ns: int,
    offsets: Offsets = MappingProxyType({}),
) -> int:
    """A seq at or before the first record measured at ``time_ns`` or later: see
    `Engine.read_near`.
    """
    header = log_header(txn, log)
    if header is None:
        return 1
    blocks = BlockCursor(txn, header)
    low, high = header.first, header.last + 1
    while low < high:
        # Everything below `low` is surely older. A block of a boot whose clock was never set says
        # nothing about when it was stored, so it counts as new enough and the answer moves to the
        # safe side.
        middle = (low + high) // 2
        blocks.seek(middle)
        held = blocks.held()
        if held is None:
            high = middle
        elif max(*_reach(blocks, held, offsets)) >= time_ns - NEAR_MARGIN_NS:
            high = max(min(held.first, middle), low)
        else:
            low = held.last + 1
    blocks.seek(low)
    for _ in range(NEAR_STEPS):
        held = blocks.held()
        if held is None or _reach(blocks, held, offsets)[0] >= time_ns:
            break
        low = held.last + 1
        blocks.step()
    return low


def _reach(blocks: BlockCursor, held: HeldBlock, offsets: Offsets) -> tuple[int, int]:
    """Until when records of the block reach, as they are read now, and when it was stored."""
    head = peek(blocks.value()[1])
    if head is None:
        return held.time_max_ns, _UNKNOWN_NS
    # What another agent's clock said may be corrected to anything before we stored it.
    latest_ns = max(held.time_max_ns, held.stored_ns) if head.is_foreign else held.time_max_ns
    if held.synced:
        return latest_ns, held.stored_ns
    fix = correction_of(head.boot_id, head.boot_ns, held.stored_ns, False, None, offsets)
    if fix is None:
        return latest_ns, _UNKNOWN_NS
    return fix.latest(latest_ns), fix.committed_ns


def oldest_ns(txn: lmdb.Transaction[memoryview], header: LogHeader, offsets: Offsets) -> int:
    """When the oldest block of a log was stored, as well as is known by now; 0 where none is."""
    blocks = BlockCursor(txn, header)
    blocks.seek(header.first)
    head = peek(blocks.value()[1]) if blocks.first else None
    if head is None:
        return 0
    offset_ns = None if head.synced else offsets.get(("", head.boot_id))
    return head.stored_ns if offset_ns is None else head.boot_ns + offset_ns


def oldest(txn: lmdb.Transaction[memoryview], header: LogHeader, limit: int) -> list[HeldBlock]:
    """The oldest ``limit`` blocks of a log; only the first page of each is read."""
    blocks = BlockCursor(txn, header)
    blocks.seek(header.first)
    found: list[HeldBlock] = []
    while len(found) < limit:
        held = blocks.held()
        if held is None:
            break
        found.append(held)
        blocks.step()
    return found


def last_dated(
    txn: lmdb.Transaction[memoryview], headers: Iterable[LogHeader]
) -> tuple[int, frozenset[bytes]]:
    """The latest time that a set clock gave one of the newest blocks, and the boots that stored
    something since without one; only the first page of each block is read.
    """
    newest_ns, unset_boots = 0, set[bytes]()
    for header in headers:
        cursor = txn.cursor()
        cursor.set_range(keys.block_key(header.id, header.last + 1))
        # Behind the last key there is none to stand on; the one before it is the last one then.
        is_there = cursor.prev() if cursor.key() else cursor.last()
        for _ in range(DATED_STEPS):
            if not is_there or not bytes(cursor.key()).startswith(keys.block_prefix(header.id)):
                break
            head = peek(cursor.value())
            if head is not None and head.synced:
                newest_ns = max(newest_ns, head.stored_ns)
                break
            if head is not None:
                unset_boots.add(head.boot_id)
            is_there = cursor.prev()
    return newest_ns, frozenset(unset_boots)


def floors_in(
    txn: lmdb.Transaction[memoryview], log: str, consumers: Iterable[ConsumerSettings]
) -> dict[str, int]:
    """How far these consumers are in a log; who has no position is absent."""
    return {name: held.floor for name, held in positions_in(txn, log, consumers).items()}


def positions_in(
    txn: lmdb.Transaction[memoryview], log: str, consumers: Iterable[ConsumerSettings]
) -> dict[str, PositionValue]:
    """The positions that these consumers have in a log; who has none is absent."""
    found: dict[str, PositionValue] = {}
    for consumer in consumers:
        key = keys.position_key(consumer.name, log)
        raw = txn.get(key)
        if raw is not None:
            found[consumer.name] = decode(key, raw, PositionValue)
    return found


class BlockCursor:
    """Walks the blocks of one log, oldest first; stands on one or behind the last."""

    def __init__(self, txn: lmdb.Transaction[memoryview], header: LogHeader) -> None:
        self._cursor = txn.cursor()
        self._prefix = keys.block_prefix(header.id)
        self._header = header
        #: First seq of the block it stands on, 0 behind the last.
        self.first = 0

    def seek(self, seq: int) -> None:
        """Stand on the block that holds ``seq`` or, where none does, on the first one after."""
        key = keys.block_key(self._header.id, seq)
        self._cursor.set_range(key)
        if bytes(self._cursor.key()) == key:
            self.first = seq
            return
        # The block that begins before `seq` holds it if it reaches that far.
        if self._cursor.key() or self._cursor.last():
            if bytes(self._cursor.key()) > key:
                self._cursor.prev()
            self._settle()
            if self.first and self.first < seq:
                head = peek(self._cursor.value())
                if head is None or self.first + head.covers > seq:
                    return
        self._cursor.set_range(key)
        self._settle()

    def step(self) -> None:
        """On to the next block."""
        self._cursor.next()
        self._settle()

    def value(self) -> tuple[bytes, memoryview]:
        """Key and value of the block it stands on; the value lives as long as the transaction."""
        return bytes(self._cursor.key()), self._cursor.value()

    def held(self) -> HeldBlock | None:
        """What retention wants to know of the block it stands on; then stands there still."""
        if not self.first:
            return None
        first, (key, value) = self.first, self.value()
        size, head = len(value), peek(value)
        self.step()
        behind = self.first or self._header.last + 1
        self._cursor.set_key(key)
        self.first = first
        # A damaged header may claim anything; the next block's key bounds it.
        room = max(behind - first, 1)
        last = first + room - 1
        if head is None:
            return HeldBlock(first, last, size, room, room, 0, False, 2**63 - 1)
        covers = max(min(head.covers, room), 1)
        count = max(min(head.count, covers), 1)
        clocks = (head.stored_ns, head.synced, head.time_max_ns)
        return HeldBlock(first, last, size, count, covers, *clocks)

    def _settle(self) -> None:
        key = bytes(self._cursor.key())
        ours = len(key) == 10 and key.startswith(self._prefix)
        first = keys.block_first(key) if ours else 0
        self.first = first if first <= self._header.last else 0


def _next(
    blocks: BlockCursor, log: str, header: LogHeader, want: int, seals: KeyRing
) -> Block | Gap:
    if want < header.first:
        return Gap(log, want, header.first - 1, "trimmed")
    first = blocks.first
    if not first:
        return Gap(log, want, header.last, "damaged")
    if first > want:
        return Gap(log, want, first - 1, "damaged")
    try:
        block = decode_block(log, first, *blocks.value(), seals)
    except StoreDamaged:
        blocks.step()
        return Gap(log, want, (blocks.first or header.last + 1) - 1, "damaged")
    blocks.step()
    return block


def _append(items: list[Block | Gap], found: Block | Gap) -> None:
    last = items[-1] if items else None
    if isinstance(last, Gap) and isinstance(found, Gap) and last.reason == found.reason:
        items[-1] = Gap(last.log, last.first, found.last, last.reason)
    else:
        items.append(found)
