"""Where a log is divided for an upstream: the backlog up to a seq, and what came after it.

An upstream that comes back after a week would get new records a day late, were they sent behind the
week. So the log is divided. New records go out at once, and what was there before follows beside
them, in a lane and under a position of its own::

    upstream/NAME/backlog   span (N, S): sends N … S, and is removed when that is done
    upstream/NAME           sends S + 1 … from then on, for good

Both positions are written in **one commit**, or a power cut between two would lose the backlog or
send it twice. It is made at a moment at which the upstream has just said what it has, and nothing
is on its way: the backlog begins behind that. There is no new division while there is a backlog,
so there are two lanes at most. How each is known at the upstream:

- An agent has two sources for them, ``…/live`` and ``…/backlog``, and each is agreed on anew from
  its first seq (`edge_agent.forward.sinks.agent.resume.moved`). The backlog waits until that of
  newer records is agreed: so a hub that has any of the backlog has the new numbering as well.
- To a keyed upstream the plan goes with the backlog, as its ranges may have been sent.

**What the upstream has lost.** A lane sends again what is its own. Where a hub has lost everything,
both begin again, the backlog with the oldest record that is held. A hub that was set back to before
the division says so by its number for newer records: then there is no division any more, and all
goes on in order from there. A backlog that is sent to its end is done only if the other lane has
not met a loss meanwhile (`Split.lost`).

**Where it is judged.** `LaneLog.rearrange` is asked each time an upstream has said what it has.
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Final

import trio

from edge_agent.clock import Clock
from edge_agent.config import TWO_LANES, Upstream
from edge_agent.forward.batch_wait import age_s
from edge_agent.forward.pause import Holding
from edge_agent.forward.plan import divided
from edge_agent.forward.sink import LaneResume, Part, Resumed
from edge_agent.forward.sinks.agent.resume import moved
from edge_agent.forward.turns import Place, Turns
from edge_agent.log import READ_BYTES, Log
from edge_agent.store import BACKLOG, Block, Entry, Gap, Position

logger = logging.getLogger(__name__)

_NONE: Final = (0, 0)


class Split:
    """One log's, for one upstream; its lanes share it.

    Attributes:
        live_first: whether newer records may go out beside a backlog.
        live, backlog: names of the two consumers.
        span: first and last seq of the backlog; (0, 0) while there is none.
        agreed: whether newer records have been agreed on since the start.
        lost: whether the lane of newer records has met a loss that the other one has yet to see.
        holdings: what keeps each lane still.
    """

    def __init__(self, upstream: Upstream, log: Log, name: str, clock: Clock) -> None:
        self._upstream, self._log, self._name, self._clock = upstream, log, name, clock
        self.live_first = upstream.live_first
        self.live = f"upstream/{upstream.name}"
        self.backlog = self.live + BACKLOG
        self.span = _NONE
        self.agreed = self.lost = False
        self.lock = trio.Lock()
        self.holdings: dict[Part, Holding] = {}
        self._news = trio.Event()

    async def restore(self) -> None:
        """Take up what is durable, after a start or a person's order."""
        async with self.lock:
            views = [one for one in await self._log.consumers() if one.log == self._name]
            held = next((one for one in views if one.consumer == self.backlog), None)
            first, end = _NONE if held is None else held.span
            last = self._log.last_seq(self._name)
            if held is not None and end > last:
                # The store was salvaged and lost its end: what comes now takes those numbers again.
                end = last
                back = Position(self.backlog, self._name, min(held.floor, last), rewind=True)
                await self._write(replace(back, span=(first, last)))
            self._set((first, end) if end else _NONE)
        if self.span != _NONE and self._upstream.kind not in TWO_LANES:
            await self.merge(None)

    async def ready(self) -> None:
        """Wait until there is a backlog that may be sent."""
        while self.span == _NONE or not self.agreed:
            await self._news.wait()

    async def over(self) -> None:
        """Wait until there is no backlog."""
        while self.span != _NONE:
            await self._news.wait()

    def agree(self) -> None:
        """Newer records are agreed on with the upstream."""
        self.agreed = True
        self._tell()

    def is_old(self, item: Block | Gap) -> bool:
        """Whether it belongs to a backlog."""
        age = age_s(item, self._clock.read())
        return age is not None and age > self._upstream.backlog_after

    async def is_due(self, begin: int) -> bool:
        """Whether the upstream, which has everything up to ``begin``, has a backlog now."""
        if not self.live_first or begin >= self._log.last_seq(self._name):
            return False
        # What was trimmed comes as a gap, and what stands behind it says how old it may be.
        items = await self._log.read(self._name, begin, READ_BYTES)
        return any(self.is_old(item) for item in items[:2])

    async def divide(self, begin: int, *, keyed: bool) -> None:
        """What is there now above ``begin`` becomes the backlog: both positions in one commit."""
        # What was acknowledged before rides on a later commit: not on one behind this.
        await self._write()
        end = self._log.last_seq(self._name)
        _, state = await self._log.position(self.live, self._name)
        newer, older = divided(state) if keyed else (moved(state), moved(state))
        span = (begin + 1, end)
        await self._write(
            Position(self.backlog, self._name, begin, older, rewind=True, span=span),
            Position(self.live, self._name, end, newer),
        )
        self.lost = self.agreed = False
        self._set(span)
        text = (
            "%s, log %s: %d records wait since long; newer ones go out at once, these beside them"
        )
        logger.warning(text, self.live, self._name, end - begin)

    async def merge(self, begin: int | None) -> None:
        """No division any more: everything behind ``begin``, or behind what the backlog's lane has
        sent, goes on in order.
        """
        async with AsyncExitStack() as stack:
            if "backlog" in self.holdings:
                await stack.enter_async_context(self.holdings["backlog"].held())
            async with self.lock:
                await self._write()
                floor, _ = await self._log.position(self.backlog, self._name)
                _, state = await self._log.position(self.live, self._name)
                state = moved(state) if begin is None else state
                floor = floor if begin is None else begin
                await self._write(
                    Position(self.backlog, self._name, 0, order="forget"),
                    Position(self.live, self._name, floor, state, rewind=True),
                )
                self._set(_NONE)

    async def finish(self) -> bool:
        """The backlog has been sent: it is no more. False where the upstream has lost some of it
        meanwhile.
        """
        async with self.lock:
            if self.lost:
                return False
            await self._write(Position(self.backlog, self._name, 0, order="forget"))
            self._set(_NONE)
        logger.warning("%s, log %s: the backlog has been sent", self.live, self._name)
        return True

    async def set_back(self, floor: int, *, first: int | None = None, anew: bool = False) -> None:
        """The backlog goes on behind ``floor``, which is less than it was; from ``first`` on, if
        that is given; ``anew``: its numbers have to be agreed on again.
        """
        async with self.lock:
            span = self.span if first is None else (first, self.span[1])
            state = None
            if anew:
                await self._write()
                _, held = await self._log.position(self.backlog, self._name)
                state = moved(held)
            await self._write(
                Position(self.backlog, self._name, floor, state, rewind=True, span=span)
            )
            self._set(span)

    async def _write(self, *positions: Position) -> None:
        await (await self._log.append(Entry(positions=positions), soon=True)).wait()

    def _set(self, span: tuple[int, int]) -> None:
        self.span = span
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()


