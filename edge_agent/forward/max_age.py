"""Records that are no longer worth sending to an upstream, because they are older than it wants.

What counts is how long a record has been stored here, by clocks that can tell: where they cannot
(an earlier boot, and a clock that is not set), it is sent. Records are committed in the order of
the log, so that what is too old comes first.
"""

from __future__ import annotations

from collections.abc import Iterable

from edge_agent.forward.batch_wait import age_s
from edge_agent.store import Block, Gap
from edge_agent.system.clock import Reading


def is_expired(item: Block | Gap, now: Reading, max_age: float | None) -> bool:
    """Whether it has been stored for longer than ``max_age``."""
    if max_age is None:
        return False
    age = age_s(item, now)
    return age is not None and age > max_age


def without_expired(
    items: Iterable[Block | Gap], now: Reading, max_age: float | None
) -> list[Block | Gap]:
    """``items``, gaps in the place of what is too old."""
    return [as_expired(one) if is_expired(one, now, max_age) else one for one in items]


def as_expired(item: Block | Gap) -> Gap:
    """The gap in its place."""
    return Gap(item.log, item.first, item.last, "expired")


def expired_numbers(items: Iterable[Block | Gap], first: int, last: int) -> int:
    """How many of the seqs ``first`` to ``last`` are not sent because they are too old."""
    return sum(
        max(0, min(item.last, last) - max(item.first, first) + 1)
        for item in items
        if isinstance(item, Gap) and item.reason == "expired"
    )
