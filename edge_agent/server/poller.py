"""The shared reader is one task that reads many plain TCP sockets.

Waking a task of its own for every socket that has something to read costs 48 µs of Trio's time;
one task that waits for an epoll set, and reads every socket in it that is ready, costs 14-17 µs a
message. The set is itself readable when one of its sockets is, so Trio waits for
the set (`trio.lowlevel.wait_readable`), and the kernel keeps the books.

A `Member` is in the set while it waits in `SharedReader.watch`. What a read brings is dealt with
at once, within this task, by `Member.take_some`, which never waits. As soon as there is something
that a task has to do (a control frame, the end, backpressure), the member leaves the set, `watch`
returns in its own task, and the socket rests until that task comes back. So there are never two
readers of one socket.

After a round that brought little the reader rests for `REST_S`: what comes meanwhile is read in
one go. After a round that brought much it goes on at once. With nothing to read it sleeps.

Where the machine has no epoll, or the stream is no plain socket (TLS), each connection's own task
reads; `Transport` knows both ways.
"""

from __future__ import annotations

import select
from typing import Protocol

import trio

#: How long sockets are left to gather after a round that brought little. Beside a commit interval
#: of 20 ms and more it is nothing, and at 10,000 messages a second a round then brings some 40.
REST_S = 0.004
#: A round that brought as much from one socket, bytes and messages, did not find slow sensors.
FLOOD_BYTES = 8 * 1024
#: Other tasks get their turn after this much, which is read and judged in 1-4 ms: 256 KiB of
#: messages of 64 bytes, each counting for as much again.
TURN_BYTES = 512 * 1024
#: Sockets asked for at a time; the others come with the next round.
_ROUND_MAX = 1024


class Member(Protocol):
    """A socket in the set."""

    def fileno(self) -> int:
        """The socket's descriptor; -1 once it is closed."""
        ...

    def take_some(self, now: float) -> int:
        """Read once without waiting and deal with it: the work that was, in bytes; negative to
        leave the set.
        """
        ...


class SharedReader:
    """See the module. Without `run` nobody is read. It may be called again after it has failed: the
    set is made anew, and every member's own task comes back to it.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._members: dict[int, tuple[Member, trio.lowlevel.Task]] = {}

    @classmethod
    def if_available(cls) -> SharedReader | None:
        """One, where this machine has epoll."""
        return cls() if hasattr(select, "epoll") else None

    def __len__(self) -> int:
        return len(self._members)

    async def run(self) -> None:
        """Read until cancelled."""
        epoll, descriptor = self._epoll, self._epoll.fileno()
        try:
            while True:
                await trio.lowlevel.wait_readable(descriptor)
                if not await self._round():
                    await trio.sleep(REST_S)
        except Exception:
            self._begin_anew()
            raise
        finally:
            trio.lowlevel.notify_closing(descriptor)
            epoll.close()

    def _begin_anew(self) -> None:
        """Whatever is wrong with the set, or with who is in it: nobody is left waiting in it."""
        self._epoll = select.epoll()
        members, self._members = self._members, {}
        for _, task in members.values():
            trio.lowlevel.reschedule(task)

    async def watch(self, member: Member) -> None:
        """Have ``member`` read by the shared task, until it leaves the set."""
        descriptor = member.fileno()
        # First, because the kernel may refuse: then nobody waits, and nobody is to be woken.
        self._epoll.register(descriptor, select.EPOLLIN)
        # The task itself instead of an event, of which there would be a thousand.
        self._members[descriptor] = (member, trio.lowlevel.current_task())

        def cancelled(_: object) -> trio.lowlevel.Abort:
            self._forget(descriptor)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(cancelled)

    def leave(self, member: Member, descriptor: int) -> None:
        """Take ``member`` out of the set; to be called before its socket is closed. Idempotent."""
        place = self._members.get(descriptor)
        if place is not None and place[0] is member:
            self._forget(descriptor)
            trio.lowlevel.reschedule(place[1])

    def _forget(self, descriptor: int) -> None:
        del self._members[descriptor]
        if not self._epoll.closed:
            self._epoll.unregister(descriptor)

    async def _round(self) -> bool:
        """Read each socket that is ready, once. Whether it brought much."""
        now = trio.current_time()
        turn, flooded = 0, False
        for descriptor, _ in self._epoll.poll(0, _ROUND_MAX):
            place = self._members.get(descriptor)
            if place is None:
                continue
            size = place[0].take_some(now)
            if size < 0:
                self.leave(place[0], descriptor)
                continue
            flooded = flooded or size >= FLOOD_BYTES
            turn += size
            if turn >= TURN_BYTES:
                turn = 0
                await trio.lowlevel.checkpoint()
        return flooded
