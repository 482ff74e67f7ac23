"""Decodes messages into runs of records: whole lists where all is usual, else one by one.

The usual (`encodings.Usual`): maps of null, booleans, numbers and text. Then one decoder call
checks a whole array (or one per message, driven from C), the sender's bytes are kept as they are,
and Python looks at no record by itself. What the decoder does not take as usual (binary,
timestamps, deep nesting) is decoded as it comes and looked at level by level, all records together
(`encodings.are_held`). What is left, some neighbours or one alone, goes to `records.judge`, record
by record, with the same result where a record is sound. `benchmarks.bench_kinds` shows what each
kind costs.

**Turns** (`read_in_turns`). What is read list by list is bounded by the read that brought it; what
is looked at singly may cost a hundred times as much a byte. So it is counted, and after
`TURN_UNITS` of it reading rests, also within a message, so that whoever calls can let others have
their turn.

Memory: a message is decoded in pieces of at most `RUN_BYTES_MAX`, a long one of `_PIECE_BYTES`,
because a mebibyte of empty maps would become 76 MB of Python objects; JSON in sections
(`json_sections`), because nobody knows beforehand how many elements an array has.

Where the microseconds go, and why they must: 0.23 µs for a record of 67 bytes with five fields,
in lists of 800 messages by a learnt shape (`shapes`). 0.13 are msgspec making the values, which
is what proves that text is UTF-8 and that each message is one whole map of text keys. 0.03 collect
``time``, as a run has to tell its ends; 0.01 to 0.02 each are the sum and the order of the times,
the kinds and sizes of the messages, and joining them. Arrays of 100 take 0.25: 0.12 are msgspec,
and some 8 µs per message are not by the record (objects, header, two times resolved, one run).
JSON takes 0.15 to decode and 0.05 to become msgpack. One record alone takes 2.3 µs in its session:
0.2 are decoding, the rest is asking, resolving its time and making a run.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import accumulate, chain, pairwise
from typing import Any

import msgspec

from edge_agent.errors import ProtocolError
from edge_agent.wire.alone import read_alone
from edge_agent.wire.columns import cuts, resolved, time_span, values_of
from edge_agent.wire.encodings import (
    DECODE_ERRORS,
    JSON,
    MSGPACK,
    USUAL_DEPTH,
    Encoding,
    are_held,
    check_count,
    encoding_of,
    has_no_number,
    joined_maps,
    map_sizes,
    nulls_for_nan,
    shown,
    size_of,
    str_of,
    without_headers,
)
from edge_agent.wire.json_sections import Section, sections_of
from edge_agent.wire.long_text import LongText
from edge_agent.wire.reading_types import (
    RUN_BYTES_MAX,
    Arrival,
    Received,
    TooBigMessage,
    Undecodable,
    WireLimits,
)
from edge_agent.wire.records import Good, judge, stream_fault
from edge_agent.wire.run_builder import RunBuilder
from edge_agent.wire.shapes import Learner, Shape

#: Work after which reading rests, in records looked at singly (some 8 µs each, rejects with all
#: that follows from them 15): about a millisecond.
TURN_UNITS = 64
#: A message read by itself, though usual, as a part of that; and bytes of a record that count as
#: one more.
_ALONE_UNITS, _UNIT_BYTES = 0.25, 512
#: Where a list or an array is not usual as a whole, so many of its neighbours are tried together.
_TOGETHER = 32
#: Records that are decoded as they come, and then looked at level by level, take up to 5 µs each:
#: no more bytes of them are looked at in one go, and so many are as much as one looked at singly.
_HELD_BYTES, _HELD_UNIT_BYTES = 16 * 1024, 256
#: A long array is decoded in pieces of so many bytes, as one byte may become a map.
_PIECE_BYTES = 32 * 1024


def read_message(data: str | bytes, number: int, arrival: Arrival, limits: WireLimits) -> Received:
    """Read one message: text is JSON, bytes are msgpack.

    ``number`` is what its first record gets, 0 where the source does not number (plain).

    Raises:
        Undecodable: close 1007; the message takes no number.
        TooBigMessage: more than ``message_bytes`` or ``batch_records``; close 1009.
    """
    received = read_messages([data], number, arrival, limits)
    if received.failure is not None:
        raise received.failure
    return received


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
    (received,) = read_in_turns(batch, number, arrival, limits, learner, turn=float("inf"))
    return received


def read_in_turns(
    batch: Sequence[str | bytes],
    number: int,
    arrival: Arrival,
    limits: WireLimits,
    learner: Learner | None = None,
    *,
    turn: float = TURN_UNITS,
    past_failures: bool = False,
    apart: bool = False,
) -> Iterator[Received]:
    """The same, a turn at a time: what each brought, which may be nothing yet, up to the last.

    ``past_failures``: go on behind a message that cannot be read. ``apart``: a message with
    rejects is given by itself, so that it can be told which one it was.
    """
    if len(batch) == 1:
        received = read_alone(batch[0], number, arrival, limits)
        if received is not None:
            yield received
            return
    reader = _MessageReader(number, arrival, limits, learner, turn, apart=apart)
    kinds = set(map(type, batch))
    sizes = list(map(len if kinds == {bytes} else size_of, batch))
    for begin, end in cuts(sizes, RUN_BYTES_MAX):
        piece = batch if end - begin == len(batch) else batch[begin:end]
        if len(kinds) == 1 and reader.read_alike(piece, sizes[begin:end]):
            continue
        failed = yield from reader.read_each(piece, sizes[begin:end], past_failures=past_failures)
        if failed:
            return
    yield reader.gathered.taken(is_last=True)


class _MessageReader:
    """Reads messages into a `RunBuilder`."""

    def __init__(
        self,
        number: int,
        arrival: Arrival,
        limits: WireLimits,
        learner: Learner | None,
        turn: float,
        *,
        apart: bool,
    ) -> None:
        self.gathered = RunBuilder(number, arrival)
        self._learner = learner
        self._arrival = arrival
        self._limits = limits
        self._turn = turn
        self._apart = apart
        self._spent = 0.0
        self._piece_bytes = limits.short_bytes
        self._has_usual = limits.record_depth >= USUAL_DEPTH

    def is_over(self) -> bool:
        """Whether as much was done as a turn may hold; a new one begins then."""
        if self._spent < self._turn:
            return False
        self._spent = 0.0
        return True

    def read_alike(self, batch: Sequence[str | bytes], sizes: list[int]) -> bool:
        """Messages of one kind, of one good record each or all arrays of such. False, and nothing
        added, where one is not.
        """
        if max(sizes) > self._piece_bytes or not self._has_usual:
            return False
        form = encoding_of(batch[0])
        try:
            most = self._limits.batch_records
            if form.is_array(batch[0], most):
                if not all(form.is_array(data, most) for data in batch):
                    return False
                records, shape = self._decode(form, batch, is_array=True)
                body = joined_maps(records) if form.is_json else without_headers(batch)  # type: ignore[arg-type]  # all bytes
            else:
                records, shape = self._decode(form, batch, is_array=False)
                body = joined_maps(records) if form.is_json else b"".join(batch)  # type: ignore[arg-type]  # all bytes
        except (*DECODE_ERRORS, ProtocolError):
            return False
        if not self._add_usual(records, shape, body):
            return False
        self.gathered.count(sum(sizes), len(batch))
        return True

    def read_each(
        self, batch: Sequence[str | bytes], sizes: list[int], *, past_failures: bool
    ) -> Generator[Received, None, bool]:
        """Messages that are not usual as a list; True where reading ends with one of them."""
        gathered = self.gathered
        for data in self.left_over(batch, sizes):
            before = gathered.mark() if self._apart else None
            try:
                if data is not None:
                    yield from self.read(data)
            except ProtocolError as error:
                yield gathered.taken(error, data or b"", is_last=not past_failures)
                if not past_failures:
                    return True
            if before is not None and gathered.rejects:
                if gathered.messages > 1:
                    yield gathered.taken(upto=before)
                yield gathered.taken()
            if self.is_over():
                yield gathered.taken()
        return False

    def left_over(
        self, batch: Sequence[str | bytes], sizes: list[int]
    ) -> Iterator[str | bytes | None]:
        """Those messages of a list, unusual as a whole, that are to be read by themselves; the
        others are read on the way, None for some of them.
        """
        for begin in range(0, len(batch), _TOGETHER):
            some = batch[begin : begin + _TOGETHER]
            is_part = 1 < len(some) < len(batch) and len(set(map(type, some))) == 1
            if is_part and self.read_alike(some, sizes[begin : begin + _TOGETHER]):
                yield None
            else:
                yield from some

    def read(self, data: str | bytes) -> Iterator[Received]:
        """One message of any shape, with a rest after each turn. Raises before anything is added,
        or not at all.
        """
        size, limit = size_of(data), self._limits.message_bytes
        if size > limit:
            raise TooBigMessage(f"a message has at most {limit} bytes, got {size}")
        self._spent += _ALONE_UNITS
        form = encoding_of(data)
        is_array = form.is_array(data, self._limits.batch_records)
        if size <= self._piece_bytes and self.read_alike([data], [size]):
            return
        if not is_array:
            yield from self._read_one(form, data, size)
        elif isinstance(data, (str, LongText)):
            yield from self._read_json(data, size)
        else:
            yield from self._read_msgpack(data)

    def _read_one(self, form: Encoding, data: str | bytes, size: int) -> Iterator[Received]:
        try:
            raw = form.raw(data)
        except DECODE_ERRORS as error:
            # Rare, so it is looked for only where the message is of no use otherwise.
            if not (form.is_json and has_no_number(data)):
                raise Undecodable(f"not {form.name}: {shown(error)}") from error
            pieces: list[str] = []
            for piece in nulls_for_nan(str_of(data)):
                pieces.append(piece)
                yield from self._rest()
            with_nulls = "".join(pieces)
            if size <= self._piece_bytes and self.read_alike([with_nulls], [size]):
                return
            try:
                raw = form.raw(with_nulls)
            except DECODE_ERRORS:
                raise Undecodable(f"not {form.name}: {shown(error)}") from error
        self._judge(form, [raw])
        self.gathered.count(size)

    def _read_json(self, data: str | LongText, size: int) -> Iterator[Received]:
        """An array, which does not say how many elements it has."""
        sections: list[Section] = []
        most = min(self._piece_bytes, _PIECE_BYTES)
        for section in sections_of(data, most, self._limits.batch_records):
            if section is None:
                yield from self._rest()
            else:
                sections.append(section)
        of = sum(section.elements for section in sections)
        pieces = ((one.array, one.is_mended or 1 < one.elements < of) for one in sections)
        yield from self._read_long(JSON, pieces, of)
        self.gathered.count(size)

    def _read_msgpack(self, data: bytes) -> Iterator[Received]:
        try:
            raws = MSGPACK.raws(data)
        except DECODE_ERRORS as error:
            raise Undecodable(f"not msgpack: {shown(error)}") from error
        of = len(raws)
        pieces = (
            (MSGPACK.join(raws[begin:end]), 1 < end - begin < of)
            for begin, end in cuts(list(map(len, raws)), min(self._piece_bytes, _PIECE_BYTES))
        )
        yield from self._read_long(MSGPACK, pieces, of)
        self.gathered.count(len(data))

    def _rest(self) -> Iterator[Received]:
        """What there is so far, where a turn is over by now: this was about one."""
        self._spent += TURN_UNITS
        if self.is_over():
            yield self.gathered.taken()

    def _read_long(
        self, form: Encoding, pieces: Iterable[tuple[bytes, bool]], of: int
    ) -> Iterator[Received]:
        """An array of ``of`` elements that is not usual as a whole, in arrays, each with whether it
        may be. What is wrong with a record is no fault of the message, so what it holds is given
        out turn by turn.
        """
        if of > 1 and (self._apart or of >= self._turn) and not self.gathered.is_empty:
            yield self.gathered.taken()
        for array, may_be_usual in pieces:
            for _ in self._added(form, array, may_be_usual=may_be_usual):
                if self.is_over():
                    yield self.gathered.taken()

    def _added(self, form: Encoding, array: bytes, *, may_be_usual: bool) -> Iterator[None]:
        # A single element may be of any length.
        if may_be_usual and len(array) <= self._piece_bytes and self._read_usual(form, array):
            self._spent += _ALONE_UNITS + len(array) / _UNIT_BYTES / 2
            yield
            return
        raws = form.raws(array)
        for first in range(0, len(raws), _TOGETHER):
            some = raws[first : first + _TOGETHER]
            if not (1 < len(some) < len(raws) and self._read_usual(form, form.join(some))):
                self._judge(form, some)
            yield

    def _read_usual(self, form: Encoding, array: str | bytes) -> bool:
        """An array of usual records. False, and nothing added, where one is not."""
        if not self._has_usual:
            return False
        try:
            records, shape = self._decode(form, (array,), is_array=True)
            body = form.body(array, records)
        except DECODE_ERRORS:
            return False
        return self._add_usual(records, shape, body)

    def _decode(
        self, form: Encoding, batch: Sequence[Any], *, is_array: bool
    ) -> tuple[list[Any], Shape | None]:
        """The records of arrays, or of messages of one each: of the learnt shape, or as maps.
        Raises `DECODE_ERRORS` where one is not good.
        """
        learner = self._learner
        shape = None if learner is None else learner.shape()
        if learner is not None and shape is not None:
            try:
                found = shape.read(batch, is_json=form.is_json, is_array=is_array)
            except DECODE_ERRORS:
                learner.miss()
            else:
                learner.hit()
                return self._flat(found, is_array=is_array), shape
        try:
            records = self._flat(map(form.many if is_array else form.one, batch), is_array=is_array)
        except DECODE_ERRORS:
            size = sum(map(len, batch))
            if size > _HELD_BYTES and len(batch) + is_array > 1:
                raise
            self._spent += size / _HELD_UNIT_BYTES
            held = map(form.helds if is_array else form.held, batch)
            records = self._flat(held, is_array=is_array)
            if not are_held(records, self._limits.record_depth):
                raise ValueError("a record holds what none may") from None
            return records, None
        if learner is not None and records:
            learner.look(records)
        return records, None

    def _flat(self, decoded: Iterable[Any], *, is_array: bool) -> list[Any]:
        found = list(decoded)
        if not is_array:
            return found
        check_count(max(map(len, found)), self._limits.batch_records)
        return found[0] if len(found) == 1 else list(chain.from_iterable(found))

    def _judge(self, form: Encoding, raws: list[msgspec.Raw]) -> None:
        for raw in map(bytes, raws):
            self._spent += 1 + len(raw) // _UNIT_BYTES
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
        try:
            if any(stream_fault(name, self._arrival) is not None for name in set(names or ())):
                return False
        except TypeError:  # A list or a map as a name.
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
        if (time_key := self._arrival.time_key) is None:
            return False
        asked = {self._arrival.stream if name is None else str(name) for name in names or (None,)}
        return any(time_key(name) is not None for name in asked)

    def _add_apart(
        self, names: list[object] | None, times: list[object] | None, body: bytes, count: int
    ) -> None:
        # Records of several streams, or more bytes than a run has: one by one, and the gathering
        # puts neighbours together again.
        ends = accumulate(map_sizes(body, count), initial=0)
        bodies = [body[begin:end] for begin, end in pairwise(ends)]
        own = self._arrival.stream
        streams = [own] * count if names is None else [name or own for name in names]
        self.gathered.add_each(streams, bodies, resolved(times, count, self._arrival.wall_ns))  # type: ignore[arg-type]  # text or None: `stream_fault` saw to it
