"""Data messages of ``/forward``, from agent to agent.

A message is a msgpack array of segments that follow one another without a hole::

    [0, first, last, count, codec, raw_len, payload, crc, time_min_ns, time_max_ns, origin, thinned,
     historical]
    [1, first, last, reason]
    [2, agent, boot_id, offset_ns, boot_ns, hops]

The first is a block: ``count`` records out of the numbers ``first`` to ``last`` of the sender's
log (what a filter left out makes holes), ``payload`` as in ``store/format/block.py``, ``crc`` the
CRC-32 of the payload as sent, ``origin`` the array of `record.Origin`'s fields, ``thinned`` how
many records gave way to the aggregates among these, 0 for none, ``historical`` whether it is of a
backlog that is sent beside newer records (both may be absent). The second says that there is
nothing to send between ``first`` and ``last``, and why. So a message covers all that was examined,
and the numbers it takes are ``first`` of its first segment to ``last`` of its last one.

The third is a clock note (`edge_agent.values.clock_note`) and takes no number; it may stand
anywhere, also alone. Whoever sent blocks that were stored while a clock was not set sends it once
that is known, its own with ``hops`` 1, others' with one more than they came with, up to `HOPS_MAX`.
It is durable at the receiver once a number that was sent after it is acked; until then it is sent
again at the start of each session. Nothing is to be expected of how often: it says the same each
time.

What has another tag takes no number and is ignored, as are elements behind those named here, so
that later versions can say more.

A message has at most `FORWARD_MESSAGE_BYTES`, a payload once decompressed as much. Who receives a
block still has to look into the payload (``check_payload`` of the store); here only the envelope
is judged.

Where the microseconds go, per block: 2 reading an envelope, and 0.25 for the CRC of each KB of its
payload as sent. A block of 10 records and one of 2,800 cost the same but for the CRC.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple
from zlib import crc32

import msgspec
from msgspec import Meta, Struct

from edge_agent.errors import ProtocolError
from edge_agent.session import CLOSE_PROTOCOL, NUMBER_MAX
from edge_agent.values.clock_note import HOPS_MAX, ClockNote
from edge_agent.values.record import ForeignBlock, Origin
from edge_agent.wire.reading_types import TooBigMessage, Undecodable

FORWARD_MESSAGE_BYTES = 1024 * 1024
#: What the envelope of one block adds to its payload, at most (origin with 8 ids of 64 bytes).
BLOCK_OVERHEAD_BYTES = 2048
SEGMENTS_MAX = 10_000
#: Clock notes in one message, less than 200 bytes each.
NOTES_MAX = 256
PATH_MAX = 8

#: "thinned": the receiver had a part of the records when a full log put aggregates in their place;
#: "expired": they were not worth sending any more.
EmptyReason = Literal["filtered", "trimmed", "damaged", "loop", "thinned", "expired"]

_Number = Annotated[int, Meta(ge=1, le=NUMBER_MAX)]
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
    first: _Number
    boot_id: Annotated[bytes, Meta(min_length=16, max_length=16)]
    boot_ns: Annotated[int, Meta(ge=0, le=NUMBER_MAX)]
    stored_ns: _Int64
    synced: bool
    path: Annotated[tuple[_Id, ...], Meta(max_length=PATH_MAX)]


class _Block(Struct, array_like=True, frozen=True, tag=0):
    first: _Number
    last: _Number
    count: _Number
    codec: Literal[0, 1]
    raw_len: Annotated[int, Meta(ge=1, le=FORWARD_MESSAGE_BYTES)]
    payload: Annotated[bytes, Meta(min_length=1, max_length=FORWARD_MESSAGE_BYTES)]
    crc: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    time_min_ns: _Int64
    time_max_ns: _Int64
    origin: _Origin
    thinned: Annotated[int, Meta(ge=0, le=NUMBER_MAX)] = 0
    historical: bool = False


class _Empty(Struct, array_like=True, frozen=True, tag=1):
    first: _Number
    last: _Number
    reason: EmptyReason


class _Note(Struct, array_like=True, frozen=True, tag=2):
    agent: _Id
    boot_id: Annotated[bytes, Meta(min_length=16, max_length=16)]
    offset_ns: _Int64
    boot_ns: Annotated[int, Meta(ge=0, le=NUMBER_MAX)]
    hops: Annotated[int, Meta(ge=1, le=HOPS_MAX)]


class _Tag(Struct, array_like=True, frozen=True):
    tag: int


_Item = _Block | _Empty | _Note
_decode: Callable[[bytes], list[_Item]] = msgspec.msgpack.Decoder(
    Annotated[list[_Item], Meta(min_length=1, max_length=SEGMENTS_MAX)]
).decode
_decode_raws = msgspec.msgpack.Decoder(
    Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=SEGMENTS_MAX)]
).decode
_decode_one: Callable[[msgspec.Raw], _Item] = msgspec.msgpack.Decoder(_Item).decode
_decode_tag = msgspec.msgpack.Decoder(_Tag).decode
_TAGS = 3
_encode = msgspec.msgpack.Encoder().encode


class Forwarded(NamedTuple):
    """What one message holds: segments that follow one another, and notes; either may be none."""

    segments: list[Segment]
    notes: list[ClockNote]


def encode_segments(segments: Sequence[Segment], notes: Sequence[ClockNote] = ()) -> bytes:
    """One message. Segments must follow one another; the caller keeps to the size
    (`BLOCK_OVERHEAD_BYTES` and the payload for each block, 32 bytes for each empty range) and to
    `NOTES_MAX`.
    """
    _check_order(segments)
    told = [_Note(n.agent, n.boot_id, n.offset_ns, n.boot_ns, n.hops) for n in notes]
    data = _encode([*told, *map(_to_wire, segments)])
    assert len(data) <= FORWARD_MESSAGE_BYTES, "the sender cuts messages to size"
    return data


def decode_segments(data: str | bytes) -> list[Segment]:
    """The segments of one message alone: see `decode_forwarded`."""
    return decode_forwarded(data).segments


def decode_forwarded(data: str | bytes) -> Forwarded:
    """What one message holds, in order, the envelopes of its segments checked.

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
        decoded = _decode_known(data)
    except msgspec.ValidationError as error:
        raise _bad_segment(str(error)[:200]) from error
    except (ValueError, RecursionError) as error:
        raise Undecodable(f"not msgpack: {str(error)[:200]}") from error
    segments = [_from_wire(item) for item in decoded if not isinstance(item, _Note)]
    _check_order(segments)
    if len(segments) == len(decoded):
        return Forwarded(segments, [])
    notes = [
        ClockNote(item.agent, item.boot_id, item.offset_ns, item.boot_ns, item.hops)
        for item in decoded
        if isinstance(item, _Note)
    ]
    if len(notes) > NOTES_MAX:
        raise _bad_segment(f"{len(notes)} clock notes in one message, {NOTES_MAX} at most")
    return Forwarded(segments, notes)


def covers(segments: Sequence[Segment]) -> tuple[int, int]:
    """First and last number that the segments of a message take, inclusive."""
    return segments[0].first, segments[-1].last


def _decode_known(data: bytes) -> list[_Item]:
    """The elements of a message, those that only later versions know left out."""
    try:
        return _decode(data)
    except msgspec.ValidationError as error:
        try:
            known = [raw for raw in _decode_raws(data) if 0 <= _decode_tag(raw).tag < _TAGS]
            return [_decode_one(raw) for raw in known]
        except (ValueError, RecursionError):
            raise error from None


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
        block.thinned,
        block.historical,
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
        thinned=item.thinned,
        historical=item.historical,
    )
    return Segment.of(block)


def _check_order(segments: Sequence[Segment]) -> None:
    for before, after in pairwise(segments):
        if after.first != before.last + 1:
            raise _bad_segment(f"{after.first} follows {before.last}: the numbers have a hole")


def _bad_segment(message: str) -> ProtocolError:
    return ProtocolError("bad_segment", message, CLOSE_PROTOCOL)
