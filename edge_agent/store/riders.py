"""What rides along in a group's transaction beside records: positions and quarantine."""

from __future__ import annotations

import lmdb

from edge_agent.store import keys
from edge_agent.store.entry import (
    QUARANTINE_BYTES_MAX,
    STATE_BYTES_MAX,
    Position,
    Quarantined,
)
from edge_agent.store.values import (
    PositionValue,
    QuarantineHeader,
    QuarantineValue,
    decode,
    encode,
)

#: Characters kept of each text of a quarantine entry; its body has a limit of its own.
_TEXT_MAX = 1000


def put_position(txn: lmdb.Transaction[bytes], position: Position, end: int) -> None:
    """Store a consumer's word. ``end``: the last seq of its log; nobody can have done more."""
    assert position.state is None or len(position.state) <= STATE_BYTES_MAX
    key = keys.position_key(position.consumer, position.log)
    raw = txn.get(key)
    held = PositionValue(0, None) if raw is None else decode(key, raw, PositionValue)
    wanted = max(min(position.floor, end), 0)
    floor = wanted if position.rewind else max(held.floor, wanted)
    state = held.state if position.state is None else position.state
    if raw is None or (floor, state) != (held.floor, held.state):
        txn.put(key, encode(key, PositionValue(floor, state)))


def put_quarantined(
    txn: lmdb.Transaction[bytes], header: QuarantineHeader, item: Quarantined, page_bytes: int
) -> QuarantineHeader:
    """Store one entry; quarantine's header with it counted."""
    number = header.last + 1
    key = keys.quarantine_key(number)
    value = encode(
        key,
        QuarantineValue(
            item.code,
            item.reason[:_TEXT_MAX],
            item.stream[:_TEXT_MAX],
            item.source[:_TEXT_MAX],
            item.number,
            item.arrival_ns,
            item.body[:QUARANTINE_BYTES_MAX],
        ),
    )
    txn.put(key, value)
    size = header.bytes + keys.stored_bytes(len(value), page_bytes)
    return QuarantineHeader(header.first, number, size, header.dropped)


def trim_quarantine(
    txn: lmdb.Transaction[bytes], header: QuarantineHeader, limit_bytes: int, page_bytes: int
) -> QuarantineHeader:
    """Drop the oldest entries until what is left has at most ``limit_bytes``."""
    first, size, dropped = header.first, header.bytes, header.dropped
    while size > limit_bytes and first <= header.last:
        raw = txn.pop(keys.quarantine_key(first))
        size -= keys.stored_bytes(len(raw), page_bytes) if raw is not None else 0
        first, dropped = first + 1, dropped + 1
    return QuarantineHeader(first, header.last, max(size, 0), dropped)


def read_quarantine(
    txn: lmdb.Transaction[memoryview], after: int, limit: int
) -> list[tuple[int, Quarantined]]:
    """Up to ``limit`` entries numbered above ``after``, oldest first."""
    found: list[tuple[int, Quarantined]] = []
    cursor = txn.cursor()
    cursor.set_range(keys.quarantine_key(max(after, 0) + 1))
    for view, raw in cursor.iternext():
        key = bytes(view)
        if len(found) >= limit or not key.startswith(keys.QUARANTINE):
            break
        value = decode(key, raw, QuarantineValue)
        item = Quarantined(*(getattr(value, name) for name in value.__struct_fields__))
        found.append((int.from_bytes(key[1:], "big"), item))
    return found