class LaneLog(Log):
    """The log as one lane sees it: whole, or ending where the backlog does."""

    def __init__(self, log: Log, split: Split, part: Part, place: Place | None = None) -> None:
        # Everything is the log's own and shared with it; only where reading ends is not.
        vars(self).update(vars(log))
        self.split, self.part = split, part
        self.place = place or Place(Turns(), 0, is_backlog=part == "backlog")
        self.consumer = split.backlog if part == "backlog" else split.live

    @property
    def base(self) -> int:
        """What is not above it is another lane's."""
        return self.split.span[1] if self.part == "live" else 0

    @property
    def is_gone(self) -> bool:
        """Whether there is no such part any more."""
        return self.part == "backlog" and self.split.span == _NONE

    def is_over(self, floor: int) -> bool:
        """Whether everything is acknowledged that this lane is for."""
        return self.part == "backlog" and floor >= self.split.span[1]

    def falls_behind(self, item: Block | Gap) -> bool:
        """Whether what comes next makes a backlog, which needs a lane of its own."""
        split = self.split
        is_free = self.part == "live" and split.span == _NONE
        return is_free and split.live_first and split.is_old(item)

    async def turn(self) -> None:
        """Wait until this lane may send: what is to go in order goes behind its backlog."""
        if self.part == "live" and not self.split.live_first:
            await self.split.over()

    async def take_up(self, name: str) -> tuple[bool, int, bytes | None]:
        """Whether a person has paused this lane, and its position: floor and state."""
        await self.split.restore()
        paused = await self.is_paused(self.consumer, name)
        floor, state = await self.position(self.consumer, name)
        last = self.last_seq(name)
        if floor > last and not self.is_gone:
            # The store was salvaged and lost its end: what comes now takes those numbers again.
            text = "%s: the log %s ends at %d, before %d"
            logger.warning(text, self.consumer, name, last, floor)
            floor = last
            await self.acknowledge(Position(self.consumer, name, floor, rewind=True), durable=True)
        return paused, floor, state

    async def rearrange(
        self, resume: LaneResume, resumed: Resumed, *, keyed: bool, may_divide: bool
    ) -> bool:
        """Change the division by what the upstream has just said; whether the lane has to begin
        anew for that.
        """
        split, begin, is_loss = self.split, resumed.next - 1, resumed.next <= resume.floor
        if self.part == "backlog":
            first, _ = split.span
            if is_loss and resumed.next < first:
                if resumed.state is None:
                    # It has been set back. To when, its number for newer records will tell.
                    async with split.holdings["live"].held():
                        pass
                    if split.span != _NONE:
                        await split.set_back(first - 1, anew=True)
                    return True
                await split.set_back(begin, first=resumed.next)
            split.lost = False
            return False
        if resume.base and is_loss and resumed.next <= resume.base:
            await split.merge(begin)
            return True
        async with split.lock:
            if split.span[1] != resume.base:
                return True
            split.lost = split.lost or bool(is_loss and resume.base)
            if resume.base or is_loss or not may_divide or not await split.is_due(begin):
                return False
            await split.divide(begin, keyed=keyed)
            return True

    def first_seq(self, log: str) -> int:
        """As `Log.first_seq`."""
        first = super().first_seq(log)
        return min(first, self.split.span[1] + 1) if self.part == "backlog" else first

    def last_seq(self, log: str) -> int:
        """As `Log.last_seq`."""
        last = super().last_seq(log)
        return min(last, self.split.span[1]) if self.part == "backlog" else last

    async def read(self, log: str, after: int, limit_bytes: int = READ_BYTES) -> list[Block | Gap]:
        """As `Log.read`."""
        items = await super().read(log, after, limit_bytes)
        if self.part == "live":
            return items
        end = self.split.span[1]
        kept = [item for item in items if item.first <= end]
        if kept and kept[-1].last > end:
            # A block on both sides is a thinned one, of which neither lane is given anything.
            reason = kept[-1].reason if isinstance(kept[-1], Gap) else "thinned"
            kept[-1] = Gap(log, kept[-1].first, end, reason)
        return kept

    async def wait_past(self, log: str, seq: int) -> int:
        """As `Log.wait_past`; behind its end nothing ever comes."""
        if self.part == "backlog" and seq >= self.split.span[1]:
            await trio.sleep_forever()
        await super().wait_past(log, seq)
        return self.last_seq(log)
