"""The order of an upstream's lanes where the link is narrow: which one sends first.

Each lane has a connection of its own, and on a wide link all send at once. On a narrow one they
would share it: alarms would get as much of it as the bulk. So before each batch a lane waits as
long as one that goes before it has something to hand over; on a wide link that is no time at all.
First go logs of a higher ``priority``; of one priority newer records go before backlogs. What a
person wants sent once more goes behind all of that, however long it has to wait.

A lane takes its place with its first batch and leaves it when it has to wait for records: not
between two batches, where reading and planning the next takes time in which another would slip in.
A lane that is down has no place, and holds nobody up. One whose upstream is stuck would: so nobody
waits for more than `WAIT_MAX_S` but for what is sent once more, and every other lane gets a batch
through now and then.
"""

from __future__ import annotations

import math
from typing import Final

import trio

#: How long a lane waits for those before it, each time.
WAIT_MAX_S: Final = 10.0
Rank = tuple[bool, int, bool]
"""The smaller one goes first: whether it is sent once more, how unimportant its log is, and whether
it is a backlog.
"""


class LaneTurns:
    """One upstream's."""

    def __init__(self) -> None:
        self._taken: list[Rank] = []
        self._news = trio.Event()

    def taken_before(self, rank: Rank) -> bool:
        """Whether a lane that goes before this one has its place."""
        return any(other < rank for other in self._taken)

    async def changed(self) -> None:
        """Wait until a lane leaves its place."""
        await self._news.wait()

    def take(self, rank: Rank) -> None:
        """A lane of this rank has something to send."""
        self._taken.append(rank)

    def leave(self, rank: Rank) -> None:
        """It has sent it."""
        self._taken.remove(rank)
        self._news.set()
        self._news = trio.Event()


class LanePlace:
    """One lane's among them."""

    def __init__(
        self, turns: LaneTurns, priority: int, *, is_backlog: bool, is_resend: bool = False
    ) -> None:
        self._turns, self._rank = turns, (is_resend, -priority, is_backlog)
        self._wait_s = math.inf if is_resend else WAIT_MAX_S
        self._is_taken = False

    async def take(self) -> None:
        """Let those before it go first, then stand before the others until `leave`."""
        with trio.move_on_after(self._wait_s):
            while self._turns.taken_before(self._rank):
                await self._turns.changed()
        if not self._is_taken:
            self._turns.take(self._rank)
            self._is_taken = True

    def leave(self) -> None:
        """There is nothing to send, or no upstream for it."""
        if self._is_taken:
            self._turns.leave(self._rank)
            self._is_taken = False
