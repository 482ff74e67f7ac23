"""The schedule of many sensors, and what the load says about itself."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from benchmarks.sensors_load import LATE_MS, Findings, percentile, report, schedule


def test_messages_are_spread_evenly_over_time_and_over_sensors() -> None:
    plan = schedule(500, 10_000, 2.0)

    assert len(plan) == 20_000
    assert set(Counter(sensor for _, sensor in plan).values()) == {40}
    a_tenth_of_a_second = Counter(int(moment * 10) for moment, _ in plan)
    assert all(900 <= a_tenth_of_a_second[part] <= 1100 for part in range(1, 19))
    assert plan == sorted(plan) and plan[0][0] >= 0


def test_no_sensor_and_no_message_marches_in_step() -> None:
    period = 0.05
    plan = schedule(500, 10_000, 2.0)
    moments = [moment for moment, sensor in plan if sensor == 7]
    gaps = [later - earlier for earlier, later in pairwise(moments)]

    assert len({round(gap, 6) for gap in gaps}) > len(gaps) / 2
    assert all(0.8 * period <= gap <= 1.2 * period for gap in gaps)
    order = [sensor for _, sensor in plan]
    assert order[:500] != sorted(order[:500]) and order[:500] != order[500:1000]


def test_the_schedule_is_the_same_for_the_same_seed() -> None:
    assert schedule(10, 100, 1.0) == schedule(10, 100, 1.0)
    assert schedule(10, 100, 1.0) != schedule(10, 100, 1.0, seed=2)


@pytest.mark.parametrize("part, expected", [(0.0, 1), (0.5, 51), (0.99, 100), (1.0, 100)])
def test_percentiles_are_values_that_occurred(part: float, expected: float) -> None:
    assert percentile([float(value) for value in range(1, 101)], part) == expected


def test_a_load_that_sent_late_says_that_it_fell_behind() -> None:
    punctual = Findings([0.02] * 1000, [0.0001] * 995 + [0.5] * 5, 0.03, 0.1, 1.0)
    late = Findings([0.02] * 1000, [0.0001] * 980 + [2 * LATE_MS / 1000] * 20, 0.03, 0.1, 1.0)

    assert not report(punctual)["fell_behind"]
    assert report(late)["fell_behind"]
    assert report(late)["server_cpu_us"] == pytest.approx(30)
    assert report(late)["p99_ms"] == pytest.approx(20)
