from __future__ import annotations

from edge_agent.store import Entry, Numbering, Position, Quarantined
from tests.store.conftest import Stores
from tests.store.support import START_NS, entry


def bad(number: int = 0, size: int = 10, code: str = "bad_time") -> Quarantined:
    return Quarantined(code, "why", "a/1", "pi", number, START_NS, b"x" * size)


def test_a_position_and_its_state_come_with_the_records(stores: Stores) -> None:
    engine = stores.open()
    assert engine.position("up", "main") == (0, None)
    engine.commit([entry(5, 1), Entry(positions=(Position("up", "main", 3, b"open windows"),))])
    assert engine.position("up", "main") == (3, b"open windows")
    assert engine.position("up", "other") == (0, None)


def test_a_floor_goes_up_only_and_down_only_by_rewind(stores: Stores) -> None:
    engine = stores.open()
    engine.commit([entry(5, 1), Entry(positions=(Position("up", "main", 4),))])
    engine.commit([Entry(positions=(Position("up", "main", 2, b"s"),))])
    assert engine.position("up", "main") == (4, b"s")
    engine.commit([Entry(positions=(Position("up", "main", 2, rewind=True),))])
    assert engine.position("up", "main") == (2, b"s")


def test_nobody_can_have_done_more_than_there_is(stores: Stores) -> None:
    engine = stores.open()
    ahead = Entry(positions=(Position("up", "main", 100), Position("up", "nolog", 3)))
    engine.commit([entry(5, 1), ahead])
    assert engine.position("up", "main") == (5, None)
    assert engine.position("up", "nolog") == (0, None)


def test_quarantine_keeps_the_first_4_kib_with_the_reason(stores: Stores) -> None:
    engine = stores.open()
    result = engine.commit([Entry(quarantine=(bad(size=10_000), bad(code="too_big")))])
    assert result.quarantined == {"bad_time": 1, "too_big": 1}
    (first, kept), (second, _) = engine.quarantine(0, 10)
    assert (first, second) == (1, 2)
    assert (kept.code, kept.reason, kept.stream, len(kept.body)) == ("bad_time", "why", "a/1", 4096)
    assert engine.quarantine(1, 10)[0][0] == 2
    assert len(engine.quarantine(0, 1)) == 1
    assert engine.quarantine(2, 10) == []


def test_a_refused_record_sent_again_is_quarantined_once(stores: Stores) -> None:
    engine = stores.open()
    nacked = Entry(numbering=Numbering("pi", 1, 3), quarantine=(bad(2),))
    engine.commit([nacked])
    engine.commit([nacked, Entry(quarantine=(bad(0),))])
    assert [item.number for _, item in engine.quarantine(0, 10)] == [2, 0]


def test_quarantine_drops_its_oldest_at_its_share(stores: Stores) -> None:
    engine = stores.open(quarantine_share=0.01)
    for _ in range(30):
        engine.commit([Entry(quarantine=(bad(size=4096),))])
    statistics = engine.statistics()
    assert statistics.quarantine_bytes <= 0.01 * statistics.size
    assert statistics.quarantine_dropped == 30 - statistics.quarantine_entries > 0
    assert engine.quarantine(0, 1)[0][0] == statistics.quarantine_dropped + 1
    assert engine.quarantine(29, 10)[0][0] == 30
