"""The log: four methods that carry all that the agent promises.

Many writers above, many readers below, and between them:

`Log.append`
    asks for records to become durable. The answer (`Ticket.wait`) comes after the transaction
    that holds them has been **synced**: what is answered survives a power cut. What one entry
    holds becomes durable together or not at all. Entries commit in the order in which they were
    appended, each commit a prefix of it, so answers come in that order too.

`Log.read`
    gives what is durable, in order of ``seq``, as stored blocks. Nothing is left out silently: a
    stretch that was trimmed or is damaged is told as a `Gap`. Reading never holds writers up.

`Log.wait_past`
    sleeps until there is more than one has read. Nobody polls.

`Log.acknowledge`
    is a consumer's word that everything up to a position is done. It survives with the next
    commit, of which it causes none: after a power cut up to 30 s of it (one interval, where commits
    are spread further) may be forgotten, and that stretch be read again. While the disk refuses, it
    waits in memory. A consumer that writes
    something back puts its position (and its state) into the *same* entry as its records; that
    makes its processing exactly-once. A required consumer's position is what retention waits for.

A log has its own numbering (``seq`` from 1, without holes when written), retention and commit
interval. Streams are routed to logs by pattern. The store behind it is entered through
``run_blocking`` only, one whole transaction per call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, TypeVarTuple

import trio

from edge_agent.commit import CommitStatistics, Committer, RunBlocking, Ticket
from edge_agent.errors import StoreFailed, StoreFull
from edge_agent.store import (
    Block,
    CommitResult,
    ConsumerView,
    Engine,
    Entry,
    Gap,
    Identity,
    Offsets,
    Position,
    Quarantined,
    ScrubStep,
    SourceView,
    StoreStatistics,
)
from edge_agent.values.clock_note import ClockNote

__all__ = ["READ_BYTES", "Log", "LogSnapshot", "Ticket"]

logger = logging.getLogger(__name__)

#: What one read brings at most, unless told otherwise (a single larger block comes whole).
READ_BYTES = 1024 * 1024

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@dataclass(frozen=True, slots=True)
class LogSnapshot:
    """A snapshot of the waist; ``first_seq`` and ``last_seq`` by log name."""

    first_seq: dict[str, int]
    last_seq: dict[str, int]
    commit: CommitStatistics


class Log:
    """All named logs of one store; the module's docstring is its promise.

    Args:
        engine: the open store.
        committer: the one that commits to it; its `Committer.run` runs elsewhere.
        run_blocking: how to call the store for reads.
    """

    def __init__(self, engine: Engine, committer: Committer, run_blocking: RunBlocking) -> None:
        self._engine = engine
        self._committer = committer
        #: For readers with something heavy to do to what they read; see `RunBlocking`.
        self.run_blocking = run_blocking
        # Logs that are no longer configured may still hold what has to go upstream.
        self._names = tuple(dict.fromkeys((*committer.intervals, *engine.logs())))
        self._last = {name: engine.last_seq(name) for name in self._names}
        self._readers = {name: trio.lowlevel.ParkingLot() for name in self._names}
        self._clock_number = engine.clock_number()
        self._clock_readers = trio.lowlevel.ParkingLot()
        #: Acknowledgements that wait for a commit, so that the next one of the same consumer
        #: takes their place instead of queueing behind them. One per consumer and log.
        self._acknowledging: dict[tuple[str, str], Ticket] = {}
        committer.listeners.append(self._on_commit)

    @property
    def identity(self) -> Identity:
        """Store id, epoch and agent id; another epoch means that numbering began anew."""
        return self._engine.identity

    @property
    def trouble(self) -> str | None:
        """Why the disk refuses at present, a sentence; None while it does not."""
        return self._committer.trouble

    @property
    def clock_offsets(self) -> Offsets:
        """What is known of boots whose clocks were not set; blocks are read corrected by it."""
        return self._engine.clock_offsets()

    def clock_news(self, notes: Sequence[ClockNote]) -> list[ClockNote]:
        """Those of ``notes`` that say something new."""
        return self._engine.clock_news(notes)

    def clock_notes(self, after: int) -> tuple[int, list[tuple[int, ClockNote]]]:
        """The number of the newest note there is, and those that other agents need numbered above
        ``after``, in order.
        """
        return self._engine.clock_number(), self._engine.clock_notes(after)

    async def wait_clocks(self, number: int) -> None:
        """Wait until there is a clock note with a higher number."""
        while self._engine.clock_number() <= number:
            await self._clock_readers.park()

    def names(self) -> tuple[str, ...]:
        """Names of the logs, in the configuration's order; then those no longer configured."""
        return self._names

    def route(self, stream: str) -> str:
        """The log that a stream's records go to."""
        return self._committer.route(stream)

    def last_seq(self, log: str) -> int:
        """The newest durable position; 0 when nothing was ever stored."""
        return self._last[log]

    def first_seq(self, log: str) -> int:
        """The oldest position still stored; ``last_seq + 1`` when empty."""
        return self._engine.first_seq(log)

    def given(self, log: str, after: int, last: int) -> int:
        """How many records stand or stood in ``(after, last]``; see `Questions.given`."""
        return self._engine.given(log, after, last)

    def offer(self, entry: Entry, *, lazy: bool = False, soon: bool = False) -> Ticket | None:
        """`append` for callers that cannot wait: None where there is no room at the moment.

        Raises:
            Closed: the agent is stopping, the entry was not taken.
        """
        return self._committer.offer(entry, lazy=lazy, soon=soon)

    async def append(self, entry: Entry, *, lazy: bool = False, soon: bool = False) -> Ticket:
        """Ask for ``entry`` to become durable; see `Committer.append`.

        Raises:
            Closed: the agent is stopping, the entry was not taken.
        """
        return await self._committer.append(entry, lazy=lazy, soon=soon)

    async def read(
        self, log: str, after: int, limit_bytes: int = READ_BYTES, upto: int | None = None
    ) -> list[Block | Gap]:
        """What follows position ``after``: consecutive, at least one item unless at the end; see
        `Questions.read`.

        Raises:
            StoreFailed: the disk refused. The committer reopens the store; try again later.
        """
        return await self._ask(self._engine.read, log, after, limit_bytes, upto)

    async def read_near(self, log: str, time_ns: int) -> int:
        """A position from which no record measured at or after ``time_ns`` is missed."""
        return await self._ask(self._engine.read_near, log, time_ns)

    def note_handed(self, consumer: str, log: str, seq: int, *, alone: bool = False) -> None:
        """A consumer was handed everything up to ``seq``; see `Engine.note_handed`."""
        self._engine.note_handed(consumer, log, seq, alone=alone)

    async def wait_past(self, log: str, seq: int) -> int:
        """Wait until something after ``seq`` is durable; the newest position then."""
        while self._last[log] <= seq:
            await self._readers[log].park()
        return self._last[log]

    async def acknowledge(
        self, position: Position, *, durable: bool = False, soon: bool = False
    ) -> None:
        """Everything up to ``position.floor`` is done by that consumer.

        Returns at once, and the position rides on the next commit; ``durable`` waits for that
        commit, which then comes within the log's interval, or within 50 ms if wanted ``soon``.

        Raises:
            Closed: the agent is stopping, the position was not taken.
        """
        if durable:
            ticket = await self.append(Entry(positions=(position,)), soon=soon)
            await ticket.wait()
            return
        key = (position.consumer, position.log)
        waiting = self._acknowledging.get(key)
        if waiting is None or waiting.taken or not _supersede(waiting, position):
            self._acknowledging[key] = self._committer.note(Entry(positions=(position,)))

    async def position(self, consumer: str, log: str) -> tuple[int, bytes | None]:
        """A consumer's durable floor and state; (0, None) for an unknown one.

        What was acknowledged a moment ago may still wait for its commit.
        """
        return await self._ask(self._engine.position, consumer, log)

    async def is_paused(self, consumer: str, log: str) -> bool:
        """Whether a person has paused that consumer."""
        views = await self.consumers()
        return any(one.paused for one in views if (one.consumer, one.log) == (consumer, log))

    async def consumers(self) -> list[ConsumerView]:
        """Every stored position, those of consumers that are no longer configured included."""
        return await self._ask(self._engine.consumers)

    async def next_of(self, source: str) -> int:
        """The number that the source is expected to send next; 0 if it was never seen.

        What it appended counts once its ticket is answered, so let those settle first.
        """
        return await self._ask(self._engine.next_of, source)

    async def history_of(self, source: str) -> tuple[int, str]:
        """Up to which number a source is here, and by which opening; `Engine.history_of`."""
        return await self._ask(self._engine.history_of, source)

    async def become_another(self, reason: str, epoch: str) -> None:
        """Take a new identity: this store, as ``epoch``, is a copy (`Engine.become_another`).

        Raises:
            StoreFailed: the disk refused.
        """
        await self._ask(self._engine.become_another, reason, epoch)

    async def owner_of(self, source: str) -> str | None:
        """The identity that alone may use the source; None where it belongs to nobody."""
        return await self._ask(self._engine.owner_of, source)

    def places_left(self) -> int:
        """How many more sources there may be."""
        return self._engine.places_left()

    def lacking_place(self, owner: str | None, share: int) -> StoreFull | None:
        """Why one more source finds no place, where that is known; see `Engine.lacking_place`."""
        return self._engine.lacking_place(owner, share)

    async def sources(self) -> list[SourceView]:
        """Every source that has numbers here."""
        return await self._ask(self._engine.sources)

    def note_connected(self, in_use: Callable[[str], bool]) -> None:
        """``in_use`` says whether a source is connected; see `Engine.note_connected`."""
        self._engine.note_connected(in_use)

    async def quarantine(self, after: int, limit: int) -> list[tuple[int, Quarantined]]:
        """Quarantined entries whose key is greater than ``after``, oldest first."""
        return await self._ask(self._engine.quarantine, after, limit)

    async def newest_quarantine(self, limit: int) -> list[tuple[int, Quarantined]]:
        """Quarantined entries, newest first."""
        return await self._ask(self._engine.newest_quarantine, limit)

    def listen(self, listener: Callable[[CommitResult], None]) -> None:
        """Call ``listener`` with what each commit did, when it can be read. One that fails has not
        heard of that commit, and is told in the journal; the commit's entries are answered.
        """

        def contained(result: CommitResult) -> None:
            try:
                listener(result)
            except Exception:
                logger.exception("a reader failed at the news of a commit; the commit is sound")

        self._committer.listeners.append(contained)

    def spread(self, intervals: Mapping[str, float], lazy_s: float) -> None:
        """Let entries wait so long for their commits, by log; see `Committer.spread`."""
        self._committer.spread(intervals, lazy_s)

    def statistics(self) -> LogSnapshot:
        """A snapshot that does not touch the disk; to be called in Trio's thread."""
        return LogSnapshot(
            first_seq={name: self.first_seq(name) for name in self._names},
            last_seq=dict(self._last),
            commit=self._committer.statistics(),
        )

    async def store_statistics(self) -> StoreStatistics:
        """What the store holds: sizes, fill, sources; looks at the file."""
        return await self._ask(self._engine.statistics)

    async def scrub(self, after: bytes, limit_bytes: int) -> ScrubStep:
        """One step of a pass over the whole file; see `Engine.scrub`."""
        return await self._ask(self._engine.scrub, after, limit_bytes)

    async def _ask(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        try:
            return await self.run_blocking(function, *args)
        except StoreFailed:
            self._committer.mend()
            raise

    def _on_commit(self, result: CommitResult) -> None:
        for log, seq in result.last_seq.items():
            if seq > self._last.get(log, seq):
                self._last[log] = seq
                self._readers[log].unpark_all()
        number = self._engine.clock_number()
        if number != self._clock_number:
            self._clock_number = number
            self._clock_readers.unpark_all()


def _supersede(ticket: Ticket, position: Position) -> bool:
    """Put ``position`` in the place of the one that ``ticket`` still waits with, if it may."""
    (waiting,) = ticket.entry.positions
    if position.rewind or waiting.rewind:
        return False
    state = waiting.state if position.state is None else position.state
    merged = replace(position, floor=max(position.floor, waiting.floor), state=state)
    ticket.entry = Entry(positions=(merged,))
    return True
