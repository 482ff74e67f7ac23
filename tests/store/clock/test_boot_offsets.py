from __future__ import annotations

import pytest

from edge_agent.store import Engine, Entry
from edge_agent.store.clock import boot_offsets
from edge_agent.store.clock.boot_offsets import NO_CLOCKS, Clocks
from edge_agent.values.clock_note import ClockNote
from tests.store.conftest import Stores
from tests.store.support import START_NS, entry

BOOTS = [bytes([number]) * 16 for number in range(9)]


def note(boot: int, offset_ns: int = 5, *, boot_ns: int = 1, agent: str = "feed") -> ClockNote:
    return ClockNote(agent, BOOTS[boot], offset_ns, boot_ns, 1)


def with_notes(*notes: ClockNote) -> Clocks:
    return NO_CLOCKS.changed_by(notes, START_NS)[0]


def test_of_two_notes_about_a_boot_the_later_one_holds_whatever_comes_first() -> None:
    early, late = note(1, 5, boot_ns=1), note(1, 9, boot_ns=2)
    for order in ((early, late), (late, early), (early, late, early, late)):
        assert with_notes(*order).offsets == {("feed", BOOTS[1]): 9}


def test_a_note_that_says_nothing_new_changes_nothing() -> None:
    known = with_notes(note(1), note(2))
    assert known.changed_by([note(1), note(2)], 7) == (known, {})


def test_numbers_count_on_so_that_one_of_them_says_what_was_passed_on() -> None:
    known = with_notes(note(1), note(2))
    assert [number for number, _ in known.after(0)] == [1, 2]
    known = known.changed_by([note(1, 8, boot_ns=2)], 7)[0]
    assert known.after(2) == [(3, note(1, 8, boot_ns=2))]
    assert known.number == 3


def test_a_note_that_nobody_needs_is_kept_and_not_told() -> None:
    quiet = ClockNote("", BOOTS[1], 5, 1, 1, needed=False)
    known = with_notes(quiet)
    assert known.offsets == {("", BOOTS[1]): 5}
    assert known.after(0) == []
    louder = ClockNote("", BOOTS[1], 5, 1, 1, needed=True)
    assert known.changed_by([louder], 7)[0].after(0) == [(2, louder)]


def test_the_oldest_are_forgotten_ours_and_theirs_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot_offsets, "OWN_MAX", 2)
    monkeypatch.setattr(boot_offsets, "FOREIGN_MAX", 3)
    own = [note(boot, agent="") for boot in range(4)]
    foreign = [note(boot) for boot in range(5)]
    known, changes = NO_CLOCKS.changed_by([*own, *foreign], 7)
    assert set(known.offsets) == {
        ("", BOOTS[2]), ("", BOOTS[3]), ("feed", BOOTS[2]), ("feed", BOOTS[3]), ("feed", BOOTS[4]),
    }  # fmt: skip
    assert changes["", BOOTS[0]] is None


def told(engine: Engine) -> list[ClockNote]:
    return [found for _, found in engine.clock_notes(0)]


def test_notes_are_durable_and_ride_in_a_groups_transaction(stores: Stores) -> None:
    engine = stores.open()
    engine.commit([Entry(clocks=(note(1), note(2)))])
    engine.commit([entry(1, 1), Entry(clocks=(note(1, 9, boot_ns=3),))])
    assert told(engine) == [note(2), note(1, 9, boot_ns=3)]
    # Our own is the first: the clock was set, and nobody needs it.
    assert engine.clock_number() == 4
    engine.close()
    again = stores.open()
    assert told(again) == [note(2), note(1, 9, boot_ns=3)]
    assert again.clock_number() == 4


def test_what_is_forgotten_leaves_the_file(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot_offsets, "FOREIGN_MAX", 1)
    engine = stores.open()
    for boot in range(4):
        engine.commit([Entry(clocks=(note(boot),))])
    engine.close()
    assert told(stores.open()) == [note(3)]


def test_a_salvaged_store_still_knows_its_clocks(stores: Stores) -> None:
    stores.damaged.add("agent")
    engine = stores.open()
    engine.commit([entry(2, 1), Entry(clocks=(note(1),))])
    engine._failed, engine._damaged = "for this test", "for this test"
    engine.reopen()
    assert engine.salvage_report is not None
    assert told(engine) == [note(1)]
    assert engine.salvage_report["problems"] == []


def owned(agent: str, boot: int, owner: str | None, *, boot_ns: int = 1) -> ClockNote:
    return ClockNote(agent, boot.to_bytes(16), boot, boot_ns, 1, owner=owner)


def test_nobody_pushes_out_what_another_identity_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot_offsets, "OWNED_MAX", 4)
    monkeypatch.setattr(boot_offsets, "FOREIGN_MAX", 6)
    known = with_notes(owned("good", 1, "good"), *(owned("bad", n, "bad") for n in range(50)))
    assert {boot for boot in known.offsets if boot[0] == "good"} == {("good", bytes(15) + b"\1")}
    assert len(known) == 5
    # Where many identities share what there is, those give way that have most.
    known = known.changed_by([owned(f"x{n}", n, f"x{n}") for n in range(3)], 7)[0]
    assert len(known) == 6 and ("good", (1).to_bytes(16)) in known.offsets


def test_the_rightful_identitys_word_goes_before_what_was_there() -> None:
    for before in (None, "bad"):
        known = with_notes(owned("feed", 1, before, boot_ns=9))
        known = known.changed_by([owned("feed", 1, "good", boot_ns=2)], 7)[0]
        value = known.get("feed", (1).to_bytes(16))
        assert value is not None and (value.owner, value.boot_ns) == ("good", 2)
        # From then on the later one holds, as ever.
        assert known.news([owned("feed", 1, "good", boot_ns=1)]) == []


def test_an_impossible_boot_clock_does_not_hold_for_ever() -> None:
    known = with_notes(note(1, 5, boot_ns=2**63 - 1))
    assert known.changed_by([note(1, 9, boot_ns=3)], 7)[0].offsets == {("feed", BOOTS[1]): 9}
