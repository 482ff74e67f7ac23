from __future__ import annotations

import pytest

from edge_agent.forward.batches.batch_pace import (
    GOOD_S,
    LEAST_BYTES,
    LEAST_RECORDS,
    START_BYTES,
    START_RECORDS,
    BatchPace,
)
from edge_agent.forward.batches.plan import RANGES_MAX, RANGES_MAX_QUICK

MIB = 1024 * 1024


def drained(rate: float, answers: int, *, own_s: float = 0.0, most: int = MIB) -> list[float]:
    """Over a link of ``rate`` stored bytes a second: how long each answer took."""
    pace, took = BatchPace(most, 10_000), []
    for _ in range(answers):
        took.append(own_s + pace.bytes / rate)
        pace.answered(pace.bytes, pace.records, took[-1])
    return took


def test_a_fast_link_gets_what_is_configured_after_three_answers() -> None:
    pace = BatchPace(MIB, 10_000)
    sizes = []
    for _ in range(4):
        sizes.append(pace.bytes)
        pace.answered(pace.bytes, pace.records, 0.01)
    assert sizes == [START_BYTES, 4 * START_BYTES, 16 * START_BYTES, MIB]


@pytest.mark.parametrize("rate", [2_000, 20_000, 200_000])
def test_on_a_slow_link_answers_come_within_seconds(rate: float) -> None:
    took = drained(rate, 100)
    assert took[0] <= 1.001 * START_BYTES / rate
    assert max(took[3:]) <= 1.2 * GOOD_S
    # And no less is sent than the link can take: the head of a request is no great part of it.
    assert min(took[20:]) >= 0.4 * GOOD_S


def test_who_takes_long_for_whatever_it_is_gets_large_batches_all_the_same() -> None:
    pace = BatchPace(MIB, 10_000)
    for _ in range(12):
        pace.answered(pace.bytes, pace.records, 8.0 + pace.bytes / 1e7)
    assert pace.bytes == MIB


def test_a_link_that_becomes_slow_and_fast_again_is_followed() -> None:
    pace = BatchPace(MIB, 10_000)
    for rate in (1e7, 1e4, 1e7):
        for _ in range(12):
            pace.answered(pace.bytes, pace.records, pace.bytes / rate)
        assert pace.bytes == (MIB if rate == 1e7 else pytest.approx(1e4 * GOOD_S, rel=0.5))


def test_small_batches_prove_nothing_and_cut_ones_halve_down_to_a_bound() -> None:
    pace = BatchPace(MIB, 10_000)
    for _ in range(50):
        pace.answered(100, 1, 0.01)
    assert pace.bytes == START_BYTES
    pace.failed()
    assert pace.bytes == START_BYTES // 2
    for _ in range(9):
        pace.failed()
    assert pace.bytes == LEAST_BYTES
    small = BatchPace(1024, 5)
    small.failed()
    assert (small.bytes, small.records) == (1024, 5)


def test_small_records_are_counted_as_they_become_larger_when_they_are_sent() -> None:
    pace = BatchPace(MIB, 10_000)
    pace.answered(1_000, START_RECORDS, 0.01)
    assert pace.records == 4 * START_RECORDS
    pace.answered(4_000, 1_000, 50.0)
    assert (pace.bytes, pace.records) == (LEAST_BYTES, 100)
    for _ in range(9):
        pace.failed()
    assert pace.records == LEAST_RECORDS


def test_once_the_largest_are_answered_at_once_more_is_planned_with_one_commit() -> None:
    pace = BatchPace(MIB, 10_000)
    while (pace.bytes, pace.records) != (MIB, 10_000):
        assert pace.ranges_max == RANGES_MAX
        pace.answered(pace.bytes, pace.records, 0.01)
    assert pace.ranges_max == RANGES_MAX_QUICK
    pace.answered(pace.bytes, pace.records, 20.0)
    assert pace.ranges_max == RANGES_MAX


def test_a_short_plan_is_not_taken_for_the_end_of_a_long_one() -> None:
    pace = BatchPace(MIB, 10_000)
    pace.planned(3)
    pace.answered(START_BYTES, START_RECORDS, 0.01)
    assert not pace.too_large(2) and pace.too_large(1)


def test_a_plan_for_a_faster_link_is_noticed() -> None:
    pace = BatchPace(MIB, 10_000)
    assert pace.too_large(8)  # of an earlier run
    pace.planned(8)
    # The first is as large as it may be; the others may be after answers that came at once.
    assert not pace.too_large(8) and pace.too_large(7) and pace.too_large(1)
    pace.answered(START_BYTES, START_RECORDS, 0.01)
    assert not pace.too_large(7) and pace.too_large(6)
    pace.answered(START_BYTES, START_RECORDS, 20.0)
    assert not pace.starting and pace.too_large(6)
    pace.planned(8)
    assert not pace.too_large(8) and not pace.too_large(1)
    pace.failed()
    assert pace.too_large(8)
    pace.restored()
    assert pace.too_large(8) and pace.too_large(1)
