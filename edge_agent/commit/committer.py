"""The one task that commits; the package's docstring is its promise."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import trio

from edge_agent.commit.accounts import Accounts
from edge_agent.commit.gather import NEVER, GroupLimits, PendingEntries, Ticket, settle
from edge_agent.commit.persist import CommitStore, Persistence, RunBlocking, Trace
from edge_agent.errors import StoreFailed
from edge_agent.metrics import Metrics
from edge_agent.store import CommitResult, Entry
from edge_agent.system.clock import Clock

#: Entries that are not worth a commit of their own go after this long.
LAZY_SECONDS = 30.0
#: What somebody waits for goes after this, so that not even a flood of such causes more commits.
SOON_SECONDS = 0.05
#: Retention looks at the logs at most this often while records come in …
TRIM_SECONDS = 60.0
#: … and this often at rest, where only age can make anything due.
TRIM_AT_REST_SECONDS = 600.0
#: … and, where a reader found the store refusing, soon: that reopens it.
MEND_SECONDS = 1.0
#: … and as soon where a log should be thinned before a commit has to wait for it.
CROWDED_SECONDS = 1.0
#: Commits whose duration is remembered, for the median.
_DURATIONS = 64
#: Streams whose interval is remembered; when there are more, it is begun anew.
_STREAMS_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class CommitStatistics:
    """How the committer is doing, at one moment. Ages and durations in seconds.

    Attributes:
        commits: synced transactions since the start.
        waiting_entries, waiting_records: gathered, their commit not begun.
        in_flight_bytes: of all entries not answered yet, those being committed included.
        appenders_waiting: callers that wait for room.
        calling_for: how long the present call into the store has lasted; None without one.
        oldest_waiting: age of the oldest entry whose commit has not begun; 0 without one.
        overdue: how long such an entry is past its deadline; 0 while in time. Together with
            ``calling_for`` the watchdog's marker of progress.
        commit_median: median duration of the last 64 commits; 0 before the first.
        last_commit_ns: wall clock at the end of the last commit, ns since 1970; 0 before it.
        trouble: why the disk refuses at present, a sentence; None while it does not.
    """

    commits: int
    waiting_entries: int
    waiting_records: int
    in_flight_bytes: int
    appenders_waiting: int
    calling_for: float | None
    oldest_waiting: float
    overdue: float
    commit_median: float
    last_commit_ns: int
    trouble: str | None


class Committer:
    """Gathers entries and commits them in groups; see the package's docstring.

    Args:
        engine: the open store.
        run_blocking: how to call it.
        clock: for the wall time of the last commit. Pacing runs on Trio's clock.
        intervals: log name to the seconds that an entry may wait there; has "main".
        route: stream name to the name of its log.
        limits: see `GroupLimits`.
        metrics: counted from each `CommitResult`.
        trace: told of "commit", "trim", "store_failed" and "store_reopened".
        reopen_after: first pause, in seconds, after the disk refused; doubles up to a minute.
    """

    def __init__(
        self,
        engine: CommitStore,
        *,
        run_blocking: RunBlocking,
        clock: Clock,
        intervals: Mapping[str, float],
        route: Callable[[str], str],
        limits: GroupLimits,
        metrics: Metrics,
        trace: Trace | None = None,
        reopen_after: float = 1.0,
    ) -> None:
        self.intervals = dict(intervals)
        self.route = route
        #: Called with each result, in Trio's thread, before the tickets are answered.
        self.listeners: list[Callable[[CommitResult], None]] = []
        self._engine = engine
        self._disk = Persistence(
            engine, run_blocking, metrics=metrics, trace=trace, reopen_after=reopen_after
        )
        self._accounts = Accounts(metrics, route)
        self._clock = clock
        self._metrics = metrics
        self._trace = trace
        self._interval_of: dict[str, float] = {}
        self._lazy_s = LAZY_SECONDS
        self._gathering = PendingEntries(limits, self._sleep_less)
        self._sleep: trio.CancelScope | None = None
        self._trim_at = NEVER
        self._trimmed_at = 0.0
        self._durations: deque[float] = deque(maxlen=_DURATIONS)
        self._commits = 0
        self._last_commit_ns = 0

    @property
    def trouble(self) -> str | None:
        """Why the disk refuses at present, a sentence; None while it does not."""
        return self._disk.trouble

    def offer(self, entry: Entry, *, lazy: bool = False, soon: bool = False) -> Ticket | None:
        """Ask for ``entry`` to become durable, now or not at all: the ticket will have the
        answer; None where there is no room, or somebody already waits for some (then `append`).

        A ``lazy`` entry starts no commit. One that is wanted ``soon`` commits within
        `SOON_SECONDS`, however long its log's interval: for the rare entry that a peer waits for
        before it says anything.

        Raises:
            Closed: the agent is stopping, the entry was not taken.
        """
        return self._gathering.offer(entry, self._patience(entry, lazy=lazy, soon=soon))

    async def append(self, entry: Entry, *, lazy: bool = False, soon: bool = False) -> Ticket:
        """As `offer`, but waits, as its only checkpoint, while ``in_flight_bytes`` is used up.

        If cancelled, the entry may still be stored.

        Raises:
            Closed: the agent is stopping, the entry was not taken.
        """
        return await self._gathering.put(entry, self._patience(entry, lazy=lazy, soon=soon))

    def spread(self, intervals: Mapping[str, float], lazy_s: float = LAZY_SECONDS) -> None:
        """From now on entries may wait so long, by log, and lazy ones ``lazy_s``. What waits
        already keeps its deadline.
        """
        self.intervals.update(intervals)
        self._interval_of.clear()
        self._lazy_s = lazy_s

    def note(self, entry: Entry) -> Ticket:
        """A lazy entry that needs no room: an upstream's acknowledgement, of which there are two at
        most for each consumer and log. While the disk refuses, all room may be taken; forwarding
        must not wait for it.

        Raises:
            Closed: the agent is stopping, the entry was not taken.
        """
        return self._gathering.add(entry, self._lazy_s)

    def mend(self) -> None:
        """A reader found the store refusing. See to it soon: only calls of this class reopen it,
        and where sources wait for it to recover, no entry may come that leads to one.
        """
        if not self._gathering.closed:
            again = max(trio.current_time(), self._trimmed_at + MEND_SECONDS)
            self._trim_at = min(self._trim_at, again)
            self._sleep_less()

    def close(self) -> None:
        """Take nothing new. `run` commits what was taken, then returns."""
        self._gathering.close()

    async def run(self) -> None:
        """Commit what is due, until `close` and everything taken is answered.

        If this is cancelled or fails, whoever waits is answered StoreFailed.
        """
        self._trimmed_at = trio.current_time()
        self._trim_at = self._trimmed_at + (0.0 if self.trouble else TRIM_SECONDS)
        try:
            while await self._sleep_until_due():
                if trio.current_time() >= self._gathering.deadline:
                    await self._commit_group()
                if trio.current_time() >= self._trim_at and not self._gathering.closed:
                    await self._trim()
        finally:
            self._gathering.abandon("the agent stopped before this was stored")

    def statistics(self) -> CommitStatistics:
        """A snapshot; to be called in Trio's thread."""
        now, gathering = trio.current_time(), self._gathering
        since, oldest = self._disk.calling_since, gathering.oldest_since
        return CommitStatistics(
            commits=self._commits,
            waiting_entries=len(gathering),
            waiting_records=gathering.records,
            in_flight_bytes=gathering.in_flight_bytes,
            appenders_waiting=gathering.outside,
            calling_for=None if since is None else now - since,
            oldest_waiting=max(0.0, now - oldest),
            overdue=max(0.0, now - max(gathering.deadline, oldest)),
            commit_median=median(self._durations) if self._durations else 0.0,
            last_commit_ns=self._last_commit_ns,
            trouble=self._disk.trouble,
        )

    def _patience(self, entry: Entry, *, lazy: bool, soon: bool) -> float:
        """Seconds that the entry may wait: the shortest interval of the logs concerned."""
        if lazy:
            patience = self._lazy_s
        elif len(entry.runs) == 1 and not entry.blocks and not entry.positions:
            # Nearly every entry is like this one.
            stream = entry.runs[0].stream
            patience = self._interval_of.get(stream) or self._look_up(stream)
        else:
            patience = self._shortest(entry)
        return min(patience, SOON_SECONDS) if soon else patience

    def _shortest(self, entry: Entry) -> float:
        main = self.intervals["main"]
        intervals = [self._look_up(run.stream) for run in entry.runs]
        intervals += [self.intervals.get(block.origin.log, main) for block in entry.blocks]
        intervals += [self.intervals.get(position.log, main) for position in entry.positions]
        return min(intervals, default=main)

    def _look_up(self, stream: str) -> float:
        known = self._interval_of
        interval = known.get(stream)
        if interval is None:
            if len(known) >= _STREAMS_REMEMBERED:
                known.clear()
            interval = known[stream] = self.intervals[self.route(stream)]
        return interval

    async def _sleep_until_due(self) -> bool:
        """False when closed and drained."""
        gathering = self._gathering
        if gathering.closed and not gathering and not gathering.outside:
            return False
        with trio.CancelScope(deadline=min(gathering.deadline, self._trim_at)) as self._sleep:
            # The deadline moves, so this is not a plain sleep_until.
            await trio.sleep_forever()
        self._sleep = None
        return True

    def _sleep_less(self) -> None:
        if self._sleep is not None:
            self._sleep.deadline = min(self._gathering.deadline, self._trim_at)

    async def _commit_group(self) -> None:
        group = self._gathering.take()
        if not group:
            return
        entries = tuple(ticket.entry for ticket in group)
        began = trio.current_time()
        try:
            result = await self._disk.call(self._engine.commit, entries)
        except BaseException:
            unknown = StoreFailed("the agent stopped before this was known to be stored")
            settle(group, [unknown] * len(group))
            raise
        assert len(result.answers) == len(group)
        self._note_commit(result, entries, trio.current_time() - began)
        # Whoever waits for room is let in before a watcher may ask for it.
        self._gathering.release(group)
        settle(group, result.answers)
        self._metrics.set("in_flight_bytes", self._gathering.in_flight_bytes)

    def _note_commit(self, result: CommitResult, entries: Sequence[Entry], seconds: float) -> None:
        self._commits += 1
        self._durations.append(seconds)
        self._last_commit_ns = self._clock.read().wall_ns
        soon = CROWDED_SECONDS if result.crowded else TRIM_SECONDS
        self._trim_at = min(self._trim_at, self._trimmed_at + soon)
        self._metrics.add("commits_total")
        self._metrics.add("commit_seconds_total", seconds)
        self._accounts.note(result, entries)
        if self._trace is not None:
            self._trace("commit", {"entries": len(entries), "last_seq": dict(result.last_seq)})
        for listener in self.listeners:
            listener(result)

    async def _trim(self) -> None:
        result = await self._disk.call(self._engine.trim)
        self._trimmed_at = trio.current_time()
        soon = CROWDED_SECONDS if result.crowded else TRIM_AT_REST_SECONDS
        self._trim_at = self._trimmed_at + soon
        self._accounts.note(result)
        if self._trace is not None:
            facts = {"trimmed": dict(result.trimmed), "discarded": dict(result.discarded)}
            self._trace("trim", facts)
