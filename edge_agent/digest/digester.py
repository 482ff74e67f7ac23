"""The digester is a consumer of every log: it takes what is durable into history.

Records gather in the log for up to `GATHER_S`, as a thousand cost less than ten times a hundred. It
rests for as long as it works, so that sensors come first; while they flood the agent it only takes
a little each `FLOOD_REST_S`, and history lags. Nothing waits for it but a question, which wakes it
and lets it work through (`catch_up`). What it has digested is in memory until a flush, each
`FLUSH_EVERY_S` or once `TAIL_BYTES_MAX` are full. Only then does it acknowledge, so that after a
crash the log gives the same records again.

Records of a clock that was not set lie in the tail at the time that they have. While it is this
boot's clock, the tail is not flushed before it is full; once the clock is set, it is given up and
digested again, with the right times.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from edge_agent.commit import Closed
from edge_agent.digest.block import waits
from edge_agent.digest.file import HistoryFile
from edge_agent.digest.history import HistoryWriter, Keep
from edge_agent.digest.owner import HistoryOwner
from edge_agent.digest.scrub import HistoryScrub
from edge_agent.digest.tail import TAIL_BYTES_MAX
from edge_agent.errors import StoreError, StoreFailed, StoreSealed
from edge_agent.history import HistoryHeader
from edge_agent.log import Log
from edge_agent.metrics import Metrics
from edge_agent.seal import OPEN, KeyRing
from edge_agent.store import Block, Gap, Position
from edge_agent.system.clock import Clock

logger = logging.getLogger(__name__)

_Step = TypeVar("_Step")

CONSUMER = "history"
#: Half an hour of one record a second and stream fills a page of 4 KiB; a quarter of an hour fills
#: half of one and takes it whole: 3.6 bytes a record instead of 5.7, and fewer are written.
FLUSH_EVERY_S = 1800.0
#: The shortest rest between two looks at the logs. How fast records come cannot be said of less
#: time, as a flood's groups take up to 0.7 s each.
REST_S = 1.0
#: Records wait for others until there are so many, but no longer than this. Nobody who asks waits.
GATHER_RECORDS = 2000
GATHER_S = 2.0
#: Records a second that come in, from which on it is a flood. Its groups are full, and whatever
#: digesting takes is taken from them: it begins once the flood is over, or after so long.
FLOOD_RATE = 100_000
FLOOD_REST_S = 10.0
_READ_BYTES = 256 * 1024
#: So long the event loop is held, and a step longer: most steps take less than to let others run.
_HOLD_S = 0.0005
#: Between attempts to write while the disk refuses.
FLUSH_RETRY_S = 30.0
#: A question waits no longer for what came last.
CATCH_UP_S = 2.0


@dataclass(frozen=True, slots=True)
class HistoryStatus:
    """How far history is. ``lag``: records that wait to be digested; ``undated``: some of them wait
    for the clock to be set. ``damaged`` parts were found since the start. ``trouble`` says why
    nothing is written at present.
    """

    lag: int
    undated: bool
    records: int
    missed: int
    damaged: int
    used_bytes: int
    limit_bytes: int
    series: int
    trouble: str | None


class Digester:
    """The task, and what questions need of it. ``share_bytes``: what history may hold."""

    def __init__(
        self,
        log: Log,
        path: Path,
        share_bytes: int,
        keep: Keep,
        *,
        clock: Clock,
        metrics: Metrics,
        scrub_s: float = 0.0,
        seals: KeyRing = OPEN,
    ) -> None:
        self.path = path
        #: What history is sealed with; whoever answers from it needs them.
        self.seals = seals
        self.history: HistoryWriter | None = None
        self.trouble: str | None = None
        self._log, self._share_bytes, self._keep = log, share_bytes, keep
        self._clock, self._metrics = clock, metrics
        self._asked = trio.Event()
        self._round = trio.lowlevel.ParkingLot()
        self._undated = False
        self._flushed_at = 0.0
        #: When somebody looked last how many records there were, how many, and how many a second
        #: had come.
        self._looked = (0.0, 0, 0.0)
        self._scrub = HistoryScrub(scrub_s)

    async def run(self) -> None:
        """Digest until cancelled."""
        history = await self._open()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._scrub.run, history.file, self._log.run_blocking)
                await self._digest_on(history)
                nursery.cancel_scope.cancel("the agent is stopping")
        finally:
            self.history = None
            history.file.close()

    async def _digest_on(self, history: HistoryWriter) -> None:
        try:
            self._flushed_at = now = trio.current_time()
            self._looked = (now, self._seqs(), 0.0)
            while True:
                await self._digest(history)
                if self._is_due(history):
                    await self._flush(history)
                await self._wait(history)
        except Closed:
            # The agent is stopping: what was not flushed is digested again after the next start.
            return

    async def catch_up(self) -> int:
        """Wait until what is durable now is digested, or `CATCH_UP_S` are over; how many records
        are left out.

        Raises:
            StoreFailed: history is not open; the text says why.
        """
        ends = {name: self._log.last_seq(name) for name in self._log.names()}
        if self._is_behind(ends):
            with trio.move_on_after(CATCH_UP_S):
                while self._is_behind(ends):
                    self._asked.set()
                    await self._round.park()
                    # Whether the clock has been set meanwhile, only a round tells.
                    if self._undated:
                        break
        if self.history is None:
            raise StoreFailed(self.trouble or "history is being opened; try again in a moment")
        return self._lag(ends)

    def status(self) -> HistoryStatus:
        """How far it is; looks at the file."""
        history = self.history
        if history is None:
            return HistoryStatus(0, False, 0, 0, 0, 0, self._share_bytes, 0, self.trouble)
        usage, header = history.file.usage(), history.file.header
        ends = {name: self._log.last_seq(name) for name in self._log.names()}
        return HistoryStatus(
            self._lag(ends),
            self._undated,
            header.records + history.tail.records,
            header.missed + history.missed,
            self._scrub.damaged,
            usage.used_bytes,
            usage.limit_bytes,
            len({*history.file.numbers, *history.tail.streams}),
            self.trouble,
        )

    async def _open(self) -> HistoryWriter:
        identity = self._log.identity
        all_logged = all(self._log.first_seq(name) == 1 for name in self._log.names())
        whose = HistoryOwner(
            identity.store_id, identity.epoch, self.seals, all_logged, inherits=self._inherits
        )
        opening = partial(HistoryFile.open, self.path, self._share_bytes, whose)
        while True:
            try:
                file, told = await self._log.run_blocking(opening)
                break
            except (StoreFailed, StoreSealed) as error:
                self._tell(str(error))
                await trio.sleep(FLUSH_RETRY_S)
        if told:
            logger.error("%s", told)
        history = HistoryWriter(file, self._keep)
        for name in self._log.names():
            history.rewind(name, self._log.last_seq(name))
        self.history, self.trouble = history, None
        return history

    def _inherits(self, header: HistoryHeader) -> bool:
        """Whether it is the history of this store under the name that it had before it was read
        back, or found to be a copy. A copy that was put back is older than what was digested: that
        may come once more from who sent it, and would be there twice.
        """
        whose = self._log.identity
        if header.epoch == whose.salvaged_from:
            return True
        return (
            whose.copied is not None
            and header.epoch == whose.copied.epoch
            and all(
                seq <= self._log.last_seq(name)
                for name, seq in header.positions.items()
                if name in self._log.names()
            )
        )

    async def _digest(self, history: HistoryWriter) -> None:
        """Take what is there, until the end or until a flush is due."""
        self._undated = False
        if self._is_stale(history):
            await self._begin_anew(history)
        for name in self._log.names():
            while history.digested.get(name, 0) < self._log.last_seq(name):
                await self._let_pass()
                began = trio.current_time()
                try:
                    items = await self._log.read(name, history.digested.get(name, 0), _READ_BYTES)
                except StoreError:
                    break
                items = self._without_undated(items)
                if not items:
                    break
                now_ns = self._clock.read().wall_ns
                await _patiently(history.take(items, now_ns))
                if history.tail.bytes >= TAIL_BYTES_MAX:
                    await self._flush(history)
                await self._pause(trio.current_time() - began)
        self._round.unpark_all()

    async def _begin_anew(self, history: HistoryWriter) -> None:
        """Give the tail up, to digest it with times that are known by now; but what the logs no
        longer hold is written as it is.
        """
        written = history.file.header.positions
        names = self._log.names()
        if all(self._log.first_seq(name) <= written.get(name, 0) + 1 for name in names):
            history.forget_tail()
        else:
            await self._flush(history)

    def _is_behind(self, ends: Mapping[str, int]) -> bool:
        """Whether something up to ``ends`` is not digested as it is dated now."""
        history = self.history
        return history is None or self._is_stale(history) or self._lag(ends) > 0

    def _is_stale(self, history: HistoryWriter) -> bool:
        """Whether a clock has been set since, by which records in the tail are dated."""
        return not history.undated.isdisjoint(self._log.clock_offsets)

    def _without_undated(self, items: list[Block | Gap]) -> list[Block | Gap]:
        now = self._clock.read()
        for index, item in enumerate(items):
            if isinstance(item, Block) and waits(item, now.boot_id, now.boot_ns):
                self._undated = True
                return items[:index]
        return items

    async def _let_pass(self) -> None:
        """Wait until no flood is seen, but no longer than `FLOOD_REST_S`."""
        with trio.move_on_after(FLOOD_REST_S):
            while self._is_flooded() and not self._round:
                await self._pause(REST_S)

    def _is_flooded(self) -> bool:
        at, seqs, rate = self._looked
        now = trio.current_time()
        if now - at >= REST_S:
            found = self._seqs()
            rate = (found - seqs) / (now - at)
            self._looked = (now, found, rate)
        return rate > FLOOD_RATE

    def _seqs(self) -> int:
        return sum(map(self._log.last_seq, self._log.names()))

    async def _pause(self, seconds: float) -> None:
        """Let others run for so long, or until somebody asks."""
        if self._round:
            await trio.lowlevel.checkpoint()
            return
        self._asked = trio.Event()
        with trio.move_on_after(seconds):
            await self._asked.wait()

    def _is_due(self, history: HistoryWriter) -> bool:
        if not history.tail.records:
            return False
        if ("", self._clock.read().boot_id) in history.undated:
            # What is written cannot be moved, and this boot's clock may be set yet.
            return False
        return trio.current_time() - self._flushed_at >= FLUSH_EVERY_S

    async def _flush(self, history: HistoryWriter) -> None:
        """Write the tail, patiently; then the log may trim what is in the file now."""
        reading = self._clock.read()
        flush = await _patiently(history.flush(reading.wall_ns, trusted=reading.synced))
        assert flush is not None
        while True:
            try:
                await self._log.run_blocking(history.file.write, flush)
                break
            except StoreFailed as error:
                self._tell(str(error))
                await trio.sleep(FLUSH_RETRY_S)
        records = history.tail.records
        history.flushed()
        self.trouble = None
        self._flushed_at = trio.current_time()
        self._metrics.add("history_records_total", records)
        self._metrics.add("history_written_bytes_total", sum(map(len, flush.puts.values())))
        for name, seq in flush.header.positions.items():
            await self._log.acknowledge(Position(CONSUMER, name, seq))

    async def _wait(self, history: HistoryWriter) -> None:
        """Until there is more, a flush is due, or somebody asks; never at once."""
        if self._round:
            # Somebody has asked since the logs were read, as the tail was written.
            await trio.lowlevel.checkpoint()
            return
        self._asked = trio.Event()
        if history.tail.records:
            due_s = max(self._flushed_at + FLUSH_EVERY_S - trio.current_time(), 0.0)
        else:
            due_s = float("inf")
            self._flushed_at = trio.current_time()
        with trio.move_on_after(max(due_s, REST_S)):
            async with trio.open_nursery() as nursery:
                for name in self._log.names():
                    nursery.start_soon(self._until_more, name, nursery.cancel_scope)
                await self._asked.wait()
                nursery.cancel_scope.cancel("somebody asks")

    async def _until_more(self, name: str, scope: trio.CancelScope) -> None:
        history = self.history
        assert history is not None
        taken = max(history.digested.get(name, 0), self._waiting(name))
        await self._log.wait_past(name, taken)
        # The rate at which records come is that from the first of them on.
        self._is_flooded()
        await trio.sleep(REST_S)
        with trio.move_on_after(GATHER_S - REST_S):
            await self._log.wait_past(name, taken + GATHER_RECORDS - 1)
        scope.cancel("there is more")

    def _waiting(self, name: str) -> int:
        # Undated records are there already; only what comes after them is news.
        return self._log.last_seq(name) if self._undated else 0

    def _lag(self, ends: Mapping[str, int]) -> int:
        history = self.history
        if history is None:
            return sum(ends.values())
        return sum(max(end - history.digested.get(name, 0), 0) for name, end in ends.items())

    def _tell(self, text: str) -> None:
        if self.trouble != text:
            logger.warning("%s; everything else goes on", text)
        self.trouble = text


async def _patiently(steps: Iterator[_Step]) -> _Step | None:
    """Go through the steps, and let others run now and then; what the last one gave.

    By Trio's clock: where that is turned by hand, a run takes the same turns however quick the
    machine is.
    """
    last, began = None, trio.current_time()
    for step in steps:
        last = step
        if trio.current_time() - began >= _HOLD_S:
            await trio.lowlevel.checkpoint()
            began = trio.current_time()
    return last
