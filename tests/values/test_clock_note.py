from __future__ import annotations

from edge_agent.values.clock_note import HOPS_MAX, ClockNote


def test_a_note_is_its_own_first_hop_and_needed_unless_told() -> None:
    note = ClockNote("feedfacecafe", bytes(16), 5, 6)
    assert (note.hops, note.needed) == (1, True)
    assert note == ClockNote("feedfacecafe", bytes(16), 5, 6, 1, True)
    assert note.hops < HOPS_MAX
