from __future__ import annotations

import pytest

from edge_agent.errors import StoreFull
from edge_agent.store import ConsumerView, Entry, LogSettings, Numbering, Position, Quarantined
from tests.store.conftest import Stores
from tests.store.support import START_NS, entry, run


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
    assert [number for number, _ in engine.newest_quarantine(10)] == [2, 1]
    assert [number for number, _ in engine.newest_quarantine(1)] == [2]


def test_without_quarantine_there_is_no_newest_entry(stores: Stores) -> None:
    engine = stores.open()
    assert engine.newest_quarantine(5) == []
    engine.commit([entry(5, 1)])
    assert engine.newest_quarantine(5) == []


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


def test_quarantine_begins_with_an_entry_that_is_there_whoever_took_those_before(
    stores: Stores,
) -> None:
    # Each takes two pages; the fixture's checker counts them all afterwards.
    engine = stores.open(quarantine_share=0.01)
    engine.commit([Entry(quarantine=(bad(size=4096),) * 4)])
    engine.commit([Entry(released=(2, 3))])
    while engine.statistics().quarantine_dropped == 0:
        engine.commit([Entry(quarantine=(bad(size=4096),))])
    assert engine.quarantine(0, 1)[0][0] == 4
    statistics = engine.statistics()
    assert statistics.quarantine_entries == len(engine.quarantine(0, 100))


def test_a_persons_orders_are_kept_beside_the_floor(stores: Stores) -> None:
    engine = stores.open()
    engine.commit([entry(9, 1), Entry(positions=(Position("up", "main", 2, b"s"),))])
    engine.commit([Entry(positions=(Position("up", "main", 0, order="pause"),))])
    engine.commit([Entry(positions=(Position("up", "main", 4),))])
    (view,) = engine.consumers()
    assert view == ConsumerView("up", "main", 4, b"s", paused=True, skipped=0)
    engine.commit([Entry(positions=(Position("up", "main", 0, order="resume"),))])
    assert not engine.consumers()[0].paused


def test_what_is_skipped_is_counted_as_discarded_once(stores: Stores) -> None:
    engine = stores.open()
    engine.commit([entry(9, 1), Entry(positions=(Position("up", "main", 2),))])
    result = engine.commit([Entry(positions=(Position("up", "main", 7, order="skip"),))])
    assert result.discarded == {"main": 5}
    assert (engine.consumers()[0].floor, engine.consumers()[0].skipped) == (7, 5)
    assert engine.statistics().logs["main"].discarded == 5
    again = engine.commit([Entry(positions=(Position("up", "main", 7, order="skip"),))])
    assert again.discarded == {}


def test_a_forgotten_position_is_gone(stores: Stores) -> None:
    engine = stores.open()
    engine.commit([entry(9, 1), Entry(positions=(Position("up", "main", 2),))])
    engine.commit([Entry(positions=(Position("up", "main", 0, order="forget"),))])
    assert engine.consumers() == [] and engine.position("up", "main") == (0, None)


@pytest.mark.parametrize("numbers", [(1,), (3,), (5,), (2, 3), (1, 2, 3, 4, 5), (1, 2, 5), (9,)])
def test_entries_taken_out_leave_holes_that_add_up(
    stores: Stores, numbers: tuple[int, ...]
) -> None:
    engine = stores.open()
    engine.commit([Entry(quarantine=tuple(bad(size=10 * n) for n in range(1, 6)))])
    engine.commit([Entry(released=numbers)])
    left = [n for n in range(1, 6) if n not in numbers]
    assert [number for number, _ in engine.quarantine(0, 10)] == left
    assert engine.statistics().quarantine_entries == len(left)
    engine.commit([Entry(quarantine=(bad(),))])
    assert [number for number, _ in engine.quarantine(0, 10)] == [*left, 6]


def test_holes_are_passed_when_the_oldest_make_room(stores: Stores) -> None:
    engine = stores.open(quarantine_share=0.01)
    engine.commit([Entry(quarantine=tuple(bad(size=4096) for _ in range(4)))])
    engine.commit([Entry(released=(2, 3))])
    for _ in range(6):
        engine.commit([Entry(quarantine=(bad(size=4096),))])
    found = [number for number, _ in engine.quarantine(0, 100)]
    statistics = engine.statistics()
    assert found == list(range(found[0], 11)) and statistics.quarantine_entries == len(found)
    assert statistics.quarantine_dropped == 10 - len(found) - 2


def test_what_is_read_again_and_its_release_are_one_commit(stores: Stores) -> None:
    engine = stores.open(logs=(LogSettings("main", when_full="refuse", share=0.05),))
    engine.commit([Entry(runs=(run(1),), quarantine=(bad(),))])
    replay = Entry(runs=(run(1, pad=200_000),), released=(1,))
    (answer,) = engine.commit([replay]).answers
    assert isinstance(answer, StoreFull) and len(engine.quarantine(0, 9)) == 1
    engine.commit([Entry(runs=(run(1),), released=(1,))])
    assert engine.quarantine(0, 9) == [] and engine.last_seq("main") == 2
