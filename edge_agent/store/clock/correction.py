"""This module puts the times of a block right when it is read, once its boot's offset is known.

A block says what the clocks of its boot showed when it was committed: wall clock and boot clock.
With the boot's offset (`edge_agent.values.clock_note`) the boot clock tells when that was in truth,
and how far the wall clock was off. By so much the arrivals of its records are put right, as far as
they were taken by a clock that was not set. What a sensor's own clock said is never touched.

The wall clock may have been stepped between a record's arrival and its block's commit, by a person
and more than once. So an arrival that would lie behind the commit, or more than `WAITED_NS_MAX`
before it, is not believed: the commit's time is taken. That is off by as long as the record
waited: a commit interval, or for as long as the disk refused. A step by hand of less than an hour
cannot be told from a wait; what arrived right before it is off by so much.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from edge_agent.values.record import Origin

#: Key of a `Clocks`: agent ("" for this one) and boot.
Boot = tuple[str, bytes]
Offsets = Mapping[Boot, int]
"""True time less boot clock, by boot."""

#: No record waits longer for its commit, unless the disk refuses.
WAITED_NS_MAX = 3600 * 1_000_000_000
#: Arrival and commit are read off the clocks at two moments, and slewing goes on between them.
_SLACK_NS = 1_000_000_000
#: Times are 64 bits everywhere; with what is added to this one they stay so.
_COMMITTED_NS_MAX = 2**63 - 1 - 2 * WAITED_NS_MAX


class Correction(Struct, frozen=True, gc=False):
    """``arrival_ns`` and ``stored_ns`` are what to add to arrivals and to the commit's time (0 for
    what is right as it is), ``committed_ns`` is when the block's first agent committed it. Not
    ``corrects_arrivals``: of that agent's clock nothing is known, of ours it is.
    """

    arrival_ns: int
    stored_ns: int
    committed_ns: int
    corrects_arrivals: bool = True

    def arrival(self, arrival_ns: int) -> int:
        """When records arrived in truth that arrived at ``arrival_ns`` by a clock not set."""
        shifted = arrival_ns + self.arrival_ns
        if -WAITED_NS_MAX <= shifted - self.committed_ns <= _SLACK_NS:
            return shifted
        return self.committed_ns

    def latest(self, time_ns: int) -> int:
        """No record of a block is later in truth, none being later than ``time_ns`` as stored."""
        if not self.corrects_arrivals:
            return time_ns
        return max(time_ns, time_ns + self.arrival_ns, self.committed_ns + _SLACK_NS)


def correction_of(
    boot_id: bytes,
    boot_ns: int,
    stored_ns: int,
    synced: bool,
    origin: Origin | None,
    offsets: Offsets,
) -> Correction | None:
    """The correction of a block with these clocks of ours and this origin; None where there is
    nothing to correct, or nothing known to do it by.
    """
    ours = None if synced else offsets.get(("", boot_id))
    shift_ns = 0 if ours is None else boot_ns + ours - stored_ns
    if origin is None:
        return None if ours is None else Correction(shift_ns, shift_ns, boot_ns + ours)
    theirs = None if origin.synced else offsets.get((origin.agent, origin.boot_id))
    if theirs is None:
        return None if ours is None else Correction(0, shift_ns, 0, corrects_arrivals=False)
    committed_ns = origin.boot_ns + theirs
    if not 0 <= committed_ns <= _COMMITTED_NS_MAX:
        # Another agent may tell us anything; what no clock shows corrects nothing.
        return None if ours is None else Correction(0, shift_ns, 0, corrects_arrivals=False)
    return Correction(committed_ns - origin.stored_ns, shift_ns, committed_ns)
