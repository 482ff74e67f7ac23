"""Turns: one for each pass of the event loop, first come first served."""

from __future__ import annotations

import trio
import trio.testing

from edge_agent.server.fair_turns import TURN_UNITS, Turns
from edge_agent.wire.frames import FrameLane
from tests.patience import PATIENCE_S
from tests.server.frames import PING, TEXT, frame
from tests.server.test_floods import passes


async def test_one_of_those_who_wait_gets_its_turn_in_each_pass() -> None:
    turns, took = Turns(), list[int]()
    with passes(lambda: len(took)) as found:
        async with trio.open_nursery() as nursery:

            async def work(number: int) -> None:
                for _ in range(3):
                    await turns.take()
                    took.append(number)

            async with trio.open_nursery() as workers:
                nursery.start_soon(turns.run)
                for number in range(5):
                    workers.start_soon(work, number)
            nursery.cancel_scope.cancel()
    assert found.most == 1
    assert turns.taken == len(took) == 15
    assert sorted(took[:5]) == list(range(5)), "first come, first served"


async def test_who_gave_up_waiting_is_passed_over() -> None:
    turns = Turns()
    with trio.move_on_after(0) as scope:
        await turns.take()
    assert scope.cancelled_caught and not len(turns)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(PATIENCE_S):
            await turns.take()
        # The last one that waits gives up in the moment in which it would have been called.
        with trio.move_on_after(PATIENCE_S) as given_up:
            nursery.start_soon(_cancel, given_up)
            await turns.take()
        with trio.fail_after(PATIENCE_S):
            await turns.take()
        nursery.cancel_scope.cancel()


async def _cancel(scope: trio.CancelScope) -> None:
    scope.cancel()


def test_the_lane_stops_after_a_turn_of_frames_and_goes_on() -> None:
    lane = FrameLane(1000)
    data = frame(PING) * 1000 + frame(TEXT, b"21.5")
    parts = lane.feed(data)
    assert len(b"".join(map(bytes, parts))) <= 100 * len(frame(PING))  # type: ignore[arg-type]  # no list is there yet
    goes = 0
    while lane.is_behind:
        assert lane.looked_at <= TURN_UNITS
        parts += lane.go_on()
        goes += 1
    assert goes >= 10
    assert parts[-1] == ["21.5"]
    assert b"".join(part for part in parts if isinstance(part, bytes)) == frame(PING) * 1000
