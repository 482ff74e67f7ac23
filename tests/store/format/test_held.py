from __future__ import annotations

from itertools import chain, combinations

from msgspec import structs

from edge_agent.store.format.block import Block
from edge_agent.store.format.held import HeldRanges
from edge_agent.store.format.payload import encode_runs, read_runs
from edge_agent.values.record import ForeignBlock
from tests.store.support import foreign, run

SEQS = range(10, 16)


def sent(*seqs: int) -> ForeignBlock:
    """A block with these of the records of `SEQS`, which came in two runs."""
    runs = [run(1, stream="a" if seq < 13 else "b", value=seq) for seq in seqs]
    raw = encode_runs(runs, [seq - SEQS[0] for seq in seqs])
    block = foreign(1, 1)
    origin = structs.replace(block.origin, first=SEQS[0])
    return structs.replace(
        block, origin=origin, first=SEQS[0], last=SEQS[-1], count=len(seqs), codec=0,
        raw_len=len(raw), payload=raw,
    )  # fmt: skip


def whole() -> ForeignBlock:
    raw = encode_runs([run(3, stream="a", first=10), run(3, stream="b", first=20)])
    return structs.replace(sent(*SEQS), raw_len=len(raw), payload=raw)


def stored(block: ForeignBlock, *, thinned: int = 0) -> Block:
    return Block(
        "main", 1, block.count, block.codec, block.raw_len, block.payload, bytes(16), 0, 0, True,
        block.time_min_ns, block.time_max_ns, block.origin, thinned,
    )  # fmt: skip


def seqs_of(block: ForeignBlock | None) -> list[int]:
    if block is None:
        return []
    views = list(read_runs(stored(block).raw()))
    assert sum(view.count for view in views) == block.count
    base = block.origin.first + 0
    return [base + view.offset + i for view in views for i in range(view.count)]


def test_of_every_part_that_is_held_the_rest_is_lacking() -> None:
    every = chain.from_iterable(combinations(SEQS, n) for n in range(len(SEQS) + 1))
    for held in every:
        ranges = HeldRanges()
        if held:
            ranges.note(stored(sent(*held)))
        for block in (whole(), sent(*SEQS)):
            lacking = ranges.lacking(block)
            assert seqs_of(lacking) == [seq for seq in SEQS if seq not in held]
            if lacking is not None:
                assert (lacking.first, lacking.last) == (block.first, block.last)


def test_a_block_of_which_nothing_is_held_stays_as_it_is() -> None:
    ranges, block = HeldRanges(), whole()
    assert ranges.lacking(block) is block
    other = structs.replace(block, origin=structs.replace(block.origin, epoch="another"))
    ranges.note(stored(other))
    assert ranges.lacking(block) is block


def test_what_is_held_in_pieces_and_in_any_order_is_one_range() -> None:
    ranges = HeldRanges()
    for seq in (15, 10, 12, 11, 14, 13, 10):
        ranges.note(stored(sent(seq)))
    assert ranges.lacking(whole()) is None
    assert ranges.count == 1


def test_aggregates_are_not_the_records_that_they_stand_for() -> None:
    ranges = HeldRanges()
    ranges.note(stored(sent(10, 12), thinned=6))
    assert seqs_of(ranges.lacking(whole())) == list(SEQS)
