from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from edge_agent.errors import SinkUnavailable
from edge_agent.forward.link.handshake import HANDSHAKE_S, handshake


@pytest.mark.parametrize("timeout, limit", [(30.0, HANDSHAKE_S), (2.5, 2.5)])
async def test_a_first_word_is_waited_for_so_long(
    timeout: float, limit: float, autojump_clock: MockClock
) -> None:
    began = trio.current_time()
    said = f"has said nothing for {limit:g} s"
    with pytest.raises(SinkUnavailable, match=said) as caught, handshake(timeout):
        await trio.sleep_forever()
    assert trio.current_time() - began == pytest.approx(limit)
    assert caught.value.obstacle == "there" and not caught.value.slow


async def test_one_that_comes_and_a_deadline_of_the_callers_pass_through(
    autojump_clock: MockClock,
) -> None:
    with handshake(30.0):
        await trio.sleep(HANDSHAKE_S - 0.1)
    with trio.move_on_after(1) as scope, handshake(30.0):
        await trio.sleep_forever()
    assert scope.cancelled_caught
