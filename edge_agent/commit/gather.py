"""Entries that wait for the next commit, in order: when they are due, and how many may wait.

`PendingEntries` holds entries from append to answer. It decides nothing about the store: the
committer asks it when the next group is due (`PendingEntries.deadline`), takes the group, and gives
it back settled, which makes room for those who wait.

Where the microseconds go: `Committer.offer` takes 1.7 for an entry of one record, the making of
entry and numbering included (0.35). The ticket, which adds up what the entry holds, takes 0.4, the
look at Trio's clock 0.15, patience 0.2; the rest is counting what waits. The answer takes 0.7,
most of it shared: two steps of the committer's task for each group.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import trio
from msgspec import Struct

from edge_agent.errors import EdgeAgentError, StoreFailed, StoreFull
from edge_agent.store import ENTRY_BYTES, PART_BYTES, QUARANTINE_WEIGHT, Entry, Stored

NEVER = float("inf")
#: About what an entry adds to a transaction beside its parts' bytes, and what each part adds.
ENTRY_WRITTEN = 32
PART_WRITTEN = 64
#: The same for what goes to quarantine: each is a row of its own, and not compressed. A row takes
#: the store as long as thirty records, so that a group of nothing else is cut in time.
QUARANTINE_WRITTEN = 512
#: A group of fewer entries is never thought whole before its time.
WHOLE_ENTRIES_MIN = 32


class Closed(EdgeAgentError):
    """The agent is stopping: what was taken is drained, nothing new is taken. Stop ``closing``."""


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """When a group goes early, and what may be in flight.

    Attributes:
        bytes, records: a group that holds as much commits without waiting for its deadline. A
            group is cut there too, but holds at least one entry, however large. Bytes are those
            to be written, before compression.
        in_flight_bytes: of entries, as they lie in memory (`Entry.size_bytes`), from append to
            answer. A single larger entry is taken when nothing else is in flight.
    """

    bytes: int
    records: int
    in_flight_bytes: int


class Ticket(Struct, eq=False):
    """The answer that will come to one entry. ``answer`` is None until then.

    Attributes:
        entry: what is to become durable; may be replaced until ``taken``.
        size, count: ``entry.size_bytes`` and ``entry.count``, found here.
        written: bytes that the entry adds to a transaction, about, before compression.
        since, deadline: when it was taken in, and when it should be committed, on Trio's clock.
        taken: whether a commit with this entry has begun.
        watcher: called once, synchronously, in Trio's thread, as soon as the answer is known;
            never where it was known already. Set by whoever took the ticket, who has to see to it
            that it cannot fail: an exception in it ends the committer, and with it the agent.
        event: set with the answer; there is one only where somebody waits.
    """

    entry: Entry
    size: int = 0
    written: int = 0
    count: int = 0
    since: float = NEVER
    deadline: float = NEVER
    taken: bool = False
    answer: Stored | StoreFull | StoreFailed | None = None
    watcher: Callable[[], None] | None = None
    event: trio.Event | None = None

    def __post_init__(self) -> None:
        # In one go and without generators, because this is done for each single record.
        entry = self.entry
        held = count = 0
        for run in entry.runs:
            held += len(run.body)
            count += run.count
        parts = len(entry.runs) + len(entry.clocks)  # Nothing else bounds what is told of clocks.
        if entry.blocks or entry.quarantine:
            for block in entry.blocks:
                held += len(block.payload)
                count += block.count
            parts += len(entry.blocks)
        self.size = ENTRY_BYTES + PART_BYTES * parts + held
        self.written = ENTRY_WRITTEN + PART_WRITTEN * parts + held
        if entry.quarantine:
            kept = len(entry.quarantine)
            self.size += QUARANTINE_WEIGHT * kept
            self.written += QUARANTINE_WRITTEN * kept + sum(
                len(item.body) for item in entry.quarantine
            )
        self.count = count

    async def wait(self) -> Stored:
        """Wait until the entry is durable. No checkpoint where the answer is there already.

        Raises:
            StoreFull: nothing of the entry was stored.
            StoreFailed: the agent stopped before the disk took it. It may be stored.
        """
        if self.answer is None:
            if self.event is None:
                self.event = trio.Event()
            await self.event.wait()
        answer = self.answer
        assert answer is not None
        if isinstance(answer, Stored):
            return answer
        # A fresh one for each who asks: raising the same twice would mix up their tracebacks.
        if isinstance(answer, StoreFull):
            raise StoreFull(str(answer), answer.retry_after, answer.code)
        raise StoreFailed(str(answer))

    def settle(self, answer: Stored | StoreFull | StoreFailed) -> None:
        """The committer's side: give the answer and wake who waits for it."""
        settle((self,), (answer,))


