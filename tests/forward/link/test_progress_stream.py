from __future__ import annotations

import socket

import pytest
import trio
import trio.testing

from edge_agent.forward.link.progress_stream import ProgressStream, socket_of, unacknowledged_bytes
from tests.patience import PATIENCE_S, eventually


async def test_progress_within_a_message_shows(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    watched = ProgressStream(ours)
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
    watched = ProgressStream(ours)
    began = trio.current_time()
    await trio.sleep(30)
    await watched.send_all(b"ping")
    assert watched.moved_at == began


async def test_everything_passes_through() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    watched = ProgressStream(ours)
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
        watched = ProgressStream(ours)
        watched.is_opening = is_opening
        await theirs.aclose()
        if is_opening:
            with pytest.raises(ConnectionResetError, match="hung up during the upgrade"):
                await watched.receive_some()
        else:
            assert await watched.receive_some() == b""


async def test_what_the_other_side_confirms_of_what_the_kernel_holds_is_progress() -> None:
    """A slow uplink may need minutes for what the kernel took at once."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    # Or the other side's kernel would take all of it before anybody reads.
    listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024)
    port = listener.socket.getsockname()[1]
    async with (
        listener,
        await trio.open_tcp_stream("127.0.0.1", port) as ours,
        await listener.accept() as theirs,
    ):
        watched = ProgressStream(ours)
        before = watched.moved_at

        def held() -> int:
            return unacknowledged_bytes(socket_of(ours)) or 0

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.send_all, b"x" * 64 * 1024 * 1024)
            await eventually(lambda: held() > 8_000, "a buffer that fills")
            nursery.cancel_scope.cancel()
        watched.look()
        with trio.fail_after(PATIENCE_S):
            while watched.moved_at == before:
                assert await theirs.receive_some(256 * 1024)
                watched.look()
        assert watched.gone_at == watched.moved_at


async def test_a_ping_that_the_other_sides_kernel_confirms_proves_nothing() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    async with (
        listener,
        await trio.open_tcp_stream("127.0.0.1", port) as ours,
        await listener.accept(),
    ):
        watched = ProgressStream(ours)
        before = watched.moved_at
        await trio.sleep(0.01)
        for _ in range(3):
            await watched.send_all(b"ping")
            watched.look()
        assert watched.moved_at == before
