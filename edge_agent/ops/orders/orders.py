"""Carries out a person's orders in a running agent: pause, move, replay, drop, forget.

Every order ends as an entry in the log, behind everything that was said before, and is answered
when it is durable. Orders are obeyed one after the other: two that met could both find an entry in
quarantine, and store it twice.

People say a source by its name, and an agent, with all its lanes, as ``agent:ID``; a colon stands
in no source's name. A lane goes with its agent and cannot be moved alone.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import trio

from edge_agent.errors import ProtocolError
from edge_agent.forward import (
    LogRange,
    Order,
    OrderRefused,
    forgotten,
    full_name,
    position_for,
    positions_for,
)
from edge_agent.ops.orders.replay import SendAgain, is_an_upstreams, replay
from edge_agent.ops.orders.resends import ResendGiven, ResendOrders
from edge_agent.ops.orders.source_orders import SourceMove, meant, orders_for, told_source
from edge_agent.security.token_uses import noted_uses, told_uses
from edge_agent.store import (
    BACKLOG,
    OLDER,
    POSTED_PREFIX,
    RESEND,
    ConsumerView,
    Entry,
    Position,
    Quarantined,
    is_backlog,
    whole_consumer,
)
from edge_agent.values.moments import parse_moment
from edge_agent.wire import WireLimits

if TYPE_CHECKING:
    from edge_agent.config import Config, Upstream
    from edge_agent.forward import Lane, LogRecall, Resend
    from edge_agent.log import Log
    from edge_agent.rules import RulesInForce
    from edge_agent.system.clock import Clock

_SEQ = re.compile(r"[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class MoveTarget:
    """What is to be sent next: a seq, or what was measured at a time, which the store finds."""

    seq: int | None = None
    time_ns: int = 0


def target_of(text: str, lines: LogRange, now_ns: int) -> MoveTarget:
    """From ``start``, ``end``, a seq or a time. Raises ProtocolError where it is none of these."""
    if text == "start":
        return MoveTarget(lines.first)
    if text == "end":
        return MoveTarget(lines.last + 1)
    if _SEQ.fullmatch(text):
        return MoveTarget(int(text))
    return MoveTarget(None, parse_moment(text, now_ns, what="to: neither start, end nor a seq"))


logger = logging.getLogger(__name__)

#: Entries of quarantine that one order may name, and that one answer tells.
QUARANTINE_MAX = 1000
_READ_ENTRIES = 200

_Number = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class ConsumerOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``log`` None: all of the consumer's logs. ``to`` as the command line takes it. ``agent`` is
    whom the order is for, None for whoever gets it.
    """

    order: Order
    consumer: str
    log: str | None = None
    to: str | None = None
    agent: str | None = None


class QuarantineOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``numbers`` None: all that there are, `QUARANTINE_MAX` at a time. ``agent`` as above."""

    order: Literal["replay", "drop"]
    numbers: tuple[_Number, ...] | None = None
    agent: str | None = None


#: Called with names of sources and with identities.
Part = Callable[[AbstractSet[str], AbstractSet[str]], None]


def _nobody_there(sources: AbstractSet[str], identities: AbstractSet[str]) -> None:
    return None


#: The names of all tokens; None where nobody knows them.
Identities = Callable[[], Awaitable[Collection[str] | None]]


def _no_lane(consumer: str, log: str) -> Lane | None:
    return None


def _no_resend(consumer: str, log: str) -> Resend | None:
    return None


class Orders:
    """One agent's, or one store's that no agent runs on. Raises in each method, beside what it
    names: StoreError, Closed.

    Args:
        log: the waist.
        config: what is in force: its upstreams and rules are the consumers that are configured.
        clock: for times that are told as ages.
        rules: those that act before storing.
        lane: the running lane that a consumer is, None where there is none.
        part: ends the connections of sources, and those by which an identity forwards.
        identities: to whom sources can be moved; to anybody where not given.
        upstreams: those that are configured by now; ``config``'s where not given.
        resend: what a running upstream sends once more of a log.
        recall: as for `ResendOrders`.
    """

    def __init__(
        self,
        log: Log,
        config: Config,
        clock: Clock,
        *,
        rules: RulesInForce,
        lane: Callable[[str, str], Lane | None] = _no_lane,
        part: Part = _nobody_there,
        identities: Identities | None = None,
        upstreams: Callable[[], Sequence[Upstream]] | None = None,
        resend: Callable[[str, str], Resend | None] = _no_resend,
        recall: LogRecall | None = None,
    ) -> None:
        self._upstreams = upstreams or (lambda: config.upstream)
        self._part, self._identities = part, identities
        self._log, self._config, self._clock = log, config, clock
        self._rules, self._lane = rules, lane
        self._resends = ResendOrders(log, clock, self._upstreams, lane, resend, recall)
        self._send_again = SendAgain(log, self._upstreams, lane)
        self._one_at_a_time = trio.Lock()

    async def consumers(self) -> list[dict[str, Any]]:
        """Every consumer of every log, for ``consumer list``."""
        log, known = self._log, self._config
        logs = log.names()
        there = [(one.consumer, each) for one in self._upstreams() for each in one.logs or logs]
        there += [
            (f"rule/{one.name}", each) for one in known.rule if one.acts_after for each in logs
        ]
        # The agent's own notes (`edge_agent.wear`) lie beside the positions and are nobody's.
        stored = [one for one in await log.consumers() if not one.consumer.startswith("$")]
        held = {(one.consumer, one.log): one for one in stored}
        for name, each in there:
            held.setdefault((name, each), ConsumerView(name, each, 0, None, False, 0))
        return [
            self._told(one, (whole_consumer(one.consumer), one.log) in there)
            for one in held.values()
        ]

    async def move(self, given: ConsumerOrder) -> list[dict[str, Any]]:
        """Obey; what has become of each of the consumer's positions.

        Raises:
            OrderRefused, ProtocolError: it cannot be done, with the reason.
        """
        self._check_whose(given.agent)
        name = full_name(given.consumer)
        if is_backlog(name):
            raise OrderRefused(f"a backlog goes with its upstream: {whole_consumer(name)}")
        async with self._one_at_a_time, AsyncExitStack() as stack:
            for log in self._log.names() if given.log is None else (given.log,):
                for part in ("", BACKLOG, RESEND):
                    lane = self._lane(name + part, log)
                    if lane is not None:
                        await stack.enter_async_context(lane.holding.held())
            # Acknowledgements ride on later commits. What the lanes have said until they were held
            # is brought to the store before it is asked where they stand.
            await (await self._log.append(Entry(), soon=True)).wait()
            there = await self.consumers()
            mine = [one for one in there if one["consumer"] == name]
            chosen = [one for one in mine if given.log in (None, one["log"])]
            if not chosen:
                known = ", ".join(sorted({one["consumer"] for one in there})) or "none"
                raise OrderRefused(
                    f"there is no consumer {name} in {given.log or 'any log'}; known are: {known}"
                )
            positions = await self._positions(given, chosen)
            ticket = await self._log.append(Entry(positions=positions), soon=True)
            await ticket.wait()
            logger.warning("by order: %s %s%s", given.order, name, _to(given))
        names = {position.log for position in positions}
        there = await self.consumers()
        now = [one for one in there if whole_consumer(one["consumer"]) == name]
        return [one for one in now if one["log"] in names]

    async def resends(self) -> list[dict[str, Any]]:
        """What each upstream is, or was last, sent once more, for ``upstream resends``."""
        return await self._resends.listing()

    async def resend(self, given: ResendGiven) -> list[dict[str, Any]]:
        """Obey, or only look; see `ResendOrders.obey`.

        Raises:
            OrderRefused, ProtocolError: it cannot be done, with the reason.
        """
        self._check_whose(given.agent)
        async with self._one_at_a_time:
            return await self._resends.obey(given)

    async def sources(self) -> list[dict[str, Any]]:
        """Every source and whose it is, for ``source list``."""
        there = await self._log.sources()
        return [told_source(one) for one in there if not one.name.startswith(POSTED_PREFIX)]

    async def move_source(self, given: SourceMove) -> list[dict[str, Any]]:
        """Obey; what has become of the sources that were meant.

        Raises:
            OrderRefused: it is for another agent, or it cannot be done, with the reason.
        """
        self._check_whose(given.agent)
        if given.order == "move" and given.to is not None and self._identities is not None:
            known = await self._identities()
            if known is not None and given.to not in known:
                all_of_them = ", ".join(sorted(known)) or "none"
                raise OrderRefused(
                    f"there is no token called {given.to}, and nobody could use the source;"
                    f" there are: {all_of_them} (`edge-agent token add` makes one)"
                )
        async with self._one_at_a_time:
            chosen = meant(given, await self._log.sources())
            ticket = await self._log.append(Entry(sources=orders_for(given, chosen)), soon=True)
            await ticket.wait()
            what = "forgot" if given.order == "forget" else f"moved to {given.to!r}:"
            logger.warning("by order: %s %s", what, given.source)
            names = {one.name for one in chosen}
            # Whoever was let in as one of these is judged anew when it comes back.
            self._part(names, {one.owner for one in chosen if one.owner is not None})
        now = await self._log.sources()
        return [told_source(one) for one in now if one.name in names]

    async def token_uses(self) -> list[dict[str, Any]]:
        """When each token was used last, as the store has it, for ``token list``."""
        return told_uses(await noted_uses(self._log))

    async def quarantined(
        self, after: int, limit: int, may_read: Callable[[str], bool]
    ) -> list[tuple[int, Quarantined]]:
        """Entries whose stream may be read, oldest first."""
        found: list[tuple[int, Quarantined]] = []
        while len(found) < limit:
            page = await self._log.quarantine(after, _READ_ENTRIES)
            if not page:
                break
            after = page[-1][0]
            found += [one for one in page if may_read(one[1].stream)]
        return found[:limit]

    async def settle(self, given: QuarantineOrder) -> list[dict[str, Any]]:
        """Replay or drop; what has become of each entry.

        Raises:
            OrderRefused: it is for another agent, an entry is not there, or more than
                `QUARANTINE_MAX` are named; nothing was done then.
        """
        self._check_whose(given.agent)
        async with self._one_at_a_time:
            items = await self._chosen(given.numbers)
            if given.order == "drop":
                ticket = await self._log.append(Entry(released=tuple(items)), soon=True)
                await ticket.wait()
                logger.warning("by order: dropped %d entries of quarantine", len(items))
                return [{"number": number, "done": True} for number in items]
            theirs = {n: item for n, item in items.items() if is_an_upstreams(item)}
            told = {one["number"]: one for one in await self._send_again.order(theirs)}
            for number, item in items.items():
                if number not in theirs:
                    told[number] = await self._replay(number, item)
            return [told[number] for number in items]

    def _check_whose(self, agent: str | None) -> None:
        own = self._log.identity.agent_id
        if agent not in (None, own):
            raise OrderRefused(f"this is agent {own}, and the order is for agent {agent}")

    async def _replay(self, number: int, item: Quarantined) -> dict[str, Any]:
        made = replay(number, item, WireLimits.of(self._config.limits), self._rules)
        if made.entry is None:
            return {"number": number, "done": False, "problem": made.problem}
        ticket = await self._log.append(made.entry, soon=True)
        await ticket.wait()
        return {"number": number, "done": True, "records": made.records}

    async def _chosen(self, numbers: Sequence[int] | None) -> dict[int, Quarantined]:
        if numbers is None:
            return dict(await self.quarantined(0, QUARANTINE_MAX, lambda stream: True))
        if len(numbers) > QUARANTINE_MAX:
            raise OrderRefused(
                f"{len(numbers)} entries were named, and an order takes at most {QUARANTINE_MAX}:"
                " send several orders"
            )
        found: dict[int, Quarantined] = {}
        for number in numbers:
            page = await self._log.quarantine(number - 1, 1)
            if not page or page[0][0] != number:
                raise OrderRefused(f"there is no entry {number} in quarantine")
            found[number] = page[0][1]
        return found

    async def _positions(
        self, given: ConsumerOrder, chosen: Sequence[dict[str, Any]]
    ) -> tuple[Position, ...]:
        log = self._log
        views = {(one.consumer, one.log): one for one in await log.consumers()}
        made: list[Position] = []
        refused: OrderRefused | None = None
        for one in chosen:
            name, each = one["consumer"], one["log"]
            lines = LogRange(log.first_seq(each), log.last_seq(each))
            target: int | None = None
            if given.order in ("rewind", "skip"):
                if given.to is None:
                    raise ProtocolError("bad_order", f"{given.order} needs to: a seq or a time")
                wanted = target_of(given.to, lines, self._clock.read().wall_ns)
                target = wanted.seq
                if target is None:
                    target = await log.read_near(each, wanted.time_ns)
            held = views.get((name, each), ConsumerView(name, each, 0, None, False, 0))
            try:
                configured, beside = one["configured"], views.get((name + BACKLOG, each))
                waits = views.get((name + OLDER, each))
                if waits is not None and given.order in ("rewind", "skip"):
                    raise OrderRefused(
                        f"{name} sends its backlog newest first: what it has is in parts, which"
                        " cannot be moved until all is sent"
                    )
                if waits is not None:
                    made.append(position_for(given.order, waits, lines, configured=configured))
                made += positions_for(
                    given.order, held, beside, lines, configured=configured, target=target
                )
                if given.order == "forget":
                    made += forgotten(name, each)
            except OrderRefused as error:
                refused = error
        # One of several logs may have nothing to move; where none has, the person should know.
        if refused is not None and not made:
            raise refused
        return tuple(made)

    def _told(self, one: ConsumerView, configured: bool) -> dict[str, Any]:
        last = self._log.last_seq(one.log) if one.log in self._log.names() else 0
        last = one.span[1] or last
        lane = self._lane(one.consumer, one.log)
        if lane is not None and not lane.holding.stale:
            # It may be ahead of what is durable.
            one = replace(one, floor=max(one.floor, lane.statistics().floor))
        behind = self._log.given(one.log, one.floor, last) if last else 0
        return told(one, last, behind, configured=configured)


def told(one: ConsumerView, last: int, backlog: int, *, configured: bool) -> dict[str, Any]:
    """A consumer as JSON and ``consumer list`` show it."""
    return {
        "consumer": one.consumer,
        "log": one.log,
        "floor": one.floor,
        "last": last,
        "backlog": backlog,
        "paused": one.paused,
        "skipped": one.skipped,
        "configured": configured,
    }


def told_quarantined(number: int, item: Quarantined) -> dict[str, Any]:
    """An entry of quarantine as JSON shows it; its body as text where it is some, else in hex."""
    try:
        body = {"text": item.body.decode()}
    except UnicodeDecodeError:
        body = {"hex": item.body.hex()}
    return {
        "number": number,
        "code": item.code,
        "reason": item.reason,
        "stream": item.stream,
        "source": item.source,
        "source_number": item.number,
        "arrival_ns": item.arrival_ns,
        "bytes": len(item.body),
        "body": body,
        "consumer": item.consumer,
        "log": item.log,
        "seq": item.seq,
    }


def _to(given: ConsumerOrder) -> str:
    return (f" in log {given.log}" if given.log else "") + (f" to {given.to}" if given.to else "")
