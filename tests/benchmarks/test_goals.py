from __future__ import annotations

import pytest

from benchmarks.goals import GOALS, Goal, table

RATE = Goal("messages", 350_000, "/s")
TIME = Goal("time", 40, "ms", at_most=True)


@pytest.mark.parametrize(
    "goal, value, verdict",
    [
        (RATE, 350_000, "met"),
        (RATE, 349_000, "**falls short by 1,000 /s**"),
        (TIME, 40, "met"),
        (TIME, 52.5, "**falls short by 12.5 ms**"),
        (RATE, None, "not measured"),
    ],
)
def test_a_goal_is_met_or_says_by_how_much_not(
    goal: Goal, value: float | None, verdict: str
) -> None:
    assert goal.verdict(value) == verdict


def test_every_goal_has_a_row_also_where_nothing_was_measured() -> None:
    lines = table({"drain": 2_600_000.0}).splitlines()[2:]

    assert len(lines) == len(GOALS)
    (drained,) = [line for line in lines if "2,600,000" in line]
    assert drained.endswith("| ≥ 2,500,000 records/s | 2,600,000 records/s | met |")
    assert sum("not measured" in line for line in lines) == len(GOALS) - 1


def test_no_two_goals_have_one_name_as_a_later_run_finds_its_row_by_it() -> None:
    names = [goal.what for goal in GOALS.values()]
    assert sorted(names) == sorted(set(names))


def test_a_figure_that_no_goal_is_set_for_is_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError, match="speling"):
        table({"speling": 1.0})
