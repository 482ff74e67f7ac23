"""A clock note says how far the wall clock was from the boot clock in one boot, to correct times.

An agent knows it once its wall clock is set, keeps it (`edge_agent.store`), applies it to what it
had stored before, and tells it to whoever got those records uncorrected (`edge_agent.wire`).
"""

from __future__ import annotations

from msgspec import Struct

#: A note that has passed this many agents goes no further, as a block does not.
HOPS_MAX = 8
#: No machine runs for longer, 30 years in ns. What claims more would hold against every later note.
BOOT_NS_MAX = 30 * 365 * 86_400 * 1_000_000_000


class ClockNote(Struct, frozen=True, gc=False):
    """``offset_ns`` is true time (ns since 1970) less boot clock, for one boot of one agent.

    Attributes:
        agent: whose boot; "" for this agent's own, within its store.
        boot_id: 16 bytes that name the boot.
        offset_ns: true time less boot clock.
        boot_ns: that boot's clock when the offset was read. Of two notes about one boot the one
            with the larger ``boot_ns`` holds, so that a note which comes twice, late or in a
            circle changes nothing.
        hops: agents that it has passed, the first one included; 1 where it begins.
        needed: whether that boot stored anything while its clock was not set. Other notes are
            kept, but not told: nobody has anything to correct by them.
        owner: the identity that told it here; None for our own, and where there are no tokens.
    """

    agent: str
    boot_id: bytes
    offset_ns: int
    boot_ns: int
    hops: int = 1
    needed: bool = True
    owner: str | None = None
