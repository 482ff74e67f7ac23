"""A store with everything in it, made, read, scrubbed or salvaged by a process of its own.

``python -m tests.end_to_end.page_store make|read|scrub PATH``; what is found is printed as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from edge_agent.store import Engine, Entry, Gap, Position, Quarantined
from edge_agent.store.settings import ConsumerSettings, LogSettings, StoreSettings
from tests.manual_clock import ManualClock
from tests.store.support import MIB, START_NS, entry, read_all, records, seeded

SETTINGS = StoreSettings(
    size=16 * MIB,
    compression_level=0,
    logs=(LogSettings("alarms", ("alarms/**",), share=0.1), LogSettings("main", share=0.7)),
    consumers=(ConsumerSettings("upstream/hub", "main"),),
)
#: Bytes of padding: blocks within leaf pages, of one page, of several, whatever a page has.
PADS = (0, 150, 1000, 20_000)


def make(path: Path) -> None:
    """Fill it until its main log is at its share and has turned over."""
    engine = _open(path)
    engine.commit([Entry(positions=(Position("upstream/hub", "main", 0, b"state"),))])
    first = 1
    while engine.first_seq("main") < 200:
        entries = [entry(7, first, pad=PADS[first % 4], value=first)]
        if first % 5 == 0:
            alarms: dict[str, Any] = {"source": "alarms", "stream": "alarms/x", "pad": 900}
            entries.append(entry(2, engine.next_of("alarms") or 1, **alarms))
        if first % 9 == 0:
            bad = Quarantined("bad_time", "why", "a", "pi", 0, START_NS, bytes(first % 4000))
            entries.append(Entry(quarantine=(bad,)))
        if first > 300:
            floor = engine.last_seq("main") - 300
            entries.append(Entry(positions=(Position("upstream/hub", "main", floor, b"state"),)))
        engine.commit(entries)
        first += 7
    engine.close()


def read(path: Path) -> dict[str, Any]:
    """What is in it: to be the same wherever it is read, and after it was written anew."""
    engine = _open(path)
    held = engine.statistics()
    told = {
        "page_bytes": engine._tools.page_bytes,
        "main": [record.fields["v"] for record in records(engine)],
        "alarms": [record.seq for record in records(engine, "alarms")],
        "quarantined": len(engine.quarantine(0, 10_000)),
        "floor": engine.position("upstream/hub", "main")[0],
        "gaps": sorted({one.reason for one in read_all(engine) if isinstance(one, Gap)}),
        "fill": max(log.bytes / log.share_bytes for log in held.logs.values()),
        "salvaged": engine.salvage_report,
    }
    engine.close()
    return told


def scrub(path: Path) -> dict[str, Any]:
    """One pass over all of it."""
    engine = _open(path)
    after, blocks, damaged = b"", 0, 0
    while True:
        step = engine.scrub(after, 64 * 1024)
        blocks, damaged, after = blocks + step.blocks, damaged + len(step.damaged), step.after
        if not after:
            break
    salvaged = engine.salvage_report
    engine.close()
    return {"blocks": blocks, "damaged": damaged, "salvaged": salvaged}


def _open(path: Path) -> Engine:
    return Engine.open(path, SETTINGS, clock=ManualClock(), entropy=seeded(1))


if __name__ == "__main__":
    found = {"make": make, "read": read, "scrub": scrub}[sys.argv[1]](Path(sys.argv[2]))
    print(json.dumps(found))
