"""A store with history, as tests of whole files want it: made by a real engine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgpack

from edge_agent.digest import HistoryFile, HistoryOwner, HistoryWriter, Keep
from edge_agent.history.keys import DAY_NS, HOUR_NS
from edge_agent.seal import OPEN, KeyRing
from edge_agent.store import Engine, Entry, StoreSettings
from edge_agent.system.clock import Reading
from edge_agent.values.record import Run

#: Midnight of a day in 2026.
MIDNIGHT_NS = 20_700 * DAY_NS
LIMIT_BYTES = 8 * 1024 * 1024


class SetClock:
    """A clock that is set and shows what it is told."""

    def __init__(self) -> None:
        self.now_ns = MIDNIGHT_NS

    def read(self) -> Reading:
        """As told."""
        return Reading(self.now_ns, self.now_ns - MIDNIGHT_NS + DAY_NS, bytes(16), True)


def run_of(stream: str, seq: int, times: Iterable[int], **fields: Any) -> Run:
    """Records with these fields, at these times."""
    moments = list(times)
    body = b"".join(
        msgpack.packb({"time": msgpack.Timestamp(*divmod(time_ns, 10**9)), **fields})
        for time_ns in moments
    )
    count, low, high = len(moments), min(moments), max(moments)
    return Run(stream, "source", seq, high, True, count, body, low, high)


def flushed(
    path: Path, batches: Iterable[list[Run]], step_ns: int = HOUR_NS, seals: KeyRing = OPEN
) -> None:
    """A store and a history below ``path``, a flush for each batch and ``step_ns`` between them;
    ``seals``: of history.
    """
    clock = SetClock()
    engine = Engine.open(path, StoreSettings(size=16 * 2**20), clock=clock, entropy=os.urandom)
    identity = engine.identity
    file, _ = HistoryFile.open(
        path, LIMIT_BYTES, HistoryOwner(identity.store_id, identity.epoch, seals)
    )
    history = HistoryWriter(file, Keep(3660 * DAY_NS, 3660 * DAY_NS, 3660 * DAY_NS))
    for runs in batches:
        clock.now_ns += step_ns
        engine.commit([Entry(runs=tuple(runs))])
        items = engine.read("main", history.digested.get("main", 0), 10**9)
        for _ in history.take(items, clock.now_ns):
            pass
        *_, flush = history.flush(clock.now_ns)
        assert flush is not None
        file.write(flush)
        history.flushed()
    file.close()
    engine.close()
