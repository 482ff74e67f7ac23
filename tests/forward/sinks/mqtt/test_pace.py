from __future__ import annotations

import pytest

from edge_agent.forward.sinks.mqtt.pace import MessagePace


def simulated(pace: MessagePace, size: int, seconds: float) -> list[float]:
    """When messages go, one after the other as soon as they may."""
    now, times = 0.0, list[float]()
    while True:
        now += pace.wait(now)
        if now >= seconds:
            return times
        if pace.wait(now) <= 1e-9:
            pace.sent(size)
            times.append(now)


def test_so_many_messages_go_in_a_second_and_no_more() -> None:
    times = simulated(MessagePace(100, 0, 0.0), 10, 10.0)
    assert 1000 <= len(times) <= 1101
    assert max(sum(at <= one < at + 1 for one in times) for at in times) <= 201


def test_so_many_bytes_go_in_a_second() -> None:
    times = simulated(MessagePace(0, 1000.0, 0.0), 250, 10.0)
    assert len(times) == pytest.approx(44, abs=2)


def test_a_message_larger_than_a_second_s_bytes_goes_and_the_next_waits() -> None:
    pace = MessagePace(0, 1000.0, 0.0)
    assert pace.wait(0.0) == 0
    pace.sent(5000)
    assert pace.wait(0.0) == pytest.approx(4.001)


def test_without_limits_nothing_waits() -> None:
    pace = MessagePace(0, 0, 0.0)
    assert pace.is_free and pace.wait(0.0) == 0


def test_less_than_one_a_second_is_a_pace_too() -> None:
    assert len(simulated(MessagePace(0.1, 0, 0.0), 1, 100.0)) in (10, 11)
