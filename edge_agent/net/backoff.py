"""The wait before the next attempt: full jitter, bounded, pure.

A thousand peers that lost the same other side must not return at the same moment, so the wait is
drawn evenly between nothing and a ceiling that doubles with each failure ("full jitter"). What
the other side asks for (``stop.retry_after``, ``Retry-After``) is a lower bound, itself bounded, so
that a mistaken hint of a year silences nobody.
"""

from __future__ import annotations

import random as random_module
from dataclasses import dataclass

#: A hint longer than this is taken as this, in seconds.
RETRY_AFTER_MAX = 3600.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """The pace of attempts.

    Attributes:
        base: ceiling of the first wait, seconds.
        maximum: ceiling of every wait, seconds.
        slow: wait after an answer that only a person can change (401, 403, 404), seconds.
    """

    base: float = 0.5
    maximum: float = 60.0
    slow: float = 60.0

    def delay(
        self,
        failures: int,
        random: random_module.Random,
        *,
        retry_after: float | None = None,
        slow: bool = False,
    ) -> float:
        """Seconds to wait after ``failures`` (≥ 1) failures in a row."""
        # The exponent is capped so that a month of failures does not overflow a float.
        ceiling = min(self.maximum, self.base * 2 ** min(failures - 1, 30))
        wait = random.uniform(0, ceiling)
        if slow:
            wait = max(wait, random.uniform(self.slow / 2, self.slow))
        # What a peer says may be anything that a float can be, also less than nothing and NaN.
        if retry_after is not None and retry_after > 0:
            # A little later by chance: all who were told the same time must not return at once.
            # A tenth of a minute, where that is asked for: a second would be a rush of its own.
            asked = min(retry_after, RETRY_AFTER_MAX)
            asked += random.uniform(0, max(self.base, asked / 10))
            wait = max(wait, asked)
        return wait
