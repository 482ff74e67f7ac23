"""The canary beside a slow agent: a stand-in that acks late."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.fuzz.singing import FLOOR_S, LEAST, is_slow, p99, singing

LATE_S = 0.05


@contextmanager
def slow_agent(*, wrong_after: int = -1) -> Iterator[str]:
    """Acks each record late; the one after ``wrong_after`` wrongly."""

    def answer(socket: ServerConnection) -> None:
        try:
            socket.recv()
            socket.send(json.dumps({"type": "welcome", "next": 7}))
            for number, _ in enumerate(socket):
                time.sleep(LATE_S)
                told = 0 if number == wrong_after else 8 + number
                socket.send(json.dumps({"type": "ack", "next": told}))
        except ConnectionClosed:
            pass

    kinds = [Subprotocol("edge-agent.v1+json")]
    with serve(answer, "127.0.0.1", 0, subprotocols=kinds) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()


async def test_a_rest_lasts_until_there_is_enough_to_tell_what_is_usual() -> None:
    with slow_agent() as url:
        async with singing(url) as song:
            await song.rest(LATE_S)
            rested = len(song.sung)
            await song.rest(LATE_S)
        assert rested >= LEAST and len(song.sung) >= rested + LEAST
    assert song.errors == []
    assert all(took >= LATE_S for _, took in song.sung)


async def test_what_the_canary_was_told_wrongly_is_known_and_ends_the_rest() -> None:
    with slow_agent(wrong_after=2) as url:
        async with singing(url) as song:
            await song.rest(0)
    assert len(song.sung) == 2
    assert song.errors == [
        "ValueError(\"expected an ack of 9, was told {'type': 'ack', 'next': 0}\")"
    ]


async def test_a_canary_that_meets_nobody_says_so() -> None:
    with pytest.raises(AssertionError, match="Error"):
        async with singing("ws://127.0.0.1:1"):
            await trio.sleep_forever()


def test_one_late_ack_is_slow_and_few_can_be_judged() -> None:
    assert p99([]) == 0 and p99([0.2]) == 0.2 and p99([0.1] * 9) == pytest.approx(0.1)
    assert is_slow([3 * FLOOR_S], [0.01]) and not is_slow([3 * FLOOR_S], [2 * FLOOR_S])
    assert not is_slow([FLOOR_S / 2], [0.001])
