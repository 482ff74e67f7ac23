"""A `BatchPace` learns how large a batch may be so that its answer comes in good time. Pure.

A mebibyte over a weak cell is minutes without an answer, and is sent again from its beginning where
the cell breaks before. So a batch begins small, grows while answers come well within `GOOD_S`, and
is halved where one takes longer, or the batch is cut off::

    32 KiB answered in 0.1 s ─▶ 128 KiB in 0.2 s ─▶ 512 KiB in 0.8 s ─▶ 1 MiB (as configured)
    32 KiB answered in 3 s   ─▶ 36 KiB in 4 s    ─▶ 40 KiB in 6 s    ─▶ 20 KiB in 2.4 s ─▶ …

Where a smaller batch takes as long as the larger one before it, the time is the upstream's own and
not the link's: that much is waited for beside.

What is too large whatever the time it takes is `batch_limit`'s. Sizes are bytes as encoded in the
store, and numbers of records, as small records become much larger when they are sent. Ranges are
planned by both.
"""

from __future__ import annotations

from math import inf
from typing import Final

from edge_agent.forward.batches.plan import GROWTH, RANGES_MAX, RANGES_MAX_QUICK

#: An answer should come within this time.
GOOD_S: Final = 5.0
START_BYTES: Final = 32 * 1024
START_RECORDS: Final = 100
#: Below it the request's own head is what takes the time.
LEAST_BYTES: Final = 2 * 1024
LEAST_RECORDS: Final = 10


class BatchPace:
    """See the module. ``most_bytes`` and ``most_records`` are what is configured.

    Attributes:
        bytes, records: what a batch may have now.
        starting: whether every answer so far came at once.
    """

    def __init__(self, most_bytes: int, most_records: int) -> None:
        self._most = most_bytes, most_records
        self.bytes, self.records = min(START_BYTES, most_bytes), min(START_RECORDS, most_records)
        self._planned = [self._most]
        self.starting = True
        #: What an answer takes, however small the batch.
        self._own_s = 0.0
        self._slow: tuple[float, float] = inf, 0.0

    @property
    def ranges_max(self) -> int:
        """How many batches may be planned with one commit: more once the largest are answered at
        once. What is planned before is little, as it goes in the order of the log whatever the
        order that is wanted.
        """
        is_quick = self.starting and (self.bytes, self.records) == self._most
        return RANGES_MAX_QUICK if is_quick else RANGES_MAX

    def restored(self) -> None:
        """The plan is an earlier run's, whatever that knew."""
        self._planned = [self._most]

    def planned(self, ranges: int) -> None:
        """A plan of so many batches is made by what they may have now: while answers come at once,
        each as much more as it would be given after the answer to the one before.
        """
        size, records = self.bytes, self.records
        self._planned = [(size, records)]
        while self.starting and len(self._planned) < ranges:
            size, records = min(size * GROWTH, self._most[0]), min(records * GROWTH, self._most[1])
            self._planned.append((size, records))

    def too_large(self, left: int) -> bool:
        """Whether the next of ``left`` ranges of the plan was planned for a faster link."""
        size, records = self._planned[-min(left, len(self._planned))]
        return 2 * self.bytes <= size or 2 * self.records <= records

    def answered(self, stored: int, records: int, seconds: float) -> None:
        """A batch of ``stored`` bytes, ``records`` records, was answered after ``seconds``."""
        self._own_s = min(self._own_s, seconds)
        if seconds > GOOD_S + self._own_s:
            before, before_s = self._slow
            if records <= 0.75 * before and seconds >= 0.8 * before_s and before_s:
                self._own_s, self._slow = seconds, (inf, 0.0)
                return
            self._slow = records, seconds
            self.starting = False
            # One that was planned before it was known how slow it is says how slow it is.
            part = GOOD_S / seconds
            self._become(
                min(self.bytes // 2, int(stored * part)),
                min(self.records // 2, int(records * part)),
            )
        elif 2 * stored >= self.bytes or 2 * records >= self.records:
            # Much smaller ones say nothing of larger ones.
            taken = seconds - self._own_s
            self.starting = self.starting and taken < GOOD_S / 8
            eighths = 8 * GROWTH if taken < GOOD_S / 8 else 16 if taken < GOOD_S / 2 else 9
            self._become(self.bytes * eighths // 8, self.records * eighths // 8)

    def failed(self) -> None:
        """A batch was cut off on its way."""
        self.starting = False
        self._become(self.bytes // 2, self.records // 2)

    def _become(self, size: int, records: int) -> None:
        self.bytes = min(max(size, LEAST_BYTES), self._most[0])
        self.records = min(max(records, LEAST_RECORDS), self._most[1])
