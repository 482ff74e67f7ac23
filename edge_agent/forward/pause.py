"""`Holding` keeps a lane still while a person moves its position or has paused it.

What a person orders must not meet what the lane is doing: an acknowledgement on its way would
move the floor up again behind the order. So a lane that is held first lets go of its sink, which
loses nothing (what was in flight is asked for or sent again), and reads its position anew
afterwards.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio


class Holding:
    """One lane's.

    Attributes:
        paused: whether a person has paused the consumer, as its position says.
        stale: whether the position has to be read, for the first time or anew.
    """

    def __init__(self) -> None:
        self.paused = False
        self.stale = True
        self._holders = 0
        self._turn = 0
        self._working: trio.CancelScope | None = None
        self._news = trio.Event()

    @property
    def engaged(self) -> bool:
        """Whether the lane has to rest."""
        return self.paused or self._holders > 0

    @contextmanager
    def working(self) -> Iterator[None]:
        """Around what `held` interrupts."""
        with trio.CancelScope() as self._working:
            if self._holders:
                self._working.cancel()
            try:
                yield
            finally:
                self._working = None
                self._tell()

    async def rest(self) -> None:
        """Wait until there is a reason to look again; at once where there is none to rest.

        Without a deadline: a person ends it, or the agent's end does.
        """
        turn = self._turn
        while self.engaged and self._turn == turn:
            await self._news.wait()

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Interrupt the lane's work, and keep it still for the block.

        The wait is short: what is interrupted only says goodbye to its upstream.
        """
        self._holders += 1
        try:
            while self._working is not None:
                self._working.cancel()
                await self._news.wait()
            yield
        finally:
            self._holders -= 1
            self._turn += 1
            self.stale = True
            self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()
