"""From messages to runs: lists at once where everything is usual, one by one where it is not.

The usual (`encodings.Usual`): maps of null, booleans, numbers and text, ``time`` as numbers. Then
one decoder call checks a whole array (or one per message, driven from C), the sender's bytes are
kept as they are, and Python looks at no record by itself. Whatever the decoder does not take as
usual goes to `records.judge`, record by record, with the same result where a record is sound.

Memory: a message is decoded in pieces of at most `RUN_BYTES_MAX`, because a mebibyte of empty
maps would become 76 MB of Python objects.

Where the microseconds go, and why they must: 0.23 µs for a record of 67 bytes with five fields,
in lists of 800 messages by a learnt shape (`shapes`). 0.13 are msgspec making the values, which
is what proves that text is UTF-8 and that each message is one whole map of text keys. 0.03 collect
``time``, as a run has to tell its ends; 0.01 to 0.02 each are the sum and the order of the times,
the kinds and sizes of the messages, and joining them. Arrays of 100 take 0.25: 0.12 are msgspec,
and some 8 µs per message are not by the record (objects, header, two times resolved, one run).
JSON takes 0.15 to decode and 0.05 to become msgpack. One record alone takes 2.3 µs in its session:
0.2 are decoding, the rest is asking, resolving its time and making a run. In lists, add 0.1
without a shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from edge_agent.errors import ProtocolError
from edge_agent.record import Run, resolve_time
from edge_agent.wire.columns import cuts, time_span, values_of
from edge_agent.wire.encodings import (
    DECODE_ERRORS,
    JSON,
    MSGPACK,
    USUAL_DEPTH,
    Encoding,
    check_count,
    encoding_of,
    joined_maps,
    map_sizes,
    null_for_nan,
    shown,
    size_of,
    to_msgpack,
)
from edge_agent.wire.gathering import Gathering
from edge_agent.wire.records import Good, judge, stream_fault
from edge_agent.wire.shapes import Learner, Shape
from edge_agent.wire.values import (
    RUN_BYTES_MAX,
    Arrival,
    Received,
    TooBigMessage,
    Undecodable,
    WireLimits,
)

#: What a msgpack map begins with.
_MAP_HEADS = frozenset(bytes((head,)) for head in (*range(0x80, 0x90), 0xDE, 0xDF))


def read_message(data: str | bytes, number: int, arrival: Arrival, limits: WireLimits) -> Received:
    """Read one message: text is JSON, bytes are msgpack.

    ``number`` is what its first record gets, 0 where the source does not number (plain).

    Raises:
        Undecodable: close 1007; the message takes no number.
        TooBigMessage: more than ``message_bytes`` or ``batch_records``; close 1009.
    """
    reader = _Reader(number, arrival, limits, None)
    size = reader.read(data)
    return reader.gathered.received(size, 1, None)


def read_messages(
    batch: Sequence[str | bytes],
    number: int,
    arrival: Arrival,
    limits: WireLimits,
    learner: Learner | None = None,
) -> Received:
    """Read messages that follow one another; neighbours become common runs.

    The same as `read_message` on each, except that nothing is raised: reading ends at the first
    message that cannot be read, and ``Received.failure`` says why; ``messages`` were read.

    ``learner`` remembers, from call to call, what this sender's records have in common.
    """
    if len(batch) == 1:
        received = _read_alone(batch[0], number, arrival, limits)
        if received is not None:
            return received
    reader = _Reader(number, arrival, limits, learner)
    kinds = set(map(type, batch))
    sizes = list(map(len if kinds == {bytes} else size_of, batch))
    size = done = 0
    for begin, end in cuts(sizes, RUN_BYTES_MAX):
        piece = batch if end - begin == len(batch) else batch[begin:end]
        if len(kinds) == 1 and reader.read_singles(piece, sizes[begin:end]):
            size += sum(sizes[begin:end])
            done = end
            continue
        for data in piece:
            try:
                size += reader.read(data)
            except ProtocolError as error:
                return reader.gathered.received(size, done, error)
            done += 1
    return reader.gathered.received(size, done, None)


def _read_alone(
    data: str | bytes, number: int, arrival: Arrival, limits: WireLimits
) -> Received | None:
    """One message that is one usual record without a stream of its own, as slow sensors send
    them; None for all others.

    Does nothing that the `_Reader` does not, but without its objects: for one record they took
    three times as long as the record.
    """
    size = size_of(data)
    if size > min(RUN_BYTES_MAX, limits.record_bytes, limits.message_bytes):
        return None
    if limits.record_depth < USUAL_DEPTH:
        return None
    try:
        if isinstance(data, bytes):
            if data[:1] not in _MAP_HEADS:
                return None
            record, body = MSGPACK.one(data), data
        elif data[:1] == "{":
            record = JSON.one(data)
            body = to_msgpack(record)
        else:
            return None
        if record.get("stream") is not None:
            return None
        if arrival.time_key is not None and arrival.time_key(arrival.stream) is not None:
            return None
        time_ns, _ = resolve_time(record.get("time"), arrival.wall_ns)
    except (*DECODE_ERRORS, ProtocolError):
        return None
    stream, source, wall_ns = arrival.stream, arrival.source, arrival.wall_ns
    run = Run(stream, source, number, wall_ns, arrival.synced, 1, body, time_ns, time_ns)
    return Received((run,), (), 1, size)


class _Reader:
    """Reads messages into a `Gathering`."""

    def __init__(
        self, number: int, arrival: Arrival, limits: WireLimits, learner: Learner | None
    ) -> None:
        self.gathered = Gathering(number, arrival)
        self._learner = learner
        self._arrival = arrival
        self._limits = limits
        # A piece no larger than one record may be holds no record that is larger.
        self._piece_bytes = min(RUN_BYTES_MAX, limits.record_bytes, limits.message_bytes)
        self._has_usual = limits.record_depth >= USUAL_DEPTH

    def read_singles(self, batch: Sequence[str | bytes], sizes: list[int]) -> bool:
        """Messages of one kind and of one usual record each. False, and nothing added, where one
        is not.
        """
        if max(sizes) > self._piece_bytes or not self._has_usual:
            return False
        form = encoding_of(batch[0])
        try:
            records, shape = self._decode(form, batch, is_array=False)
            body = joined_maps(records) if form.is_json else b"".join(batch)  # type: ignore[arg-type]  # all bytes
        except DECODE_ERRORS:
            return False
        return self._add_usual(records, shape, body)

    def read(self, data: str | bytes) -> int:
        """One message of any shape; its size. Raises before anything is added, or not at all."""
        size = size_of(data)
        if size > self._limits.message_bytes:
            limit = self._limits.message_bytes
            raise TooBigMessage(f"a message has at most {limit} bytes, got {size}")
        try:
            self._read(data, size)
        except Undecodable:
            # Rare, so it is looked for only where the message is of no use otherwise.
            if not isinstance(data, str) or (with_nulls := null_for_nan(data)) == data:
                raise
            self._read(with_nulls, size)
        return size

    def _read(self, data: str | bytes, size: int) -> None:
        form = encoding_of(data)
        is_array = form.is_array(data, self._limits.batch_records)
        is_tried = size <= self._piece_bytes
        if is_tried:
            is_usual = (
                self._read_usual(form, data) if is_array else self.read_singles([data], [size])
            )
            if is_usual:
                return
        try:
            raws = form.raws(data) if is_array else [form.raw(data)]
        except DECODE_ERRORS as error:
            raise Undecodable(f"not {form.name}: {shown(error)}") from error
        check_count(len(raws), self._limits.batch_records)
        if len(raws) == 1:
            self._judge(form, raws)
            return
        before = self.gathered.mark()
        try:
            self._read_pieces(form, raws, is_tried)
        except ProtocolError:
            self.gathered.back_to(before)
            raise

    def _read_pieces(self, form: Encoding, raws: list[msgspec.Raw], is_tried: bool) -> None:
        if is_tried:
            self._judge(form, raws)
            return
        for begin, end in cuts(list(map(len, raws)), self._piece_bytes):
            piece = raws[begin:end]
            is_large = end - begin == 1 and len(piece[0]) > self._piece_bytes
            if is_large or not self._read_usual(form, form.join(piece)):
                self._judge(form, piece)

    def _read_usual(self, form: Encoding, array: str | bytes) -> bool:
        """An array of usual records. False, and nothing added, where one is not."""
        if not self._has_usual:
            return False
        try:
            records, shape = self._decode(form, array, is_array=True)
            check_count(len(records), self._limits.batch_records)
            body = form.body(array, records)
        except DECODE_ERRORS:
            return False
        return self._add_usual(records, shape, body)

    def _decode(
        self, form: Encoding, data: Any, *, is_array: bool
    ) -> tuple[list[Any], Shape | None]:
        """The usual records of an array, or of messages of one each: of the learnt shape, or
        as maps. Raises `DECODE_ERRORS` where one is not usual.
        """
        learner = self._learner
        shape = None if learner is None else learner.shape()
        if learner is not None and shape is not None:
            try:
                records = shape.read(data, is_json=form.is_json, is_array=is_array)
            except DECODE_ERRORS:
                learner.miss()
            else:
                learner.hit()
                return records, shape
        records = form.many(data) if is_array else list(map(form.one, data))
        if learner is not None and records:
            learner.look(records)
        return records, None

    def _judge(self, form: Encoding, raws: list[msgspec.Raw]) -> None:
        for raw in map(bytes, raws):
            verdict = judge(raw, form, self._arrival, self._limits)
            if isinstance(verdict, Good):
                time_ns = verdict.time_ns
                self.gathered.add(verdict.stream, 1, verdict.body, time_ns, time_ns)
            else:
                self.gathered.reject(verdict.code, verdict.message, raw)

    def _add_usual(self, records: list[Any], shape: Shape | None, body: bytes) -> bool:
        if not records:
            return True
        times: list[object] | None = None
        names: list[object] | None = None
        if shape is not None:
            times, names = shape.times(records), shape.streams(records)
        else:
            # A search in C: where the word is nowhere in the bytes, no record has the key.
            times = values_of("time", records) if b"time" in body else None
            names = values_of("stream", records) if b"stream" in body else None
        span = time_span(times, self._arrival.wall_ns)
        if span is None:
            return False
        if names is not None:
            try:
                faults = [stream_fault(name, self._arrival) for name in set(names)]
            except TypeError:  # A list or a map as a name.
                return False
            if any(fault is not None for fault in faults):
                return False
        if self._has_time_key(names):
            return False
        if len(body) <= RUN_BYTES_MAX and (names is None or names.count(names[0]) == len(names)):
            stream = self._arrival.stream if names is None or names[0] is None else str(names[0])
            self.gathered.add(stream, len(records), body, *span)
            return True
        self._add_apart(names, times, body, len(records))
        return True

    def _has_time_key(self, names: list[object] | None) -> bool:
        """Whether a rule says where one of these streams has its time: record by record, then."""
        time_key, own = self._arrival.time_key, self._arrival.stream
        if time_key is None:
            return False
        return any(
            time_key(own if name is None else str(name)) is not None
            for name in ({own} if names is None else set(names))
        )

    def _add_apart(
        self, names: list[object] | None, times: list[object] | None, body: bytes, count: int
    ) -> None:
        # Records of several streams, or more bytes than a run has: one by one, and the gathering
        # puts neighbours together again.
        arrival = self._arrival
        sizes = map_sizes(body, count)
        begin = 0
        for index, size in enumerate(sizes):
            name = None if names is None else names[index]
            value = None if times is None else times[index]
            time_ns = resolve_time(value, arrival.wall_ns)[0]
            stream = arrival.stream if name is None else str(name)
            self.gathered.add(stream, 1, body[begin : begin + size], time_ns, time_ns)
            begin += size
