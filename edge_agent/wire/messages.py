"""From messages to runs: lists at once where everything is usual, one by one where it is not.

The usual (`encodings.Usual`): maps of null, booleans, numbers and text, ``time`` as numbers. Then
one decoder call checks a whole array (or one per message, driven from C), the sender's bytes are
kept as they are, and Python looks at no record by itself. Whatever the decoder does not take as
usual goes to `records.judge`, record by record, with the same result where a record is sound.

Memory: a message is decoded in pieces of at most `RUN_BYTES_MAX`, because a mebibyte of empty
maps would become 76 MB of Python objects.

Where the time goes, per record of 71 bytes in lists or arrays of 100 (0.6-0.7 µs in all): half
in msgspec building dicts, which is what proves that text is UTF-8 and keys are text; 15 % in
collecting ``time`` and its ends; 5 % in searching for "stream"; the rest once a list.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import isfinite
from operator import itemgetter

import msgspec

from edge_agent.errors import ProtocolError
from edge_agent.record import NANOSECONDS, UNSET_CLOCK_BEFORE_NS, resolve_time
from edge_agent.wire.encodings import (
    DECODE_ERRORS,
    USUAL_DEPTH,
    Encoding,
    Usual,
    check_count,
    encoding_of,
    joined_maps,
    map_sizes,
    shown,
    size_of,
)
from edge_agent.wire.gathering import Gathering
from edge_agent.wire.records import Good, judge, stream_fault
from edge_agent.wire.values import (
    RUN_BYTES_MAX,
    Arrival,
    Received,
    TooBigMessage,
    Undecodable,
    WireLimits,
)

_SET_CLOCK_FROM_S = UNSET_CLOCK_BEFORE_NS // NANOSECONDS
#: A little before the end of signed 64-bit nanoseconds; later times are looked at singly.
_SET_CLOCK_TO_S = 9_000_000_000


def read_message(data: str | bytes, number: int, arrival: Arrival, limits: WireLimits) -> Received:
    """Read one message: text is JSON, bytes are msgpack.

    ``number`` is what its first record gets, 0 where the source does not number (plain).

    Raises:
        Undecodable: close 1007; the message takes no number.
        TooBigMessage: more than ``message_bytes`` or ``batch_records``; close 1009.
    """
    reader = _Reader(number, arrival, limits)
    size = reader.read(data)
    return reader.gathered.received(size, 1, None)


def read_messages(
    batch: Sequence[str | bytes], number: int, arrival: Arrival, limits: WireLimits
) -> Received:
    """Read messages that follow one another; neighbours become common runs.

    The same as `read_message` on each, except that nothing is raised: reading ends at the first
    message that cannot be read, and ``Received.failure`` says why; ``messages`` were read.
    """
    reader = _Reader(number, arrival, limits)
    kinds = set(map(type, batch))
    sizes = list(map(len if kinds == {bytes} else size_of, batch))
    size = done = 0
    for begin, end in _cuts(sizes, RUN_BYTES_MAX):
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


class _Reader:
    """Reads messages into a `Gathering`."""

    def __init__(self, number: int, arrival: Arrival, limits: WireLimits) -> None:
        self.gathered = Gathering(number, arrival)
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
            records = list(map(form.one, batch))
            body = joined_maps(records) if form.is_json else b"".join(batch)  # type: ignore[arg-type]  # all bytes
        except DECODE_ERRORS:
            return False
        return self._add_usual(records, body)

    def read(self, data: str | bytes) -> int:
        """One message of any shape; its size. Raises before anything is added, or not at all."""
        size = size_of(data)
        if size > self._limits.message_bytes:
            limit = self._limits.message_bytes
            raise TooBigMessage(f"a message has at most {limit} bytes, got {size}")
        form = encoding_of(data)
        is_array = form.is_array(data, self._limits.batch_records)
        is_tried = size <= self._piece_bytes
        if is_tried:
            is_usual = (
                self._read_usual(form, data) if is_array else self.read_singles([data], [size])
            )
            if is_usual:
                return size
        try:
            raws = form.raws(data) if is_array else [form.raw(data)]
        except DECODE_ERRORS as error:
            raise Undecodable(f"not {form.name}: {shown(error)}") from error
        check_count(len(raws), self._limits.batch_records)
        if len(raws) == 1:
            self._judge(form, raws)
            return size
        before = self.gathered.mark()
        try:
            self._read_pieces(form, raws, is_tried)
        except ProtocolError:
            self.gathered.back_to(before)
            raise
        return size

    def _read_pieces(self, form: Encoding, raws: list[msgspec.Raw], is_tried: bool) -> None:
        if is_tried:
            self._judge(form, raws)
            return
        for begin, end in _cuts(list(map(len, raws)), self._piece_bytes):
            piece = raws[begin:end]
            is_large = end - begin == 1 and len(piece[0]) > self._piece_bytes
            if is_large or not self._read_usual(form, form.join(piece)):
                self._judge(form, piece)

    def _read_usual(self, form: Encoding, array: str | bytes) -> bool:
        """An array of usual records. False, and nothing added, where one is not."""
        if not self._has_usual:
            return False
        try:
            records = form.many(array)
            check_count(len(records), self._limits.batch_records)
            body = form.body(array, records)
        except DECODE_ERRORS:
            return False
        return self._add_usual(records, body)

    def _judge(self, form: Encoding, raws: list[msgspec.Raw]) -> None:
        for raw in map(bytes, raws):
            verdict = judge(raw, form, self._arrival, self._limits)
            if isinstance(verdict, Good):
                time_ns = verdict.time_ns
                self.gathered.add(verdict.stream, 1, verdict.body, time_ns, time_ns)
            else:
                self.gathered.reject(verdict.code, verdict.message, raw)

    def _add_usual(self, records: list[Usual], body: bytes) -> bool:
        if not records:
            return True
        arrival_ns = self._arrival.wall_ns
        # A search in C: where the word is nowhere in the bytes, no record has the key.
        times: list[object] | None = None
        if b"time" in body:
            times = _values_of("time", records)
        span = _time_span(times, arrival_ns)
        if span is None:
            return False
        names: list[object] | None = None
        if b"stream" in body:
            names = _values_of("stream", records)
            try:
                faults = [stream_fault(name, self._arrival) for name in set(names)]
            except TypeError:  # A list or a map as a name.
                return False
            if any(fault is not None for fault in faults):
                return False
        if len(body) <= RUN_BYTES_MAX and (names is None or names.count(names[0]) == len(names)):
            stream = self._arrival.stream if names is None or names[0] is None else str(names[0])
            self.gathered.add(stream, len(records), body, *span)
            return True
        self._add_apart(names, times, body, len(records))
        return True

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


def _values_of(key: str, records: list[Usual]) -> list[object]:
    """Each record's value of ``key``, None where it has none."""
    try:
        # All have it, as a rule, and then all of this happens in C.
        return list(map(itemgetter(key), records))
    except KeyError:
        return [record.get(key) for record in records]


