"""A stream taken out of a block: its bytes are gone, everybody else's seqs stay."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.errors import StoreDamaged
from edge_agent.store import Block, encode_runs
from edge_agent.store.format.block import Packed, decode_block, encode_block
from edge_agent.store.format.codec import Compressor
from edge_agent.store.format.erase import erased_block
from edge_agent.store.format.keys import block_key
from edge_agent.values.record import ERASED, Run
from tests.manual_clock import ManualClock
from tests.store.support import START_NS, foreign, run

KEY = block_key(1, 101)
PLAIN = Compressor(0)


def stored(*runs: Run, compressor: Compressor = PLAIN, origin: bool = False) -> bytes:
    raw = encode_runs(runs)
    codec, payload = compressor.compress(raw)
    whence = foreign(1, 500).origin if origin else None
    count = sum(one.count for one in runs)
    packed = Packed(count, codec, len(raw), payload, START_NS, START_NS, whence)
    return encode_block(KEY, packed, ManualClock().read())


def read(value: bytes) -> Block:
    return decode_block("main", 101, KEY, memoryview(value))


def left(block: Block) -> list[tuple[int, str, object, int]]:
    return [
        (one.seq, one.stream, one.fields.get("v"), one.origin_seq)
        for one in block.records(lambda stream: not stream.endswith("erased"))
    ]


@pytest.mark.parametrize("compressor", [PLAIN, Compressor(3)])
@pytest.mark.parametrize("origin", [False, True])
def test_others_keep_their_seqs_and_their_numbers_at_the_origin(
    compressor: Compressor, origin: bool
) -> None:
    runs = [
        run(2, stream="secret/1", value=10), run(3, stream="open/1", value=20),
        run(1, stream="secret/1", value=30), run(2, stream="secret/2", value=40),
        run(200, stream="open/2", value=50),
    ]  # fmt: skip
    value = stored(*runs, compressor=compressor, origin=origin)
    gone, new = erased_block(KEY, value, lambda stream: stream.startswith("secret/"), compressor)
    assert gone == {"secret/1": 3, "secret/2": 2}
    before, after = read(value), read(new)
    assert left(after) == [one for one in left(before) if one[1].startswith("open/")]
    assert (after.count, after.last, after.origin) == (208, 308, before.origin)
    kept = replace(after, codec=0, payload=b"", raw_len=0)
    assert kept == replace(before, codec=0, payload=b"", raw_len=0)
    assert b"secret" not in after.raw()
    places = [view for view in after.runs() if view.stream.endswith("erased")]
    assert [(view.index, view.count) for view in places] == [(0, 2), (5, 3)]


def test_a_block_of_nothing_else_is_a_place_and_little_more() -> None:
    value = stored(run(5000, stream="secret/1", pad=20))
    _, new = erased_block(KEY, value, lambda stream: True, Compressor(3))
    block = read(new)
    assert [view.stream for view in block.runs()] == [ERASED] and block.count == 5000
    assert len(new) < 200


def test_what_does_not_match_is_the_same_and_what_was_erased_is_not_erased_again() -> None:
    value = stored(run(2, stream="a/1"))
    assert erased_block(KEY, value, lambda stream: False, PLAIN) == ({}, value)
    _, new = erased_block(KEY, value, lambda stream: True, PLAIN)
    assert erased_block(KEY, new, lambda stream: True, PLAIN) == ({}, new)


def test_a_block_that_cannot_be_read_is_damage() -> None:
    value = bytearray(stored(run(2)))
    value[-1] ^= 1
    with pytest.raises(StoreDamaged):
        erased_block(KEY, bytes(value), lambda stream: True, PLAIN)
