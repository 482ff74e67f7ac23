"""This module leaves out what a source sent before: all numbers below the one expected of it."""

from __future__ import annotations

from msgspec import structs

from edge_agent.errors import StoreDamaged
from edge_agent.store.format.codec import RAW, decompress
from edge_agent.store.format.payload import cut_payload, cut_run, slice_indexes
from edge_agent.store.types import Entry
from edge_agent.values.record import ForeignBlock, Run


def cut_runs(entry: Entry, expected: int) -> tuple[Entry, int]:
    """The entry without the records of its runs that are numbered below ``expected``, and how
    many those were. Records without a number (0: derived ones) stay.
    """
    runs: list[Run] = []
    dropped = 0
    for run in entry.runs:
        skip = max(expected - run.source_seq, 0) if run.source_seq else 0
        if skip < run.count:
            runs.append(cut_run(run, skip))
        dropped += min(skip, run.count)
    return structs.replace(entry, runs=tuple(runs)), dropped


def cut_block(block: ForeignBlock, expected: int) -> ForeignBlock | None:
    """The part of ``block`` that covers ``expected`` and later; None where it ends before.

    Which record has which number: at the sender that stored the block first, the number is
    ``origin.first + offset``. At a later one numbers have no holes unless it filtered; if it did
    and cut the block elsewhere than before, numbers cannot be told, and the block is kept whole:
    rather twice than lost.
    """
    if block.last < expected:
        return None
    try:
        raw = decompress(block.codec, block.payload, block.raw_len)
    except StoreDamaged:
        return block
    if len(block.origin.path) <= 1:
        count, kept = cut_payload(raw, expected - block.origin.first)
    elif block.last - block.first + 1 == block.count:
        count, kept = slice_indexes(raw, expected - block.first, block.count)
    else:
        return block
    if count == 0:
        return None
    return structs.replace(
        block, first=expected, count=count, codec=RAW, raw_len=len(kept), payload=kept
    )
