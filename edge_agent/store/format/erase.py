"""This module takes a stream out of a block: nothing of it stays, and nothing else moves.

Records are known by their seq, and a seq by its place. So an erased run leaves its place behind: as
many empty records of the stream `ERASED`, which no wildcard matches. Whoever reads, questions,
forwards or counts meets nothing new: an upstream is told that they were filtered, and nobody's
numbers shift. Compressed, a place takes next to nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import msgspec

from edge_agent.record import array_header
from edge_agent.store.format.block import HEADER_BYTES, decode_block
from edge_agent.store.format.codec import Compressor
from edge_agent.store.format.keys import block_first
from edge_agent.store.format.payload import RunHead, array_count, heads_of, join_runs, raw_runs

#: What is left where records were erased; here and, as ``$agents/ID/erased``, of other agents.
ERASED = "$erased"
_EMPTY = b"\x80"
_ENCODER = msgspec.msgpack.Encoder()


def erased_block(
    key: bytes, value: bytes, matches: Callable[[str], bool], compressor: Compressor
) -> tuple[dict[str, int], bytes]:
    """The value to store in the place of ``value``, and how many records of which streams it
    lacks; none where it is the same.

    Raises:
        StoreDamaged: the block cannot be read.
    """
    block = decode_block(f"#{key[1]}", block_first(key), key, memoryview(value))
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
    return (gone, _with_payload(key, value, join_runs(pieces), compressor)) if gone else ({}, value)


def _place(head: RunHead, count: int) -> bytes:
    """A run of ``count`` empty records, up to and including them."""
    records = msgspec.Raw(array_header(count) + _EMPTY * count)
    return _ENCODER.encode((ERASED, "", 0, head.arrival_ns, head.synced, head.offset, records))


def _with_payload(key: bytes, value: bytes, raw: bytes, compressor: Compressor) -> bytes:
    """The block with another payload: codec, length and checksum change, all else stays."""
    codec, payload = compressor.compress(raw)
    header = bytearray(value[:HEADER_BYTES])
    extra = value[HEADER_BYTES : HEADER_BYTES + int.from_bytes(header[60:62], "big")]
    header[1] = codec
    header[8:12] = len(raw).to_bytes(4, "big")
    header[62:66] = bytes(4)
    crc = zlib.crc32(payload, zlib.crc32(extra, zlib.crc32(header, zlib.crc32(key))))
    header[62:66] = crc.to_bytes(4, "big")
    return bytes(header) + extra + payload
