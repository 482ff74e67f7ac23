"""This module makes segments and messages for another agent from stored blocks. Pure.

A block goes out as it is stored, compressed and unread, when the patterns take all its streams.
Otherwise it is cut anew at run boundaries; what is left out makes holes in the numbers, never in
what a message covers: stretches without a record are told with their reason, and neighbours with
the same reason are one range.

Where the microseconds go, per block of 2,800 records (200 KB, 19 KB as stored) and per block of 10
(741 bytes, 232 as stored), beside 20 and 6 for reading it from the store::

    decompress, to learn its streams          87     9    of the 9, zstd's new context is 7
    step over its records to the next run    100     1
    patterns, origin, block, segment           2     2    dataclasses would take 7 more
    encode, CRC of the payload                11     2    the link's mask and send: 60 and 3

All but the first two must be. Those are there because no wildcard takes an agent's own streams, so
that a block has to be opened to know that it may go as it is; a flag in the stored header that
says whether a block has such streams would save them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from msgspec import structs

from edge_agent.errors import StoreDamaged
from edge_agent.forward.sink import Batch
from edge_agent.session import Window
from edge_agent.store import (
    Block,
    Gap,
    Identity,
    RunView,
    cut_payload,
    filter_payload,
    foreign_stream,
    streams_of,
)
from edge_agent.values.clock_note import HOPS_MAX, ClockNote
from edge_agent.values.record import ForeignBlock, Origin
from edge_agent.wire import FORWARD_MESSAGE_BYTES, NOTES_MAX, SEGMENTS_MAX, Segment, encode_segments
from edge_agent.zstd import zstd

#: A block that has passed this many agents goes no further; it would go round for ever.
PATH_MAX = 8
#: As the store compresses (its own level may differ); shorter payloads gain nothing.
_LEVEL = 3
_COMPRESS_FROM = 512
#: What a segment adds to its payload beside the texts of its origin, and an empty one alone.
_BLOCK_BYTES = 160
_EMPTY_BYTES = 40


#: More in one message saves nothing, and holds up what comes behind it.
MESSAGE_BYTES = 256 * 1024
#: A message ends when it has come to this part of the hub's window.
WINDOW_PARTS = 8


@dataclass(frozen=True, slots=True)
class Message:
    """One message, ready to send: numbers [first, last], ``records`` records. Where ``last`` is
    one less than ``first``, it takes none.
    """

    first: int
    last: int
    records: int
    data: bytes


def segments_of(
    batch: Batch, identity: Identity, matches: Callable[[str], bool], *, historical: bool = False
) -> list[Segment]:
    """What the batch holds, covering its range without a hole; ``historical``: not new, but
    of a backlog that is sent beside newer records, or sent once more.
    """
    segments: list[Segment] = []
    for item in batch.items:
        if isinstance(item, Gap):
            first, last = max(item.first, batch.first), min(item.last, batch.last)
            segment = Segment(first, last, item.reason)
        else:
            block = replace(item, historical=True) if historical else item
            segment = _segment(block, max(item.first, batch.first), identity, matches)
        _join(segments, segment)
    return segments


def note_messages(
    notes: Iterable[tuple[int, ClockNote]], handed: int, identity: Identity
) -> Iterator[tuple[int, Message]]:
    """Messages with clock notes alone, each with the number of its last note. They take no numbers
    and follow what was ``handed`` over.
    """
    ours = [
        (number, structs.replace(note, agent=note.agent or identity.agent_id, hops=hops))
        for number, note in notes
        for hops in [note.hops + 1 if note.agent else 1]
        if hops <= HOPS_MAX
    ]
    for start in range(0, len(ours), NOTES_MAX):
        part = ours[start : start + NOTES_MAX]
        data = encode_segments((), [note for _, note in part])
        yield part[-1][0], Message(handed + 1, handed, 0, data)


class Packer:
    """Puts segments together into messages, in order.

    A message has at most ``message_bytes``, as the hub says. It closes earlier, behind the segment
    with which it comes to `MESSAGE_BYTES` or to a part of the hub's window (`WINDOW_PARTS`), so
    that some are on their way while others are being committed. Were it to fill the window, each
    would wait for the ack of the one before it.

    Ranges without a record are held back until there is something to go with, or `flush`.
    """

    def __init__(self, message_bytes: int = FORWARD_MESSAGE_BYTES) -> None:
        self._limit = min(message_bytes, FORWARD_MESSAGE_BYTES)
        self._enough_bytes = MESSAGE_BYTES
        self._enough_numbers = sys.maxsize
        self._segments: list[Segment] = []
        self._size = 0

    def fit(self, window: Window, most: int = MESSAGE_BYTES) -> None:
        """The hub's window is this now; a message closes with the block with which it has ``most``
        bytes.
        """
        self._enough_bytes = min(most, window.bytes // WINDOW_PARTS)
        self._enough_numbers = window.records // WINDOW_PARTS

    @property
    def holds_back(self) -> bool:
        """Whether `flush` would give a message."""
        return bool(self._segments)

    def add(self, segments: Iterable[Segment]) -> Iterator[Message]:
        """Messages for what is held back and ``segments``, up to the last one with records."""
        carries = False
        for segment in segments:
            size = _size(segment)
            if self._segments and (
                self._size + size > self._limit or len(self._segments) == SEGMENTS_MAX
            ):
                yield self._message()
                carries = False
            _join(self._segments, segment)
            self._size += size
            carries = carries or segment.block is not None
            if carries and self._is_enough:
                yield self._message()
                carries = False
        if carries:
            yield self._message()

    def flush(self) -> Message | None:
        """What is held back; None where nothing is."""
        return self._message() if self._segments else None

    @property
    def _is_enough(self) -> bool:
        numbers = self._segments[-1].last - self._segments[0].first + 1
        return self._size >= self._enough_bytes or numbers >= self._enough_numbers

    def _message(self) -> Message:
        segments, self._segments, self._size = self._segments, [], 0
        records = sum(segment.block.count for segment in segments if segment.block is not None)
        data = encode_segments(segments)
        return Message(segments[0].first, segments[-1].last, records, data)


def _segment(
    block: Block, first: int, identity: Identity, matches: Callable[[str], bool]
) -> Segment:
    origin = _onward(block, identity)
    if origin is None:
        return Segment(first, block.last, "loop")
    try:
        streams = {_as_named_here(name, block) for name in streams_of(block.raw())}
        wanted = sum(map(matches, streams))
        if not wanted:
            return Segment(first, block.last, "filtered")
        if wanted == len(streams) and first == block.first:
            return Segment.of(_as_stored(block, origin))
        count, raw = filter_payload(block, lambda view: matches(view.stream))
        if first > block.first:
            count, raw = cut_payload(raw, _offset(block.runs(), first - block.first))
    except StoreDamaged:
        # Its checksum was right, so this was written wrong; the hub would refuse it too.
        return Segment(first, block.last, "damaged")
    if count == 0:
        return Segment(first, block.last, "filtered")
    codec, payload = compressed_payload(raw)
    cut = structs.replace(
        _as_stored(block, origin),
        first=first,
        count=count,
        codec=codec,
        raw_len=len(raw),
        payload=payload,
    )
    return Segment.of(cut)


def _as_named_here(stream: str, block: Block) -> str:
    return stream if block.origin is None else foreign_stream(stream, block.origin.agent)


def _as_stored(block: Block, origin: Origin) -> ForeignBlock:
    return ForeignBlock(
        first=block.first,
        last=block.last,
        count=block.count,
        codec=block.codec,
        raw_len=block.raw_len,
        payload=block.payload,
        time_min_ns=block.time_min_ns,
        time_max_ns=block.time_max_ns,
        origin=origin,
        thinned=block.thinned,
        historical=block.historical,
    )


def _onward(block: Block, identity: Identity) -> Origin | None:
    """The origin as the hub is told it, with us on the path; None where the path ends."""
    origin, own = block.origin, identity.agent_id
    if origin is None:
        return Origin(
            agent=own,
            epoch=identity.epoch,
            log=block.log,
            first=block.first,
            boot_id=block.boot_id,
            boot_ns=block.boot_ns,
            stored_ns=block.stored_ns,
            synced=block.synced,
            path=(own,),
        )
    if own in origin.path or len(origin.path) >= PATH_MAX:
        return None
    return structs.replace(origin, path=(*origin.path, own))


def _offset(views: Iterable[RunView], index: int) -> int:
    """The offset, within the block as first stored, of the record at ``index`` of this block."""
    offset = 0
    for view in views:
        if view.index > index:
            break
        offset = view.offset + index - view.index
    return offset


def compressed_payload(raw: bytes) -> tuple[int, bytes]:
    """Codec and payload as they go out."""
    if len(raw) < _COMPRESS_FROM:
        return 0, raw
    packed = zstd.compress(raw, _LEVEL)
    return (1, packed) if len(packed) < len(raw) else (0, raw)


def _join(segments: list[Segment], segment: Segment) -> None:
    """Append, or make one range of two that say the same."""
    before = segments[-1] if segments else None
    if before is not None and segment.reason is not None and before.reason == segment.reason:
        segments[-1] = Segment(before.first, segment.last, segment.reason)
    else:
        segments.append(segment)


def _size(segment: Segment) -> int:
    """An upper bound of its bytes in a message."""
    block = segment.block
    if block is None:
        return _EMPTY_BYTES
    origin = block.origin
    names = len(origin.agent) + len(origin.epoch) + len(origin.log)
    return _BLOCK_BYTES + len(block.payload) + names + sum(len(i) + 3 for i in origin.path)
