"""The socket as trio-websocket sees it, and as the shared reader does."""

from __future__ import annotations

import socket as stdlib_socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from edge_agent.security.tls import make_ca
from edge_agent.server import transport
from edge_agent.server.fair_turns import Turns
from edge_agent.server.poller import SharedReader
from edge_agent.server.receive_queue import Inbox
from edge_agent.server.transport import Outgoing, Transport, abort, with_what_is_at_hand
from edge_agent.wire.frames import FrameLane
from tests.patience import PATIENCE_S
from tests.server.frames import CONTINUATION, PING, TEXT, frame


class Wired:
    """A transport over ``ours``, and what reached its owner."""

    def __init__(
        self,
        ours: trio.abc.Stream,
        *,
        limit: int = 1000,
        reader: SharedReader | None = None,
        accepted: bool = True,
    ) -> None:
        self.taken: list[str | bytes] = []
        self.too_bigs = 0
        self.has_room = True
        self.flushes = self.receives = 0
        self.keeps_open = False
        self.lane = FrameLane(limit)
        self.inbox = Inbox(self.fail)
        self.inbox.divert(self.push)
        self.turns = Turns()
        self.transport = Transport(ours, self.lane, self.inbox, self, reader, self.turns)
        if accepted:
            self.transport.accept()

    def push(self, messages: list[str | bytes]) -> bool:
        self.taken += messages
        return self.has_room

    def fail(self, error: Exception) -> None:
        raise error

    def too_big(self) -> None:
        self.too_bigs += 1

    def receive_soon(self) -> None:
        self.receives += 1

    def flush_soon(self) -> None:
        self.flushes += 1


def in_memory(limit: int = 1000) -> tuple[Wired, trio.StapledStream[Any, Any]]:
    ours, peer = trio.testing.memory_stream_pair()
    return Wired(ours, limit=limit), peer


@asynccontextmanager
async def on_sockets(
    *, shared: bool, limit: int = 1000
) -> AsyncIterator[tuple[Wired, trio.SocketStream]]:
    """A real pair of sockets, read by the shared reader or by a task of its own."""
    left, right = stdlib_socket.socketpair()
    ours = trio.SocketStream(trio.socket.from_stdlib_socket(left))
    peer = trio.SocketStream(trio.socket.from_stdlib_socket(right))
    reader = SharedReader() if shared else None
    async with trio.open_nursery() as nursery, ours, peer:
        if reader is not None:
            nursery.start_soon(reader.run)
        yield Wired(ours, limit=limit, reader=reader), peer
        nursery.cancel_scope.cancel()


async def test_it_plays_the_head_then_waits_for_the_upgrade_then_reads_what_came_early() -> None:
    ours, peer = trio.testing.memory_stream_pair()
    wired = Wired(ours, accepted=False)
    early, later = frame(PING, b"early"), frame(PING, b"later")
    wired.transport.replay(b"HEAD", frame(TEXT, b"a") + early)
    await peer.send_all(later)
    assert await wired.transport.receive_some(100) == b"HEAD"
    received = []

    async def read() -> None:
        received.append(await wired.transport.receive_some(100))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        assert received == []
        wired.transport.accept()
    assert received == [early]
    assert wired.taken == ["a"]
    assert await wired.transport.receive_some(100) == later


async def test_a_message_over_the_limit_is_told_and_is_not_an_end() -> None:
    wired, peer = in_memory(limit=10)
    await peer.send_all(frame(TEXT, b"ok") + frame(TEXT, b"x" * 500) + frame(PING, b""))
    assert await wired.transport.receive_some(100) == frame(PING, b"")
    await peer.send_eof()
    assert await wired.transport.receive_some(100) == b""
    assert wired.lane.too_big == 500
    assert wired.too_bigs >= 1
    assert wired.taken == ["ok"]


