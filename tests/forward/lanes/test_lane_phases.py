from __future__ import annotations

import pytest

from edge_agent.forward.lanes import lane_phases
from edge_agent.forward.lanes.lane_phases import TRANSITIONS, Event, Phase, next_phase

#: Written out a second time, from the module's docstring: the table against the table.
EXPECTED = """
CAUGHT_UP   SENDING BACKING_OFF -       -       CAUGHT_UP -       PAUSED
SENDING     SENDING BACKING_OFF HALVING -       CAUGHT_UP STOPPED PAUSED
BACKING_OFF -       -           -       SENDING -         -       PAUSED
HALVING     SENDING BACKING_OFF -       -       CAUGHT_UP STOPPED PAUSED
STOPPED     -       -           -       SENDING -         -       PAUSED
PAUSED      -       BACKING_OFF -       SENDING -         -       PAUSED
"""
ROWS = {words[0]: words[1:] for words in map(str.split, EXPECTED.strip().splitlines())}


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("event", Event)
def test_every_pair_of_phase_and_event_does_what_the_table_says(phase: Phase, event: Event) -> None:
    columns = ("RECORDS", "UNAVAILABLE", "REFUSED", "RETRY", "DRAINED", "GAVE_UP", "HELD")
    expected = ROWS[phase.name][columns.index(event.name)]
    if expected == "-":
        with pytest.raises(AssertionError, match=phase.value):
            next_phase(phase, event)
    else:
        assert next_phase(phase, event) is Phase[expected]


def test_every_phase_has_a_row_and_only_a_person_or_something_new_leaves_stopped() -> None:
    assert set(TRANSITIONS) == set(Phase)
    assert set(TRANSITIONS[Phase.STOPPED]) == {Event.HELD, Event.RETRY}
    reached = {to for row in TRANSITIONS.values() for to in row.values()}
    assert reached == set(Phase)


def test_the_docstring_shows_the_table_as_it_is() -> None:
    assert lane_phases.__doc__ is not None
    shown = [line.split() for line in lane_phases.__doc__.splitlines() if line.strip()]
    for name, cells in ROWS.items():
        row = next(words for words in shown if words[0] == name)
        assert [cell.replace("–", "-") for cell in row[1:]] == cells
