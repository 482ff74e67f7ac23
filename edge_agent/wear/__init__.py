"""Flash wear: how much is written to the card, how long it will last, and a budget that is kept.

**Counted by whom.** Two counters of the kernel, neither of them ours (`device`). What *the agent*
writes: the bytes that this process hands over, and a block for the end of each commit, without the
file system's journal, which adds little once the reserved file has been written all over. What
*the card* gets: the block layer's sectors of the whole device, journal, other programs and other
partitions included, because they wear it as well. Amplification and budget are the agent's own;
the card's life is reckoned with the card's counter. Both are read in the ten-second tick of
``ops``, never on the data path.

**Over which time** (`meter`): the last hour, the last 24 hours and since the start, each from one
bounded memory. Within its first minute nothing is said per day.

**For good** (`keeper`): what was written over the store's life is a small note in the store, beside
the consumers' positions, under the name ``$wear``. It rides on a commit like any acknowledgement,
at most every ten minutes and only when at least 1 MiB was written since; so it costs next to
nothing, and a power cut forgets at most that much. On another card (a store that was copied, or
restored from a backup) it begins anew, where cards say which they are. A card whose maker states
an endurance has so much left as was not noted here: what was written before the agent came, nobody
knows.

**The budget** (`budget`, `keeper`). ``wear.bytes_per_day_max`` spreads commits: every log's
``commit_interval`` is multiplied by one factor, between 1 and what its bound allows
(``commit_interval_max``, of the log or else of ``wear``). What an ack means never changes; it comes
later. One factor for all logs, because the earliest deadline commits everything that waits: a log
that were left out would set the pace for all. A log whose acks must stay quick gets a bound of
its own. Promised is that any 24 hours stay under the budget where commits are what makes the
bytes; where the records alone are more, no interval can keep it, and health says so.
"""

from edge_agent.wear.device import Written, by_agent, by_process, card_of, written_of
from edge_agent.wear.keeper import Budget, Keeper, Wear
from edge_agent.wear.meter import Stretch

__all__ = [
    "Budget",
    "Keeper",
    "Stretch",
    "Wear",
    "Written",
    "by_agent",
    "by_process",
    "card_of",
    "written_of",
]