@pytest.mark.parametrize("shared", [False, True])
async def test_lifted_messages_wait_for_those_that_the_library_still_has(shared: bool) -> None:
    async with on_sockets(shared=shared) as (wired, peer):
        fragments = frame(TEXT, b"1", final=False) + frame(CONTINUATION, b"")
        await peer.send_all(frame(TEXT, b"0") + fragments + frame(TEXT, b"2"))
        with trio.fail_after(PATIENCE_S):
            assert await wired.transport.receive_some(100) == fragments
        assert wired.receives == 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wired.transport.receive_some, 100)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert wired.taken == ["0"]
            await wired.inbox.deliver_passed("1")
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert wired.taken == ["0", "1", "2"]
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("shared", [False, True])
async def test_who_has_no_room_is_not_read_until_it_has(shared: bool) -> None:
    async with on_sockets(shared=shared) as (wired, peer), trio.open_nursery() as nursery:
        nursery.start_soon(wired.transport.receive_some, 100)
        await peer.send_all(frame(TEXT, b"1"))
        await trio.testing.wait_all_tasks_blocked(0.01)
        wired.has_room = False
        await peer.send_all(frame(TEXT, b"2"))
        await trio.testing.wait_all_tasks_blocked(0.01)
        await peer.send_all(frame(TEXT, b"3"))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert wired.taken == ["1", "2"]
        wired.has_room = True
        wired.inbox.resume()
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert wired.taken == ["1", "2", "3"]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("together", [False, True])
async def test_nothing_is_pushed_while_a_message_of_the_librarys_waits_for_room(
    shared: bool, together: bool
) -> None:
    fragments = frame(TEXT, b"1", final=False) + frame(CONTINUATION, b"")
    lifted = frame(TEXT, b"2")
    async with on_sockets(shared=shared) as (wired, peer), trio.open_nursery() as nursery:
        await peer.send_all(fragments + lifted if together else fragments)
        with trio.fail_after(PATIENCE_S):
            assert await wired.transport.receive_some(100) == fragments
        wired.has_room = False
        nursery.start_soon(wired.inbox.deliver_passed, "1")
        nursery.start_soon(wired.transport.receive_some, 100)
        await trio.testing.wait_all_tasks_blocked(0.01)
        if not together:
            await peer.send_all(lifted)
            await trio.testing.wait_all_tasks_blocked(0.02)
        assert wired.taken == ["1"]
        wired.has_room = True
        wired.inbox.resume()
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert wired.taken == ["1", "2"]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("shared", [False, True])
async def test_the_end_comes_after_everything_before_it(shared: bool) -> None:
    async with on_sockets(shared=shared) as (wired, peer):
        await peer.send_all(frame(TEXT, b"1") + frame(TEXT, b"2"))
        await peer.send_eof()
        with trio.fail_after(PATIENCE_S):
            assert await wired.transport.receive_some(100) == b""
        assert wired.taken == ["1", "2"]


@pytest.mark.parametrize("shared", [False, True])
async def test_a_reader_learns_that_the_transport_was_closed(shared: bool) -> None:
    async with on_sockets(shared=shared) as (wired, _peer), trio.open_nursery() as nursery:
        ended: list[bool] = []

        async def read() -> None:
            with pytest.raises((trio.ClosedResourceError, trio.BrokenResourceError)):
                await wired.transport.receive_some(100)
            ended.append(True)

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await wired.transport.abort()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert ended == [True]


async def test_a_fault_of_ours_while_reading_ends_nothing_but_this_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with on_sockets(shared=True) as (wired, peer):

        def feed(data: bytes) -> list[object]:
            raise MemoryError

        monkeypatch.setattr(wired.lane, "feed", feed)
        await peer.send_all(frame(TEXT, b"1"))
        with trio.fail_after(PATIENCE_S), pytest.raises(MemoryError):
            await wired.transport.receive_some(100)


async def test_what_is_sent_goes_to_the_socket() -> None:
    ours, peer = trio.testing.memory_stream_pair()
    wired = Wired(ours)
    await wired.transport.send_all(b"out")
    assert await peer.receive_some(10) == b"out"
    await wired.transport.wait_send_all_might_not_block()
    await wired.transport.aclose()
    assert await peer.receive_some(10) == b""


async def test_silence_is_only_counted_while_we_listen(autojump_clock: trio.abc.Clock) -> None:
    wired, peer = in_memory()
    await trio.sleep(100)
    assert wired.transport.silence() == 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wired.transport.receive_some, 100)
        await trio.sleep(7)
        assert wired.transport.silence() == pytest.approx(7)
        await peer.send_all(frame(PING, b"x"))
    assert wired.transport.silence() == 0


async def test_who_does_not_read_what_is_sent_is_silent_too(
    autojump_clock: trio.abc.Clock,
) -> None:
    ours, _peer = trio.testing.lockstep_stream_pair()
    wired = Wired(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wired.transport.send_all, b"a pong that nobody reads")
        await trio.sleep(7)
        assert wired.transport.silence() == pytest.approx(7)
        nursery.cancel_scope.cancel()


