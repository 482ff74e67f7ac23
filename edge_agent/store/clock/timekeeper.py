"""The timekeeper judges this agent's own clock: when to trust it, and what to note of it.

**The offset** of a boot (wall clock less boot clock) is noted when the wall clock is set, and again
whenever it was stepped by `NOTE_FROM_NS` or more since: NTP had found out better. The latest holds.
But a clock that is said to be set may still be wrong: a receiver that has lost count of its weeks,
a server that says 2099. What contradicts what is known already (a step of more than
`DOUBTED_STEP_NS` while set; a first time before what this store was given by a set clock, or more
than `AHEAD_NS_MAX` after it) is **doubted**: shown to people, and noted only once it has stood for
as long as retention waits after a step, `policy.STEP_CALM_NS`. Before 2020 no clock is set,
whatever it says of itself.

**Stored time never runs backwards** among the blocks that a set clock dated: after a step back the
last time given is given again until the clock has caught up. Retention so never takes a block for
older than it is, and looking for a time in a log (`cursor.near`) needs it. Blocks keep the boot
clock beside, as it is. Where the clock goes back by more than `HELD_NS_MAX`, it was grossly wrong
before: nothing is held then, or a clock that once said 2099 would say so for ever.

**Before the step.** Records that arrived before the clock was set and are committed after get a
block of their own with the clocks as they ran then, so that they are corrected as exactly as
those committed a moment earlier. Where it is not known how they ran (the clock was not set between
two looks at it alone), such a block has the clocks of now, and counts as one by a clock not set.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.store.clock.boot_offsets import Clocks
from edge_agent.store.clock.correction import WAITED_NS_MAX
from edge_agent.store.retention.policy import ClockWatch
from edge_agent.store.settings import Moment
from edge_agent.values.clock_note import ClockNote
from edge_agent.values.record import UNSET_CLOCK_BEFORE_NS

_HOUR_NS = 3600 * 1_000_000_000
#: A smaller difference is not worth a note: time sources step the clock by half a second or more,
#: and slew, which moves the boot clock too, what is less.
NOTE_FROM_NS = 100_000_000
#: A larger step of a clock that is set already is doubted for some time.
DOUBTED_STEP_NS = _HOUR_NS
#: An agent that was off for longer than this is rarer than a clock that is wrong by as much.
AHEAD_NS_MAX = 10 * 365 * 24 * _HOUR_NS
#: For a step back beyond this, stored time is not held.
HELD_NS_MAX = 24 * _HOUR_NS


@dataclass(frozen=True, slots=True)
class Stamp:
    """The clocks with which a block is written; a `settings.Moment`."""

    wall_ns: int
    boot_ns: int
    boot_id: bytes
    synced: bool


@dataclass(frozen=True, slots=True)
class Dating:
    """How one group is dated: the clocks to write its blocks with; where the clock is set, the same
    for what arrived ``before_set``; what is to be ``noted`` of our own clock.
    """

    stamp: Moment
    before_set: Moment | None = None
    noted: ClockNote | None = None


class Timekeeper:
    """One engine's, from its opening to its close; asked once for each commit.

    ``doubt_ns``: by how much the clock contradicts what is known; 0 while it does not.
    """

    def __init__(self, moment: Moment) -> None:
        self.watch = ClockWatch(moment)
        self.doubt_ns = 0
        self._unset_offset_ns: int | None = None
        self._set_boot_ns = 0
        self._look(moment)

    def note(self, moment: Moment) -> None:
        """Look at the clocks; called by every commit and trim."""
        self.watch.note(moment)
        self._look(moment)

    def trusted(self, moment: Moment) -> bool:
        """Whether the wall clock may decide what is too old, now."""
        return self.watch.trusted(moment)

    def dating(
        self, moment: Moment, clocks: Clocks, newest_ns: int, unset_boots: frozenset[bytes]
    ) -> Dating:
        """How to date a group that is committed now; the rest is what the store knows, as in
        `state.State`.
        """
        if not is_set(moment):
            self.doubt_ns = 0
            return Dating(self.stamp(moment, newest_ns))
        was_unset = moment.boot_id in unset_boots or self._was_unset_lately(moment)
        noted = self.due(moment, clocks, newest_ns, needed=was_unset)
        return Dating(self.stamp(moment, newest_ns), self.before_set(moment), noted)

    def due(
        self, moment: Moment, clocks: Clocks, newest_ns: int, *, needed: bool
    ) -> ClockNote | None:
        """What to note of this boot, its clock being set; None for nothing, as nearly always.

        ``newest_ns`` is the latest time that a set clock gave a block, 0 where none did; ``needed``
        says whether this boot stored anything while its clock was not set.
        """
        known = clocks.get("", moment.boot_id)
        offset_ns = moment.wall_ns - moment.boot_ns
        if known is not None:
            difference = offset_ns - known.offset_ns
            if abs(difference) < NOTE_FROM_NS:
                self.doubt_ns = 0
                return self._needed(moment, known.offset_ns) if needed > known.needed else None
            is_doubted = abs(difference) > DOUBTED_STEP_NS
        else:
            difference = moment.wall_ns - newest_ns
            is_doubted = newest_ns > 0 and not -DOUBTED_STEP_NS <= difference <= AHEAD_NS_MAX
        self.doubt_ns = difference if is_doubted and not self.watch.trusted(moment) else 0
        if self.doubt_ns:
            return None
        was_needed = known is not None and known.needed
        return ClockNote("", moment.boot_id, offset_ns, moment.boot_ns, 1, needed or was_needed)

    def stamp(self, moment: Moment, newest_ns: int) -> Moment:
        """The clocks to write a block with, its time held where the clock went back."""
        if not moment.synced:
            return moment
        if not is_set(moment):
            return Stamp(moment.wall_ns, moment.boot_ns, moment.boot_id, synced=False)
        if newest_ns - HELD_NS_MAX <= moment.wall_ns < newest_ns:
            return Stamp(newest_ns, moment.boot_ns, moment.boot_id, synced=True)
        return moment

    def before_set(self, moment: Moment) -> Moment:
        """The clocks now as they would run had the wall clock, which is set, not been."""
        wall_ns = moment.wall_ns
        if self._unset_offset_ns is not None and self._was_unset_lately(moment):
            wall_ns = moment.boot_ns + self._unset_offset_ns
        return Stamp(wall_ns, moment.boot_ns, moment.boot_id, synced=False)

    def _was_unset_lately(self, moment: Moment) -> bool:
        """Whether something may wait for its commit that arrived before the clock was set."""
        since_ns = moment.boot_ns - self._set_boot_ns
        return self._unset_offset_ns is not None and since_ns <= WAITED_NS_MAX

    def _look(self, moment: Moment) -> None:
        if not is_set(moment):
            self._unset_offset_ns = moment.wall_ns - moment.boot_ns
            self._set_boot_ns = moment.boot_ns

    def _needed(self, moment: Moment, offset_ns: int) -> ClockNote:
        return ClockNote("", moment.boot_id, offset_ns, moment.boot_ns, 1, needed=True)


def is_set(moment: Moment) -> bool:
    """Whether the wall clock has been set, and says nothing impossible."""
    return moment.synced and moment.wall_ns >= UNSET_CLOCK_BEFORE_NS
