"""Orders to send an upstream once more what it may lack; what that is says `edge_agent.forward`.

An order is looked at before it is given (``look``): which seqs of each log it means, what of it
comes from history because the log has it no longer, what is not to be had any more, and why an
upstream cannot be sent anything out of order. So a person decides with that in mind, and what the
order then does is no surprise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import structs

from edge_agent.config import KINDS, MqttTable
from edge_agent.errors import ProtocolError, StoreFailed
from edge_agent.forward import (
    OrderRefused,
    RecallSurvey,
    Resend,
    ResendOrder,
    begun,
    ended,
    note_name,
    read_order,
)
from edge_agent.store import RESEND, Block, Entry, Position
from edge_agent.values.moments import parse_moment
from edge_agent.values.record import NANOSECONDS, TIME_NS_MAX, format_time
from edge_agent.values.stream_names import compile_pattern

if TYPE_CHECKING:
    from edge_agent.config import Upstream
    from edge_agent.forward import Lane, LogRecall
    from edge_agent.log import Log
    from edge_agent.system.clock import Clock

logger = logging.getLogger(__name__)

_Pattern = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
_STREAMS_MAX = 100
#: Profiles of MQTT that let a device have one connection, which is the one for what is new.
_ONE_CONNECTION = ("azure", "aws")
_FIRST, _LAST = "start", "end"
#: So long history is looked through before an order is answered; a person waits for that.
_SURVEY_S = 5.0
_NOTHING = RecallSurvey(0, 0, 0, 0)


class ResendGiven(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person orders. ``since`` and ``until``: ``start``, ``end``, a time or an age, the
    second no longer meant. ``log`` None: all of the upstream's logs. ``look``: only say what it
    would mean. ``cancel``: end what is under way; then nothing else counts. ``agent``: whom the
    order is for, None for whoever gets it.
    """

    upstream: str
    streams: tuple[_Pattern, ...] = ()
    since: str = _FIRST
    until: str = _LAST
    log: str | None = None
    look: bool = False
    cancel: bool = False
    agent: str | None = None