def settle(tickets: Sequence[Ticket], answers: Iterable[Stored | StoreFull | StoreFailed]) -> None:
    """Give each ticket its answer. All have theirs before the first watcher is called, so that
    nobody is left without one where a watcher fails.
    """
    for ticket, answer in zip(tickets, answers, strict=True):
        ticket.answer = answer
        if ticket.event is not None:
            ticket.event.set()
    for ticket in tickets:
        watcher = ticket.watcher
        if watcher is not None:
            ticket.watcher = None
            watcher()


class PendingEntries:
    """Entries between append and answer, in order of arrival.

    ``deadline`` is when the first group is due on Trio's clock: `NEVER` at rest, in the past for a
    full group. ``on_earlier`` is called whenever it moves forward, so that the committer sleeps
    exactly until it, without being woken for each entry.

    A group is due when its first entry has waited for its patience. One that began within that time
    of the last group is due that time after it already, if it holds as many entries by then: peers
    that wait for an answer before they send again are all back. So there is never more than one
    commit in that time, and none holds fewer entries for it. Example, with 20 ms and 190 such
    peers, whose answers take 4 ms: the next group goes after 20 ms and not after 24.
    """

    def __init__(self, limits: GroupLimits, on_earlier: Callable[[], None]) -> None:
        self.deadline = NEVER
        self.closed = False
        self.in_flight_bytes = 0
        self._limits = limits
        self._on_earlier = on_earlier
        self._waiting: deque[Ticket] = deque()
        self._waiting_bytes = 0
        self._waiting_records = 0
        #: When the last group was taken, how many entries it had, and the patience that decides
        #: when the next one is due.
        self._taken_at = -NEVER
        self._whole = WHOLE_ENTRIES_MIN
        self._patience = 0.0
        #: Callers for whom there is no room yet, first come first served. There are at most as
        #: many as tasks that append, which the number of connections bounds.
        self._outside: deque[tuple[Ticket, float, trio.Event]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def records(self) -> int:
        """Records that wait, those in entries outside not counted."""
        return self._waiting_records

    @property
    def outside(self) -> int:
        """Callers that wait for room."""
        return len(self._outside)

    @property
    def oldest_since(self) -> float:
        """When the oldest waiting entry was taken in, on Trio's clock; `NEVER` without one."""
        return self._waiting[0].since if self._waiting else NEVER

    def offer(self, entry: Entry, patience: float) -> Ticket | None:
        """Take in ``entry``, which may wait ``patience`` seconds for its commit.

        None where there is no room, or where somebody who came earlier waits for some. Raises
        Closed after `close`.
        """
        if self.closed:
            raise Closed("the agent is stopping")
        ticket = Ticket(entry)
        held = self.in_flight_bytes
        if self._outside or (held and held + ticket.size > self._limits.in_flight_bytes):
            return None
        self._join(ticket, patience)
        return ticket

    def add(self, entry: Entry, patience: float) -> Ticket:
        """Take in ``entry`` whether or not there is room: see `Committer.note`.

        Raises Closed after `close`.
        """
        if self.closed:
            raise Closed("the agent is stopping")
        ticket = Ticket(entry)
        self._join(ticket, patience)
        return ticket

    async def put(self, entry: Entry, patience: float) -> Ticket:
        """As `offer`, but waits, as its only checkpoint, while there is no room."""
        taken = self.offer(entry, patience)
        if taken is not None:
            return taken
        ticket, event = Ticket(entry), trio.Event()
        place = (ticket, patience, event)
        self._outside.append(place)
        # Whoever waits for room waits for a commit: there is no point in letting it come late.
        self._bring_forward(-NEVER)
        try:
            await event.wait()
        except trio.Cancelled:
            if ticket.since == NEVER and place in self._outside:
                # Where the committer was cancelled too, `abandon` has been here before.
                self._outside.remove(place)
            raise
        if ticket.since == NEVER:
            raise Closed("the agent stopped before there was room")
        return ticket

    def take(self) -> list[Ticket]:
        """Cut the next group from the front; empty where nothing waits."""
        waiting, limits = self._waiting, self._limits
        group: list[Ticket] = []
        written = records = 0
        while waiting:
            ticket = waiting[0]
            if group and (
                written + ticket.written > limits.bytes or records + ticket.count > limits.records
            ):
                break
            ticket.taken = True
            written += ticket.written
            records += ticket.count
            group.append(waiting.popleft())
        self._waiting_bytes -= written
        self._waiting_records -= records
        self._taken_at, self._whole = trio.current_time(), max(len(group), WHOLE_ENTRIES_MIN)
        self.deadline = self._next_deadline()
        return group

    def release(self, group: Iterable[Ticket]) -> None:
        """The group has its answers: let in those who wait for the room that it leaves."""
        self.in_flight_bytes -= sum(ticket.size for ticket in group)
        while self._outside and self._has_room(self._outside[0][0].size):
            ticket, patience, event = self._outside.popleft()
            self._join(ticket, patience)
            event.set()
        if self._outside:
            self._bring_forward(-NEVER)

    def close(self) -> None:
        """Take nothing new; what waits is due now."""
        self.closed = True
        self._bring_forward(-NEVER)

    def abandon(self, reason: str) -> None:
        """There will be no further commit: tell everybody who still waits."""
        self.closed = True
        while self._outside:
            self._outside.popleft()[2].set()
        waiting = tuple(self._waiting)
        self._waiting.clear()
        settle(waiting, [StoreFailed(reason)] * len(waiting))

    def _has_room(self, size: int) -> bool:
        held = self.in_flight_bytes
        return held == 0 or held + size <= self._limits.in_flight_bytes

    def _join(self, ticket: Ticket, patience: float) -> None:
        now = trio.current_time()
        deadline = now + patience
        ticket.since, ticket.deadline = now, deadline
        self._waiting.append(ticket)
        self.in_flight_bytes += ticket.size
        self._waiting_bytes += ticket.written
        self._waiting_records += ticket.count
        if self._is_full() or self.closed:
            deadline = -NEVER
        if deadline < self.deadline:
            self._patience = patience
            self._bring_forward(deadline)
        if len(self._waiting) == self._whole:
            due = self._taken_at + self._patience
            # The oldest entry may be one that can wait for long, as an upstream's ack.
            if due >= self.deadline - self._patience:
                self._bring_forward(due)

    def _is_full(self) -> bool:
        return (
            self._waiting_bytes >= self._limits.bytes
            or self._waiting_records >= self._limits.records
        )

    def _bring_forward(self, deadline: float) -> None:
        if deadline < self.deadline:
            self.deadline = deadline
            self._on_earlier()

    def _next_deadline(self) -> float:
        if not self._waiting:
            return NEVER
        if self._is_full() or self._outside or self.closed:
            return -NEVER
        # Less than one group is left, so this looks at few.
        first = min(self._waiting, key=lambda ticket: ticket.deadline)
        self._patience = first.deadline - first.since
        return first.deadline
