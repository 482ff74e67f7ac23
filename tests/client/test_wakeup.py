from __future__ import annotations

import trio
import trio.testing

from edge_agent.client.wakeup import Wakeup


async def test_all_who_wait_are_woken_and_later_ones_wait_for_the_next(
    autojump_clock: trio.testing.MockClock,
) -> None:
    wakeup, woken = Wakeup(), []

    async def wait(name: str) -> None:
        await wakeup.wait()
        woken.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "a")
        nursery.start_soon(wait, "b")
        await trio.testing.wait_all_tasks_blocked()
        assert woken == []
        wakeup.notify()
        nursery.start_soon(wait, "c")
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(woken) == ["a", "b"]
        wakeup.notify()
    assert woken[-1] == "c"