class ResendOrders:
    """One agent's, or one store's that no agent runs on; the arguments are as for `Orders`.
    ``resend`` is the running one of an upstream's log; ``recall`` gives back what a log no longer
    has, None where there is no history, or no agent that reads it.
    """

    def __init__(
        self,
        log: Log,
        clock: Clock,
        upstreams: Callable[[], Sequence[Upstream]],
        lane: Callable[[str, str], Lane | None],
        resend: Callable[[str, str], Resend | None],
        recall: LogRecall | None = None,
    ) -> None:
        self._recall = recall
        self._log, self._clock, self._upstreams = log, clock, upstreams
        self._lane, self._resend = lane, resend

    async def obey(self, given: ResendGiven) -> list[dict[str, Any]]:
        """Obey, or look; what each log of the order is. The caller obeys one order at a time.

        Raises:
            OrderRefused, ProtocolError: it cannot be done, with the reason.
        """
        upstream = self._named(given.upstream)
        logs = self._logs(upstream, given.log)
        known = {log: await self._known(upstream.consumer, log) for log in logs}
        under_way = {log: one for log, one in known.items() if one is not None and not one.ended}
        if given.cancel:
            return await self._cancel(upstream, under_way)
        _refuse_kind(upstream)
        if under_way:
            log, one = next(iter(under_way.items()))
            raise OrderRefused(
                f"{upstream.name} is being sent {one.first} to {one.last} of log {log} once more;"
                f" `edge-agent upstream resend {upstream.name} --cancel` ends that"
            )
        orders, rows = await self._made(given, logs, known.values())
        if not given.look:
            await self._begin(upstream.consumer, orders)
            number = next(iter(orders.values())).number
            logger.warning("by order: resend %s, number %d", upstream.name, number)
        return rows

    async def _made(
        self, given: ResendGiven, logs: Sequence[str], known: Iterable[ResendOrder | None]
    ) -> tuple[dict[str, ResendOrder], list[dict[str, Any]]]:
        """The order of each log, and what is told of it."""
        now = self._clock.read()
        # Higher than any before, also where those were forgotten.
        numbers = [one.number + 1 for one in known if one is not None]
        number = max([*numbers, now.wall_ns // NANOSECONDS, 1])
        orders: dict[str, ResendOrder] = {}
        rows: list[dict[str, Any]] = []
        coarse = 0
        span = _span(given, now.wall_ns)
        for log in logs:
            whole = (self._log.first_seq(log), self._log.last_seq(log))
            order = ResendOrder(number, _patterns(given.streams), *span, *whole, now.wall_ns)
            order, survey = await self._bounded(log, order)
            # Minutes are not kept by log: each survey counts those of all.
            coarse = max(coarse, survey.coarse if survey else 0)
            if order.first > order.last:
                continue
            orders[log] = order
            rows.append(
                order_told(self._log, log, order)
                | {
                    "held_since": await self._held_since(log, order),
                    "from_history": survey.count if survey else None,
                    "damaged_parts": survey.damaged if survey else 0,
                    "coarse": 0,
                    "renamed": self._has_renamed(log, order),
                }
            )
        if not orders:
            also = f"; {coarse} records of it are only known as minutes or hours" if coarse else ""
            raise OrderRefused(
                f"the logs of this upstream, and history, hold nothing of that time{also}"
            )
        rows[0]["coarse"] = coarse
        return orders, rows

    async def listing(self) -> list[dict[str, Any]]:
        """The last order of each log of each upstream."""
        rows = []
        for upstream in self._upstreams():
            for log in self._logs(upstream, None):
                order = await self._known(upstream.consumer, log)
                if order is not None:
                    running = self._resend(upstream.consumer, log)
                    if not order.ended and running is not None and running.order is not None:
                        order = running.order
                    floor, _ = await self._log.position(upstream.consumer + RESEND, log)
                    lane = self._lane(upstream.consumer + RESEND, log)
                    floor = floor if lane is None else max(floor, lane.statistics().floor)
                    rows.append(
                        {"upstream": upstream.name} | order_told(self._log, log, order, floor)
                    )
        return rows

    async def _cancel(
        self, upstream: Upstream, under_way: dict[str, ResendOrder]
    ) -> list[dict[str, Any]]:
        if not under_way:
            raise OrderRefused(f"no resend for {upstream.name} is under way: nothing to cancel")
        consumer = upstream.consumer
        async with AsyncExitStack() as stack:
            for log in under_way:
                lane = self._lane(consumer + RESEND, log)
                if lane is not None:
                    await stack.enter_async_context(lane.holding.held())
            rows: list[dict[str, Any]] = []
            positions: list[Position] = []
            for log, order in under_way.items():
                running = self._resend(consumer, log)
                order = running.order if running is not None and running.order else order
                floor, _ = await self._log.position(consumer + RESEND, log)
                positions += ended(consumer, log, order, "cancelled")
                rows.append(
                    order_told(self._log, log, structs.replace(order, ended="cancelled"), floor)
                )
            await self._write(positions)
            for log in under_way:
                running = self._resend(consumer, log)
                if running is not None:
                    await running.restore()
        logger.warning("by order: no more resend for %s", upstream.name)
        return rows

    async def _begin(self, consumer: str, orders: dict[str, ResendOrder]) -> None:
        await self._write(
            [one for log, made in orders.items() for one in begun(consumer, log, made)]
        )
        for log in orders:
            running = self._resend(consumer, log)
            if running is not None:
                running.look()

    async def _write(self, positions: Sequence[Position]) -> None:
        await (await self._log.append(Entry(positions=tuple(positions)), soon=True)).wait()

    async def _known(self, consumer: str, log: str) -> ResendOrder | None:
        _, state = await self._log.position(note_name(consumer), log)
        return read_order(state)

    def _has_renamed(self, log: str, order: ResendOrder) -> bool:
        """Whether its first record was stored before a restore or a salvage, which count on above
        a stretch of numbers: its id has had another epoch since.
        """
        last = self._log.last_seq(log)
        return self._log.given(log, order.first - 1, last) < last - order.first + 1

    async def _held_since(self, log: str, order: ResendOrder) -> str | None:
        """From when on the log has records, where that is later than what was asked for."""
        first = self._log.first_seq(log)
        if first <= 1:
            return None
        items = await self._log.read(log, first - 1, 1)
        oldest = items[0] if items else None
        if not isinstance(oldest, Block):
            return None
        since_ns = min(oldest.when_ns, max(oldest.earliest_ns, 0) or oldest.when_ns)
        return format_time(since_ns) if since_ns > order.from_ns else None

    async def _bounded(
        self, log: str, order: ResendOrder
    ) -> tuple[ResendOrder, RecallSurvey | None]:
        """An order of all that a log holds, from the first seq on that it is about; and what of it
        history has that the log no longer has, None where that takes longer to count.
        """
        held = order.first
        first = max(await self._log.read_near(log, order.from_ns), held)
        order = structs.replace(order, first=first)
        if self._recall is None or first > held or held == 1:
            return order, _NOTHING
        try:
            survey = await self._recall.survey(log, held - 1, order, _SURVEY_S)
        except StoreFailed as error:
            since = await self._held_since(log, order)
            only = f"; what the log holds begins at {since}" if since else ""
            raise OrderRefused(
                f"what log {log} no longer has would come from history, which cannot be read:"
                f" {error}; nothing was ordered{only}"
            ) from error
        found = 1 if survey is None else survey.first
        return (structs.replace(order, first=found) if found else order), survey

    def _named(self, name: str) -> Upstream:
        for one in self._upstreams():
            if one.name == name:
                return one
        names = ", ".join(one.name for one in self._upstreams()) or "none"
        raise OrderRefused(
            f"there is no upstream {name!r} in the configuration; there are: {names}"
        )

    def _logs(self, upstream: Upstream, log: str | None) -> list[str]:
        logs = [one for one in self._log.names() if one in (upstream.logs or (one,))]
        if log is None:
            return logs
        if log not in logs:
            raise OrderRefused(
                f"{upstream.name} has no log {log!r}; it has: {', '.join(logs) or 'none'}"
            )
        return [log]


def _refuse_kind(upstream: Upstream) -> None:
    profile = (upstream.mqtt or MqttTable()).profile if upstream.kind == "mqtt" else None
    if profile in _ONE_CONNECTION:
        raise OrderRefused(
            f"{upstream.name}: {profile} lets a device have one connection, so that nothing can be"
            f" sent beside what is new; `edge-agent consumer rewind {upstream.name}` sends again"
            " in order"
        )
    if upstream.scheme not in KINDS:
        raise OrderRefused(
            f"{upstream.name} is of a kind that a package brings, of which nobody knows whether it"
            " may have two connections"
        )


def _patterns(streams: Sequence[str]) -> tuple[str, ...]:
    if not streams or len(streams) > _STREAMS_MAX:
        raise ProtocolError("bad_order", f"streams: 1 to {_STREAMS_MAX} patterns, ** for all")
    for pattern in streams:
        compile_pattern(pattern)
    return tuple(streams)


def _span(given: ResendGiven, now_ns: int) -> tuple[int, int]:
    from_ns = -TIME_NS_MAX
    if given.since != _FIRST:
        from_ns = parse_moment(given.since, now_ns, what="from", lowest_ns=-TIME_NS_MAX)
    to_ns = TIME_NS_MAX
    if given.until != _LAST:
        to_ns = parse_moment(given.until, now_ns, what="to", lowest_ns=-TIME_NS_MAX)
    if from_ns >= to_ns:
        raise ProtocolError("bad_order", "to: expected a time behind that of from")
    return from_ns, to_ns


def order_told(whole: Log, log: str, order: ResendOrder, floor: int = 0) -> dict[str, Any]:
    """An order for one log of ``whole``, as JSON and the command line show it."""
    done = order.last if order.ended == "done" else max(floor, order.first - 1)
    return {
        "log": log,
        "number": order.number,
        "streams": list(order.streams),
        "from": None if order.from_ns == -TIME_NS_MAX else format_time(order.from_ns),
        "to": None if order.to_ns == TIME_NS_MAX else format_time(order.to_ns),
        "first": order.first,
        "last": order.last,
        "done": whole.given(log, order.first - 1, done),
        "left": 0 if order.ended else whole.given(log, done, order.last),
        "sent": order.sent,
        "gone": order.gone,
        "ordered": format_time(order.ordered_ns),
        "state": order.ended or "under way",
    }
