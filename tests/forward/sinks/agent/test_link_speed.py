from __future__ import annotations

import pytest

from edge_agent.forward.sinks.agent.link_speed import (
    FIRST_BYTES,
    LEAST_BYTES,
    MESSAGE_S,
    LinkSpeed,
)


def over(rate: float, messages: int, *, commit_s: float = 0.0) -> float:
    """What a message may have after so many over a link of that speed."""
    speed, now = LinkSpeed(), 0.0
    speed.begins(now)
    for _ in range(messages):
        size = min(int(speed.message_bytes), 256 * 1024)
        now += size / rate + commit_s
        speed.acknowledged(size, now)
    return speed.message_bytes


def test_the_first_message_is_small_and_its_speed_says_how_large_the_next_may_be() -> None:
    assert LinkSpeed().message_bytes == FIRST_BYTES
    assert over(20_000, 1) == pytest.approx(20_000 * MESSAGE_S)
    assert over(500, 5) == LEAST_BYTES


def test_a_fast_link_has_large_messages_also_where_each_waits_for_a_commit() -> None:
    assert over(50e6, 3) > 256 * 1024
    # One at a time, a second each: four grow to what goes out in that time.
    assert over(50e6, 30, commit_s=1.0) > 100 * 1024


def test_time_without_anything_on_its_way_does_not_count() -> None:
    speed = LinkSpeed()
    for start in (0.0, 1000.0, 5000.0):
        speed.begins(start)
        speed.acknowledged(100_000, start + 0.1)
    assert speed.message_bytes == pytest.approx(1e6 * MESSAGE_S)


def test_a_link_that_becomes_slow_is_noticed() -> None:
    speed = LinkSpeed()
    speed.begins(0.0)
    speed.acknowledged(10_000_000, 1.0)
    for now in range(2, 60):
        speed.acknowledged(2_000, float(now))
    assert speed.message_bytes < 100_000


def test_what_is_acknowledged_at_once_sets_no_bound() -> None:
    speed = LinkSpeed()
    speed.begins(5.0)
    speed.acknowledged(10, 5.0)
    assert speed.message_bytes == float("inf")
