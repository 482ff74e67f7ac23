from __future__ import annotations

from edge_agent.store import Entry, Quarantined
from tests.store.conftest import Stores
from tests.store.support import MIB, START_NS, entry


def test_statistics_tell_what_is_there(stores: Stores) -> None:
    engine = stores.open(size=2 * MIB)
    empty = engine.statistics()
    assert (empty.size, empty.sources, empty.logs["main"].oldest_stored_ns) == (2 * MIB, 0, 0)
    engine.commit([entry(5, 1)])
    stores.clock.advance(10)
    bad = Quarantined("bad_time", "why", "a", "pi", 6, START_NS, b"x")
    engine.commit([entry(2, 6), Entry(quarantine=(bad,))])
    full = engine.statistics()
    log = full.logs["main"]
    assert (log.records, log.first, log.last, log.oldest_stored_ns) == (7, 1, 7, START_NS)
    assert (full.sources, full.quarantine_entries) == (1, 1)
    assert 0 < log.bytes < full.used_bytes < full.size


def test_steps_of_the_clock_are_counted(stores: Stores) -> None:
    engine = stores.open()
    stores.clock.step_wall(5)
    engine.trim()
    assert engine.statistics().clock_steps == 1
