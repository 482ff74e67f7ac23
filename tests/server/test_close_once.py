"""A connection ends once, and everybody who waits for that learns it."""

from __future__ import annotations

import trio
import trio.testing

from edge_agent.server.close_once import Ending
from tests.patience import PATIENCE_S


async def test_the_first_reason_is_the_one_that_counts() -> None:
    ending = Ending()
    assert ending.end is None
    ending.set_end("peer")
    ending.set_end("broken")
    assert ending.end == "peer"


async def test_scopes_are_cancelled_at_the_end_and_at_once_after_it() -> None:
    ending = Ending()
    cancelled: list[bool] = []

    async def wait() -> None:
        with ending.until_end() as scope:
            await trio.sleep(60)
        cancelled.append(scope.cancelled_caught)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        ending.set_end("idle")
    await wait()
    assert cancelled == [True, True, True]


async def test_a_scope_that_was_left_is_not_cancelled() -> None:
    ending = Ending()
    with ending.until_end() as scope:
        pass
    ending.set_end("idle")
    assert not scope.cancel_called


async def test_who_waits_is_stirred_by_hand_or_by_the_end() -> None:
    ending = Ending()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ending.wait_stirred)
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks
        ending.stir()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ending.wait_stirred)
        await trio.testing.wait_all_tasks_blocked()
        ending.set_end("peer")
    with trio.fail_after(PATIENCE_S):
        await ending.wait_stirred()
    ending.stir()
