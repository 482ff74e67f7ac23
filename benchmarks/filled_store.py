"""A real store with history that is filled second by second, on a clock that shows the data's time.

Records are committed, read back as blocks, digested, and flushed as in the agent, but at once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack

from benchmarks.history_data import FIELDS, Reading, stream_name
from edge_agent.digest import FLUSH_EVERY_S, HistoryFile, HistoryOwner, HistoryWriter, Keep
from edge_agent.history.keys import DAY_NS
from edge_agent.store import Engine, Entry, Position, StoreSettings
from edge_agent.system.clock import Reading as ClockReading
from edge_agent.values.record import Run

#: Seconds of data in one commit here: what a commit costs is measured elsewhere.
COMMIT_S = 10
FLUSH_S = int(FLUSH_EVERY_S)
_KEEP = Keep(90 * DAY_NS, 731 * DAY_NS, 3660 * DAY_NS)
_NS = 10**9


class SimulatedClock:
    """Shows the time of the data."""

    def __init__(self, start_s: int, at_s: int) -> None:
        self._start_ns = start_s * _NS
        self.now_ns = self._start_ns + at_s * _NS

    def read(self) -> ClockReading:
        """Always set."""
        return ClockReading(self.now_ns, self.now_ns - self._start_ns + DAY_NS, bytes(16), True)


class FilledStore:
    """The store, its history, and what digesting took; opened ``at_s`` seconds after the start."""

    def __init__(
        self,
        data: Path,
        start_s: int,
        *,
        commit_s: int = COMMIT_S,
        flush_s: int = FLUSH_S,
        at_s: int = 0,
    ) -> None:
        data.mkdir(parents=True, exist_ok=True)
        self._start_s, self._commit_s, self._flush_s = start_s, commit_s, flush_s
        self._clock = SimulatedClock(start_s, at_s)
        self._engine = Engine.open(
            data, StoreSettings(size=2**30), clock=self._clock, entropy=os.urandom
        )
        identity = self._engine.identity
        owner = HistoryOwner(identity.store_id, identity.epoch)
        file, _ = HistoryFile.open(data, 2**31, owner)
        self.history = HistoryWriter(file, _KEEP)
        self._runs: list[Run] = []
        self.records = 0
        self.digest_s = 0.0
        self.written = 0
        self.steps_s: list[float] = []

    def add(self, readings: list[Reading], second: int, *, last: bool = False) -> None:
        """What arrived until ``second``, counted from the start; ``last`` writes all of it."""
        self._runs += [_run(reading, second) for reading in readings]
        self._clock.now_ns = (self._start_s + second) * _NS
        if second % self._commit_s == 0 or last:
            self._commit()
        if second % self._flush_s == 0 or last:
            self._flush()

    def close(self) -> None:
        """Close the store; history's file stays open for who asks it."""
        self._engine.close()

    def _commit(self) -> None:
        self._engine.commit([Entry(runs=tuple(self._runs))])
        self.records += len(self._runs)
        self._runs = []
        history = self.history
        while items := self._engine.read("main", history.digested.get("main", 0), 256 * 1024):
            self._timed(history.take(items, self._clock.now_ns))

    def _flush(self) -> None:
        flush = self._timed(self.history.flush(self._clock.now_ns))
        began = time.process_time()
        self.history.file.write(flush)
        self.digest_s += time.process_time() - began
        self.written += sum(map(len, flush.puts.values()))
        self.history.flushed()
        position = Position("history", "main", flush.header.positions["main"])
        self._engine.commit([Entry(positions=(position,))])

    def _timed(self, steps: Iterator[Any]) -> Any:
        last = None
        while True:
            began, cpu = time.perf_counter(), time.process_time()
            try:
                last = next(steps)
            except StopIteration:
                return last
            finally:
                self.digest_s += time.process_time() - cpu
                self.steps_s.append(time.perf_counter() - began)


def _run(reading: Reading, number: int) -> Run:
    stream, time_ns, values = reading
    moment = msgpack.Timestamp(*divmod(time_ns, _NS))
    body = msgpack.packb({"time": moment} | dict(zip(FIELDS, values, strict=True)))
    return Run(
        stream_name(stream), f"dev{stream}", number, time_ns, True, 1, body, time_ns, time_ns
    )
