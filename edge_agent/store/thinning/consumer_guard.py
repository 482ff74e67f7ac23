"""This module names the blocks that thinning leaves alone for the consumers' sake.

A consumer may have records without our knowing it: they were on their way when the connection or
the power broke, and its word that it has them was not. In an aggregate they would count twice. So
of each consumer's stretch of a log these blocks stay as they are: the one that its position lies
in, what it was handed since (`Engine.note_handed`, forgotten when the agent ends), about
`GUARD_BYTES` behind that, and single records farther on that it was sent out of turn. Where a
backlog is sent beside newer records, so do the blocks on both sides of where it begins and ends:
what becomes one block cannot be given to two lanes.

Where that was not enough, a consumer comes back with a position within a thinned block. It is then
told "thinned" up to the block's end instead of the aggregates, and that is counted: rather less
than twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import lmdb

from edge_agent.store.format import keys
from edge_agent.store.format.block import Block
from edge_agent.store.format.values import LogHeader
from edge_agent.store.read.cursor import BlockCursor, positions_in
from edge_agent.store.settings import StoreSettings
from edge_agent.store.types import is_backlog

#: Behind what a consumer has, as stored; in a small log `GUARD_PART` of its share.
GUARD_BYTES = 1024 * 1024
GUARD_PART = 1 / 16
#: The same in blocks, so that finding its end is quick.
GUARD_BLOCKS = 256
#: Single records that are remembered of a consumer. An upstream that refuses for a week is tried
#: with new ones all the time; the oldest are the first that a full log discards.
ALONE_MAX = 16


@dataclass(frozen=True, slots=True)
class Guard:
    """``acknowledged`` by everybody up to there; and each consumer's stretches: behind the first
    seq, up to and including the second.
    """

    acknowledged: int
    stretches: list[tuple[int, int]]

    def covers(self, block: Block) -> bool:
        """Whether the block is left alone."""
        return block.last <= self.acknowledged or any(
            block.last > floor and block.first <= upto for floor, upto in self.stretches
        )


class HandedOut:
    """What each consumer of a log was handed since the engine was opened.

    Notes come from another thread than questions: what is kept is replaced, never changed.
    """

    def __init__(self) -> None:
        self._upto: dict[tuple[str, str], int] = {}
        self._alone: dict[tuple[str, str], frozenset[int]] = {}

    def note(self, consumer: str, log: str, seq: int, *, alone: bool = False) -> None:
        """Everything up to ``seq``; or, ``alone``, that record and none before it."""
        key = (consumer, log)
        if alone:
            found = self._alone.get(key, frozenset()) | {seq}
            self._alone[key] = frozenset(sorted(found)[-ALONE_MAX:])
            return
        self._upto[key] = seq
        if key in self._alone:
            self._alone[key] = frozenset(one for one in self._alone[key] if one > seq)

    def upto(self, consumer: str, log: str) -> int:
        """Everything up to there; 0 for nothing."""
        return self._upto.get((consumer, log), 0)

    def alone(self, consumer: str, log: str) -> frozenset[int]:
        """Single records behind that."""
        return self._alone.get((consumer, log), frozenset())


def guard_of(
    txn: lmdb.Transaction[memoryview],
    header: LogHeader,
    log: str,
    settings: StoreSettings,
    handed: HandedOut,
    page_bytes: int,
) -> Guard:
    """As this transaction sees the log's configured consumers."""
    mine = [consumer for consumer in settings.consumers if consumer.log == log]
    held = positions_in(txn, log, mine)
    mine = [one for one in mine if one.name in held or not is_backlog(one.name)]
    limit = min(GUARD_BYTES, int(GUARD_PART * settings.share_bytes(log)))
    stretches = []
    for consumer in mine:
        position = held.get(consumer.name)
        floor = 0 if position is None else position.floor
        reached = max(floor, handed.upto(consumer.name, log))
        stretches.append((floor, _behind(txn, header, reached, limit, page_bytes)))
        stretches += [(seq - 1, seq) for seq in handed.alone(consumer.name, log) if seq > floor]
        if position is not None and position.span[1]:
            begin, end = position.span
            stretches += [(begin - 2, begin), (end - 1, end + 1)]
    return Guard(min((floor for floor, _ in stretches), default=0), stretches)


def _behind(
    txn: lmdb.Transaction[memoryview], header: LogHeader, seq: int, limit: int, page_bytes: int
) -> int:
    """The seq some ``limit`` bytes behind ``seq``; ``seq`` where what follows is gone already."""
    cursor = BlockCursor(txn, header)
    if seq + 1 >= header.first:
        cursor.seek(seq + 1)
    for _ in range(GUARD_BLOCKS):
        held = cursor.held()
        if held is None or limit <= 0:
            break
        seq, limit = held.last, limit - keys.stored_bytes(held.value_bytes, page_bytes)
        cursor.step()
    return seq
