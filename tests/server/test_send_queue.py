"""Frames go out whole, in order, and at once where the socket takes them."""

from __future__ import annotations

import socket as stdlib_socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from edge_agent.server import send_queue
from edge_agent.server.send_queue import Outgoing


class Sending:
    """A connection's sending half over a real socket, and how often it asked for a flush."""

    def __init__(self, ours: trio.abc.Stream) -> None:
        self.flushes = 0
        self.outgoing = Outgoing(ours, self.flush_soon)

    def flush_soon(self) -> None:
        self.flushes += 1


@asynccontextmanager
async def on_sockets() -> AsyncIterator[tuple[Sending, trio.SocketStream]]:
    left, right = stdlib_socket.socketpair()
    ours = trio.SocketStream(trio.socket.from_stdlib_socket(left))
    peer = trio.SocketStream(trio.socket.from_stdlib_socket(right))
    async with ours, peer:
        yield Sending(ours), peer


async def test_a_frame_is_written_at_once_where_the_socket_takes_it() -> None:
    async with on_sockets() as (sending, peer):
        sending.outgoing.send_soon(b"at once")
        assert not sending.outgoing.is_clogged
        assert await peer.receive_some(100) == b"at once"
        assert sending.flushes == 0


async def test_what_the_socket_does_not_take_follows_in_order_and_whole() -> None:
    async with on_sockets() as (sending, peer):
        pieces = [bytes([number]) * 100_000 for number in range(20)]
        for piece in pieces:
            sending.outgoing.send_soon(piece)
        assert sending.outgoing.is_clogged
        assert sending.flushes == 1
        got = bytearray()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sending.outgoing.flush)
            await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.start_soon(sending.outgoing.send_all, b"last")
            while len(got) < 2_000_004:
                got += await peer.receive_some()
        assert bytes(got) == b"".join(pieces) + b"last"
        assert not sending.outgoing.is_clogged


async def test_nothing_follows_a_frame_that_was_cut_in_the_middle() -> None:
    async with on_sockets() as (sending, _peer):
        with trio.move_on_after(0.05):
            await sending.outgoing.send_all(bytes(10_000_000))
        with pytest.raises(trio.BrokenResourceError):
            await sending.outgoing.send_all(b"another")
        sending.outgoing.send_soon(b"and another")
        assert not sending.outgoing.is_clogged


async def test_without_sockets_that_are_files_a_task_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    # As on Windows, where a socket's number is that of another file, or of none.
    monkeypatch.setattr(send_queue, "SOCKETS_ARE_FILES", False)
    async with on_sockets() as (sending, peer):
        sending.outgoing.send_soon(b"later")
        assert sending.flushes == 1
        await sending.outgoing.flush()
        assert await peer.receive_some(100) == b"later"


async def test_after_the_end_nothing_is_sent_and_nobody_asked() -> None:
    async with on_sockets() as (sending, _peer):
        sending.outgoing.let_go()
        sending.outgoing.send_soon(bytes(10_000_000))
        assert sending.flushes == 0
        assert not sending.outgoing.is_clogged
