from __future__ import annotations

import trio
from trio.testing import MockClock

from edge_agent.cli.sensor.ticks import Ticks


async def test_moments_do_not_drift_and_missed_ones_are_left_out(autojump_clock: MockClock) -> None:
    begin = trio.current_time()
    ticks, at = Ticks(1.0), list[float]()
    for work in (0.25, 0.5, 2.25, 0.0):
        await trio.sleep(work)
        await ticks.wait()
        at.append(trio.current_time() - begin)
    assert at == [1.0, 2.0, 5.0, 6.0]


async def test_a_wait_may_be_longer_than_the_interval(autojump_clock: MockClock) -> None:
    begin = trio.current_time()
    ticks = Ticks(0.25)
    await ticks.wait(1.0)
    assert trio.current_time() - begin == 1.0
    await ticks.wait()
    assert trio.current_time() - begin == 1.25
