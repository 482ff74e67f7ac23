"""Bytes per day and amplification, from counters."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.wear.meter import Meter, WrittenBytes, between

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
