"""This module decides how much each session may have in flight, below one common limit. Pure.

Every session is granted a window in bytes. The sum never exceeds ``in_flight_bytes``: each of the
``connections`` has a floor of its own share, and what is above the floors is lent out. A session
that fills half of its window is hungry and may double it; if nothing is free, the largest windows
of those who do not use theirs are halved first. Shrinking is only a word to the peer
(``ack {window}``), so what is still on its way may exceed the sum for a moment; the committer's own
bound on what it takes in is the wall behind it.

"With nothing in flight one message is always allowed" (`edge_agent.wire`) is the sender's rule: a
floor smaller than a message stops nobody.
"""

from __future__ import annotations

from dataclasses import dataclass

#: No window is smaller than this unless the limits are tiny; less would make a sender that sends
#: batches wait for each single ack.
FLOOR_BYTES = 32 * 1024


@dataclass(slots=True, eq=False)
class SessionWindow:
    """One session's share, in bytes. Compared by identity: two shares often have equal numbers.

    Attributes:
        granted: what the session may have in flight.
        told: what its peer was last told; the session tells it again when they differ.
        peak: most that was in flight since the window was last looked at.
    """

    granted: int
    told: int
    peak: int = 0


class SessionWindows:
    """The windows of all sessions.

    Args:
        in_flight_bytes: for all sessions together.
        window_bytes: for one at most.
        connections: how many there can be.
    """

    def __init__(self, in_flight_bytes: int, window_bytes: int, connections: int) -> None:
        self._floor = max(1, min(FLOOR_BYTES, int(window_bytes), in_flight_bytes // connections))
        self._most = max(self._floor, int(window_bytes))
        # Floors of those who have not come yet are kept free for them.
        self._spare = int(in_flight_bytes) - self._floor * connections
        self._windows: list[SessionWindow] = []

    @property
    def granted_bytes(self) -> int:
        """Sum of all windows."""
        return sum(window.granted for window in self._windows)

    def open(self) -> SessionWindow:
        """A window for a new session: its floor and a quarter of what is spare."""
        granted = min(self._most, self._floor + max(0, self._spare) // 4)
        self._spare -= granted - self._floor
        window = SessionWindow(granted, granted)
        self._windows.append(window)
        return window

    def close(self, window: SessionWindow) -> None:
        """The session has ended."""
        self._windows.remove(window)
        self._spare += window.granted - self._floor

    def review(self, window: SessionWindow, in_flight: int) -> None:
        """Look at one window, ``in_flight`` bytes being on their way; may change several."""
        hungry = max(window.peak, in_flight) * 2 >= window.granted
        window.peak = in_flight
        if not hungry or window.granted >= self._most:
            return
        wanted = min(window.granted, self._most - window.granted)
        if self._spare < wanted:
            self._take_back(window, wanted - self._spare)
        more = min(wanted, max(0, self._spare))
        window.granted += more
        self._spare -= more

    def _take_back(self, hungry: SessionWindow, wanted: int) -> None:
        for window in sorted(self._windows, key=lambda each: each.granted, reverse=True):
            if wanted <= 0 or window.granted <= self._floor:
                return
            if window is hungry or window.peak * 2 >= window.granted:
                continue
            less = window.granted - max(self._floor, window.granted // 2)
            window.granted -= less
            self._spare += less
            wanted -= less
