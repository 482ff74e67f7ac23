"""This module sums neighbouring blocks up as one: a record per source, stream and minute. Pure.

What a person wants to see in a week-old gap is the course of each value and how much was measured.
So of each minute of each stream and source there remains one record:

- its stream as it was; its source with ``$thin/`` in front, so that whoever reads it, here or
  upstream, knows it from a measurement, and no sensor can forge one;
- its time the minute's begin. Minutes are those of the records' own times, by whichever clock gave
  them: records by the sensor's clock and by ours are kept apart, and those from before and after
  our clock was set, so that what can be said of a time still can (ours has no ``time`` of its own,
  it has an arrival);
- ``records``, how many it stands for, undecodable ones among them; for every field with numbers
  (the first 64) count, min, max, mean and last, as rules derive them; for one with other plain
  values, ``FIELD_last``; nothing of maps, lists and long texts.

What stays as it is, byte for byte: the only record of its minute (an aggregate would be longer and
say less), and what has a source of the agent's own, which was derived before, by a rule or by an
agent that had to thin it earlier. Each keeps its number, and so its stable id. An aggregate takes
the number of the last record that it stands for; ids built on it say that it is one (`forward`).

A minute that reaches over the end of a stretch of blocks has an aggregate in each: their counts
add up, nothing is counted twice.

History has minutes, too, and they are not taken from there: a minute of history is one of a stream,
from all its sources and logs, and has records that stay in the log or were delivered. An aggregate
stands for the records of its blocks and for no others (`docs/architecture.md` has the other
reasons).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Any, NamedTuple

import msgpack
import msgspec

from edge_agent.errors import StoreDamaged
from edge_agent.store.format.block import Block
from edge_agent.store.format.payload import RunView, join_runs, read_runs, slices_of
from edge_agent.store.format.record_maps import decode_maps, raw_maps, time_of
from edge_agent.values.aggregates import (
    FIELD_NAME_MAX,
    FIELDS_MAX,
    THINNED_COUNT,
    THINNED_SOURCE,
    Summary,
    is_number,
)
from edge_agent.values.record import NANOSECONDS, Origin, array_header, as_sent

MINUTE_NS = 60 * NANOSECONDS
#: Of a text or bytes longer than this nothing is kept.
_PLAIN_BYTES_MAX = 200

_encode = msgspec.msgpack.Encoder().encode
_ARRAY_OF_ONE = msgspec.Raw(array_header(1))


class _Key(NamedTuple):
    stream: str
    source: str
    synced: bool
    by_sensor: bool
    minute_ns: int


@dataclass(slots=True)
class _Minute:
    """Of one stream and source. ``first`` is where the record is, should it stay the only one;
    ``place`` that of the last one so far.
    """

    first: tuple[RunView, int]
    first_ns: int
    records: int = 0
    place: int = 0
    arrival_ns: int = 0
    numbers: dict[str, Summary] = field(default_factory=dict)
    others: dict[str, tuple[object, int]] = field(default_factory=dict)


class _Piece(NamedTuple):
    """One record of the new block, as the run that it is there."""

    place: int
    time_ns: int
    run: bytes


@dataclass(frozen=True, slots=True)
class Aggregated:
    """A payload that stands for ``covers`` records: ``aggregates`` for ``thinned`` of them, the
    others as they were, ``count`` in all.
    """

    covers: int
    count: int
    raw: bytes = field(repr=False)
    time_min_ns: int
    time_max_ns: int
    thinned: int
    aggregates: int
    origin: Origin | None


def aggregate(blocks: Sequence[Block], block_bytes: int) -> Aggregated | None:
    """What adjoining blocks of one origin become; None where that is more than ``block_bytes``, or
    they cannot be read, or a peer's numbers do not rise.
    """
    first, last = blocks[0], blocks[-1]
    base = first.first if first.origin is None else first.origin.first
    minutes: dict[_Key, _Minute] = {}
    pieces: list[_Piece] = []
    try:
        for block in blocks:
            begin = block.first if block.origin is None else block.origin.first
            for view in chain.from_iterable(map(slices_of, read_runs(block.raw()))):
                place = begin - base + (view.index if block.origin is None else view.offset)
                if view.source.startswith("$"):
                    pieces += _as_they_were(view, place)
                else:
                    _gather(minutes, view, place)
        aggregates = thinned = 0
        for key, minute in minutes.items():
            if minute.records == 1:
                view, index = minute.first
                run = _run(view, index, minute.place, raw_maps(view.records)[index])
                pieces.append(_Piece(minute.place, minute.first_ns, run))
            else:
                pieces.append(_piece(key, minute))
                aggregates, thinned = aggregates + 1, thinned + minute.records
    except StoreDamaged:
        return None
    pieces.sort()
    raw = join_runs([piece.run for piece in pieces])
    rises = all(before.place < piece.place for before, piece in pairwise(pieces))
    if len(raw) > block_bytes or not rises:
        return None
    times = [piece.time_ns for piece in pieces]
    covers = last.last - first.first + 1
    return Aggregated(
        covers, len(pieces), raw, min(times), max(times), thinned, aggregates, _joined(first, last)
    )


def continues(before: Block, block: Block) -> bool:
    """Whether both may become one block: what its header says is true of both, and numbers rise."""
    if block.first != before.last + 1 or (before.boot_id, before.synced) != (
        block.boot_id,
        block.synced,
    ):
        return False
    if before.origin is None or block.origin is None:
        return before.origin is block.origin
    return _whose(before.origin) == _whose(block.origin) and (
        block.origin.first >= before.origin.first + before.count
    )


def _whose(origin: Origin) -> tuple[object, ...]:
    return origin.agent, origin.epoch, origin.log, origin.boot_id, origin.synced, origin.path


def _joined(first: Block, last: Block) -> Origin | None:
    if first.origin is None or last.origin is None:
        return None
    newest = last.origin
    return msgspec.structs.replace(first.origin, boot_ns=newest.boot_ns, stored_ns=newest.stored_ns)


def _gather(minutes: dict[_Key, _Minute], view: RunView, place: int) -> None:
    stream, source, synced, arrival_ns = view.stream, view.source, view.synced, view.arrival_ns
    key: _Key | None = None
    minute: _Minute | None = None
    for index, fields in enumerate(decode_maps(view.records)):
        fields.pop("stream", None)
        time_ns, quality = time_of(fields.pop("time", None), arrival_ns)
        by_sensor = quality == "sensor"
        start = time_ns - time_ns % MINUTE_NS
        if minute is None or key is None or key[3:] != (by_sensor, start):
            key = _Key(stream, source, synced, by_sensor, start)
            minute = minutes.get(key)
            if minute is None:
                minute = minutes[key] = _Minute((view, index), time_ns)
        minute.records += 1
        minute.place = place + index
        minute.arrival_ns = arrival_ns
        _add_fields(minute, fields, time_ns)


def _add_fields(minute: _Minute, fields: dict[str, Any], time_ns: int) -> None:
    numbers = minute.numbers
    for name, value in fields.items():
        summary = numbers.get(name)
        if summary is not None and is_number(value):
            summary.add(value, time_ns)
        elif len(name) > FIELD_NAME_MAX:
            continue
        elif is_number(value):
            if len(numbers) < FIELDS_MAX:
                summary = numbers[name] = Summary()
                summary.add(value, time_ns)
        elif _is_plain(value):
            known = minute.others.get(name)
            if known is None and len(minute.others) >= FIELDS_MAX:
                continue
            if known is None or time_ns >= known[1]:
                minute.others[name] = (value, time_ns)


def _is_plain(value: object) -> bool:
    if isinstance(value, (str, bytes)):
        return len(value) <= _PLAIN_BYTES_MAX
    return value is None or isinstance(value, bool)


def _piece(key: _Key, minute: _Minute) -> _Piece:
    record: dict[str, object] = {}
    arrival_ns = key.minute_ns
    if key.by_sensor:
        arrival_ns = minute.arrival_ns
        start = msgpack.Timestamp(*divmod(key.minute_ns, NANOSECONDS))
        record["time"] = as_sent(key.minute_ns, start)
    record[THINNED_COUNT] = minute.records
    for name, (value, _) in minute.others.items():
        if name not in minute.numbers:
            record[f"{name}_last"] = value
    for name, summary in minute.numbers.items():
        record |= summary.flat(name)
    source = THINNED_SOURCE + key.source
    head = (key.stream, source, 0, arrival_ns, key.synced, minute.place, _ARRAY_OF_ONE)
    return _Piece(minute.place, key.minute_ns, _encode(head) + msgpack.packb(record))


def _as_they_were(view: RunView, place: int) -> Iterator[_Piece]:
    maps = decode_maps(view.records)
    for index, raw in enumerate(raw_maps(view.records)):
        time_ns = time_of(maps[index].get("time"), view.arrival_ns)[0]
        yield _Piece(place + index, time_ns, _run(view, index, place + index, raw))


def _run(view: RunView, index: int, place: int, body: bytes) -> bytes:
    number = view.source_seq + index if view.source_seq else 0
    common = (view.stream, view.source, number, view.arrival_ns, view.synced)
    return _encode((*common, place, _ARRAY_OF_ONE)) + body
