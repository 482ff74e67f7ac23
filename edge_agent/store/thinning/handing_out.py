"""A consumer's part of a thinned block: all of it, or nothing. Pure.

A thinned block's aggregates stand for all of its seqs, and cannot be divided. Example: a block has
the seqs 11 to 20, and two aggregates in their place. A consumer that has nothing behind 10 is given
both. One that has 11 to 14 already would count these twice, so it is given none: it is told that 15
to 20 were thinned, and these six are counted as withheld.

A range that is too large for an upstream is cut beside its thinned blocks as long as there is
anything else to cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edge_agent.store.format.block import Block, Gap


def as_owed(items: Sequence[Block | Gap], first: int, begun: int = 0) -> tuple[Block | Gap, ...]:
    """``items`` for a consumer that goes on with the seq ``first``: a thinned block that begins
    before it is a gap. ``begun`` is the first seq of one that was cut while it was being sent, and
    is given all the same.
    """
    head = items[0] if items else None
    if isinstance(head, Block) and head.thinned and head.first < first and head.first != begun:
        return (Gap(head.log, head.first, head.last, "thinned"), *items[1:])
    return tuple(items)


def thinned_numbers(items: Iterable[Block | Gap], first: int, last: int) -> int:
    """How many of the seqs ``first`` to ``last`` lie in thinned blocks, given or not. It only
    grows, so that it tells what a range holds now from what it held before.
    """
    return sum(_overlap(item, first, last) for item in items if _is_thinned(item))


def withheld_numbers(items: Iterable[Block | Gap], first: int, last: int) -> int:
    """How many of them lie in a thinned block of which nothing is given."""
    gaps = (item for item in items if isinstance(item, Gap) and item.reason == "thinned")
    return sum(_overlap(gap, first, last) for gap in gaps)


def whole_ranges(items: Iterable[Block | Gap]) -> list[tuple[int, int]]:
    """First and last seq of each block that should not be cut."""
    return [(item.first, item.last) for item in items if _is_thinned(item)]


def cut_beside(first: int, last: int, whole: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The last seq of the first half of a range; and the first seq of the block that had to be cut
    for it, 0 where none had to.
    """
    middle = (first + last) // 2
    for begin, end in whole:
        if begin <= middle < end:
            if begin > first:
                return begin - 1, 0
            if end < last:
                return end, 0
            return middle, begin
    return middle, 0


def _is_thinned(item: Block | Gap) -> bool:
    return item.reason == "thinned" if isinstance(item, Gap) else item.thinned > 0


def _overlap(item: Block | Gap, first: int, last: int) -> int:
    return min(item.last, last) - max(item.first, first) + 1
