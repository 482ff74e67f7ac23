"""A `RunColumns` is a part of a run, decoded: what a renderer needs of many records at once.

To make a `Record` of each costs as much as to render it. What a run's records have in common stands
here once, and what differs stands in columns::

    RunColumns(stream="greenhouse/2", seq=4711, fields=[{"t": 21.7}, {"t": 21.8}],
             times=[(1795341600250000000, "sensor"), (1795341601250000000, "sensor")], …)

Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from edge_agent.forward.sink import Batch
from edge_agent.store import Block, RunView, slices_of, time_of
from edge_agent.values.record import Record, TimeQuality, TimeTrust, format_time, trust_in_ours

#: What an encoder may raise of a record that it cannot say.
UNSAYABLE: Final = (TypeError, ValueError, OverflowError, RecursionError)


@dataclass(frozen=True, slots=True)
class RunColumns:
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
    def of(cls, record: Record) -> RunColumns:
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
        return trust_in_ours(synced=self.synced, corrected=self.corrected)

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
        """What `format_time` says of each."""
        return [format_time(time_ns) for time_ns, _ in self.times]


class RunPart(NamedTuple):
    """The records at the places ``low`` to ``high`` of a run, which is one of ``block``; few enough
    to be decoded together.
    """

    block: Block
    run: RunView
    low: int
    high: int

    @property
    def seq(self) -> int:
        """Of the first one."""
        return self.block.first + self.run.index + self.low

    @property
    def number(self) -> int:
        """Its seq in the log where it was stored first."""
        origin = self.block.origin
        return self.seq if origin is None else origin.first + self.run.offset + self.low


def run_parts(batch: Batch, matches: Callable[[str], bool]) -> Iterator[RunPart]:
    """The records of `Batch.records`, in the same order."""
    first, last = batch.first, batch.last
    for item in batch.items:
        if not isinstance(item, Block) or item.last < first:
            continue
        for run in item.runs():
            if matches(run.stream):
                for some in [run] if run.count == 1 else slices_of(run):
                    seq = item.first + some.index
                    low, high = max(first - seq, 0), min(last + 1 - seq, some.count)
                    if low < high:
                        yield RunPart(item, some, low, high)


def columns_in(batch: Batch, matches: Callable[[str], bool]) -> Iterator[RunColumns]:
    """The records of `Batch.records`, in the same order."""
    return map(_decoded, run_parts(batch, matches))


def _decoded(part: RunPart) -> RunColumns:
    block, run, low, high = part
    fields, times, arrival_ns, corrected = block.timed_maps(run)
    origin = block.origin
    return RunColumns(
        block.log,
        part.seq,
        run.stream,
        block.when_ns,
        run.synced,
        run.source,
        run.source_seq + low if run.source_seq else 0,
        fields[low:high],
        [time_of(time, arrival_ns) for time in times[low:high]],
        part.number,
        *(("", "", "") if origin is None else (origin.agent, origin.epoch, origin.log)),
        corrected,
    )


def gathered(slices: Iterable[RunColumns], first: int, others: int) -> Iterator[list[RunColumns]]:
    """Lists of them with at least ``first`` records in the first one, ``others`` in each that
    follows; the last one has what is left.
    """
    found: list[RunColumns] = []
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
    slices: Iterable[RunColumns], encoder: msgspec.json.Encoder
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
