"""This module handles a block's payload, its runs of records, without touching single records.

A payload is a msgpack array of runs; a run is the array
``[stream, source, source_seq, arrival_ns, synced, offset, [record maps…]]``. ``offset`` counts
records from the start of the block *as first stored*, at its origin. It is never rewritten, so
that after filtering and cutting, at every hop, ``origin.first + offset + i`` still names record
``i`` of the run for good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from edge_agent.errors import StoreDamaged
from edge_agent.store.format.record_maps import (
    array_count,
    array_part,
    array_slices,
    element_ends,
    last_map,
)
from edge_agent.store.settings import BLOCK_BYTES_MAX
from edge_agent.values.record import Run, array_header

#: What a block may have beyond `BLOCK_BYTES_MAX`: one record that alone is larger, run heads.
BLOCK_SLACK_BYTES = 256 * 1024
RAW_BYTES_MAX = BLOCK_BYTES_MAX + BLOCK_SLACK_BYTES
#: What a payload may be longer compressed than it is: zstd adds one byte in 256, and some.
PACKED_SLACK_BYTES = 8192
#: A run of several records has no more bytes than this when they are decoded; runs of our own
#: sensors (``RUN_BYTES_MAX`` of the wire) have not, either.
SLICE_BYTES = 64 * 1024
#: About what a run's head adds to its records; for estimates only.
RUN_HEAD_BYTES = 48


class RunHead(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A run as it is written; ``records`` is the msgpack array of maps, not looked into."""

    stream: str
    source: str
    source_seq: int
    arrival_ns: int
    synced: bool
    offset: int
    records: msgspec.Raw


