"""A `BatchLimit` learns how large a batch gets through, and when one is halved. Pure.

A gateway may drop bodies beyond some size without a word, and a link may break before a large one
has passed; the same batch would then be sent for ever. So what was cut off, again and again, is
halved (`CUTS_MAX`), and the ranges behind it are planned no larger. It grows again with what
passes::

    1 MiB cut ─▶ 512 KiB cut ─▶ 256 KiB passes … 8 times ─▶ 384 KiB (between the two) cut
      ─▶ 256 KiB, passes … 16 times ─▶ …

Each attempt that fails doubles how often the present size has to pass before the next one, up to
`PATIENCE_MAX`; so where the limit is somebody's and stays, two sends in a thousand are lost to
finding out. Batches much smaller than the limit prove nothing and do not count.

Sizes are bytes as encoded in the store, by which ranges are planned. What people are told
(`passed`, `failed`) are bytes as sent.
"""

from __future__ import annotations

from typing import Final

import msgspec

#: So often in a row is the same batch cut off before it is halved; if it is larger, as sent, than
#: that: what goes into one packet is not too large for anybody.
CUTS_MAX: Final = 2
HALVED_BYTES_MIN: Final = 1024
#: So often is what is not halved, before it is suspected; if it goes into one packet, not before
#: that time has passed, and never sooner again: what is tried for it may arrive, and once more in
#: its turn.
SMALL_CUTS_MAX: Final = 8
SUSPECTED_AFTER_S: Final = 3600.0
PATIENCE_MIN: Final = 8
PATIENCE_MAX: Final = 1024


class BatchLimit(msgspec.Struct, array_like=True, frozen=True):
    """See the module.

    Attributes:
        stored: a batch has at most so many stored bytes; 0: as configured.
        good, bad: the largest stored size that passed since the last cut, the smallest known to be
            cut off; 0 where there is none.
        streak, patience: how often the present size has passed, and has to before it grows.
        passed, failed: the largest body that passed, the smallest that did not, in bytes as sent.
    """

    stored: int = 0
    good: int = 0
    bad: int = 0
    streak: int = 0
    patience: int = PATIENCE_MIN
    passed: int = 0
    failed: int = 0

    def after_cut(self, stored: int, sent: int) -> BatchLimit:
        """A batch of ``stored`` bytes, ``sent`` as a body, does not get through."""
        good = self.good if self.good < stored else 0
        passed = self.passed if self.passed < sent else 0
        patience = min(2 * self.patience, PATIENCE_MAX) if good else self.patience
        smaller = max(stored // 2, good, 1)
        bad = min(self.bad or stored, stored)
        return BatchLimit(smaller, good, bad, 0, patience, passed, sent)

    def after_pass(self, stored: int, sent: int, most: int) -> BatchLimit:
        """One got through; ``most`` is what is configured."""
        disproved = 0 < self.bad <= stored
        now = msgspec.structs.replace(
            self,
            good=max(self.good, stored),
            bad=0 if disproved else self.bad,
            patience=PATIENCE_MIN if disproved else self.patience,
            passed=max(self.passed, sent),
            failed=self.failed if sent < self.failed else 0,
        )
        if not self.stored or 2 * stored < self.stored:
            return now
        if self.streak + 1 < self.patience:
            return msgspec.structs.replace(now, streak=self.streak + 1)
        return now._grown(most)

    def _grown(self, most: int) -> BatchLimit:
        larger, patience = 2 * self.stored, self.patience
        if self.bad and larger >= self.bad:
            larger = (self.stored + self.bad) // 2
            if larger - self.stored < self.stored // 8:
                # As near as is worth it. In a long while the limit itself may have moved.
                if patience < PATIENCE_MAX:
                    return msgspec.structs.replace(self, streak=0, patience=2 * patience)
                larger = 2 * self.stored
        return msgspec.structs.replace(self, stored=0 if larger >= most else larger, streak=0)
