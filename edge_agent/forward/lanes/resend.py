"""Sends an upstream once more what it may lack, by a person's order: raw records of a time that has
gone by, for one that got minute means of them or has lost some.

An order is a range of each log, patterns of streams and a range of times. It is durable before the
command that gave it returns, and outlasts restarts::

    $resend/NAME            the order itself, and after its end what became of it (`ResendOrder`)
    upstream/NAME/resend    span (N, S): has sent N … floor, and is removed at the end

Both are written in one commit, and removed so. While there is an order a lane of its own sends it
(`log_lanes`), by a connection of its own, marked as historical. It goes behind everything else of
its upstream: its batches wait until no other lane has any (`turns`), its bytes until no other lane
has any (`pacing.LastInLine`), and it begins when what is sent in the ordinary way has passed the
end of its range, so that nothing of it comes by both ways at once. Windows hold for it, too.

**Which records.** Those of the range whose blocks reach into the times and whose streams match: a
block is what one commit stored, so some seconds more may come at either end. Aggregates of a full
log are no raw records and stay.

**Where from.** The log; and history (`LogRecall`) for each stretch that the log says it no longer
has: trimmed, thinned, damaged. Stretches do not overlap, so no record comes from both, and it makes
no difference when one is trimmed. From history come just the records of the times and streams, each
with its own seq. Where there is no history, what goes meanwhile is counted (`ResendOrder.gone`).
Retention does not wait for a resend.

**Who a record is there.** The same as the first time: by agent, log and seq. So

- a keyed upstream gets its ids, keys and times; PostgreSQL, InfluxDB and whoever looks at ids does
  not double what it has. Batches have keys of their own (`Batch.resent`), as bytes may differ.
- JetStream has messages of the order once: each says how far the order has come.
- a hub is told that it is a resend. The session is a source of its own, ``…/resend``, agreed on
  anew with each order, so that each order is exactly once in itself; and the hub leaves out what it
  holds under any other name (`edge_agent.server.held_records`). One that cannot is sent nothing.
- files have names of their own, and are a source of their own where they are brought in.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
import trio
from msgspec import structs

from edge_agent.config import Upstream
from edge_agent.forward.lanes.lane_state import LaneStatistics
from edge_agent.forward.lanes.split import LaneLog, Split
from edge_agent.forward.lanes.turns import LanePlace
from edge_agent.forward.sink import LaneResume, Resumed
from edge_agent.forward.sinks.agent.resume import moved
from edge_agent.log import READ_BYTES, Log
from edge_agent.store import RESEND, Block, Entry, Gap, Position

logger = logging.getLogger(__name__)

_NOTE: Final = "$resend/"


class ResendOrder(msgspec.Struct, array_like=True, frozen=True):
    """One order, for one log.

    Attributes:
        number: among the orders for this upstream; no two have the same.
        streams: patterns.
        from_ns, to_ns: when the records were measured; the second is no longer meant.
        first, last: seqs that are looked at.
        ordered_ns: when it was given.
        sent, gone: records that were acknowledged, and seqs that had gone before they were read.
        ended: "" while it is under way, then ``done`` or ``cancelled``.
    """

    number: int
    streams: tuple[str, ...]
    from_ns: int
    to_ns: int
    first: int
    last: int
    ordered_ns: int
    sent: int = 0
    gone: int = 0
    ended: str = ""


@dataclass(frozen=True, slots=True)
class ResendProgress:
    """An order that is under way: up to where it is acknowledged, how many of its numbers that are
    and how many are left, and its lane, None while it waits for those of newer records. Numbers
    that no record was ever given, as a restore passes some over, count as neither.
    """

    log: str
    order: ResendOrder
    floor: int
    done: int
    left: int
    lane: LaneStatistics | None


@dataclass(frozen=True, slots=True)
class RecallSurvey:
    """What history has of an order: ``count`` records that the log no longer has, from the seq
    ``first`` on (0 for none); ``coarse`` ones it knows as minutes or hours only; ``damaged`` parts
    of it cannot be read.
    """

    count: int
    first: int
    coarse: int
    damaged: int


class LogRecall(Protocol):
    """Gives back what a log no longer has; `edge_agent.questions.recall` is one."""

    async def survey(
        self, log: str, upto: int, order: ResendOrder, within_s: float
    ) -> RecallSurvey | None:
        """What there is of an order up to a seq; None where that takes longer. Raises
        StoreFailed.
        """
        ...

    async def read(
        self, log: str, after: int, upto: int, order: ResendOrder, limit_bytes: int
    ) -> list[Block | Gap]:
        """As `Log.read`, of the order's records up to ``upto``. Raises StoreFailed."""
        ...


