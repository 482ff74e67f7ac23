"""From agent to agent: what a data message of ``/forward`` holds.

A message is a msgpack array of segments that follow one another without a hole::

    [0, first, last, count, codec, raw_len, payload, crc, time_min_ns, time_max_ns, origin]
    [1, first, last, reason]

The first is a block: ``count`` records out of the numbers ``first`` to ``last`` of the sender's
log (what a filter left out makes holes), ``payload`` as in ``store/format.py``, ``crc`` the CRC-32
of the payload as sent, ``origin`` the array of `record.Origin`'s fields. The second says that
there is nothing to send between ``first`` and ``last``, and why. So a message covers all that was
examined, and the numbers it takes are ``first`` of its first segment to ``last`` of its last one.

A message has at most `FORWARD_MESSAGE_BYTES`, a payload once decompressed as much. Who receives a
block still has to look into the payload (``check_payload`` of the store); here only the envelope
is judged.

Where the microseconds go, per block: 2 reading an envelope, and 0.25 for the CRC of each KB of its
payload as sent. A block of 10 records and one of 2,800 cost the same but for the CRC.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal
from zlib import crc32

import msgspec
from msgspec import Meta, Struct

from edge_agent.errors import ProtocolError
from edge_agent.record import ForeignBlock, Origin
from edge_agent.wire.control import NUMBER_MAX, Number
from edge_agent.wire.values import CLOSE_PROTOCOL, TooBigMessage, Undecodable

FORWARD_MESSAGE_BYTES = 1024 * 1024
#: What the envelope of one block adds to its payload, at most (origin with 8 ids of 64 bytes).
BLOCK_OVERHEAD_BYTES = 2048
SEGMENTS_MAX = 10_000
PATH_MAX = 8

EmptyReason = Literal["filtered", "trimmed", "damaged", "loop"]

_Int64 = Annotated[int, Meta(ge=-(2**63), le=NUMBER_MAX)]
_Name = Annotated[str, Meta(max_length=200)]
_Id = Annotated[str, Meta(min_length=1, max_length=64)]


class Segment(Struct, frozen=True, gc=False):
    """One stretch of the sender's log: a block, or the reason why there is none."""

    first: int
    last: int
    reason: EmptyReason | None = None
    block: ForeignBlock | None = None

    @classmethod
    def of(cls, block: ForeignBlock) -> Segment:
        """The segment that carries ``block``."""
        return cls(block.first, block.last, None, block)


class _Origin(Struct, array_like=True, frozen=True, gc=False):
    agent: _Id
    epoch: _Id
    log: _Name
    first: Number
    boot_id: Annotated[bytes, Meta(min_length=16, max_length=16)]
    boot_ns: Annotated[int, Meta(ge=0, le=NUMBER_MAX)]
    stored_ns: _Int64
    synced: bool
    path: Annotated[tuple[_Id, ...], Meta(max_length=PATH_MAX)]


class _Block(Struct, array_like=True, frozen=True, tag=0):
    first: Number
    last: Number
    count: Number
    codec: Literal[0, 1]
    raw_len: Annotated[int, Meta(ge=1, le=FORWARD_MESSAGE_BYTES)]
    payload: Annotated[bytes, Meta(min_length=1, max_length=FORWARD_MESSAGE_BYTES)]
    crc: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    time_min_ns: _Int64
    time_max_ns: _Int64
    origin: _Origin


class _Empty(Struct, array_like=True, frozen=True, tag=1):
    first: Number
    last: Number
    reason: EmptyReason


_decode = msgspec.msgpack.Decoder(
    Annotated[list[_Block | _Empty], Meta(min_length=1, max_length=SEGMENTS_MAX)]
).decode
_encode = msgspec.msgpack.Encoder().encode


