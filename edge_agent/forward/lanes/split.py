"""The division of a log for an upstream: the backlog up to a seq, and newer records after it.

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

**Newest first.** The backlog is sent in parts of `PART_RECORDS`, the newest part first: it is
divided once more, again in one commit, and what is below waits under a third position::

    upstream/NAME/older     span (N, S), floor before N: holds what is not sent, until all is

The lane of the backlog goes from part to part, each agreed on anew. A part begins with a block,
since no block is given in two pieces; and the lowest has all that was planned for a keyed upstream.
Where the upstream has lost anything of the backlog, it is no longer known which parts, and all of
it is sent once more, oldest first: rather twice than lost.

**Where it is judged.** `LaneLog.rearrange` is asked each time an upstream has said what it has.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Final

import trio

from edge_agent.config import TWO_LANES, Upstream
from edge_agent.forward.batch_wait import age_s
from edge_agent.forward.batches.plan import divided, planned_end, without_ranges
from edge_agent.forward.lanes.beginning import beginning, not_past_end
from edge_agent.forward.lanes.pause import Holding
from edge_agent.forward.lanes.turns import LanePlace, LaneTurns
from edge_agent.forward.sink import LaneResume, Part, Resumed
from edge_agent.forward.sinks.agent.resume import moved
from edge_agent.log import READ_BYTES, Log
from edge_agent.store import BACKLOG, OLDER, Block, Entry, Gap, Position
from edge_agent.system.clock import Clock

logger = logging.getLogger(__name__)

_NONE: Final = (0, 0)
#: How much of a backlog is sent at a time, newest first. Each part costs a commit and a connection.
PART_RECORDS: Final = 50_000


class Split:
    """One log's, for one upstream; its lanes share it.

    Attributes:
        live_first: whether newer records may go out beside a backlog.
        live, backlog: names of the two consumers.
        span: first and last seq of the backlog, or of its part that is sent; (0, 0) while there is
            none.
        older: last seq before what waits for its turn, newest first; None where nothing does.
        top: last seq of the whole backlog; 0 while there is none.
        agreed: whether newer records have been agreed on since the start.
        lost: whether the lane of newer records has met a loss that the other one has yet to see.
        holdings: what keeps each lane still.
    """

    def __init__(self, upstream: Upstream, log: Log, name: str, clock: Clock) -> None:
        self._upstream, self._log, self._name, self._clock = upstream, log, name, clock
        self.live_first = upstream.live_first
        self.live = upstream.consumer
        self.backlog = self.live + BACKLOG
        self.older_name = self.live + OLDER
        self.span, self.top = _NONE, 0
        self.older: int | None = None
        self.agreed = self.lost = False
        self.lock = trio.Lock()
        self.holdings: dict[Part, Holding] = {}
        self._news = trio.Event()

    @property
    def waiting(self) -> int:
        """How many records wait for their turn behind the part that is sent, newest first."""
        if self.older is None:
            return 0
        return self._log.given(self._name, self.older, self.span[0] - 1)

    @property
    def undelivered(self) -> tuple[int, int]:
        """What the backlog lies behind, and how many records it has, before any of it is sent."""
        first, end = self.span
        floor = first - 1 if self.older is None else min(self.older, first - 1)
        return floor, self._log.given(self._name, floor, end)

    async def restore(self) -> None:
        """Take up what is durable, after a start or a person's order."""
        async with self.lock:
            views = [one for one in await self._log.consumers() if one.log == self._name]
            by_name = {one.consumer: one for one in views}
            held, older = by_name.get(self.backlog), by_name.get(self.older_name)
            if held is None:
                self._set(_NONE)
            else:
                floor, top = (None, 0) if older is None else (older.floor, older.span[1])
                self._set(held.span, floor, top)
            last = self._log.last_seq(self._name)
            if held is not None and self.top > last:
                # The store was salvaged and lost its end: what comes now takes those numbers again.
                floor = min(held.floor if older is None else older.floor, last)
                await self._rejoin(floor, (floor + 1 if older else held.span[0], last))
        if self.span != _NONE and self._upstream.kind not in TWO_LANES:
            await self.merge(None)

    async def beginning(self) -> tuple[bool, int, bytes | None]:
        """Whether a person has paused the lane of newer records, and its position, which is made
        where there is none.
        """
        held = await beginning(self._upstream, self._log, self._name, self.live, self._clock)
        return held.paused, held.floor, held.state

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
        start, parts = begin, []
        if self._upstream.order == "newest first":
            start = await self._part_start(begin, end, older)
        if start > begin:
            waits = Position(self.older_name, self._name, begin, older, rewind=True)
            parts = [replace(waits, span=(begin + 1, end))]
            older = without_ranges(older) or older
        span = (start + 1, end)
        await self._write(
            *parts,
            Position(self.backlog, self._name, start, older, rewind=True, span=span),
            Position(self.live, self._name, end, newer),
        )
        self.lost = self.agreed = False
        self._set(span, begin if parts else None, end)
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
                floor = floor if self.older is None else self.older
                _, state = await self._log.position(self.live, self._name)
                state = moved(state) if begin is None else state
                floor = floor if begin is None else begin
                await self._write(
                    *self._forgotten(),
                    Position(self.live, self._name, floor, state, rewind=True),
                )
                self._set(_NONE)

    async def finish(self, *, keyed: bool) -> bool:
        """The backlog has been sent: it is no more. False where the upstream has lost some of it
        meanwhile, or an older part follows.
        """
        async with self.lock:
            if self.lost:
                return False
            end = self.span[0] - 1
            if self.older is not None and end > self.older:
                await self._next_part(self.older, end, keyed=keyed)
                return False
            await self._write(*self._forgotten())
            self._set(_NONE)
        logger.warning("%s, log %s: the backlog has been sent", self.live, self._name)
        return True

    async def _next_part(self, floor: int, end: int, *, keyed: bool) -> None:
        """The lane of the backlog goes on with what lies before what it has sent."""
        await self._write()
        _, waiting = await self._log.position(self.older_name, self._name)
        _, state = await self._log.position(self.backlog, self._name)
        start = await self._part_start(floor, end, waiting)
        if keyed:
            state = waiting if start == floor else without_ranges(state)
        else:
            state = moved(state)
        span = (start + 1, end)
        await self._write(Position(self.backlog, self._name, start, state, rewind=True, span=span))
        self._set(span, self.older, self.top)

    async def _part_start(self, floor: int, end: int, state: bytes | None) -> int:
        """Behind which seq the newest part begins of what lies between the two."""
        wanted = end - PART_RECORDS
        if wanted <= floor:
            return floor
        items = await self._log.read(self._name, wanted, 1)
        start = items[0].first - 1 if items else floor
        return floor if start <= floor or start < planned_end(state) else start

    async def rejoin(self, floor: int, *, anew: bool) -> None:
        """Nothing waits any more: the backlog is sent in order behind ``floor``."""
        async with self.lock:
            await self._write()
            _, state = await self._log.position(self.backlog, self._name)
            await self._rejoin(floor, (floor + 1, self.top), moved(state) if anew else None)

    async def _rejoin(self, floor: int, span: tuple[int, int], state: bytes | None = None) -> None:
        back = Position(self.backlog, self._name, floor, state, rewind=True, span=span)
        older = Position(self.older_name, self._name, 0, order="forget")
        await self._write(back, *([] if self.older is None else [older]))
        self._set(span if span[1] else _NONE)

    def _forgotten(self) -> list[Position]:
        names = [self.backlog, *([] if self.older is None else [self.older_name])]
        return [Position(name, self._name, 0, order="forget") for name in names]

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

    def _set(self, span: tuple[int, int], older: int | None = None, top: int = 0) -> None:
        self.span, self.older, self.top = span, older, top or span[1]
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()