_decoder = msgspec.msgpack.Decoder(ResendOrder)


def note_name(consumer: str) -> str:
    """Where the order for an upstream's ``consumer`` is kept."""
    return _NOTE + consumer.partition("/")[2]


def read_order(state: bytes | None) -> ResendOrder | None:
    """An order as it is kept; None for none."""
    try:
        return _decoder.decode(state or b"")
    except msgspec.MsgspecError:
        return None


def begun(consumer: str, log: str, order: ResendOrder) -> tuple[Position, Position]:
    """What to commit for a new order."""
    span = (order.first, order.last)
    return (
        _noted(consumer, log, order),
        Position(consumer + RESEND, log, order.first - 1, moved(None), rewind=True, span=span),
    )


def ended(consumer: str, log: str, order: ResendOrder, how: str) -> tuple[Position, Position]:
    """What to commit at its end."""
    return (
        _noted(consumer, log, structs.replace(order, ended=how)),
        Position(consumer + RESEND, log, 0, order="forget"),
    )


def forgotten(consumer: str, log: str) -> tuple[Position, Position]:
    """What to commit where the upstream itself is forgotten."""
    names = (note_name(consumer), consumer + RESEND)
    note, lane = (Position(name, log, 0, order="forget") for name in names)
    return note, lane


def _noted(consumer: str, log: str, order: ResendOrder) -> Position:
    return Position(note_name(consumer), log, 0, msgspec.msgpack.encode(order))


class Resend:
    """What is ordered of one log of one upstream, as far as is durable.

    Attributes:
        order: None where there is none under way.
        floor: what of it was acknowledged, as far as is durable.
    """

    def __init__(self, upstream: Upstream, log: Log, name: str) -> None:
        self._upstream, self._log, self._name = upstream, log, name
        self.order: ResendOrder | None = None
        self.floor = 0
        self._news = trio.Event()

    async def restore(self) -> None:
        """Take up what is durable."""
        consumer = self._upstream.consumer
        _, state = await self._log.position(note_name(consumer), self._name)
        order = read_order(state)
        if order is not None and order.ended:
            order = None
        if order is not None:
            self.floor, _ = await self._log.position(consumer + RESEND, self._name)
        is_news = (order and order.number) != (self.order and self.order.number)
        self.order = order
        if is_news:
            self.look()

    def look(self) -> None:
        """There may be another order than before."""
        self._news.set()
        self._news = trio.Event()

    def progress(self, lane: LaneStatistics | None) -> ResendProgress | None:
        """How far it is; None where there is no order."""
        order = self.order
        if order is None:
            return None
        floor = max(self.floor, order.first - 1, 0 if lane is None else lane.floor)
        done = self._log.given(self._name, order.first - 1, floor)
        left = self._log.given(self._name, floor, order.last)
        return ResendProgress(self._name, order, floor, done, left, lane)

    async def changed(self) -> None:
        """Wait until there may be."""
        await self._news.wait()

    def counted(self, *, sent: int = 0, gone: int = 0) -> None:
        """So many records more were acknowledged, or are gone."""
        if self.order is not None:
            order = self.order
            self.order = structs.replace(order, sent=order.sent + sent, gone=order.gone + gone)

    async def end(self, how: str) -> None:
        """The order is no more, durably."""
        order = self.order
        if order is None:
            return
        positions = ended(self._upstream.consumer, self._name, order, how)
        await (await self._log.append(Entry(positions=positions), soon=True)).wait()
        self.order = None
        text = "%s, log %s: resend %s: %d records of %d to %d sent, %d no longer there"
        facts = (order.sent, order.first, order.last, order.gone)
        logger.warning(text, self._upstream.consumer, self._name, how, *facts)


