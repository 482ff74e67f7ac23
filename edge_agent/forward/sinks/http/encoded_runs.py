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
from edge_agent.store import EvenMaps, even_maps, time_of
from edge_agent.values.record import TimeTrust, format_time, second_text, text_header, trust_in_ours

_MAPS = msgspec.msgpack.Decoder(list[msgspec.Raw])
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
        yield _encoded(_columns(part, agent, epoch, how), how)


class _Columns(NamedTuple):
    """Consecutive records of a run, decoded: what they share, and what each has for itself.

    ``first`` is the seq of the first one, ``number`` its seq where it was stored first. ``times``
    are as they were sent, ``ours`` says how far our own clock can be trusted for them. Where the
    fields are as they are wanted already they are ``even``, and there are no ``maps``.
    """

    stream: str
    source: str
    agent: str
    place: str
    first: int
    number: int
    maps: list[dict[str, Any]]
    times: Sequence[object]
    arrival_ns: int
    ours: TimeTrust
    even: EvenMaps | None = None


def _columns(part: RunPart, agent: str, epoch: str, how: Format) -> _Columns:
    block, run, low, high = part
    even = even_maps(run) if how == "msgpack" and not is_thinned(run.source) else None
    maps: list[dict[str, Any]] = []
    times: Sequence[object]
    if even is None:
        maps, times, arrival_ns, corrected = block.timed_maps(run)
    else:
        times, (arrival_ns, corrected) = even.times, block.arrival_of(run)
        even = even.part(low, high)
    origin, place = block.origin, f"{epoch}/{block.log}/"
    if origin is not None:
        agent, place = origin.agent, f"{origin.epoch}/{origin.log}/"
    ours = trust_in_ours(synced=run.synced, corrected=corrected)
    whose = (run.stream, run.source, agent, place, part.seq, part.number)
    return _Columns(*whose, maps[low:high], times[low:high], arrival_ns, ours, even)


def _encoded(run: _Columns, how: Format) -> EncodedRun:
    seqs = _numbers(run.first, len(run.times))
    numbers = seqs if run.number == run.first else _numbers(run.number, len(run.times))
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
    agent, stream, source = map(msgpack_bytes, (run.agent, run.stream, run.source))
    fields: Sequence[bytes | Texts]
    if run.even is None:
        # As one array: written and taken apart, that takes half as long as one by one.
        fields = [_MAPS.decode(msgpack_bytes(run.maps))]
    else:
        fields = [run.even.head, *run.even.columns]
    row: list[bytes | Texts] = [
        b"\x88\xa2id", *_packed_text(run.place.encode() + HOLE, [numbers]),
        b"\xa5agent%b\xa3seq" % agent,
        list(map(msgpack_bytes, range(run.first, run.first + len(numbers)))),
        b"\xa6stream%b\xa4time" % stream, *_packed_text(time, moments),
        b"\xa6source%b\xa6fields" % source, *fields,
        b"\xactime_quality",
    ]  # fmt: skip
    between, columns = [b""], list[Texts]()
    for part in row:
        if isinstance(part, bytes):
            between[-1] += part
        else:
            columns.append(part)
            between.append(b"")
    different = sorted(set(trusts))
    templates = [[*between[:-1], between[-1] + msgpack_bytes(trust)] for trust in different]
    which = list(map(different.index, trusts)) if len(different) > 1 else ()
    return weave_between(templates, which, columns)


def _packed_text(
    template: bytes, columns: Sequence[Sequence[bytes]]
) -> list[bytes | Sequence[bytes]]:
    """Texts of msgpack in parts: what is the same in each, and columns. Before a text its length
    stands, which may differ by the last of its columns.
    """
    first, *others = template.split(HOLE)
    same = len(first) + sum(map(len, others)) + sum(len(column[0]) for column in columns[:-1])
    lengths = list(map(len, columns[-1])) if columns else [0]
    heads = {length: text_header(same + length) for length in set(lengths)}
    parts = [heads[lengths[0]] if len(heads) == 1 else taken(heads, lengths), first]
    for column, behind in zip(columns, others, strict=True):
        parts += column, behind
    return parts


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