def encode_segments(segments: Sequence[Segment]) -> bytes:
    """One message. Segments must follow one another; the caller keeps to the size
    (`BLOCK_OVERHEAD_BYTES` and the payload for each block, 32 bytes for each empty range).
    """
    _check_order(segments)
    data = _encode([_to_wire(segment) for segment in segments])
    assert len(data) <= FORWARD_MESSAGE_BYTES, "the sender cuts messages to size"
    return data


def decode_segments(data: str | bytes) -> list[Segment]:
    """The segments of one message, in order, their envelopes checked.

    Raises:
        Undecodable: not msgpack, or a payload that was damaged on the way (close 1007).
        TooBigMessage: close 1009.
        ProtocolError: ``bad_segment``, close 1002: well-formed and still not what this
            module's docstring says.
    """
    if len(data) > FORWARD_MESSAGE_BYTES:
        raise TooBigMessage(f"a message has at most {FORWARD_MESSAGE_BYTES} bytes, got {len(data)}")
    if isinstance(data, str):
        raise _bad_segment("expected a binary message")
    try:
        decoded = _decode(data)
    except msgspec.ValidationError as error:
        raise _bad_segment(str(error)[:200]) from error
    except (ValueError, RecursionError) as error:
        raise Undecodable(f"not msgpack: {str(error)[:200]}") from error
    segments = [_from_wire(item) for item in decoded]
    _check_order(segments)
    return segments


def covers(segments: Sequence[Segment]) -> tuple[int, int]:
    """First and last number that the segments of a message take, inclusive."""
    return segments[0].first, segments[-1].last


def _to_wire(segment: Segment) -> _Block | _Empty:
    block = segment.block
    if block is None:
        assert segment.reason is not None, "a segment without a block says why"
        return _Empty(segment.first, segment.last, segment.reason)
    origin = block.origin
    return _Block(
        block.first,
        block.last,
        block.count,
        1 if block.codec else 0,
        block.raw_len,
        block.payload,
        crc32(block.payload),
        block.time_min_ns,
        block.time_max_ns,
        _Origin(
            origin.agent,
            origin.epoch,
            origin.log,
            origin.first,
            origin.boot_id,
            origin.boot_ns,
            origin.stored_ns,
            origin.synced,
            origin.path,
        ),
    )


def _from_wire(item: _Block | _Empty) -> Segment:
    if item.last < item.first:
        raise _bad_segment(f"last {item.last} is before first {item.first}")
    if isinstance(item, _Empty):
        return Segment(item.first, item.last, item.reason)
    if item.count > item.last - item.first + 1:
        raise _bad_segment(f"{item.count} records in {item.last - item.first + 1} numbers")
    if item.codec == 0 and item.raw_len != len(item.payload):
        raise _bad_segment("raw_len of a raw payload is not its length")
    if item.time_max_ns < item.time_min_ns:
        raise _bad_segment("time_max_ns is before time_min_ns")
    if crc32(item.payload) != item.crc:
        raise Undecodable("a payload fails its CRC: it was damaged on the way")
    origin = item.origin
    block = ForeignBlock(
        first=item.first,
        last=item.last,
        count=item.count,
        codec=item.codec,
        raw_len=item.raw_len,
        payload=item.payload,
        time_min_ns=item.time_min_ns,
        time_max_ns=item.time_max_ns,
        origin=Origin(
            agent=origin.agent,
            epoch=origin.epoch,
            log=origin.log,
            first=origin.first,
            boot_id=origin.boot_id,
            boot_ns=origin.boot_ns,
            stored_ns=origin.stored_ns,
            synced=origin.synced,
            path=origin.path,
        ),
    )
    return Segment.of(block)


def _check_order(segments: Sequence[Segment]) -> None:
    for before, after in pairwise(segments):
        if after.first != before.last + 1:
            raise _bad_segment(f"{after.first} follows {before.last}: the numbers have a hole")


def _bad_segment(message: str) -> ProtocolError:
    return ProtocolError("bad_segment", message, CLOSE_PROTOCOL)
