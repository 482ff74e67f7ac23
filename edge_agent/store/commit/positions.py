"""Writes consumers' positions and quarantine entries in the transaction of the records."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import lmdb
import msgspec

from edge_agent.errors import StoreDamaged
from edge_agent.seal import OPEN, KeyRing
from edge_agent.store.format import keys
from edge_agent.store.format.values import (
    LogHeader,
    PositionValue,
    QuarantineHeader,
    QuarantineValue,
    decode,
    encode,
    encode_entry,
)
from edge_agent.store.types import (
    QUARANTINE_BYTES_MAX,
    STATE_BYTES_MAX,
    Position,
    Quarantined,
    is_backlog,
)

logger = logging.getLogger(__name__)

#: Characters kept of each text of a quarantine entry; its body has a limit of its own.
_TEXT_MAX = 1000


@dataclass(frozen=True, slots=True)
class ConsumerView:
    """One stored position, for people; see `values.PositionValue`."""

    consumer: str
    log: str
    floor: int
    state: bytes | None
    paused: bool
    skipped: int
    span: tuple[int, int] = (0, 0)


def put_position(
    txn: lmdb.Transaction[bytes],
    position: Position,
    log: LogHeader | None,
    end: int,
    seals: KeyRing,
) -> int:
    """Store a consumer's word; how many records it skips by a person's order, at most.

    ``end``: the last seq of its log ``log``; nobody can have done more. ``seals`` seal its state.
    """
    assert position.state is None or len(position.state) <= STATE_BYTES_MAX
    key = keys.position_key(position.consumer, position.log)
    if position.order == "forget":
        txn.delete(key)
        return 0
    raw = txn.get(key)
    if raw is None and position.span is None and is_backlog(position.consumer):
        # Late word of a backlog that is done and forgotten: nobody shall send it again.
        return 0
    held = PositionValue(0, None) if raw is None else decode(key, raw, PositionValue)
    wanted = max(min(position.floor, end), 0)
    floor = wanted if position.rewind else max(held.floor, wanted)
    if position.state is not None and position.state != state_in(key, held, seals):
        stated = with_state(key, held, position.state, seals)
    else:
        stated = held
    paused, passed = held.paused, 0
    if position.order in ("pause", "resume"):
        paused = position.order == "pause"
    elif position.order == "skip" and log is not None:
        # What was trimmed before counts as little as seqs that a salvage left out.
        passed = min(max(floor - max(held.floor, log.first - 1), 0), log.records)
    span = position.span or held.span
    value = PositionValue(floor, stated.state, paused, held.skipped + passed, span, stated.sealed)
    if raw is None or value != held:
        txn.put(key, encode(key, value))
    return passed


def state_in(key: bytes, value: PositionValue, seals: KeyRing) -> bytes | None:
    """The state in what lies under ``key``; None where it has none, or none that can be opened."""
    if value.state is None or not value.sealed:
        return value.state
    try:
        return seals.opened(key, value.state)
    except StoreDamaged as error:
        # The checksum is right, so that it was made to be another one. Its consumer begins as one
        # that has none.
        logger.error("the state of %r: %s", key[1:].decode("utf-8", "replace"), error)
        return None


def with_state(key: bytes, value: PositionValue, state: bytes, seals: KeyRing) -> PositionValue:
    """What is to lie under ``key``, with another state."""
    sealed = seals.sealed(key, state)
    return msgspec.structs.replace(value, state=sealed, sealed=bool(seals.current))


def read_positions(txn: lmdb.Transaction[memoryview], seals: KeyRing = OPEN) -> list[ConsumerView]:
    """All stored positions, in the order of their names."""
    found: list[ConsumerView] = []
    cursor = txn.cursor()
    cursor.set_range(keys.POSITION)
    for view, raw in cursor.iternext():
        key = bytes(view)
        if not key.startswith(keys.POSITION):
            break
        value = decode(key, raw, PositionValue)
        consumer, _, log = key[1:].decode().rpartition("\x00")
        state = state_in(key, value, seals)
        facts = (value.floor, state, value.paused, value.skipped, value.span)
        found.append(ConsumerView(consumer, log, *facts))
    return found


def put_quarantined(
    txn: lmdb.Transaction[bytes],
    header: QuarantineHeader,
    item: Quarantined,
    page_bytes: int,
    seals: KeyRing,
) -> QuarantineHeader:
    """Store one entry; quarantine's header with it counted."""
    number = header.last + 1
    key = keys.quarantine_key(number)
    value = encode_entry(
        key,
        QuarantineValue(
            item.code,
            item.reason[:_TEXT_MAX],
            item.stream[:_TEXT_MAX],
            item.source[:_TEXT_MAX],
            item.number,
            item.arrival_ns,
            item.body[:QUARANTINE_BYTES_MAX],
            item.consumer,
            item.log,
            item.seq,
        ),
        seals,
    )
    txn.put(key, value)
    size = header.bytes + keys.stored_bytes(len(value), page_bytes)
    return msgspec.structs.replace(header, last=number, bytes=size)


