from __future__ import annotations

import trio
import trio.testing

from edge_agent.forward.lanes.pause import Holding
from tests.patience import PATIENCE_S


async def test_work_is_interrupted_and_stays_so_until_it_is_let_go(
    autojump_clock: trio.testing.MockClock,
) -> None:
    holding, done = Holding(), []

    async def work() -> None:
        while True:
            with holding.working():
                await trio.sleep(100)
                done.append(trio.current_time())
            if holding.engaged:
                await holding.rest()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        await trio.sleep(150)
        assert len(done) == 1
        async with holding.held():
            await trio.sleep(500)
            assert len(done) == 1
        await trio.sleep(150)
        assert len(done) == 2
        nursery.cancel_scope.cancel()


async def test_who_is_not_at_work_is_held_at_once_and_does_not_begin_meanwhile() -> None:
    holding = Holding()
    async with holding.held():
        holding.stale = False
        with trio.fail_after(PATIENCE_S), holding.working():
            await trio.sleep(1000)
        assert holding.engaged
    assert (holding.engaged, holding.stale) == (False, True)


async def test_paused_rests_until_something_is_ordered() -> None:
    holding = Holding()
    holding.paused = True
    with trio.move_on_after(0.01) as patience:
        await holding.rest()
    assert patience.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(holding.rest)
        await trio.testing.wait_all_tasks_blocked()
        async with holding.held():
            pass
    # Still paused: it looked, and rests again.
    assert holding.engaged


async def test_a_window_that_closes_lets_what_is_on_its_way_arrive_for_a_while(
    autojump_clock: trio.testing.MockClock,
) -> None:
    holding, done = Holding(), []

    async def work() -> None:
        while True:
            with holding.working():
                await trio.sleep(100)
                done.append(trio.current_time())
            if holding.engaged:
                await holding.rest()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        await trio.sleep(50)
        assert holding.keep_to("01:00", 60) and not holding.keep_to("01:00", 60)
        await trio.sleep(60)
        assert len(done) == 1
        holding.keep_to("", 60)
        await trio.sleep(10)
        assert holding.keep_to("01:00", 60)
        await trio.sleep(59)
        assert not holding.keep_to("01:00", 60)
        await trio.sleep(1)
        holding.keep_to("01:00", 60)  # cut off
        await trio.sleep(100)
        assert len(done) == 1
        nursery.cancel_scope.cancel()
