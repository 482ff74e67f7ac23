"""Records of one stream on their way to columns, as their senders encoded them.

To decode a hundred of them at once takes a quarter of what one after the other takes, and encoded
they need a quarter of the memory. Most sensors send the same keys again and again: those are read
into a struct of just these keys, which is twice as quick as into maps.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate, chain, repeat
from operator import sub
from typing import Annotated, Any, NamedTuple

import msgspec

from edge_agent.errors import StoreDamaged
from edge_agent.history import Rows, Way
from edge_agent.store import (
    LEAN_FROM_BYTES,
    array_slices,
    decode_maps,
    lean_maps,
    time_of,
)
from edge_agent.values.record import NANOSECONDS, TimeQuality, array_header, datetime_to_ns

#: Records that become columns together: fewer cost more for each.
LOOSE_ROWS = 256

#: Dates that a sensor sends mean themselves; others are looked at one by one.
_EARLIEST, _LATEST = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)
#: Records with more keys are read as maps.
_KEYS_MAX = 64
#: Sets of keys that are remembered.
_SHAPES_MAX = 256

_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_MAPS = msgspec.msgpack.Decoder(list[list[dict[str, Any]]])
_RAWS = msgspec.msgpack.Decoder(list[msgspec.Raw])


class PendingRun(msgspec.Struct, array_like=True, gc=False):
    """A run as a block has it (`edge_agent.store`); ``records`` is the array of its maps."""

    stream: str
    source: str
    source_seq: _Int64
    arrival_ns: _Int64
    synced: bool
    offset: int
    records: msgspec.Raw


class _Shape(NamedTuple):
    """How records with certain keys are read."""

    decoder: msgspec.msgpack.Decoder[list[list[Any]]]
    keys: tuple[str, ...]


_shapes: dict[tuple[str, ...], _Shape] = {}


class Pending:
    """Runs of one stream. ``numbers`` are three for each run: its first seq, the source's number,
    the arrival; ``body`` is their records, run behind run. ``more``: records beyond one a run.
    """

    __slots__ = (
        "_keys", "_senders", "_shape", "body", "log", "more", "numbers", "source", "synced",
    )  # fmt: skip

    def __init__(self) -> None:
        #: Of the records before; () behind some that were not alike.
        self._keys: tuple[str, ...] | None = None
        self._shape: _Shape | None = None
        #: Of the last run; "" without one.
        self.log = self.source = ""
        self.synced = False
        #: From which run on who sent them: log, source, whether the clock was set.
        self._senders: list[tuple[int, tuple[str, str, bool]]] = []
        self.clear()

    def clear(self) -> None:
        """Forget the runs, but not who sends them and how they are read."""
        self.numbers, self.body, self.more = array("q"), bytearray(), 0
        self._senders = [(0, sender) for _, sender in self._senders[-1:]]

    @property
    def runs(self) -> int:
        """How many runs there are."""
        return len(self.numbers) // 3

    @property
    def pending(self) -> int:
        """How many records there are."""
        return self.runs + self.more

    def sent_by(self, log: str, source: str, *, synced: bool) -> None:
        """What is true of the runs that are added from now on."""
        self.log, self.source, self.synced = log, source, synced
        self._senders.append((self.runs, (log, source, synced)))

    def sends(self, log: str, source: str, synced: bool) -> bool:
        """Whether `sent_by` said this last."""
        return source == self.source and synced is self.synced and log == self.log

    def put_all(self, first: int, runs: Sequence[PendingRun]) -> None:
        """Add runs of one record each, of a block whose seqs begin with ``first``."""
        numbers: list[int] = []
        add, body = numbers.append, self.body
        for run in runs:
            add(first + run.offset)
            add(run.source_seq)
            add(run.arrival_ns)
            body += run.records
        self.numbers.fromlist(numbers)

    def decoded(self) -> Rows:
        """The records. They are looked at, not taken."""
        numbers, rows = self.numbers, Rows()
        seqs, source_seqs, arrivals = (numbers[i::3].tolist() for i in range(3))
        counts, values = self._read(array_header(len(seqs)) + self.body, rows)
        if counts is None:
            rows.seqs, rows.source_seqs = seqs, source_seqs
            starts: Sequence[int] = range(len(seqs) + 1)
        else:
            starts = list(accumulate(counts, initial=0))
            for seq, number, count in zip(seqs, source_seqs, counts, strict=True):
                rows.seqs += range(seq, seq + count)
                rows.source_seqs += range(number, number + count) if number else [0] * count
            arrivals = [
                at for at, count in zip(arrivals, counts, strict=True) for _ in range(count)
            ]
        rows.times, qualities = _times(values, arrivals)
        ends = [*(begin for begin, _ in self._senders[1:]), len(seqs)]
        for (begin, sender), end in zip(self._senders, ends, strict=True):
            _add_ways(rows, sender, qualities, starts[begin], starts[end])
        return rows

    def _read(self, raw: bytes, rows: Rows) -> tuple[list[int] | None, list[Any]]:
        """Put the fields into ``rows``; how many records each run has (None: one), and what their
        times say.
        """
        if len(raw) > LEAN_FROM_BYTES:
            counts, rows.fields = _flat([_maps_of(one, lean_maps) for one in _RAWS.decode(raw)])
            self._shape, self._keys = None, ()
            return counts, _times_of(rows.fields)
        if self._shape is not None:
            try:
                return _read_alike(self._shape, raw, rows)
            except (ValueError, RecursionError, OverflowError):
                # Others have come. The same keys twice in a row, and it is tried again.
                self._shape, self._keys = None, ()
        try:
            lists = _MAPS.decode(raw)
        except (ValueError, RecursionError, OverflowError):
            # One record that cannot be read hides no other where each is read by itself.
            lists = [_maps_of(one, decode_maps) for one in _RAWS.decode(raw)]
        counts, rows.fields = _flat(lists)
        self._learn(rows.fields)
        return counts, _times_of(rows.fields)

    def _learn(self, fields: Sequence[dict[str, Any]]) -> None:
        keys = tuple(fields[0]) if fields else ()
        if self._keys is None:
            # Of a stream that is new here, as each is behind a flush: others may have such keys.
            self._shape = _shapes.get(keys)
        elif keys == self._keys and len(keys) <= _KEYS_MAX and set(keys) - {"time", "stream"}:
            self._shape = _shape_of(keys)
        self._keys = keys


def _times_of(maps: list[dict[str, Any]]) -> list[Any]:
    """What each says of its time, which is taken out of it, as is its stream."""
    values = []
    for fields in maps:
        values.append(fields.pop("time", None))
        if "stream" in fields:
            del fields["stream"]
    return values


def _read_alike(shape: _Shape, raw: bytes, rows: Rows) -> tuple[list[int] | None, list[Any]]:
    counts, records = _flat(shape.decoder.decode(raw))
    columns = map(list, zip(*map(msgspec.structs.astuple, records), strict=True))
    rows.columns = dict(zip(shape.keys, columns, strict=True))
    values = rows.columns.pop("time", None) or [None] * len(records)
    rows.columns.pop("stream", None)
    return counts, values


def _flat(lists: list[list[Any]]) -> tuple[list[int] | None, list[Any]]:
    """The records of runs, one behind the other, and how many each run has (None: one)."""
    try:
        return None, [one for (one,) in lists]
    except ValueError:
        return list(map(len, lists)), list(chain.from_iterable(lists))


def _shape_of(keys: tuple[str, ...]) -> _Shape | None:
    shape = _shapes.get(keys)
    if shape is None:
        try:
            shape = _made(keys)
        except ValueError:
            # A key with a quote, a backslash or a control character, which msgspec makes no field.
            return None
        if len(_shapes) >= _SHAPES_MAX:
            _shapes.clear()
        _shapes[keys] = shape
    return shape


def _made(keys: tuple[str, ...]) -> _Shape:
    names = [f"field{number}" for number in range(len(keys))]
    made = msgspec.defstruct(
        "_Alike",
        [(name, Any) for name in names],
        rename=dict(zip(names, keys, strict=True)),
        forbid_unknown_fields=True,
        gc=False,
    )
    return _Shape(msgspec.msgpack.Decoder(list[list[made]]), keys)  # type: ignore[valid-type] # made here


def _maps_of(
    records: msgspec.Raw, decode: Callable[[msgspec.Raw], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    try:
        return decode(records)
    except (ValueError, RecursionError, OverflowError):
        # No array at all, under a right checksum.
        return []


def _times(
    values: list[Any], arrivals: list[int]
) -> tuple[list[int], TimeQuality | list[TimeQuality]]:
    """When the records were measured, and whose clock says so: of all alike, or of each."""
    kinds = set(map(type, values))
    if kinds == {type(None)}:
        return arrivals, "arrival"
    if kinds == {datetime}:
        first, last = min(values), max(values)
        if first >= _EARLIEST and last < _LATEST:
            if last - first >= _DAY:
                return list(map(datetime_to_ns, values)), "sensor"
            begin, second = datetime_to_ns(first), NANOSECONDS
            times = [
                begin + since.seconds * second + since.microseconds * 1000
                for since in map(sub, values, repeat(first))
            ]
            return times, "sensor"
    found = list(map(time_of, values, arrivals))
    return [time_ns for time_ns, _ in found], [quality for _, quality in found]


def _add_ways(
    rows: Rows,
    sender: tuple[str, str, bool],
    qualities: TimeQuality | list[TimeQuality],
    begin: int,
    end: int,
) -> None:
    log, source, synced = sender
    if isinstance(qualities, str):
        rows.way_of += [rows.way(Way(log, source, qualities, synced, False))] * (end - begin)
        return
    some = qualities[begin:end]
    known = {one: rows.way(Way(log, source, one, synced, False)) for one in dict.fromkeys(some)}
    rows.way_of += map(known.__getitem__, some)


def counts_of(runs: Sequence[PendingRun], count: int) -> Iterable[int] | None:
    """How many records each run of a block has, by their offsets; None where those do not rise."""
    offsets = [run.offset for run in runs]
    if not runs or offsets[0]:
        return None
    if len(runs) == count and offsets == list(range(count)):
        return repeat(1, count)
    counts = list(map(sub, [*offsets[1:], count], offsets))
    return counts if min(counts) > 0 else None


def by_sender(runs: Iterable[PendingRun]) -> dict[tuple[str, str, bool], list[PendingRun]]:
    """The runs of each stream, source, and whether the clock was set."""
    found: defaultdict[tuple[str, str, bool], list[PendingRun]] = defaultdict(list)
    for run in runs:
        found[run.stream, run.source, run.synced].append(run)
    return found


def parts_of(run: PendingRun, bytes_max: int) -> Iterator[tuple[PendingRun, int]]:
    """A run in parts of at most `LOOSE_ROWS` records and about so many bytes, each with how many
    records it has.
    """
    try:
        for begun, array in array_slices(run.records):
            raws = _RAWS.decode(array)
            most = max(min(len(raws) * bytes_max // len(memoryview(array)), LOOSE_ROWS), 1)
            for at in range(0, len(raws), most):
                some, begin = raws[at : at + most], begun + at
                number = run.source_seq + begin if run.source_seq else 0
                common = (run.stream, run.source, number, run.arrival_ns, run.synced)
                records = msgspec.Raw(array_header(len(some)) + b"".join(some))
                yield PendingRun(*common, run.offset + begin, records), len(some)
    except (StoreDamaged, ValueError, RecursionError):
        # Under a right checksum: what lies behind it is sound.
        return