async def test_abort_closes_whatever_is_going_on() -> None:
    ours, peer = trio.testing.memory_stream_pair()
    await abort(ours)
    with pytest.raises(trio.ClosedResourceError):
        await ours.send_all(b"x")
    assert await peer.receive_some(1) == b""


class Sending:
    """A connection's sending half over a real socket, and how often it asked for a flush."""

    def __init__(self, ours: trio.abc.Stream) -> None:
        self.flushes = 0
        self.stream = ours
        self.outgoing = Outgoing(ours, self)

    def flush_soon(self) -> None:
        self.flushes += 1


@asynccontextmanager
async def sending_on_sockets() -> AsyncIterator[tuple[Sending, trio.SocketStream]]:
    left, right = stdlib_socket.socketpair()
    ours = trio.SocketStream(trio.socket.from_stdlib_socket(left))
    peer = trio.SocketStream(trio.socket.from_stdlib_socket(right))
    async with ours, peer:
        yield Sending(ours), peer


async def test_a_frame_is_written_at_once_where_the_socket_takes_it() -> None:
    async with sending_on_sockets() as (sending, peer):
        sending.outgoing.send_soon(b"at once")
        assert not sending.outgoing.is_clogged
        assert await peer.receive_some(100) == b"at once"
        assert sending.flushes == 0


async def test_what_the_socket_does_not_take_follows_in_order_and_whole() -> None:
    async with sending_on_sockets() as (sending, peer):
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
    async with sending_on_sockets() as (sending, _peer):
        with trio.move_on_after(0.05):
            await sending.outgoing.send_all(bytes(10_000_000))
        with pytest.raises(trio.BrokenResourceError):
            await sending.outgoing.send_all(b"another")
        sending.outgoing.send_soon(b"and another")
        assert not sending.outgoing.is_clogged


async def test_without_sockets_that_are_files_a_task_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    # As on Windows, where a socket's number is that of another file, or of none.
    monkeypatch.setattr(transport, "SOCKETS_ARE_FILES", False)
    async with sending_on_sockets() as (sending, peer):
        sending.outgoing.send_soon(b"later")
        assert sending.flushes == 1
        await sending.outgoing.flush()
        assert await peer.receive_some(100) == b"later"


async def test_after_the_end_nothing_is_sent_and_nobody_asked() -> None:
    async with sending_on_sockets() as (sending, _peer):
        await sending.stream.aclose()
        sending.outgoing.send_soon(bytes(10_000_000))
        assert sending.flushes == 0
        assert not sending.outgoing.is_clogged


async def test_all_records_of_tls_that_one_read_brought_are_taken_in_one_turn(
    tmp_path: Path,
) -> None:
    files = make_ca(tmp_path, ["localhost"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    left, right = trio.testing.memory_stream_pair()
    peer = trio.SSLStream(
        left, ssl.create_default_context(cafile=files.ca), server_hostname="localhost"
    )
    ours = trio.SSLStream(right, context, server_side=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.do_handshake)
        await ours.do_handshake()
    sent = bytes(range(200)) * 300
    with trio.fail_after(PATIENCE_S):
        await peer.send_all(sent)
        first = bytes(await ours.receive_some(64 * 1024))
        assert len(first) < len(sent)
        assert with_what_is_at_hand(ours, first, 64 * 1024) == sent
        # No more than a record over what is asked for, and nothing is lost of the rest.
        await peer.send_all(sent)
        first = bytes(await ours.receive_some(64 * 1024))
        some = with_what_is_at_hand(ours, first, len(first) + 1)
        assert len(first) < len(some) < len(sent)
        assert with_what_is_at_hand(ours, some, 1024 * 1024) == sent
        # A half of a record is told at the next read, as is what is no TLS.
        await peer.send_all(b"x")
        first = bytes(await ours.receive_some(64 * 1024))
        await left.send_all(b"no TLS at all, and long enough to be known for what it is")
        assert with_what_is_at_hand(ours, first, 64 * 1024) == b"x"
        with pytest.raises(trio.BrokenResourceError):
            await ours.receive_some(64 * 1024)
    assert with_what_is_at_hand(right, b"plain", 64 * 1024) == b"plain"