class _RunStream(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The first field of a run, for those who ask no more; the others are skipped."""

    stream: str


@dataclass(frozen=True, slots=True)
class RunView:
    """A run of a stored block. ``stream`` is its name as seen here, ``index`` the place of its
    first record within this block, ``offset`` the same within the block as first stored.
    """

    stream: str
    source: str
    source_seq: int
    arrival_ns: int
    synced: bool
    offset: int
    index: int
    count: int
    records: msgspec.Raw = field(repr=False)


# One buffer per thread would do as well; msgspec's decoders keep no state and are shared.
_Run = TypeVar("_Run")
_HEADS = msgspec.msgpack.Decoder(list[RunHead])
_STREAMS = msgspec.msgpack.Decoder(list[_RunStream])
_RAWS = msgspec.msgpack.Decoder(list[msgspec.Raw])
_ENCODER = msgspec.msgpack.Encoder()
_ARRAY_OF_ONE = msgspec.Raw(array_header(1))


def encode_runs(runs: Sequence[Run], offsets: Sequence[int] = ()) -> bytes:
    """A payload of runs, with ``offsets`` where they are given; of new ones from 0 on."""
    pieces = []
    offset = 0
    for index, run in enumerate(runs):
        offset = offsets[index] if offsets else offset
        pieces.append(run_head(run, offset) + run.body)
        offset += run.count
    return join_runs(pieces)


def run_head(run: Run, offset: int) -> bytes:
    """One run as an element of a payload, up to its records: ``run.body`` follows."""
    count = run.count
    return _ENCODER.encode(
        (
            run.stream,
            run.source,
            run.source_seq,
            run.arrival_ns,
            run.synced,
            offset,
            _ARRAY_OF_ONE if count == 1 else _array_of(count),
        )
    )


def join_runs(pieces: Sequence[bytes]) -> bytes:
    """A payload of encoded runs."""
    return b"".join((array_header(len(pieces)), *pieces))


def split_run(run: Run, limit_bytes: int) -> Iterator[Run]:
    """``run`` in parts whose bodies have at most ``limit_bytes``, cut between records. A single
    record that is larger stays whole. Parts keep the whole run's time range, a safe superset.
    """
    if len(run.body) <= limit_bytes:
        yield run
        return
    start = begun = 0
    previous = 0
    for index, end in enumerate(element_ends(run.body, run.count)):
        if end - start > limit_bytes and previous > start:
            yield _part(run, begun, index, run.body[start:previous])
            start, begun = previous, index
        previous = end
    yield _part(run, begun, run.count, run.body[start:])


def cut_run(run: Run, skip: int) -> Run:
    """``run`` without its first ``skip`` records, fewer than it has."""
    assert 0 <= skip < run.count
    if skip == 0:
        return run
    start = 0
    for end in element_ends(run.body, skip):
        start = end
    return _part(run, skip, run.count, run.body[start:])


def read_runs(raw: bytes) -> Iterator[RunView]:
    """The runs of a decompressed payload, their heads decoded.

    Raises:
        StoreDamaged: this is not a payload.
    """
    index = 0
    for head in heads_of(raw):
        count = array_count(head.records)
        yield RunView(
            head.stream,
            head.source,
            head.source_seq,
            head.arrival_ns,
            head.synced,
            head.offset,
            index,
            count,
            head.records,
        )
        index += count


def heads_of(raw: bytes) -> Iterator[RunHead]:
    """The runs of a decompressed payload as they are written.

    Raises:
        StoreDamaged: this is not a payload.
    """
    return _decoded(raw, _HEADS)


def streams_of(raw: bytes) -> set[str]:
    """The streams of a decompressed payload, as its origin names them: all that a reader needs
    who takes all of a block or nothing, at a tenth of the cost of `read_runs`.

    Raises:
        StoreDamaged: this is not a payload.
    """
    return {run.stream for run in _decoded(raw, _STREAMS)}


def slices_of(view: RunView) -> Iterator[RunView]:
    """A run in runs of so few records that all of them may be decoded together; as a rule it is
    one itself. Raises StoreDamaged.
    """
    for first, part in array_slices(view.records, bytes_max=SLICE_BYTES):
        if part is view.records:
            yield view
            return
        yield _view_from(view, first, array_count(part), msgspec.Raw(part))


def cut_payload(payload_raw: bytes, from_offset: int) -> tuple[int, bytes]:
    """Without the records whose offset is below ``from_offset``: ``(count, payload)``."""
    return slice_payload(payload_raw, from_offset, 2**63)


def slice_payload(payload_raw: bytes, from_offset: int, to_offset: int) -> tuple[int, bytes]:
    """Only the records with ``from_offset <= offset < to_offset``: ``(count, payload)``."""
    return _slice(payload_raw, lambda head, _: (from_offset - head.offset, to_offset - head.offset))


def slice_indexes(payload_raw: bytes, from_index: int, to_index: int) -> tuple[int, bytes]:
    """Only the records at those places within this payload, counted from 0."""
    return _slice(payload_raw, lambda _, index: (from_index - index, to_index - index))


def raw_runs(raw: bytes) -> Iterator[bytes]:
    """Each run of a payload as its own bytes, for passing on unchanged. Raises StoreDamaged."""
    return map(bytes, _decoded(raw, _RAWS))


def last_of(view: RunView) -> RunView:
    """The run without all records but its last one. Raises StoreDamaged."""
    skipped = view.count - 1
    if not skipped:
        return view
    return _view_from(view, skipped, 1, msgspec.Raw(array_header(1) + last_map(view.records)))


def _view_from(view: RunView, skipped: int, count: int, records: msgspec.Raw) -> RunView:
    """The run of these ``records``, which are ``count`` of it behind as many as are ``skipped``."""
    return RunView(
        view.stream,
        view.source,
        view.source_seq + skipped if view.source_seq else 0,
        view.arrival_ns,
        view.synced,
        view.offset + skipped,
        view.index + skipped,
        count,
        records,
    )


def _slice(raw: bytes, bounds: Callable[[RunHead, int], tuple[int, int]]) -> tuple[int, bytes]:
    pieces: list[bytes] = []
    total = index = 0
    for head, piece in zip(heads_of(raw), raw_runs(raw), strict=True):
        count = array_count(head.records)
        low, high = bounds(head, index)
        index += count
        low, high = max(low, 0), min(high, count)
        if low >= high:
            continue
        total += high - low
        if (low, high) == (0, count):
            pieces.append(piece)
            continue
        numbered = head.source_seq + low if head.source_seq else 0
        common = (head.stream, head.source, numbered, head.arrival_ns, head.synced)
        body = array_part(head.records, low, high)
        cut = (*common, head.offset + low, _array_of(high - low))
        pieces.append(_ENCODER.encode(cut) + body)
    return total, join_runs(pieces)


def _decoded(raw: bytes, decoder: msgspec.msgpack.Decoder[list[_Run]]) -> Iterator[_Run]:
    """The runs of a payload, not all of them in memory where they are many."""
    try:
        for _, part in array_slices(raw):
            yield from decoder.decode(part)
    except (ValueError, RecursionError, OverflowError) as error:
        raise StoreDamaged(f"a block's runs cannot be read: {error}") from error


def _array_of(count: int) -> msgspec.Raw:
    # msgspec writes a Raw as it is: here the header of an array whose elements, already encoded,
    # follow behind.
    return msgspec.Raw(array_header(count))


def _part(run: Run, begin: int, end: int, body: bytes) -> Run:
    numbered = run.source_seq + begin if run.source_seq else 0
    return Run(
        run.stream,
        run.source,
        numbered,
        run.arrival_ns,
        run.synced,
        end - begin,
        body,
        run.time_min_ns,
        run.time_max_ns,
    )
