"""After each run: is everything that was acked in the store, unchanged and in order?"""

from __future__ import annotations

import os
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge_agent.store import Block, Engine, RunView, StoreSettings
from edge_agent.system.clock import SystemClock

READ_BYTES = 4 * 1024 * 1024


def verify(
    data: Path, acked: int, checksums: Mapping[str, Sequence[int]], *, by_stream: bool = False
) -> None:
    """Compare the store under ``data`` with what was acked: count, and CRC-32 of each source, or
    of each stream.

    ``checksums`` maps its name to its number of records and the CRC of their bytes, joined; empty
    where the records were sent as JSON and so are stored in other bytes. The agent must have ended.

    Raises:
        SystemExit: something is missing, doubled or changed; no figure may be printed.
    """
    counts: dict[str, int] = defaultdict(int)
    crcs: dict[str, int] = defaultdict(int)
    engine = Engine.open(data, StoreSettings(), clock=SystemClock(), entropy=os.urandom)
    try:
        after = 0
        while items := engine.read("main", after, READ_BYTES):
            for block in items:
                if not isinstance(block, Block):
                    raise SystemExit(f"{data}: the store has a gap: {block}")
                for run in block.runs():
                    name = run.stream if by_stream else run.source
                    counts[name] += run.count
                    crcs[name] = zlib.crc32(body_of(run), crcs[name])
            after = items[-1].last
    finally:
        engine.close()
    if sum(counts.values()) != acked:
        raise SystemExit(f"{data}: {acked} records were acked, {sum(counts.values())} are stored")
    for name, (count, crc) in checksums.items():
        if (counts[name], crcs[name]) != (count, crc):
            raise SystemExit(f"{data}: what is stored of {name} is not what was acked")


def body_of(run: RunView) -> memoryview:
    """The joined records of a run, behind their msgpack array header."""
    head = 1 if run.count < 16 else 3 if run.count < 65_536 else 5
    return memoryview(run.records)[head:]