def _time_span(times: list[object] | None, arrival_ns: int) -> tuple[int, int] | None:
    """Earliest and latest resolved time; None where one of them is bad.

    ``times`` None: no record tells one.
    """
    if times is None:
        return arrival_ns, arrival_ns
    try:
        total = sum(times)  # type: ignore[arg-type]  # what is no number raises TypeError
        low: float = min(times)  # type: ignore[type-var, assignment]  # numbers, or sum() had raised
        high: float = max(times)  # type: ignore[type-var, assignment]  # likewise
    except (TypeError, OverflowError):
        if times.count(None) == len(times):
            return arrival_ns, arrival_ns
    else:
        # Within these bounds, which leave out booleans, `resolve_time` only rises, so the ends are
        # enough. A NaN hides from min() and max() unless it comes first, but not from the sum.
        if low >= _SET_CLOCK_FROM_S and high <= _SET_CLOCK_TO_S and isfinite(total):
            return resolve_time(low, arrival_ns)[0], resolve_time(high, arrival_ns)[0]
    try:
        resolved = [resolve_time(value, arrival_ns)[0] for value in times]
    except ProtocolError:
        return None
    return min(resolved), max(resolved)


def _cuts(sizes: list[int], limit: int) -> Iterator[tuple[int, int]]:
    """Begin and end of pieces of at most ``limit`` bytes, or of one element that has more."""
    if sizes and sum(sizes) <= limit:
        yield 0, len(sizes)
        return
    ends = list(accumulate(sizes))
    begin = before = 0
    while begin < len(sizes):
        end = max(bisect_right(ends, before + limit), begin + 1)
        yield begin, end
        begin, before = end, ends[end - 1]
