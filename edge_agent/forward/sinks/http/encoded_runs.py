"""Records of a batch, encoded run by run, a column at a time.

What a record reads like says ``body.py``: `body.rendered` for each of `Batch.records`, encoded by
`body.encode_each`, is the definition, and here the same bytes come of a run at once, in half of the
time. What all records of a run have in common (names, the agent, the place of their ids) is encoded
once, what differs (numbers, times, fields) a column at a time, and the columns are woven into the
records (`edge_agent.output.weaving`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import msgspec

from edge_agent.config import Format
from edge_agent.errors import SinkRefused
from edge_agent.forward.run_columns import UNSAYABLE, RunPart, run_parts
from edge_agent.forward.sink import Batch
from edge_agent.forward.sinks.http.body import (
    EVENT_TYPE,
    is_thinned,
    json_bytes,
    json_lines,
    msgpack_bytes,
    thinned_mark,
)
from edge_agent.output.weaving import HOLE, Texts, taken, weave, weave_between
from edge_agent.store import time_of
from edge_agent.values.record import TimeTrust, format_time, second_text, text_header, trust_in_ours

_RAWS = msgspec.msgpack.Decoder(list[msgspec.Raw])
#: Seconds between these have ten digits, are a set clock's, and lie in a double so closely that the
#: shortest text of one, where it has at most six digits behind the point, is the microsecond that
#: `edge_agent.values.record.seconds_to_ns` rounds it to.
_PLAIN_FROM_S: Final = 1_577_836_801
_PLAIN_BELOW_S: Final = 2**33
_SECOND_DIGITS: Final = 10
_MICRO_DIGITS: Final = len("1577836801.123456")


class EncodedRun(NamedTuple):
    """Records of one run that follow one another, each encoded by itself (`body.joined`).

    ``first`` is the seq of the first one. An id is ``place`` and one of ``numbers``.
    """

    stream: str
    source: str
    first: int
    texts: Sequence[bytes]
    place: str
    numbers: Sequence[bytes]

    @property
    def seqs(self) -> range:
        """Of each record."""
        return range(self.first, self.first + len(self.texts))

    @property
    def ids(self) -> list[str]:
        """By what each record is known for good."""
        return [f"{self.place}{number.decode()}" for number in self.numbers]


def encoded_runs(
    batch: Batch,
    matches: Callable[[str], bool],
    agent: str,
    epoch: str,
    how: Format,
) -> Iterator[EncodedRun]:
    """All records of a batch whose stream matches, in order. ``agent`` and ``epoch`` are ours, for
    records that were stored here first.

    Raises:
        SinkRefused: one of them holds something that the format cannot say.
    """
    for part in run_parts(batch, matches):
        yield _encoded(_columns(part, agent, epoch), how)


class _Columns(NamedTuple):
    """Consecutive records of a run, decoded: what they share, and what each has for itself.

    ``first`` is the seq of the first one, ``number`` its seq where it was stored first. ``times``
    are as they were sent, ``ours`` says how far our own clock can be trusted for them.
    """

    stream: str
    source: str
    agent: str
    place: str
    first: int
    number: int
    maps: list[dict[str, Any]]
    times: list[object]
    arrival_ns: int
    ours: TimeTrust


def _columns(part: RunPart, agent: str, epoch: str) -> _Columns:
    block, run, low, high = part
    maps, times, arrival_ns, corrected = block.timed_maps(run)
    origin, place = block.origin, f"{epoch}/{block.log}/"
    if origin is not None:
        agent, place = origin.agent, f"{origin.epoch}/{origin.log}/"
    ours = trust_in_ours(synced=run.synced, corrected=corrected)
    whose = (run.stream, run.source, agent, place, part.seq, part.number)
    return _Columns(*whose, maps[low:high], times[low:high], arrival_ns, ours)


def _encoded(run: _Columns, how: Format) -> EncodedRun:
    seqs = _numbers(run.first, len(run.maps))
    numbers = seqs if run.number == run.first else _numbers(run.number, len(run.maps))
    if is_thinned(run.source):
        marks = map(thinned_mark, run.maps)
        numbers = [number + mark.encode() for number, mark in zip(numbers, marks, strict=True)]
    try:
        texts = _packed(run, numbers) if how == "msgpack" else _woven(run, seqs, numbers, how)
    except UNSAYABLE as error:
        # One of them cannot be said in this format; halving finds out which.
        raise SinkRefused(f"cannot be written as {how}: {error}") from error
    return EncodedRun(run.stream, run.source, run.first, texts, run.place, numbers)


def _packed(run: _Columns, numbers: Sequence[bytes]) -> list[bytes]:
    """The msgpack of each record."""
    trusts, time, moments = _moments(run.times, run.arrival_ns, run.ours)
    row = _PackedRow()
    row.has(b"\x88\xa2id").has_text(run.place.encode() + HOLE, [numbers])
    row.has(b"\xa5agent", msgpack_bytes(run.agent), b"\xa3seq")
    row.has_column(list(map(msgpack_bytes, range(run.first, run.first + len(numbers)))))
    row.has(b"\xa6stream", msgpack_bytes(run.stream), b"\xa4time").has_text(time, moments)
    row.has(b"\xa6source", msgpack_bytes(run.source), b"\xa6fields")
    # As one array: written and taken apart, that takes half as long as one by one.
    row.has_column(_RAWS.decode(msgpack_bytes(run.maps))).has(b"\xactime_quality")
    *between, end = row.between
    different = sorted(set(trusts))
    templates = [[*between, end + msgpack_bytes(trust)] for trust in different]
    which = list(map(different.index, trusts)) if len(different) > 1 else ()
    return weave_between(templates, which, row.columns)


class _PackedRow:
    """What the msgpack of each record of a run has, in order: a template, and what fills it."""

    def __init__(self) -> None:
        self.between = [b""]
        self.columns: list[Texts] = []

    def has(self, *same: bytes) -> _PackedRow:
        """The same for all of them."""
        self.between[-1] += b"".join(same)
        return self

    def has_column(self, column: Sequence[bytes]) -> _PackedRow:
        """For each its own."""
        self.columns.append(column)
        self.between.append(b"")
        return self

    def has_text(self, template: bytes, columns: Sequence[Sequence[bytes]]) -> _PackedRow:
        """A text, whose length stands before it: that may differ by the last of its columns."""
        same = len(template.replace(HOLE, b"")) + sum(len(column[0]) for column in columns[:-1])
        sizes = [same + len(last) for last in columns[-1]] if columns else [same]
        heads = {size: text_header(size) for size in set(sizes)}
        if len(heads) > 1:
            self.has_column(taken(heads, sizes))
        else:
            self.has(heads[sizes[0]])
        first, *others = template.split(HOLE)
        self.has(first)
        for column, behind in zip(columns, others, strict=True):
            self.has_column(column).has(behind)
        return self


def _woven(
    run: _Columns, seqs: Sequence[bytes], numbers: Sequence[bytes], how: Format
) -> list[bytes]:
    """The JSON of each record."""
    fields = json_lines(run.maps).split(b"\n")
    fields.pop()  # Nothing stands behind the last line.
    trusts, time, moments = _moments(run.times, run.arrival_ns, run.ours)
    shape, places = (_event, [numbers]) if how == "cloudevents" else (_record, [numbers, seqs])
    columns: list[Texts] = [*places, *moments, fields]
    different = sorted(set(trusts))
    templates = [shape(run, time, trust) for trust in different]
    which = list(map(different.index, trusts)) if len(different) > 1 else ()
    return weave(templates, which, columns)


def _record(run: _Columns, time: bytes, trust: str) -> bytes:
    """As `body.RenderedRecord`, a hole for its number, its seq, what ``time`` needs, its fields."""
    place, agent, stream, source = map(json_bytes, (run.place, run.agent, run.stream, run.source))
    return (
        b'{"id":%b%b","agent":%b,"seq":%b,"stream":%b,"time":"%b","source":%b,"fields":%b,'
        b'"time_quality":"%b"}'
    ) % (place[:-1], HOLE, agent, HOLE, stream, time, source, HOLE, trust.encode())


def _event(run: _Columns, time: bytes, trust: str) -> bytes:
    """As `body.CloudEvent`, a hole for its number, what ``time`` needs, and its fields."""
    place, agent, kind, stream, source = map(
        json_bytes,
        (run.place, f"urn:edge-agent:{run.agent}", EVENT_TYPE, run.stream, run.source),
    )
    return (
        b'{"specversion":"1.0","id":%b%b","source":%b,"type":%b,"subject":%b,"time":"%b",'
        b'"datacontenttype":"application/json","sender":%b,"timequality":"%b","data":%b}'
    ) % (place[:-1], HOLE, agent, kind, stream, time, source, trust.encode(), HOLE)


def _numbers(first: int, count: int) -> list[bytes]:
    """The text of so many numbers in a row."""
    return json_bytes(list(range(first, first + count)))[1:-1].split(b",")


def _moments(
    times: Sequence[object], arrival_ns: int, ours: TimeTrust
) -> tuple[Sequence[TimeTrust], bytes, list[Sequence[bytes]]]:
    """How far each time can be trusted; and their texts, a template and what fills it."""
    plain = _plain_moments(times)
    if plain is not None:
        return ("sensor",), *plain
    if times.count(None) == len(times):
        return (ours,), format_time(arrival_ns).encode(), []
    resolved = [time_of(time, arrival_ns) for time in times]
    trusts: list[TimeTrust] = ["sensor" if how == "sensor" else ours for _, how in resolved]
    return trusts, HOLE, [[format_time(time_ns).encode() for time_ns, _ in resolved]]


def _plain_moments(times: Sequence[Any]) -> tuple[bytes, list[Sequence[bytes]]] | None:
    """The texts of times that are seconds since 1970 as nearly every sensor sends them; None where
    one is not.
    """
    if not set(map(type, times)) <= {float, int}:
        return None
    least, greatest = min(times), max(times)
    # A NaN may hide from all but the sum.
    if not (least >= _PLAIN_FROM_S and greatest < _PLAIN_BELOW_S and sum(times) > 0):
        return None
    text = json_bytes(times)[1:-1] + b","
    texts = text.replace(b".0,", b",")[:-1].split(b",")
    seconds = list(map(int, times))
    if len(max(texts, key=len)) > _MICRO_DIGITS:
        text = (b"%.6f," * len(times)) % tuple(times)
        while b"0," in text:
            text = text.replace(b"0,", b",")
        texts = text.replace(b".,", b",")[:-1].split(b",")
        # To the microsecond it may be the next second.
        seconds = [int(one[:_SECOND_DIGITS]) for one in texts]
        greatest = max(seconds)
    ends = [one[_SECOND_DIGITS:] for one in texts]
    hour = int(least) // 3600
    if greatest >= (hour + 1) * 3600:
        return HOLE + HOLE + b"Z", [[second_text(one).encode() for one in seconds], ends]
    begin = hour * 3600
    clock = taken(_minutes_and_seconds(), [one - begin for one in seconds])
    until = second_text(begin)[: -len("00:00")].encode()
    return until + HOLE + HOLE + b"Z", [clock, ends]


@cache
def _minutes_and_seconds() -> Sequence[bytes]:
    """The text of each second of an hour behind its hour. Neighbours are of the same one."""
    return [second_text(second)[-len("00:00") :].encode() for second in range(3600)]
