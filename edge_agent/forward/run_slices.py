"""A `RunSlice` is a part of a run, decoded: what a renderer needs of many records at once.

To make a `Record` of each costs as much as to render it. What a run's records have in common stands
here once, and what differs stands in columns::

    RunSlice(stream="greenhouse/2", seq=4711, fields=[{"t": 21.7}, {"t": 21.8}],
             times=[(1795341600250000000, "sensor"), (1795341601250000000, "sensor")], …)

Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from edge_agent.forward.sink import Batch
from edge_agent.store import Block, RunView, slices_of
from edge_agent.values.record import NANOSECONDS, Record, TimeQuality, TimeTrust, format_time

#: What an encoder may raise of a record that it cannot say.
UNSAYABLE: Final = (TypeError, ValueError, OverflowError, RecursionError)


@dataclass(frozen=True, slots=True)
class RunSlice:
    """Consecutive records of one stream and source; the names are those of `Record`.

    ``seq`` and ``source_seq`` are the first record's, and so is ``number``: its seq in the log
    where it was stored first, which is this one where ``origin`` is "".
    """

    log: str
    seq: int
    stream: str
    stored_ns: int
    synced: bool
    source: str
    source_seq: int
    fields: list[dict[str, Any]]
    times: list[tuple[int, TimeQuality]]
    number: int
    origin: str = ""
    origin_epoch: str = ""
    origin_log: str = ""
    corrected: bool = False

    @classmethod
    def of(cls, record: Record) -> RunSlice:
        """A single record."""
        return cls(
            record.log,
            record.seq,
            record.stream,
            record.stored_ns,
            record.synced,
            record.source,
            record.source_seq,
            [record.fields],
            [(record.time_ns, record.quality)],
            record.origin_seq if record.origin else record.seq,
            record.origin,
            record.origin_epoch,
            record.origin_log,
            record.corrected,
        )

    @property
    def last(self) -> int:
        """The last record's seq."""
        return self.seq + len(self.fields) - 1

    @property
    def our_trust(self) -> TimeTrust:
        """The `Record.time_quality` of those whose time a sensor did not give."""
        return "synced" if self.synced else "corrected" if self.corrected else "unsynced"

    def records(self) -> Iterator[Record]:
        """Its records one by one, for whoever looks at each as a whole."""
        place = self.origin, self.origin_epoch, self.origin_log
        for i, (fields, (time_ns, quality)) in enumerate(zip(self.fields, self.times, strict=True)):
            yield Record(
                self.log,
                self.seq + i,
                self.stream,
                time_ns,
                quality,
                self.stored_ns,
                self.synced,
                self.source,
                self.source_seq + i if self.source_seq else 0,
                fields,
                *place,
                self.number + i if self.origin else 0,
                self.corrected,
            )

    def time_texts(self) -> list[str]:
        """What `format_time` says of each; the text of a second is made once for neighbours."""
        found: list[str] = []
        known, second = None, ""
        for time_ns, _ in self.times:
            seconds, nanos = divmod(time_ns, NANOSECONDS)
            if seconds != known:
                known, second = seconds, format_time(seconds * NANOSECONDS)
            if nanos and second[-1] == "Z":
                found.append(f"{second[:-1]}.{nanos:09d}".rstrip("0") + "Z")
            else:
                found.append(second)
        return found


def slices_in(batch: Batch, matches: Callable[[str], bool]) -> Iterator[RunSlice]:
    """The records of `Batch.records`, in the same order."""
    for item in batch.items:
        if isinstance(item, Block):
            for run in item.runs():
                if matches(run.stream):
                    for some in [run] if run.count == 1 else slices_of(run):
                        first = item.first + some.index
                        low = max(batch.first - first, 0)
                        high = min(batch.last - first + 1, some.count)
                        if low < high:
                            yield _decoded(item, some, low, high)


def _decoded(block: Block, run: RunView, low: int, high: int) -> RunSlice:
    fields, times, corrected = block.timed_maps(run)
    if high - low < run.count:
        fields, times = fields[low:high], times[low:high]
    origin, seq = block.origin, block.first + run.index + low
    return RunSlice(
        block.log,
        seq,
        run.stream,
        block.when_ns,
        run.synced,
        run.source,
        run.source_seq + low if run.source_seq else 0,
        fields,
        times,
        seq if origin is None else origin.first + run.offset + low,
        *(("", "", "") if origin is None else (origin.agent, origin.epoch, origin.log)),
        corrected,
    )


def gathered(slices: Iterable[RunSlice], first: int, others: int) -> Iterator[list[RunSlice]]:
    """Lists of them with at least ``first`` records in the first one, ``others`` in each that
    follows; the last one has what is left.
    """
    found: list[RunSlice] = []
    records, wanted = 0, first
    for one in slices:
        found.append(one)
        records += len(one.fields)
        if records >= wanted:
            yield found
            found, records, wanted = [], 0, others
    if found:
        yield found


def fields_as_json(
    slices: Iterable[RunSlice], encoder: msgspec.json.Encoder
) -> list[bytes | Exception]:
    """The fields of each record as JSON, in order, or why JSON cannot say them. For all of them at
    once it takes half as long as one by one.
    """
    fields = [one for each in slices for one in each.fields]
    try:
        return [*encoder.encode_lines(fields).split(b"\n")[:-1]]
    except UNSAYABLE:
        return [_as_json(one, encoder) for one in fields]


def _as_json(fields: dict[str, Any], encoder: msgspec.json.Encoder) -> bytes | Exception:
    try:
        return encoder.encode(fields)
    except UNSAYABLE as error:
        return error
