"""The size of a message to another agent, by how fast the link was found to be. Pure.

A large message costs less for each record, and on a slow link it is long without an
acknowledgement: 256 KiB are two minutes of 2 kB/s, and what a break costs. So a message has what
the link takes in `MESSAGE_S`. Speed is what was acknowledged over the time in which something was
on its way; not the time that one message took, as a hub holds acknowledgements back for its
commits.
"""

from __future__ import annotations

from math import inf
from typing import Final

#: A message should have gone out within this time.
MESSAGE_S: Final = 2.0
#: The first ones, while nothing is known; and the least, as each has some bytes of its own.
FIRST_BYTES: Final = 16 * 1024
LEAST_BYTES: Final = 4 * 1024
#: What was before so much time counts half.
_MEMORY_S: Final = 10.0


class LinkSpeed:
    """One connection's."""

    def __init__(self) -> None:
        self._since = 0.0
        self._bytes = self._seconds = 0.0

    @property
    def message_bytes(self) -> float:
        """What a message may have; without a bound where acknowledgements come at once."""
        if not self._bytes:
            return FIRST_BYTES
        if self._seconds <= 0:
            return inf
        return max(self._bytes / self._seconds * MESSAGE_S, LEAST_BYTES)

    def begins(self, now: float) -> None:
        """Something is on its way, and nothing was before."""
        self._since = now

    def acknowledged(self, size: int, now: float) -> None:
        """So many bytes have arrived."""
        self._bytes += size
        self._seconds += max(now - self._since, 0.0)
        self._since = now
        if self._seconds > _MEMORY_S:
            self._bytes, self._seconds = self._bytes / 2, self._seconds / 2
