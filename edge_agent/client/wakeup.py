"""Wake every task that waits for something to have changed.

Trio runs one task at a time, so "look at the condition, and if it does not hold, `wait`" cannot
miss a change as long as no checkpoint lies between the two.
"""

from __future__ import annotations

import trio


class Wakeup:
    """Like a condition variable without its lock."""

    def __init__(self) -> None:
        self._waiting = trio.lowlevel.ParkingLot()

    async def wait(self) -> None:
        """Until the next `notify`."""
        await self._waiting.park()

    def notify(self) -> None:
        """Wake all who wait now."""
        self._waiting.unpark_all()
