from __future__ import annotations

import trio
import trio.testing

from edge_agent.forward.keyed_sink import KeyedSink


async def test_it_is_always_drained_and_settles_until_it_is_cancelled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sink = KeyedSink()
    assert sink.keyed and sink.drained
    with trio.move_on_after(1e6) as scope:
        await sink.settle(7)
    assert scope.cancelled_caught
