"""Records of other agents that a store holds, by where they were first stored. Pure.

A record is named for good by its origin's agent, epoch and log, and its position there, which is
the block's ``origin.first`` and the run's ``offset`` (``payload.py``). `HeldRanges` keeps those as
ranges, and cuts from a block what it has of it already.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from msgspec import structs

from edge_agent.store.format.block import Block
from edge_agent.store.format.codec import RAW, decompress
from edge_agent.store.format.payload import heads_of, join_runs, raw_runs, slice_payload
from edge_agent.store.format.record_maps import array_count
from edge_agent.values.record import ForeignBlock, Origin

Key = tuple[str, str, str]


class HeldRanges:
    """What is held, by origin.

    Attributes:
        count: how many ranges that are, 32 bytes each and more.
    """

    def __init__(self) -> None:
        self.count = 0
        #: First and last position of each range, in the order in which they came; then merged.
        self._found: dict[Key, list[tuple[int, int]]] = {}
        self._merged: dict[Key, tuple[list[int], list[int]]] = {}

    def note(self, block: Block) -> None:
        """It is held; aggregates that stand in the place of records are not those records. Raises
        StoreDamaged.
        """
        origin = block.origin
        if origin is None or block.thinned:
            return
        key = _key(origin)
        found = self._found.setdefault(key, [])
        self._merged.pop(key, None)
        for first, last in _spans(block.raw(), origin.first):
            if found and found[-1][1] == first - 1:
                found[-1] = (found[-1][0], last)
            else:
                found.append((first, last))
                self.count += 1

    def lacking(self, block: ForeignBlock) -> ForeignBlock | None:
        """What is not held of a checked block; None where all is. Its numbers stay."""
        key, base = _key(block.origin), block.origin.first
        if key not in self._found:
            return block
        raw = decompress(block.codec, block.payload, block.raw_len)
        pieces: list[bytes] = []
        count = 0
        for (first, last), piece in zip(_spans(raw, base), raw_runs(raw), strict=True):
            for begin, end in self._gaps(key, first, last):
                whole = (begin, end) == (first, last)
                cut = join_runs([piece])
                found = (
                    [piece]
                    if whole
                    else raw_runs(slice_payload(cut, begin - base, end - base + 1)[1])
                )
                pieces += found
                count += end - begin + 1
        if count == block.count:
            return block
        if not count:
            return None
        payload = join_runs(pieces)
        return structs.replace(block, count=count, codec=RAW, raw_len=len(payload), payload=payload)

    def _gaps(self, key: Key, first: int, last: int) -> Iterator[tuple[int, int]]:
        """What of a range is not held."""
        firsts, lasts = self._ranges(key)
        at = bisect_right(firsts, first) - 1
        if at >= 0 and lasts[at] >= first:
            first = lasts[at] + 1
        at += 1
        while first <= last:
            end = min(firsts[at] - 1, last) if at < len(firsts) else last
            if first <= end:
                yield first, end
            if at >= len(firsts):
                return
            first, at = max(lasts[at], end) + 1, at + 1

    def _ranges(self, key: Key) -> tuple[list[int], list[int]]:
        known = self._merged.get(key)
        if known is None:
            merged: list[tuple[int, int]] = []
            for first, last in sorted(self._found[key]):
                if merged and first <= merged[-1][1] + 1:
                    merged[-1] = (merged[-1][0], max(merged[-1][1], last))
                else:
                    merged.append((first, last))
            self.count -= len(self._found[key]) - len(merged)
            self._found[key] = merged
            known = self._merged[key] = ([one for one, _ in merged], [one for _, one in merged])
        return known


def _spans(raw: bytes, base: int) -> Iterator[tuple[int, int]]:
    """First and last position at its origin of each run."""
    for head in heads_of(raw):
        first = base + head.offset
        yield first, first + array_count(head.records) - 1


def _key(origin: Origin) -> Key:
    return origin.agent, origin.epoch, origin.log
