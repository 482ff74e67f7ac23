"""Bytes per day and amplification, from counters."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.wear.meter import Meter, TimedValues, WrittenBytes, between

START = WrittenBytes(at_s=100.0, own=1_000, card=50_000, record_bytes=0, block_bytes=0, commits=0)


def after(seconds: float, *, per_commit: int = 26_000, records: int = 1_000) -> WrittenBytes:
    """One commit a second since the start; the card gets half as much again."""
    commits = int(seconds)
    own = commits * per_commit
    return WrittenBytes(
        START.at_s + seconds, 1_000 + own, 50_000 + own * 3 // 2, commits * records,
        commits * records // 4, commits,
    )  # fmt: skip


def test_what_one_commit_a_second_writes_in_a_day() -> None:
    stretch = between(START, after(3600))
    assert stretch.written_bytes == 3600 * 26_000
    assert stretch.written_per_day == pytest.approx(86_400 * 26_000)
    assert stretch.card_per_day == pytest.approx(86_400 * 39_000)
    assert (stretch.commits, stretch.bytes_per_commit) == (3600, 26_000)
    assert (stretch.amplification, stretch.block_amplification) == (26, 0.25)


def test_nothing_is_said_per_day_in_the_first_minute() -> None:
    assert between(START, after(59)).written_per_day is None
    assert between(START, after(60)).written_per_day is not None


def test_where_nothing_was_kept_there_is_no_ratio() -> None:
    stretch = between(START, replace(START, at_s=400.0, own=9_000))
    assert stretch.written_bytes == 8_000
    assert stretch.bytes_per_commit is None
    assert stretch.amplification is None and stretch.block_amplification is None


@pytest.mark.parametrize("own,card", [(None, 5), (5, None), (None, None)])
def test_what_nobody_counts_is_not_known(own: int | None, card: int | None) -> None:
    stretch = between(replace(START, own=own, card=card), replace(after(100), own=own, card=card))
    assert (stretch.written_bytes is None) == (own is None)
    assert (stretch.card_per_day is None) == (card is None)
    assert stretch.amplification == (None if own is None else 0)


def test_a_counter_that_ran_over_stands_still() -> None:
    assert between(START, replace(after(100), card=7)).card_bytes == 0


def test_the_last_hour_and_the_last_day_are_measured_each_for_itself() -> None:
    meter = Meter(START)
    # Two days of one commit a second, then an hour of rest.
    for tick in range(0, 2 * 86_400, 10):
        meter.note(after(tick))
    busy = after(2 * 86_400)
    for tick in range(0, 3600, 10):
        meter.note(replace(busy, at_s=busy.at_s + tick))
    now = replace(busy, at_s=busy.at_s + 3600)
    hour, day = meter.hour(now), meter.day(now)
    assert hour.seconds == pytest.approx(3600, abs=61) and hour.commits <= 60
    assert day.seconds == pytest.approx(86_400, abs=301)
    assert day.commits == pytest.approx(23 * 3600, abs=301)
    assert meter.since_start(now).commits == 2 * 86_400


def test_the_memory_is_bounded() -> None:
    meter = Meter(START)
    for tick in range(0, 3 * 86_400, 10):
        meter.note(after(tick))
    assert len(meter._hour._values) <= 62 and len(meter._day._values) <= 290


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
