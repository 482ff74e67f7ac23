"""What the tests of digesting share: a store that is driven by hand, and history as records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from edge_agent.digest import HistoryFile, HistoryOwner, HistoryWriter, Keep
from edge_agent.digest.file import Flush
from edge_agent.history import checked, keys, scan
from edge_agent.history.format.rollup import all_cells_of, decode_rollup, records_in
from edge_agent.history.format.segment import decode_segment, records_of
from edge_agent.seal import OPEN, KeyRing
from edge_agent.store import Engine, Entry
from edge_agent.values.record import Record, Run
from tests.manual_clock import ManualClock
from tests.store.support import pack, seeded, small

MIB = 1024 * 1024
#: The beginning of an hour and of a day.
DAY = 1_795_341_600 * 10**9 // keys.DAY_NS * keys.DAY_NS
FOREVER = Keep(4 * 10**18, 4 * 10**18, 4 * 10**18)


class Bench:
    """A store and its history below one folder, driven by hand."""

    def __init__(self, path: Path, *, limit: int = 64 * MIB, keep: Keep = FOREVER) -> None:
        self.path, self.limit, self.keep = path, limit, keep
        self.clock = ManualClock(DAY)
        self.engine = Engine.open(path, small(size=16 * MIB), clock=self.clock, entropy=seeded(1))
        self.told = ""
        self.all_logged = True
        self.seals: KeyRing = OPEN
        self.history = self.opened()

    def opened(self) -> HistoryWriter:
        identity = self.engine.identity
        owner = HistoryOwner(
            identity.store_id, identity.epoch, self.seals, all_logged=self.all_logged
        )
        file, self.told = HistoryFile.open(self.path, self.limit, owner)
        history = HistoryWriter(file, self.keep)
        for log in ("main",):
            history.rewind(log, self.engine.last_seq(log))
        return history

    def reopen(self) -> None:
        """As after a crash: what was not flushed is gone."""
        self.history.file.close()
        self.history = self.opened()

    def close(self) -> None:
        self.history.file.close()
        self.engine.close()

    def now(self) -> int:
        return self.clock.read().wall_ns

    def send(self, *found: tuple[int, Mapping[str, Any]], stream: str = "a/1") -> None:
        """Records (time in ns, fields) of one stream, one commit."""
        self.commit([run(found, stream=stream, arrival_ns=self.now())])

    def commit(self, runs: Sequence[Run]) -> None:
        self.engine.commit([Entry(runs=tuple(runs))])

    def take(self) -> None:
        while items := self.engine.read("main", self.history.digested.get("main", 0), MIB):
            for _ in self.history.take(items, self.now()):
                pass

    def flush(self, *, trusted: bool = True) -> Flush:
        """Digest and flush all that there is."""
        self.take()
        flush = made(self.history, self.now(), trusted=trusted)
        self.history.file.write(flush)
        self.history.flushed()
        return flush


def made(history: HistoryWriter, now_ns: int, *, trusted: bool = True) -> Flush:
    *pauses, flush = history.flush(now_ns, trusted=trusted)
    assert flush is not None and not any(pauses)
    return flush


def run(
    found: Sequence[tuple[int, Mapping[str, Any]]],
    *,
    stream: str = "a/1",
    source: str = "pi",
    first: int = 0,
    arrival_ns: int = DAY,
    synced: bool = True,
) -> Run:
    # As a number of seconds, which is exact to the microsecond.
    bodies = [pack({"time": time_ns / 1e9, **fields}) for time_ns, fields in found]
    times = [time_ns for time_ns, _ in found]
    body = b"".join(bodies)
    return Run(stream, source, first, arrival_ns, synced, len(found), body, min(times), max(times))


def parts(file: HistoryFile, level: int) -> Iterator[tuple[keys.PartKey, bytes]]:
    return file.parts(level, -(2**31), 2**31 - 2)


def kept(file: HistoryFile) -> list[Record]:
    """Every record in the file, by seq."""
    found = [
        record
        for place, raw in parts(file, keys.RAW)
        for record in records_of(decode_segment(raw), file.names[place.series])
    ]
    return sorted(found, key=lambda one: (one.log, one.seq))


def figures(file: HistoryFile, level: int) -> dict[tuple[str, int], tuple[int, dict[str, Any]]]:
    """By stream and start of the unit: how many records, and sum, min and max of the fields. Hours
    are those of days and of months.
    """
    found: dict[tuple[str, int], tuple[int, dict[str, Any]]] = {}
    joined = parts(file, keys.MONTHS) if level == keys.HOURS else ()
    for place, raw in chain(joined, parts(file, level)):
        rollup, stream = decode_rollup(raw), file.names[place.series]
        records = records_in(rollup)
        for start, count in zip(records.starts, records.counts, strict=True):
            before, fields = found.get((stream, start), (0, {}))
            found[stream, start] = (before + count, fields)
        for path, cells in all_cells_of(rollup):
            assert cells.exact
            power = 10**cells.scale
            for start, total, low, high in zip(
                cells.starts, cells.sums, cells.mins, cells.maxs, strict=True
            ):
                fields = found[stream, start][1]
                one = (round(total / power, 6), low / power, high / power)
                two = fields.get(".".join(path), (0.0, one[1], one[2]))
                fields[".".join(path)] = (
                    round(one[0] + two[0], 6), min(one[1], two[1]), max(one[2], two[2])
                )  # fmt: skip
    return found


def expected_figures(
    records: Sequence[Record], unit_ns: int, *, until: int = 2**63
) -> dict[tuple[str, int], tuple[int, dict[str, Any]]]:
    """What `figures` gives, made from records in plain Python."""
    found: dict[tuple[str, int], tuple[int, dict[str, Any]]] = {}
    for one in records:
        start = one.time_ns // unit_ns * unit_ns
        if start >= until:
            continue
        count, fields = found.get((one.stream, start), (0, {}))
        for name, value in one.fields.items():
            if isinstance(value, (int, float)):
                total, low, high = fields.get(name, (0.0, value, value))
                fields[name] = (round(total + value, 6), min(low, value), max(high, value))
        found[one.stream, start] = (count + 1, fields)
    return found


def everything(file: HistoryFile) -> tuple[Any, ...]:
    """All that history says, however it lies."""
    header = file.header
    return (
        kept(file), figures(file, keys.MINUTES), figures(file, keys.HOURS),
        header.positions, header.records, header.missed, sorted(file.numbers),
    )  # fmt: skip


def raw_values(file: HistoryFile) -> dict[bytes, bytes]:
    """The whole file, checked."""
    with file._env.begin(buffers=True) as txn:
        return {key: bytes(checked(key, raw)) for key, raw in scan(txn, keys.SERIES, b"\xff")}


Opened = Callable[..., Bench]
