"""A `MessagePace` says how many messages may go now, where a service allows so many a second. Pure.

What was not used within a second is not saved up: a service counts by the second.
"""

from __future__ import annotations


class MessagePace:
    """``per_second`` messages and ``bytes_per_second`` bytes, 0 for any number of them."""

    def __init__(self, per_second: float, bytes_per_second: float, now: float) -> None:
        self._per_second, self._bytes_per_second = per_second, bytes_per_second
        self._most = max(1.0, per_second)
        self._messages, self._bytes = self._most, bytes_per_second
        self._at = now

    @property
    def is_free(self) -> bool:
        """Whether there is nothing to keep to."""
        return not (self._per_second or self._bytes_per_second)

    def wait(self, now: float) -> float:
        """Seconds until one more message may go; 0 where it may now.

        A message that is larger than what there is left may go, and the next ones wait for it.
        """
        passed, self._at = max(0.0, now - self._at), now
        self._messages = min(self._most, self._messages + passed * self._per_second)
        self._bytes = min(self._bytes_per_second, self._bytes + passed * self._bytes_per_second)
        seconds = 0.0
        if self._per_second and self._messages < 1:
            seconds = (1 - self._messages) / self._per_second
        if self._bytes_per_second and self._bytes <= 0:
            seconds = max(seconds, (1 - self._bytes) / self._bytes_per_second)
        return seconds

    def sent(self, size: int) -> None:
        """One went, of ``size`` bytes."""
        self._messages -= 1
        self._bytes -= size
