"""One task reads many sockets, each only while it wants to be read."""

from __future__ import annotations

import os
import socket as stdlib_socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import trio
import trio.testing

from edge_agent.server import poller
from edge_agent.server.poller import SharedReader
from tests.patience import PATIENCE_S


class Reading:
    """A member that remembers what it read; leaves after a read of ``b"enough"``."""

    def __init__(self, ours: stdlib_socket.socket) -> None:
        ours.setblocking(False)
        self.ours = ours
        self.reads: list[bytes] = []

    def fileno(self) -> int:
        return self.ours.fileno()

    def take_some(self, now: float) -> int:
        try:
            data = os.read(self.ours.fileno(), 65536)
        except BlockingIOError:
            return 0
        self.reads.append(data)
        return -1 if data in (b"enough", b"") else len(data)


@pytest.fixture
def pairs() -> Iterator[list[tuple[Reading, stdlib_socket.socket]]]:
    with ExitStack() as stack:
        found = []
        for _ in range(20):
            left, right = stdlib_socket.socketpair()
            stack.enter_context(left)
            stack.enter_context(right)
            found.append((Reading(left), right))
        yield found


Pairs = list[tuple[Reading, stdlib_socket.socket]]


async def test_every_member_is_read_when_something_came(pairs: Pairs) -> None:
    reader = SharedReader()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.run)
        for member, _ in pairs:
            nursery.start_soon(reader.watch, member)
        await trio.testing.wait_all_tasks_blocked(0.01)
        for number, (_, peer) in enumerate(pairs):
            peer.send(b"%d" % number)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert [member.reads for member, _ in pairs] == [[b"%d" % n] for n in range(20)]
        nursery.cancel_scope.cancel()


async def test_who_has_enough_leaves_and_is_read_no_more(pairs: Pairs) -> None:
    reader = SharedReader()
    (member, peer), (other, other_peer) = pairs[:2]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.run)
        nursery.start_soon(reader.watch, other)
        with trio.fail_after(PATIENCE_S):
            peer.send(b"enough")
            await reader.watch(member)
        peer.send(b"more")
        other_peer.send(b"x")
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert member.reads == [b"enough"]
        assert other.reads == [b"x"]
        assert len(reader) == 1
        # And comes back when it wants to.
        nursery.start_soon(reader.watch, member)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert member.reads == [b"enough", b"more"]
        nursery.cancel_scope.cancel()


async def test_the_end_of_a_connection_is_something_that_came(pairs: Pairs) -> None:
    reader = SharedReader()
    member, peer = pairs[0]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.run)
        with trio.fail_after(PATIENCE_S):
            peer.close()
            await reader.watch(member)
        assert member.reads == [b""]
        nursery.cancel_scope.cancel()


async def test_a_member_that_is_cancelled_or_closed_leaves(pairs: Pairs) -> None:
    reader = SharedReader()
    (member, _), (closed, _) = pairs[:2]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.run)
        with trio.move_on_after(0.01):
            await reader.watch(member)
        assert len(reader) == 0
        async with trio.open_nursery() as waiting:
            waiting.start_soon(reader.watch, closed)
            await trio.testing.wait_all_tasks_blocked(0.01)
            reader.leave(closed, closed.fileno())
            reader.leave(closed, closed.fileno())
            closed.ours.close()
        assert len(reader) == 0
        nursery.cancel_scope.cancel()


async def test_a_descriptor_that_is_used_again_belongs_to_the_new_member(pairs: Pairs) -> None:
    reader = SharedReader()
    (old, _), (new, _) = pairs[:2]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.watch, new)
        await trio.testing.wait_all_tasks_blocked()
        reader.leave(old, new.fileno())
        assert len(reader) == 1
        nursery.cancel_scope.cancel()


async def test_slow_sensors_gather_and_a_flood_is_read_on(
    pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    sleep = trio.sleep

    async def watched_sleep(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(seconds)

    monkeypatch.setattr(trio, "sleep", watched_sleep)
    reader = SharedReader()
    member, peer = pairs[0]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.run)
        nursery.start_soon(reader.watch, member)
        peer.send(bytes(40_000))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert pauses == []
        peer.send(b"slow")
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert pauses == [poller.REST_S]
        nursery.cancel_scope.cancel()


async def test_nobody_is_woken_while_nothing_comes(pairs: Pairs) -> None:
    reader = SharedReader()
    rounds = 0

    class Counting(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            nonlocal rounds
            rounds += task.name.endswith("SharedReader.run")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.run)
        for member, _ in pairs:
            nursery.start_soon(reader.watch, member)
        await trio.testing.wait_all_tasks_blocked(0.01)
        counting = Counting()
        trio.lowlevel.add_instrument(counting)
        await trio.sleep(0.1)
        trio.lowlevel.remove_instrument(counting)
        assert rounds == 0
        nursery.cancel_scope.cancel()


async def test_a_socket_that_cannot_be_watched_is_no_member(pairs: Pairs) -> None:
    reader = SharedReader()
    member, _ = pairs[0]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.run)
        descriptor = member.fileno()
        member.ours.close()
        # As where the kernel has no memory for another one.
        gone = Gone(descriptor)
        with pytest.raises(OSError):
            await reader.watch(gone)
        assert len(reader) == 0
        reader.leave(gone, descriptor)
        nursery.cancel_scope.cancel()


class Gone:
    """A member whose descriptor the kernel does not take."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def fileno(self) -> int:
        return self.descriptor

    def take_some(self, now: float) -> int:
        raise AssertionError("nothing is read")
