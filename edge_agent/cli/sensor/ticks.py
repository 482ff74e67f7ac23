"""The pace of a sensor that reads at intervals."""

from __future__ import annotations

import trio


class Ticks:
    """Moments an interval apart, counted from now on, so that they do not drift.

    After a suspension, a full buffer or a slow reading the missed ones are left out, and not made
    up for.
    """

    def __init__(self, interval: float) -> None:
        self._begin, self._interval, self._tick = trio.current_time(), interval, 0

    async def wait(self, at_least: float = 0.0) -> None:
        """Wait for the next one, ``at_least`` so many seconds."""
        now = trio.current_time()
        self._tick = max(self._tick, int((now - self._begin) / self._interval)) + 1
        await trio.sleep_until(max(self._begin + self._tick * self._interval, now + at_least))
