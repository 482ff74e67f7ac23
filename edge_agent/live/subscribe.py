"""Live views: records as they become durable.

A subscription lives with its connection and keeps no durable position. It reads the log itself, at
its own pace: nothing is queued for it, so a slow one costs no memory and can hold up nobody. What
bounds it instead is how far it may fall behind. Once it has caught up, a reader that is more than
``budget_bytes`` of records behind the newest one skips ahead and is told how many records of its
streams it missed (with a filter: at most so many). Before it has caught up, from an old position,
it misses only what was trimmed or is damaged; whose records those were is not known: all count.
Who asked for what is new is not shown another agent's backlog that comes beside it, and who began
at a position or a time is.

Readers that have caught up ask for the same blocks at the same time; the last read of each log is
kept for them, so that fifty views cost one read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import repeat
from typing import Literal

import trio

from edge_agent.errors import ProtocolError, StoreDamaged
from edge_agent.live.query import EARLIEST_NS
from edge_agent.log import Log
from edge_agent.metrics import Metrics
from edge_agent.store import Block, CommitResult, Gap
from edge_agent.values.filter import Filter
from edge_agent.values.moments import Position, bad_query
from edge_agent.values.record import Record

Start = Literal["new"] | Position | int
"""Where a subscription begins: with what comes from now on; at a position of one log (and the
others from now on); or with records measured at or after a time, in ns since 1970."""

#: Records decoded without a pause, and handed over, at a time; about 2 ms on a desktop.
BATCH_RECORDS = 500
_READ_BYTES = 256 * 1024
#: How far behind a reader may fall is measured in so many steps.
_GRAINS = 64


@dataclass(frozen=True, slots=True)
class LiveBatch:
    """Some records in order, and how many were missed since the batch before.

    With a step (`edge_agent.live.stepped`), ``counts`` says how many each of them stands for, and
    ``is_whole`` that nothing stored before the last of them is still to come, so that a reader can
    go on behind it another time.
    """

    records: list[Record]
    missed: int
    counts: list[int] | None = None
    is_whole: bool = True

    def told(self) -> Iterable[tuple[Record, int | None]]:
        """Each record, and how many it stands for, None without a step."""
        counts: Iterable[int | None] = repeat(None) if self.counts is None else self.counts
        return zip(self.records, counts, strict=False)


class Subscriptions:
    """What the subscriptions to one `Log` share: at most ``subscriptions`` of them, each at most
    ``budget_bytes`` of records behind.
    """

    def __init__(
        self, log: Log, *, subscriptions: int, budget_bytes: int, metrics: Metrics
    ) -> None:
        self.log = log
        self.metrics = metrics
        #: Where subscriptions that have seen everything wait for a commit.
        self.commits = trio.lowlevel.ParkingLot()
        self._limit = subscriptions
        self._open = 0
        self._budget_bytes = budget_bytes
        self._grain_bytes = budget_bytes // _GRAINS
        #: By log: seq before, and bytes of, recent commits; together just more than the budget.
        #: Small commits are taken together, or a slow sensor's would be ten thousand.
        self._recent: dict[str, deque[tuple[int, int]]] = {name: deque() for name in log.names()}
        self._recent_bytes = dict.fromkeys(log.names(), 0)
        self._newest = {name: log.last_seq(name) for name in log.names()}
        self._last_read: dict[str, tuple[int, list[Block | Gap]]] = {}
        self._reading = {name: trio.Lock() for name in log.names()}
        log.listen(self._on_commit)

    @asynccontextmanager
    async def subscribe(
        self, matches: Callable[[str], bool], start: Start, wanted: Filter | None
    ) -> AsyncIterator[Subscription]:
        """A live view of the streams that match.

        Raises:
            ProtocolError: ``bad_query``, the log is not known; ``busy`` at the limit.
        """
        names = self.log.names()
        if isinstance(start, tuple) and start[0] not in names:
            raise bad_query(f"from: there is no log {start[0]!r}; there are {', '.join(names)}")
        if self._open >= self._limit:
            raise ProtocolError("busy", f"{self._limit} live views are open; try again later")
        self._count(1)
        try:
            subscription = Subscription(self, matches, start, wanted)
            await subscription.find_start()
            yield subscription
        finally:
            self._count(-1)

    async def read(self, log: str, after: int) -> list[Block | Gap]:
        """`Log.read`, answered from memory for whoever asks for the same a moment later."""
        async with self._reading[log]:
            last = self._last_read.get(log)
            if last is not None and last[0] == after:
                return last[1]
            items = await self.log.read(log, after, _READ_BYTES)
            if items:
                self._last_read[log] = (after, items)
            return items

    def horizon(self, log: str) -> int:
        """The position up to which a reader is further behind than the budget allows."""
        return self._recent[log][0][0] if self._recent_bytes[log] > self._budget_bytes else 0

    def _on_commit(self, result: CommitResult) -> None:
        for log, seq in result.last_seq.items():
            size = result.record_bytes.get(log, 0)
            before, self._newest[log] = self._newest[log], seq
            if size:
                recent = self._recent[log]
                self._recent_bytes[log] += size
                if recent and recent[-1][1] + size <= self._grain_bytes:
                    before, size = recent[-1][0], recent.pop()[1] + size
                recent.append((before, size))
                while self._recent_bytes[log] - recent[0][1] > self._budget_bytes:
                    self._recent_bytes[log] -= recent.popleft()[1]
        if result.records:
            self.commits.unpark_all()

    def _count(self, change: int) -> None:
        self._open += change
        self.metrics.set("subscriptions", self._open)
        if self._open == 0:
            self._last_read.clear()


class Subscription:
    """``async for batch in subscription``, read by one task; made by `Subscriptions.subscribe`."""

    def __init__(
        self,
        feed: Subscriptions,
        matches: Callable[[str], bool],
        start: Start,
        wanted: Filter | None,
    ) -> None:
        self._feed = feed
        self._matches = matches
        self._start = start
        self._wanted = wanted
        self._from_ns = start if isinstance(start, int) else EARLIEST_NS
        last = {name: feed.log.last_seq(name) for name in feed.log.names()}
        #: By log: what was there at the beginning. Up to it nothing is skipped, and only records
        #: from ``start`` on are told, if that is a time.
        self._old = dict(last)
        #: By log: everything up to it was read. The log that was read last stands last.
        self._after = last
        #: What was read, and the records of the block at hand, with seqs above ``_above``.
        self._blocks: deque[Block | Gap] = deque()
        self._records: Iterator[Record] = iter(())
        self._above = 0
        self._in_block = False
        self._missed = 0

    @property
    def has_caught_up(self) -> bool:
        """Whether all has been told that was there when it began."""
        if self._blocks or self._in_block:
            return False
        return all(self._after[log] >= old for log, old in self._old.items())

    def was_there(self, record: Record) -> bool:
        """Whether a record was there when this began."""
        return record.seq <= self._old[record.log]

    async def find_start(self) -> None:
        """Go back to where the subscription begins."""
        if isinstance(self._start, tuple):
            log, seq = self._start
            self._after[log] = min(self._after[log], max(0, seq - 1))
        elif isinstance(self._start, int):
            for log in self._after:
                near = await self._feed.log.read_near(log, self._start)
                self._after[log] = min(self._after[log], max(0, near - 1))

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> LiveBatch:
        """Wait for something to tell; never ends. Who is cancelled here, for a deadline of his own,
        has lost nothing: nothing is waited for once records are taken out of their block.
        """
        await trio.lowlevel.checkpoint()
        while True:
            records, is_done = self._decode()
            if records:
                return self._hand_over(records)
            if not is_done:
                await trio.lowlevel.checkpoint()
            elif self._blocks:
                self._begin(self._blocks.popleft())
            elif not await self._read():
                if self._missed:
                    return self._hand_over([])
                await self._feed.commits.park()

    def _hand_over(self, records: list[Record]) -> LiveBatch:
        missed, self._missed = self._missed, 0
        if missed:
            self._feed.metrics.add("subscription_missed_total", missed)
        return LiveBatch(records, missed)

    def _decode(self) -> tuple[list[Record], bool]:
        """Some more records of the block at hand that are wanted, and whether that was all."""
        records: list[Record] = []
        looked_at = 0
        try:
            for record in self._records:
                looked_at += 1
                if self._is_wanted(record):
                    records.append(record)
                if looked_at >= BATCH_RECORDS:
                    return records, False
        except StoreDamaged:
            # Its checksum was right, so it was written like this; what lies behind it is sound.
            pass
        self._records, self._in_block = iter(()), False
        return records, True

    def _is_wanted(self, record: Record) -> bool:
        if record.seq <= self._above:
            return False
        if record.time_ns < self._from_ns and record.seq <= self._old[record.log]:
            return False
        return self._wanted is None or self._wanted(record)

    def _begin(self, item: Block | Gap) -> None:
        if isinstance(item, Gap):
            self._missed += item.last - item.first + 1
        elif item.historical and self._start == "new":
            return
        elif item.last <= self._old[item.log]:
            if item.latest_ns >= self._from_ns:
                self._open(item)
        elif item.last <= self._feed.horizon(item.log):
            self._missed += self._count(item)
        else:
            self._open(item)

    def _open(self, block: Block) -> None:
        self._records, self._in_block = block.records(self._matches), True

    def _count(self, block: Block) -> int:
        try:
            return sum(view.count for view in block.runs() if self._matches(view.stream))
        except StoreDamaged:
            return block.count

    async def _read(self) -> bool:
        """Read on in the first log that has something new; False when there is none."""
        for log, after in self._after.items():
            if self._feed.log.last_seq(log) > after:
                break
        else:
            return False
        items = await self._feed.read(log, after)
        if not items:
            return False
        self._above = after
        self._blocks.extend(items)
        # To the end of the line, so that a busy log does not hide the others.
        del self._after[log]
        self._after[log] = items[-1].last
        return True
