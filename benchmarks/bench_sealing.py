"""What encryption of what is stored costs: the same commits and the same reading, with a key and
without.

Measured is CPU time of this process, all threads. Commits come one after the other, each of so many
records of one source; then all of it is read, as a forwarder does.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.records import encoded_records
from benchmarks.section import Section
from benchmarks.table import markdown
from edge_agent.seal import OPEN, KeyRing
from edge_agent.store import Engine, Entry, Numbering, StoreSettings
from edge_agent.system.clock import SystemClock
from edge_agent.values.record import Run

MIB = 1024 * 1024
#: Records of a commit: a slow site's, a busy one's, a flood's.
PER_COMMIT = (10, 200, 3000)
RECORDS = 300_000
_READ_BYTES = 1 * MIB


@dataclass(frozen=True, slots=True)
class SealRow:
    """One way. ``commit_us`` and ``read_us``: CPU of a record. ``stored``: bytes of a record."""

    what: str
    per_commit: int
    commit_us: float
    read_us: float
    stored: float


def measure(folder: Path, what: str, keys: KeyRing, per_commit: int, records: int) -> SealRow:
    """One way, on a store of its own."""
    settings = StoreSettings(size=256 * MIB, keys=keys)
    engine = Engine.open(folder, settings, clock=SystemClock(), entropy=os.urandom)
    try:
        encoded = encoded_records(distinct=per_commit)
        count = max(records // per_commit, 1)
        entries = [_entry(encoded, 1 + n * per_commit) for n in range(count)]
        began = time.process_time()
        for entry in entries:
            engine.commit([entry])
        committed = time.process_time()
        after = 0
        while found := engine.read("main", after, _READ_BYTES):
            after = found[-1].last
        read = time.process_time()
        total = count * per_commit
        assert after == total, "all of it is read"
        held = engine.statistics().logs["main"].bytes
        return SealRow(
            what,
            per_commit,
            (committed - began) / total * 1e6,
            (read - committed) / total * 1e6,
            held / total,
        )
    finally:
        engine.close()
        shutil.rmtree(folder)


def _entry(encoded: Sequence[bytes], first: int) -> Entry:
    now_ns, count = time.time_ns(), len(encoded)
    run = Run("site/1", "bench", first, now_ns, True, count, b"".join(encoded), now_ns, now_ns)
    return Entry(runs=(run,), numbering=Numbering("bench", first, first + count))


def section(folder: Path, tiny: bool) -> Section:
    """With and without, for each size of a commit, as a chapter of the results."""
    ways = {"open": OPEN, "sealed": KeyRing((os.urandom(32),), os.urandom)}
    records = 3000 if tiny else RECORDS
    rows = [
        measure(folder / f"{what}-{per_commit}", what, keys, per_commit, records)
        for per_commit in PER_COMMIT
        for what, keys in ways.items()
    ]
    head = ("records a commit", "store", "commit, CPU us/record", "read, CPU us/record",
            "bytes/record")  # fmt: skip
    cells = [
        (f"{row.per_commit:,}", row.what, f"{row.commit_us:.2f}", f"{row.read_us:.2f}",
         f"{row.stored:.1f}")
        for row in rows
    ]  # fmt: skip
    return Section(f"## Sealing: what a key for the store costs\n\n{markdown(head, cells)}")
