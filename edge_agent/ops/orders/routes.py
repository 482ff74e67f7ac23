"""The routes that take orders, and those that show what orders are about.

The door (`admit`) has let in whoever comes here; a POST came from somebody who may give orders.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from edge_agent.errors import ProtocolError
from edge_agent.net.access import bearer_secret, everything
from edge_agent.ops.orders.in_audit import in_audit, outcome_of
from edge_agent.ops.orders.orders import (
    QUARANTINE_MAX,
    ConsumerOrder,
    Orders,
    QuarantineOrder,
    told_quarantined,
)
from edge_agent.ops.orders.resends import ResendGiven
from edge_agent.ops.orders.source_orders import SourceMove
from edge_agent.ops.parameters import each_once, refuse_unknown, whole_number
from edge_agent.questions.recall import HistoryRecall
from edge_agent.security.audit import Actor, audited
from edge_agent.security.token_uses import told_uses

if TYPE_CHECKING:
    from edge_agent.net.access import Readable
    from edge_agent.ops.facts import Sources

Given = TypeVar("Given")

_ORDER_BYTES_MAX = 64 * 1024


class OrderRoutes:
    """``may_read`` says what the sender of a request may read."""

    def __init__(self, sources: Sources, may_read: Callable[[Request], Readable]) -> None:
        self._may_read, self._tokens, self._uses = may_read, sources.tokens, sources.uses
        self._agent = sources.log.identity.agent_id
        self._orders = Orders(
            sources.log,
            sources.config,
            sources.clock,
            rules=sources.rules,
            lane=sources.lane,
            part=sources.part,
            identities=None if sources.tokens is None else sources.tokens.names,
            upstreams=sources.configured,
            resend=sources.resend,
            recall=None if sources.asker is None else HistoryRecall(sources.asker),
        )

    async def consumers(self, request: Request) -> Response:
        """Who has come how far; an order moves them."""
        if request.method != "POST":
            return _json({"agent": self._agent, "consumers": await self._orders.consumers()})
        given = await _given(request, ConsumerOrder)
        with audited(*in_audit(given), self._actor(request)):
            moved = await self._orders.move(given)
        return _json({"consumers": moved})

    async def resends(self, request: Request) -> Response:
        """What each upstream is sent once more; an order begins or ends that."""
        if request.method != "POST":
            return _json({"agent": self._agent, "resends": await self._orders.resends()})
        given = await _given(request, ResendGiven)
        if given.look:  # That changes nothing.
            return _json({"resends": await self._orders.resend(given)})
        with audited(*in_audit(given), self._actor(request)):
            begun = await self._orders.resend(given)
        return _json({"resends": begun})

    async def sources(self, request: Request) -> Response:
        """Whose the sources are; an order moves them."""
        if request.method != "POST":
            if self._may_read(request) is not everything:
                raise ProtocolError("forbidden", "the token has no scope admin")
            return _json({"agent": self._agent, "sources": await self._orders.sources()})
        given = await _given(request, SourceMove)
        with audited(*in_audit(given), self._actor(request)):
            moved = await self._orders.move_source(given)
        return _json({"sources": moved})

    async def tokens(self, request: Request) -> Response:
        """When each token was used last, and from where; what it may do stands in its file."""
        if self._may_read(request) is not everything:
            raise ProtocolError("forbidden", "the token has no scope admin")
        uses = OrderedDict() if self._uses is None else self._uses.now()
        return _json({"agent": self._agent, "tokens": told_uses(uses)})

    async def quarantine(self, request: Request) -> Response:
        """What could not be used, as far as it may be read; an order settles it."""
        if request.method == "POST":
            order = await _given(request, QuarantineOrder)
            with audited(*in_audit(order), self._actor(request)) as outcome:
                done = await self._orders.settle(order)
                outcome.told = outcome_of(done)
            return _json({"done": done})
        given = each_once(request.query_params.multi_items())
        refuse_unknown(given, ("after", "limit"))
        after = whole_number("after", given.get("after"), 0)
        limit = whole_number("limit", given.get("limit"), 100)
        found = await self._orders.quarantined(
            after, min(limit, QUARANTINE_MAX), self._may_read(request)
        )
        told = [told_quarantined(number, item) for number, item in found]
        return _json({"agent": self._agent, "entries": told})

    def _actor(self, request: Request) -> Actor:
        secret = bearer_secret(request.headers.get("authorization"))
        token = None if secret is None or self._tokens is None else self._tokens.find(secret)
        address = request.client.host if request.client else ""
        return Actor("anybody" if token is None else f"token {token.name}", address)


async def _given(request: Request, kind: type[Given]) -> Given:
    """The order in a request's body."""
    body = b""
    async with aclosing(request.stream()) as pieces:
        async for piece in pieces:
            body += piece
            if len(body) > _ORDER_BYTES_MAX:
                raise ProtocolError("bad_order", f"an order has at most {_ORDER_BYTES_MAX} bytes")
    try:
        return msgspec.json.decode(body, type=kind)
    except (ValueError, RecursionError) as error:
        # Text that is no UTF-8, and what is nested too deep, are no DecodeErrors.
        raise ProtocolError("bad_order", f"expected an order as JSON: {error}"[:500]) from None


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value) + b"\n", media_type="application/json")
