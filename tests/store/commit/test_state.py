from __future__ import annotations

from edge_agent.store.commit.state import EXPECTED_MAX, Counts, State
from edge_agent.store.format.values import LogHeader, QuarantineHeader


def test_a_copy_can_be_thrown_away_or_adopted() -> None:
    state = State({"main": LogHeader(1)}, QuarantineHeader(), 0)
    copy = state.copy()
    copy.logs["main"] = LogHeader(1, 1, 9)
    copy.sources = 4
    assert (state.logs["main"].last, state.sources) == (0, 0)
    logs = state.logs
    state.adopt(copy)
    assert (logs["main"].last, state.sources) == (9, 4)


def test_numbers_kept_in_memory_are_those_last_adopted_and_bounded() -> None:
    state = State({}, QuarantineHeader(), 0, expected={"pi": 3})
    copy = state.copy()
    assert copy.expected == {}
    copy.expected["pi"] = 5
    assert state.expected == {"pi": 3}
    state.adopt(copy)
    assert state.expected == {"pi": 5}
    copy.expected = {f"s{number}": 1 for number in range(EXPECTED_MAX)}
    state.adopt(copy)
    assert state.expected == copy.expected


def test_a_welcome_during_a_transaction_is_not_lost() -> None:
    state = State({}, QuarantineHeader(), 0, {"pi"})
    copy = state.copy()
    state.stopped.discard("pi")
    state.adopt(copy)
    assert "pi" not in state.stopped


def test_counts_add_up_and_become_the_result() -> None:
    counts = Counts(records={"main": 1}, duplicates=2)
    counts.add(Counts(records={"main": 2, "a": 1}, trimmed={"a": 3}, duplicates=1, gaps=4))
    result = counts.result([], State({"main": LogHeader(1, 1, 9)}, QuarantineHeader(), 0))
    assert (result.records, result.trimmed, result.duplicates) == ({"main": 3, "a": 1}, {"a": 3}, 3)
    assert (result.gaps, result.last_seq) == (4, {"main": 9})
