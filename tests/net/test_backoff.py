from __future__ import annotations

import random

import pytest

from edge_agent.net.backoff import RETRY_AFTER_MAX, Backoff


def draws(failures: int, **options: float | bool) -> list[float]:
    dice = random.Random(7)
    backoff = Backoff(base=1, maximum=60, slow=100)
    return [backoff.delay(failures, dice, **options) for _ in range(300)]  # type: ignore[arg-type] # two kinds of option


@pytest.mark.parametrize("failures, ceiling", [(1, 1), (2, 2), (5, 16), (7, 60), (10_000, 60)])
def test_waits_are_spread_evenly_below_a_ceiling_that_doubles(
    failures: int, ceiling: float
) -> None:
    waits = draws(failures)
    assert max(waits) <= ceiling
    assert max(waits) > ceiling * 0.9
    assert min(waits) < ceiling * 0.1


def test_what_the_agent_asked_for_is_the_least_and_is_bounded() -> None:
    assert min(draws(1, retry_after=12.5)) >= 12.5
    assert max(draws(1, retry_after=1e9)) <= RETRY_AFTER_MAX * 1.1


def test_peers_that_were_told_the_same_time_do_not_return_together() -> None:
    assert len(set(draws(1, retry_after=5))) > 250
    # A thousand that were told a minute would be a rush if they came within one second.
    minute = draws(1, retry_after=60)
    assert max(minute) - min(minute) > 5


def test_a_wait_for_a_person_is_slow_from_the_first_failure() -> None:
    assert min(draws(1, slow=True)) >= 50


def test_a_time_in_the_past_does_not_make_anybody_hurry() -> None:
    assert min(draws(1, retry_after=-5.0)) >= 0


def test_the_same_dice_give_the_same_waits() -> None:
    assert draws(3) == draws(3)
