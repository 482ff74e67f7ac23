"""Who of an upstream's lanes goes first where the link is narrow.

Each lane has a connection of its own, and on a wide link all send at once. On a narrow one they
would share it: alarms would get as much of it as the bulk. So before each batch a lane waits as
long as one that goes before it is handing one over, which on a narrow link is as long as that has
something to send, and on a wide one no time at all. First go logs of a higher ``priority``; of one
priority newer records go before backlogs.

A lane that is down hands nothing over, and holds nobody up. One whose upstream is stuck would: so
nobody waits for more than `WAIT_MAX_S`, and every lane gets a batch through now and then.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

#: How long a lane waits for those before it, each time.
WAIT_MAX_S: Final = 10.0
Rank = tuple[int, bool]
"""The smaller one goes first: how unimportant a log is, and whether it is a backlog."""


class LaneTurns:
    """One upstream's."""

    def __init__(self) -> None:
        self._sending: dict[Rank, int] = {}
        self._news = trio.Event()

    def taken_before(self, rank: Rank) -> bool:
        """Whether a lane that goes before this one is sending."""
        return any(other < rank for other in self._sending)

    async def changed(self) -> None:
        """Wait until a lane has sent what it had."""
        await self._news.wait()

    def begin(self, rank: Rank) -> None:
        """A lane of this rank sends."""
        self._sending[rank] = self._sending.get(rank, 0) + 1

    def end(self, rank: Rank) -> None:
        """It has sent."""
        left = self._sending.pop(rank) - 1
        if left:
            self._sending[rank] = left
        self._news.set()
        self._news = trio.Event()


class LanePlace:
    """One lane's among them."""

    def __init__(self, turns: LaneTurns, priority: int, *, is_backlog: bool) -> None:
        self._turns, self._rank = turns, (-priority, is_backlog)

    async def wait(self) -> None:
        """Let those before it go first."""
        with trio.move_on_after(WAIT_MAX_S):
            while self._turns.taken_before(self._rank):
                await self._turns.changed()

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Around the handing over of a batch."""
        self._turns.begin(self._rank)
        try:
            yield
        finally:
            self._turns.end(self._rank)