class LaneLog(Log):
    """The log as one lane sees it: whole, or ending where the backlog does. ``reached`` is told up
    to which seq the upstream has all of the log (`edge_agent.bridge`).
    """

    def __init__(
        self,
        log: Log,
        split: Split,
        part: Part,
        place: LanePlace | None = None,
        reached: Callable[[int], None] | None = None,
    ) -> None:
        # Everything is the log's own and shared with it; only where reading ends is not.
        vars(self).update(vars(log))
        self.whole, self.split, self.part = log, split, part
        self.place = place or LanePlace(LaneTurns(), 0, is_backlog=part == "backlog")
        self.consumer = split.backlog if part == "backlog" else split.live
        #: The number of the order that this lane obeys (`resend`), 0 for none.
        self.resent = 0
        self._reached = reached

    @property
    def base(self) -> int:
        """What is not above it is another lane's."""
        return self.split.top if self.part == "live" else 0

    @property
    def waiting(self) -> int:
        """How many records wait for their turn behind what this lane sends."""
        return self.split.waiting if self.part == "backlog" else 0

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

    async def turn(self, floor: int) -> None:
        """Wait until this lane, which has come to ``floor``, may send: what is to go in order goes
        behind its backlog.
        """
        if self.part == "live" and not self.split.live_first:
            await self.split.over()
        self._tell_reached(floor)

    async def take_up(self, name: str) -> tuple[bool, int, bytes | None]:
        """Whether a person has paused this lane, and its position: floor and state."""
        await self.split.restore()
        if self.part == "live":
            paused, floor, state = await self.split.beginning()
            self._tell_reached(floor)
            return paused, floor, state
        paused = await self.is_paused(self.consumer, name)
        floor, state = await self.position(self.consumer, name)
        if not self.is_gone:
            floor = await not_past_end(self, name, self.consumer, floor)
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
            if is_loss and split.older is not None:
                is_same = resumed.state is None
                await split.rejoin(split.older if is_same else begin, anew=is_same)
                return True
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
            if split.top != resume.base:
                return True
            split.lost = split.lost or bool(is_loss and resume.base)
            if resume.base or is_loss or not may_divide or not await split.is_due(begin):
                return False
            await split.divide(begin, keyed=keyed)
            return True

    async def finish(self, *, keyed: bool) -> bool:
        """All that this lane is for is acknowledged; whether there is nothing left for it to do."""
        return await self.split.finish(keyed=keyed)

    def acknowledged(self, records: int, floor: int) -> None:
        """So many records more are acknowledged, and everything up to ``floor``."""
        self._tell_reached(floor)

    def _tell_reached(self, floor: int) -> None:
        # While a backlog has a lane of its own, the floor of the other says nothing of that.
        if self._reached is not None and self.split.span == _NONE:
            self._reached(floor)

    def first_seq(self, log: str) -> int:
        """As `Log.first_seq`."""
        first = super().first_seq(log)
        return min(first, self.split.span[1] + 1) if self.part == "backlog" else first

    def last_seq(self, log: str) -> int:
        """As `Log.last_seq`."""
        last = super().last_seq(log)
        return min(last, self.split.span[1]) if self.part == "backlog" else last

    async def read(
        self, log: str, after: int, limit_bytes: int = READ_BYTES, upto: int | None = None
    ) -> list[Block | Gap]:
        """As `Log.read`."""
        items = await super().read(log, after, limit_bytes, upto)
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
        """As `Log.wait_past`; behind its end nothing comes. Who has to wait leaves its place."""
        if self.last_seq(log) <= seq:
            self.place.leave()
        if self.part == "backlog" and seq >= self.split.span[1]:
            await trio.sleep_forever()
        await super().wait_past(log, seq)
        return self.last_seq(log)
