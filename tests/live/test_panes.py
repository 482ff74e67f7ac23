from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.live.panes import Fields, Panes, merge_into
from edge_agent.values.aggregates import FIELDS_MAX, Summary


def pane(*values: float) -> Fields:
    summary = Summary()
    for value in values:
        summary.add(value, round(value))
    return {"v": summary}


@settings(max_examples=100)
@given(
    st.integers(1, 7),
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), max_size=40),
)
def test_a_window_is_what_its_panes_are_together_also_where_some_change_meanwhile(
    length: int, steps: list[tuple[int, int]]
) -> None:
    panes, values = Panes(length), dict[int, list[int]]()
    end = 1
    for number, forward in steps:
        end += forward
        number = min(number, end + 2)
        panes.touch(number)
        values.setdefault(number, []).append(number)
        panes.by_number.setdefault(number, {"v": Summary()})["v"].add(number, number)
        within = [v for n in range(end - length, end) for v in values.get(n, ())]
        window = panes.window(end)
        if not within:
            assert not window
            continue
        figures = window["v"].figures()
        assert (figures["count"], figures["min"], figures["max"], figures["last"]) == (
            len(within), min(within), max(within), max(within),
        )  # fmt: skip
        assert abs(figures["mean"] - sum(within) / len(within)) < 1e-9


def test_neighbouring_windows_do_not_merge_all_of_their_panes_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    panes, merges = Panes(1000), 0
    panes.by_number = {number: pane(number) for number in range(5000)}
    merge = Summary.merge

    def merge_and_count(self: Summary, other: Summary) -> None:
        nonlocal merges
        merges += 1
        merge(self, other)

    monkeypatch.setattr(Summary, "merge", merge_and_count)
    for end in range(1, 5000):
        panes.window(end)
    assert merges < 6 * 5000


def test_sums_are_rounded_alike_by_whoever_begins_in_the_middle() -> None:
    numbers = {number: pane(0.1 * number, 1e-9 / (number + 1)) for number in range(40)}
    whole, resumed = Panes(7), Panes(7)
    whole.by_number, resumed.by_number = dict(numbers), dict(numbers)
    for end in range(1, 41):
        found = whole.window(end)["v"].state()
        if end >= 25:
            assert resumed.window(end)["v"].state() == found


def test_merged_fields_have_a_limit_as_those_of_a_pane_have() -> None:
    fields: Fields = {}
    for number in range(FIELDS_MAX + 10):
        merge_into(fields, {f"f{number}": Summary()})
    assert len(fields) == FIELDS_MAX
