"""Looking back by about a given stretch, out of a bounded memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.wear.history import TimedValues


def test_the_youngest_that_is_old_enough_is_found() -> None:
    history: TimedValues[str] = TimedValues(60, 10)
    for second in range(0, 100, 10):
        history.add(second, f"at {second}")
    assert history.before(45) == (40, "at 40")
    assert history.before(90) == (90, "at 90")


def test_what_is_too_near_to_the_last_is_not_remembered() -> None:
    history: TimedValues[int] = TimedValues(60, 10)
    for second in range(25):
        history.add(second, second)
    assert history.before(100) == (20, 20)


def test_before_anything_there_is_nothing_and_then_the_oldest() -> None:
    history: TimedValues[int] = TimedValues(60, 10)
    assert history.before(5) is None
    history.add(7, 7)
    assert history.before(5) == (7, 7)


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=300))
def test_it_always_reaches_back_the_whole_span_where_so_much_time_has_passed(
    steps: list[float],
) -> None:
    history: TimedValues[None] = TimedValues(300, 10)
    now = 0.0
    for step in steps:
        now += step
        history.add(now, None)
        found = history.before(now - 300)
        assert found is not None
        # At least the span, where there is so much; beyond it at most one step and one spacing.
        if now - steps[0] >= 300:
            assert 300 <= now - found[0] <= 300 + 110
    assert len(history._values) <= 32