class ResendLog(LaneLog):
    """The log as the lane of an order sees it: from its first seq to its last, and nothing of other
    times. What the log no longer has is what ``recall`` has of it.
    """

    def __init__(
        self,
        log: Log,
        split: Split,
        resend: Resend,
        place: LanePlace,
        recall: LogRecall | None = None,
    ) -> None:
        super().__init__(log, split, "resend", place)
        self._recall = recall
        assert resend.order is not None
        self._resend, self._order = resend, resend.order
        self.consumer = split.live + RESEND
        self.resent = self._order.number
        self._gone_upto = 0

    @property
    def base(self) -> int:
        """What is not above it is no business of this lane."""
        return self._order.first - 1

    @property
    def waiting(self) -> int:
        """Nothing waits behind it."""
        return 0

    @property
    def is_gone(self) -> bool:
        """Whether there is no such order any more."""
        return self._resend.order is None or self._resend.order.number != self._order.number

    def is_over(self, floor: int) -> bool:
        """Whether all of it is acknowledged."""
        return floor >= self._order.last

    def falls_behind(self, item: Block | Gap) -> bool:
        """Never: it is behind."""
        return False

    async def turn(self, floor: int) -> None:
        """At once; see `Resend` for when it begins."""

    async def take_up(self, name: str) -> tuple[bool, int, bytes | None]:
        """Whether a person has paused the upstream, and the position of this lane."""
        await self._resend.restore()
        paused = await self.is_paused(self.split.live, name)
        floor, state = await self.position(self.consumer, name)
        return paused, max(floor, self.base), state

    async def rearrange(
        self, resume: LaneResume, resumed: Resumed, *, keyed: bool, may_divide: bool
    ) -> bool:
        """Nothing is divided for it."""
        return False

    async def finish(self, *, keyed: bool) -> bool:
        """It has been sent: the order is no more."""
        if not self.is_gone:
            await self._resend.end("done")
        return True

    def acknowledged(self, records: int, floor: int) -> None:
        """So many records more are there."""
        self._resend.counted(sent=records)

    def first_seq(self, log: str) -> int:
        """As `Log.first_seq`."""
        first = 0 if self._recall is not None else self.whole.first_seq(log)
        return min(max(first, self._order.first), self._order.last + 1)

    def last_seq(self, log: str) -> int:
        """As `Log.last_seq`."""
        return min(self.whole.last_seq(log), self._order.last)

    async def read(
        self, log: str, after: int, limit_bytes: int = READ_BYTES, upto: int | None = None
    ) -> list[Block | Gap]:
        """As `Log.read`, with gaps in the place of what is not meant. Each seq comes from the log
        or, where that has lost it, from history.
        """
        order = self._order
        found: list[Block | Gap] = []
        held = self.whole.first_seq(log)
        if self._recall is not None and after + 1 < held:
            # Known without a look at the log.
            end = min(held - 1, order.last)
            return await self._recall.read(log, after, end, order, limit_bytes)
        for item in await self.whole.read(log, after, limit_bytes, upto):
            if item.first > order.last:
                break
            if self._recall is not None and _is_lost(item):
                if found:
                    break
                end = min(item.last, order.last)
                return await self._recall.read(log, after, end, order, limit_bytes)
            kept = self._meant(item)
            before = found[-1] if found else None
            if isinstance(kept, Gap):
                if kept.last > order.last:
                    kept = Gap(log, kept.first, order.last, kept.reason)
                self._count_gone(kept)
                if isinstance(before, Gap) and before.reason == kept.reason:
                    found[-1] = Gap(log, before.first, kept.last, kept.reason)
                    continue
            found.append(kept)
        return found

    def _meant(self, item: Block | Gap) -> Block | Gap:
        if isinstance(item, Gap):
            return item
        if item.thinned:
            return Gap(item.log, item.first, item.last, "thinned")
        is_within = item.latest_ns >= self._order.from_ns and item.earliest_ns < self._order.to_ns
        return item if is_within else Gap(item.log, item.first, item.last, "filtered")

    def _count_gone(self, gap: Gap) -> None:
        if gap.reason != "filtered" and gap.last > self._gone_upto:
            first = max(gap.first, self._gone_upto + 1, self._order.first)
            self._gone_upto = gap.last
            self._resend.counted(gone=gap.last - first + 1)

    async def wait_past(self, log: str, seq: int) -> int:
        """As `Log.wait_past`; behind its end nothing comes."""
        if self.last_seq(log) <= seq:
            self.place.leave()
            await trio.sleep_forever()
        return self.last_seq(log)


def _is_lost(item: Block | Gap) -> bool:
    """Whether there were records that the log no longer has: trimmed, damaged, or thinned."""
    return isinstance(item, Gap) or item.thinned > 0
