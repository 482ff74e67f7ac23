"""An `Ending` is the one end of a connection: it says why, and wakes those who wait for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import trio

End = Literal[
    "peer",
    "broken",
    "protocol",
    "too_big",
    "idle",
    "taken_over",
    "refused",
    "closing",
    "revoked",
    "displaced",
]
"""Why a connection ended. The peer closed it; the socket broke; the peer violated RFC 6455;
it sent a message over the limit; it fell silent; a newer hello took over; what it sent was refused;
the agent stops; its token was revoked or allows less now; its place was needed for another."""


class Ending:
    """Ends once, for the first reason that comes.

    Attributes:
        end: why it ended, None while it has not.
    """

    def __init__(self) -> None:
        self.end: End | None = None
        # Made only by who waits, so that a connection at rest is small.
        self._waiting: set[trio.CancelScope] | None = None
        self._stirred: trio.Event | None = None

    def set_end(self, end: End) -> None:
        """It is over, because of ``end`` if nothing came before."""
        if self.end is None:
            self.end = end
        for scope in self._waiting or ():
            scope.cancel()
        self.stir()

    @contextmanager
    def until_end(self) -> Iterator[trio.CancelScope]:
        """A scope that is cancelled once the connection has ended."""
        if self._waiting is None:
            self._waiting = set()
        with trio.CancelScope() as scope:
            self._waiting.add(scope)
            if self.end is not None:
                scope.cancel()
            try:
                yield scope
            finally:
                self._waiting.remove(scope)

    def stir(self) -> None:
        """Wake the pump's task from `wait_stirred`."""
        if self._stirred is not None:
            self._stirred.set()

    async def wait_stirred(self) -> None:
        """Until the connection has ended, or `stir`."""
        if self.end is None:
            self._stirred = trio.Event()
            await self._stirred.wait()
            self._stirred = None
