from __future__ import annotations

import pytest
import trio
import trio.testing

from edge_agent.forward.watched import Watched


async def test_progress_within_a_message_shows(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    watched = Watched(ours)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.send_all, b"x" * 100_000)
        await trio.sleep(50)
        assert watched.moved_at == began
        await theirs.receive_some(32 * 1024)
        await trio.testing.wait_all_tasks_blocked()
        assert watched.moved_at == began + 50
        while nursery.child_tasks:
            await theirs.receive_some(40_000)
            await trio.testing.wait_all_tasks_blocked()


async def test_what_the_kernel_takes_from_anybody_proves_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ours, _theirs = trio.testing.memory_stream_pair()
    watched = Watched(ours)
    began = trio.current_time()
    await trio.sleep(30)
    await watched.send_all(b"ping")
    assert watched.moved_at == began


async def test_everything_passes_through() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    watched = Watched(ours)
    await watched.send_all(b"")
    await watched.wait_send_all_might_not_block()
    await watched.send_all(b"a" * 70_000)
    received = b""
    while len(received) < 70_000:
        received += await theirs.receive_some(50_000)
    await theirs.send_all(b"pong")
    assert await watched.receive_some() == b"pong"
    await watched.aclose()
    assert await theirs.receive_some(1) == b""


async def test_an_end_is_an_error_while_the_connection_is_being_opened_and_not_later() -> None:
    for is_opening in (True, False):
        ours, theirs = trio.testing.memory_stream_pair()
        watched = Watched(ours)
        watched.is_opening = is_opening
        await theirs.aclose()
        if is_opening:
            with pytest.raises(ConnectionResetError, match="hung up during the upgrade"):
                await watched.receive_some()
        else:
            assert await watched.receive_some() == b""
