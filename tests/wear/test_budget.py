"""The controller: within its bounds always, in its place soon, and the budget is kept."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.wear import budget
from edge_agent.wear.budget import Pace, factor_max, is_due, judge, spread

DAY_S = 86_400.0
GB = 1_000_000_000


@pytest.mark.parametrize(
    "interval_s,factor,bound_s,expected",
    [
        (1.0, 1.0, 60.0, 1.0),
        (1.0, 12.0, 60.0, 12.0),
        (1.0, 600.0, 60.0, 60.0),
        (0.05, 12.0, 60.0, 0.6),  # alarms stay as much quicker as they were
        (0.05, 12.0, 0.05, 0.05),  # unless their own bound exempts them
        (120.0, 2.0, 60.0, 120.0),  # an interval beyond the bound is left alone
        (0.0, 1.0, 60.0, 0.0),
        (0.0, 100.0, 60.0, 0.5),
        (1.0, 50.0, 0.0, 1.0),
    ],
)
def test_how_far_an_interval_is_spread(
    interval_s: float, factor: float, bound_s: float, expected: float
) -> None:
    assert spread(interval_s, factor, bound_s) == pytest.approx(expected)


@given(st.floats(0, 3600), st.floats(0, 1e6), st.floats(0, 3600))
def test_an_interval_is_never_below_its_own_nor_above_its_bound(
    interval_s: float, factor: float, bound_s: float
) -> None:
    assert interval_s <= spread(interval_s, factor, bound_s) <= max(interval_s, bound_s)


@pytest.mark.parametrize(
    "logs,expected",
    [
        ([(1.0, 60.0)], 60.0),
        ([(1.0, 60.0), (0.05, 60.0)], 1200.0),
        ([(1.0, 60.0), (0.05, 0.05)], 60.0),
        ([(120.0, 60.0)], 1.0),
        ([(0.0, 60.0)], 12_000.0),
        ([], 1.0),
    ],
)
def test_the_factor_ends_where_no_log_can_be_spread_further(
    logs: list[tuple[float, float]], expected: float
) -> None:
    assert factor_max(logs) == pytest.approx(expected)


@pytest.mark.parametrize(
    "seconds,commits,expected",
    [(59, 1000, False), (60, 19, False), (60, 20, True), (899, 19, False), (900, 0, True)],
)
def test_a_judgement_needs_time_and_commits(seconds: float, commits: int, expected: bool) -> None:
    assert is_due(seconds, commits) is expected


@given(
    st.floats(1, 1000), st.floats(-1e12, 1e12), st.floats(60, 900), st.floats(0, 1e12),
    st.floats(1e3, 1e12), st.floats(1, 1000),
)  # fmt: skip
def test_the_factor_and_the_balance_stay_within_bounds_whatever_is_written(
    factor: float, balance: float, seconds: float, written: float, per_day: float, most: float
) -> None:
    after = judge(Pace(min(factor, most), balance), seconds, written, per_day, most)
    pace = budget.MARGIN * per_day / DAY_S
    assert 1 <= after.factor <= most
    assert -6 * 3600 * pace <= after.balance <= 3600 * pace


def test_within_the_budget_nothing_is_spread() -> None:
    pace = Pace()
    for _ in range(100):
        pace = judge(pace, 60, 0.9 * GB / 1440, GB, 60)
    assert pace.factor == 1


@dataclass
class Day:
    """A store under a load, tick by tick: ``of_data`` bytes a second for the records, ``each`` for
    a commit, which comes an interval after the first record that waits. Looked at every tick.
    """

    per_day: float
    interval_s: float = 1.0
    bound_s: float = 60.0
    of_data: float = 100.0
    each: float = 26_000.0
    tick: float = 1.0
    arrives: Callable[[float], bool] = lambda at: True
    pace: Pace = field(default_factory=Pace)
    now: float = 0.0
    written: list[tuple[float, float]] = field(default_factory=list)
    factors: list[tuple[float, float]] = field(default_factory=list)

    def run(self, seconds: float) -> Day:
        most = factor_max([(self.interval_s, self.bound_s)])
        end = self.now + seconds
        judged, since, commits, due = self.now, 0.0, 0, None
        while self.now < end:
            self.now += self.tick
            size = 0.0
            if due is None and self.arrives(self.now):
                due = self.now + spread(self.interval_s, self.pace.factor, self.bound_s)
            if due is not None and self.now >= due:
                size, due = self.each, None
                commits += 1
            if self.arrives(self.now):
                size += self.of_data * self.tick
            since += size
            self.written.append((self.now, size))
            if is_due(self.now - judged, commits):
                self.pace = judge(self.pace, self.now - judged, since, self.per_day, most)
                judged, since, commits = self.now, 0.0, 0
                self.factors.append((self.now, self.pace.factor))
        return self

    def most_in_a_day(self) -> float:
        """The most that any 24 hours hold, looked at every quarter of an hour."""
        slots = [0.0] * (int(self.now // 900) + 1)
        for at, size in self.written:
            slots[int(at // 900)] += size
        return max(sum(slots[index : index + 96]) for index in range(max(1, len(slots) - 95)))


@pytest.mark.parametrize("per_day", [0.1 * GB, 0.5 * GB, 1 * GB])
def test_under_a_steady_load_any_day_stays_under_the_budget_and_near_it(per_day: float) -> None:
    day = Day(per_day).run(2 * DAY_S)
    assert 0.9 * per_day <= day.most_in_a_day() <= per_day


def test_under_a_steady_load_the_factor_finds_its_place_and_stays() -> None:
    day = Day(0.5 * GB, tick=0.1).run(DAY_S / 2)
    # 26,000 bytes a commit and 100 a second: 0.94 x 0.5 GB leave 17,700 commits, 4.9 s apart.
    late = [factor for at, factor in day.factors if at > 6 * 3600]
    assert min(late) >= 0.9 * 4.88 and max(late) <= 1.1 * 4.88
    swings = sum(abs(later / earlier - 1) > 0.1 for earlier, later in itertools.pairwise(late))
    assert swings == 0


def test_a_load_that_comes_in_bursts_stays_under_the_budget() -> None:
    """Ten minutes of records in each hour, which without a budget would write 0.37 GB a day."""
    day = Day(0.2 * GB, arrives=lambda at: at % 3600 < 600).run(3 * DAY_S)
    assert day.most_in_a_day() <= 0.2 * GB


def test_a_quiet_night_lets_acks_come_quickly_in_the_morning() -> None:
    day = Day(0.5 * GB, arrives=lambda at: at % DAY_S < DAY_S / 2).run(2 * DAY_S)
    assert day.most_in_a_day() <= 0.5 * GB
    night = [factor for at, factor in day.factors if DAY_S * 0.75 < at < DAY_S]
    assert set(night) == {1.0}


def test_a_budget_that_no_interval_keeps_ends_at_the_bound_and_not_beyond() -> None:
    day = Day(0.1 * GB, of_data=5_000).run(DAY_S / 2)  # 0.43 GB a day of records alone
    assert day.factors[-1][1] == 60.0
    assert max(factor for _, factor in day.factors) == 60.0


def test_when_the_load_has_gone_acks_are_soon_quick_again() -> None:
    """After half a day at the bound, which owes as much as may be owed."""
    day = Day(0.1 * GB, of_data=5_000, arrives=lambda at: at < DAY_S / 2).run(DAY_S)
    quick = next(at for at, factor in day.factors if at > DAY_S / 2 and factor == 1.0)
    assert quick - DAY_S / 2 <= 2.5 * 3600


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.floats(0.05, 2.0), st.floats(0.02, 5.0), st.floats(0, 3000))
def test_whatever_a_commit_costs_by_chance_the_second_day_keeps_the_budget_where_it_can_be_kept(
    seed: int, budget_gb: float, interval_s: float, of_data: float
) -> None:
    dice, per_day, most = random.Random(seed), budget_gb * GB, factor_max([(interval_s, 60.0)])
    pace, now, written_on_the_second = Pace(), 0.0, 0.0
    while now < 2 * DAY_S:
        wide = spread(interval_s, pace.factor, 60.0)
        commits = min(max(20, int(60 / wide)), max(1, int(900 / wide)))
        seconds = commits * wide
        each = sum(dice.uniform(0.8, 1.2) for _ in range(20)) / 20 * 26_000
        written = of_data * seconds + each * commits
        pace = judge(pace, seconds, written, per_day, most)
        now += seconds
        written_on_the_second += written if now > DAY_S else 0.0
    if (of_data + 26_000 / spread(interval_s, most, 60.0)) * DAY_S <= 0.9 * per_day:
        assert written_on_the_second <= per_day
    else:
        assert pace.factor > 0.9 * most
