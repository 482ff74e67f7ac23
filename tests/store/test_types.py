from __future__ import annotations

from edge_agent.store import Entry
from edge_agent.values.clock_note import ClockNote
from tests.store.support import entry, foreign, run


def test_an_entry_counts_the_records_of_runs_and_blocks() -> None:
    assert Entry().count == 0
    assert Entry(runs=(run(3), run(2)), blocks=(foreign(4, 1),)).count == 9


def test_an_entrys_size_grows_with_what_it_holds_in_memory() -> None:
    assert entry(10, 1, pad=1000).size_bytes > 10_000
    assert Entry().size_bytes > 0


def test_clock_notes_weigh_something_too() -> None:
    notes = tuple(ClockNote("feed", number.to_bytes(16, "big"), 5, 6) for number in range(100))
    assert Entry(clocks=notes).size_bytes > 100 * 200