def release_quarantined(
    txn: lmdb.Transaction[bytes], header: QuarantineHeader, number: int, page_bytes: int
) -> QuarantineHeader:
    """Take one entry out by a person's order; quarantine's header without it."""
    raw = txn.pop(keys.quarantine_key(number))
    if raw is None:
        return header
    size = max(header.bytes - keys.stored_bytes(len(raw), page_bytes), 0)
    return _begun(txn, msgspec.structs.replace(header, bytes=size, released=header.released + 1))


def trim_quarantine(
    txn: lmdb.Transaction[bytes], header: QuarantineHeader, limit_bytes: int, page_bytes: int
) -> QuarantineHeader:
    """Drop the oldest entries until what is left has at most ``limit_bytes``."""
    first, size = header.first, header.bytes
    dropped, released = header.dropped, header.released
    while size > limit_bytes and first <= header.last:
        raw = txn.pop(keys.quarantine_key(first))
        first += 1
        if raw is None:
            released = max(released - 1, 0)
        else:
            size -= keys.stored_bytes(len(raw), page_bytes)
            dropped += 1
    return _begun(txn, QuarantineHeader(first, header.last, max(size, 0), dropped, released))


def _begun(txn: lmdb.Transaction[bytes], header: QuarantineHeader) -> QuarantineHeader:
    """The header beginning with an entry that is there: what is left is dropped in order, and the
    checker holds it against the first one.
    """
    first, released = header.first, header.released
    while released > 0 and first <= header.last:
        if txn.get(keys.quarantine_key(first)) is not None:
            break
        first, released = first + 1, released - 1
    return msgspec.structs.replace(header, first=first, released=released)


def read_quarantine(
    txn: lmdb.Transaction[memoryview], after: int, limit: int, seals: KeyRing
) -> list[tuple[int, Quarantined]]:
    """Up to ``limit`` entries numbered above ``after``, oldest first."""
    found: list[tuple[int, Quarantined]] = []
    cursor = txn.cursor()
    cursor.set_range(keys.quarantine_key(max(after, 0) + 1))
    for view, raw in cursor.iternext():
        key = bytes(view)
        if len(found) >= limit or not key.startswith(keys.QUARANTINE):
            break
        found.append((int.from_bytes(key[1:], "big"), _quarantined(key, raw, seals)))
    return found


def read_newest_quarantine(
    txn: lmdb.Transaction[memoryview], limit: int, seals: KeyRing
) -> list[tuple[int, Quarantined]]:
    """Up to ``limit`` entries, newest first."""
    found: list[tuple[int, Quarantined]] = []
    cursor = txn.cursor()
    behind = bytes((keys.QUARANTINE[0] + 1,))
    # From the first key behind them, or from the last of all; each is passed if it is none.
    is_there = cursor.prev() if cursor.set_range(behind) else cursor.last()
    for view, raw in cursor.iterprev() if is_there else ():
        key = bytes(view)
        # Before them all stands their header, whose key is the beginning of theirs.
        if len(found) >= limit or not key[1:] or not key.startswith(keys.QUARANTINE):
            break
        found.append((int.from_bytes(key[1:], "big"), _quarantined(key, raw, seals)))
    return found


def _quarantined(key: bytes, raw: memoryview, seals: KeyRing) -> Quarantined:
    try:
        value = decode(key, raw, QuarantineValue, seals)
    except StoreDamaged:
        # No reason to salvage a store: nothing of ours rests on it.
        return Quarantined("damaged", "this entry fails its checksum", "", "", 0, 0, b"")
    return Quarantined(*(getattr(value, name) for name in value.__struct_fields__))
