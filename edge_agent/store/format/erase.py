"""This module takes a stream out of a block: nothing of it stays, and nothing else moves.

Records are known by their seq, and a seq by its place. So an erased run leaves its place behind: as
many empty records of the stream `ERASED`, which no wildcard matches. Whoever reads, questions,
forwards or counts meets nothing new: an upstream is told that they were filtered, and nobody's
numbers shift. Compressed, a place takes next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from edge_agent.seal import OPEN, KeyRing
from edge_agent.store.format.block import decode_block, with_payload
from edge_agent.store.format.codec import Compressor
from edge_agent.store.format.keys import block_first
from edge_agent.store.format.payload import RunHead, heads_of, join_runs, raw_runs
from edge_agent.store.format.record_maps import array_count
from edge_agent.values.record import ERASED, array_header

_EMPTY = b"\x80"
_ENCODER = msgspec.msgpack.Encoder()


def erased_block(
    key: bytes,
    value: bytes,
    matches: Callable[[str], bool],
    compressor: Compressor,
    seals: KeyRing = OPEN,
) -> tuple[dict[str, int], bytes]:
    """The value to store in the place of ``value``, and how many records of which streams it
    lacks; none where it is the same.

    Raises:
        StoreDamaged: the block cannot be read.
    """
    block = decode_block(f"#{key[1]}", block_first(key), key, memoryview(value), seals)
    raw = block.raw()
    gone: dict[str, int] = {}
    pieces: list[bytes] = []
    begun: RunHead | None = None
    count = 0
    for view, head, piece in zip(block.runs(), heads_of(raw), raw_runs(raw), strict=True):
        erases = head.stream != ERASED and matches(view.stream)
        if erases:
            gone[view.stream] = gone.get(view.stream, 0) + view.count
        if begun is not None and not (erases and head.offset == begun.offset + count):
            pieces.append(_place(begun, count))
            begun, count = None, 0
        if not erases:
            pieces.append(piece)
            continue
        begun = begun or head
        count += array_count(head.records)
    if begun is not None:
        pieces.append(_place(begun, count))
    if not gone:
        return {}, value
    kept = join_runs(pieces)
    codec, payload = compressor.compress(kept)
    return gone, with_payload(key, value, codec, len(kept), payload, seals)


def _place(head: RunHead, count: int) -> bytes:
    """A run of ``count`` empty records, up to and including them."""
    records = msgspec.Raw(array_header(count) + _EMPTY * count)
    return _ENCODER.encode((ERASED, "", 0, head.arrival_ns, head.synced, head.offset, records))
