"""Group commit: many appends, one synced transaction, an answer for each.

Whoever appends gets a `Ticket` at once; the answer comes when the transaction that holds the
entry has been synced, never earlier. One task, `Committer.run`, does all commits::

    offer  ─▶ gathering ──(due)──▶ group ─▶ run_blocking(engine.commit) ─▶ answers, in order

`Committer.append` waits where there is no room, `Committer.offer` says so instead. Nobody needs a
task to learn of the answer: `Ticket.watcher` is called with it, in Trio's thread.

**Pacing.** A synced transaction writes some 35 KB to the device however little it holds (65 KB
where pages have 16 KiB), so commits are paced. An entry may wait for the shortest
``commit_interval`` of the logs that it writes to. The earliest of these
deadlines commits everything that waits, of all logs: so each commit is a prefix of what
every source sent, and one cumulative ack per source stays true. A full group (`GroupLimits`) goes
early; what is left over still follows in order, because groups are cut from the front. While one
group commits, the next one gathers. At rest there is no timer but retention's, once in ten minutes.

**Lazy entries** (an upstream's acknowledgement, numbers of dropped records) are worth no commit of
their own. They keep their place in the order and ride with the next group, or go after 30 s.

**Sparing the card.** `Committer.spread` sets other intervals while it runs (`edge_agent.wear` does,
to keep a budget). An ack still means synced; it comes later. Where an interval is longer than 30 s
then, lazy entries wait as long: they would otherwise be what commits.

**Bound.** ``in_flight_bytes`` counts from append to answer. Who finds it used up waits, first come
first served; that wait is the backpressure that reaches the sensor's socket.

**When the disk refuses** (`StoreFailed`) the group is kept, the store reopened after growing
pauses, and the same entries are committed again. After a failed sync nobody knows whether the
transaction survived: numbered entries are judged again and stored once; plain ones may be stored
twice, which is their promise (at least once). Nobody is answered until it succeeded. Meanwhile the
store is open for reading; what upstreams acknowledge waits in memory, whether or not there is room
(`Committer.note`).

**Cancelled is not undone.** A caller that gives up while it waits for the answer finds its entry
stored all the same; one that gives up while `Committer.append` waits for room usually does not.
"""

from __future__ import annotations

from edge_agent.commit.committer import LAZY_SECONDS, CommitStatistics, Committer
from edge_agent.commit.gather import Closed, GroupLimits, Ticket
from edge_agent.commit.persist import RunBlocking, Trace

__all__ = [
    "LAZY_SECONDS",
    "Closed",
    "CommitStatistics",
    "Committer",
    "GroupLimits",
    "RunBlocking",
    "Ticket",
    "Trace",
]
