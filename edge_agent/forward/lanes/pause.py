"""`Holding` keeps a lane still while a person moves its position or has paused it, and outside of
its upstream's windows.

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
        waits_for: the window that it waits for, in words; "" where it need not.
    """

    def __init__(self) -> None:
        self.paused = False
        self.stale = True
        self.waits_for = ""
        self._shut_at = 0.0
        self._holders = 0
        self._turn = 0
        self._working: trio.CancelScope | None = None
        self._news = trio.Event()

    @property
    def engaged(self) -> bool:
        """Whether the lane has to rest."""
        return self.paused or self._holders > 0 or bool(self.waits_for)

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

    def keep_to(self, waits_for: str, grace_s: float) -> bool:
        """Rest until that window, "" for now; whether it is shut by this. What is on its way
        meanwhile has ``grace_s`` to arrive; to be called again now and then.
        """
        shut = bool(waits_for and not self.waits_for)
        if shut:
            self._shut_at = trio.current_time()
        elif waits_for and trio.current_time() >= self._shut_at + grace_s and self._working:
            self._working.cancel()
        self.waits_for = waits_for
        self._tell()
        return shut

    async def rest(self) -> None:
        """Wait until there is a reason to look again; at once where there is none to rest.

        Without a deadline: a person ends it, a window, or the agent's end.
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
