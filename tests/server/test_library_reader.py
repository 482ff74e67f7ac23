"""What a guarded task raises is told, and ends nothing else."""

from __future__ import annotations

import trio
import trio.testing

from edge_agent.server.library_reader import Guarded


async def test_the_end_of_a_task_is_told_with_what_it_raised() -> None:
    told: list[str] = []

    async def good() -> None:
        await trio.lowlevel.checkpoint()

    async def bad() -> None:
        raise ValueError("from the library")

    async with trio.open_nursery() as nursery:
        guarded = Guarded(nursery, lambda error: told.append(repr(error)))
        guarded.start_soon(good)
        guarded.start_soon(bad)
    assert sorted(told) == ["None", "ValueError('from the library')"]


async def test_cancelling_is_not_an_error_and_is_not_held_up() -> None:
    told: list[object] = []
    async with trio.open_nursery() as nursery:
        Guarded(nursery, told.append).start_soon(trio.sleep_forever)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert told == []
