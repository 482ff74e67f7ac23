"""The policy decides what may be removed, on values alone; `trim.py` does it.

Two reasons to remove. **Age**: a block stored longer ago than the log keeps. It counts only by
clocks that were synced when the block was stored and are synced now, never within ten minutes of
a step of the clock (one that says 2099 must not erase a backlog), and never for what a required
consumer has not acknowledged. **Share**: the log has used up its part of the file. First goes
what all configured consumers have acknowledged, however young; the rest only under
``discard-oldest``, and it is counted as discarded: that is loss.

A log is trimmed from its old end only, by whole blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_agent.store.format.keys import stored_bytes
from edge_agent.store.settings import ConsumerSettings, Moment
from edge_agent.store.types import is_backlog

#: After a step of the wall clock, age is not judged for this long (boot clock, ns).
STEP_CALM_NS = 600 * 1_000_000_000
#: The wall clock moving this much against the boot clock between two looks is a step; NTP's
#: slewing stays below 0.5 ms a second.
STEP_NS = 30 * 1_000_000_000
#: When a log is at its share, this part of the share is freed beyond what is needed, so that a
#: full log is trimmed now and then rather than at every commit.
SLACK_PART = 32


@dataclass(frozen=True, slots=True)
class BlockHead:
    """What a block's header says, its checksum not looked at: for retention, never for readers.

    ``covers``: the seqs that are the block's own, which for a thinned one are more than ``count``.
    """

    count: int
    covers: int
    stored_ns: int
    synced: bool
    time_max_ns: int
    boot_id: bytes
    boot_ns: int
    is_foreign: bool


@dataclass(frozen=True, slots=True)
class HeldBlock:
    """One stored block, as far as retention needs it. ``last`` by the next block's key;
    ``value_bytes`` is the length of what is stored. It holds ``count`` records and stands for
    ``covers``: as many, but for a thinned block.
    """

    first: int
    last: int
    value_bytes: int
    count: int
    covers: int
    stored_ns: int
    synced: bool
    time_max_ns: int


@dataclass(frozen=True, slots=True)
class Floors:
    """Positions of a log's configured consumers; None where none is configured.

    ``required``: the lowest of those that retention waits for. ``all``: the lowest of all.
    """

    required: int | None
    all: int | None


class ClockWatch:
    """Notices steps of the wall clock by comparing it with the boot clock.

    A new watch has just seen a step: what the clock did before the start is not known.
    """

    def __init__(self, moment: Moment) -> None:
        self._offset_ns = moment.wall_ns - moment.boot_ns
        self._boot_id = moment.boot_id
        self._synced = moment.synced
        self.stepped_boot_ns = moment.boot_ns
        self.steps = 0

    def note(self, moment: Moment) -> None:
        """Look at the clocks; called by every commit and trim."""
        offset_ns = moment.wall_ns - moment.boot_ns
        stepped = abs(offset_ns - self._offset_ns) >= STEP_NS
        if stepped or moment.boot_id != self._boot_id or moment.synced != self._synced:
            self.stepped_boot_ns = moment.boot_ns
            self.steps += stepped
        self._offset_ns = offset_ns
        self._boot_id = moment.boot_id
        self._synced = moment.synced

    def trusted(self, moment: Moment) -> bool:
        """Whether the wall clock may decide what is too old, now."""
        return moment.synced and moment.boot_ns - self.stepped_boot_ns >= STEP_CALM_NS


def floors_of(
    log: str, consumers: Sequence[ConsumerSettings], positions: Mapping[str, int]
) -> Floors:
    """The floors of ``log``; a configured consumer without a position has nothing yet, but for a
    backlog, which has none where there is no backlog.
    """
    mine = [
        consumer
        for consumer in consumers
        if consumer.log == log and (consumer.name in positions or not is_backlog(consumer.name))
    ]
    required = [positions.get(consumer.name, 0) for consumer in mine if consumer.required]
    every = [positions.get(consumer.name, 0) for consumer in mine]
    return Floors(min(required, default=None), min(every, default=None))


def upto_by_age(held: Sequence[HeldBlock], now_ns: int, keep_s: float, floors: Floors) -> int:
    """The seq up to which blocks are too old, 0 for none.

    ``held`` begins with the oldest block. A block whose own clock was not synced goes with a
    later one that is too old: order is seq, never time.
    """
    upto = 0
    limit_ns = now_ns - int(keep_s * 1e9)
    for block in held:
        if floors.required is not None and block.last > floors.required:
            break
        if block.synced and block.stored_ns < limit_ns:
            upto = block.last
    return upto


def upto_by_share(
    held: Sequence[HeldBlock], excess_bytes: int, page_bytes: int, floors: Floors, *, discard: bool
) -> int:
    """The seq up to which blocks have to go so that ``excess_bytes`` become free, 0 for none.

    Without any configured consumer nobody has anything: ``refuse`` then keeps all, and
    ``discard-oldest`` is a ring.
    """
    upto = freed = 0
    for block in held:
        if freed >= excess_bytes:
            break
        acknowledged = floors.all is not None and block.last <= floors.all
        if not acknowledged and not discard:
            break
        freed += stored_bytes(block.value_bytes, page_bytes)
        upto = block.last
    return upto


def is_loss(block: HeldBlock, floors: Floors) -> bool:
    """Whether removing the block takes something from a configured consumer that lacks it."""
    return floors.all is not None and block.last > floors.all


def excess(held_bytes: int, incoming_bytes: int, share_bytes: int) -> int:
    """Bytes to free so that ``incoming_bytes`` fit under the share; 0 where they fit."""
    over = held_bytes + incoming_bytes - share_bytes
    if over <= 0:
        return 0
    return min(over + share_bytes // SLACK_PART, held_bytes)
