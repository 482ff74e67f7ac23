"""Reaching a store: through the agent that runs on it, or directly where none does.

An order is obeyed by the agent that runs, over its people's port (``--url``, or the store's lock is
taken: then at ``http.address``, and by no other agent than the one whose store it is), or by the
same code (`edge_agent.ops.orders.orders`) on the store itself, which is locked meanwhile. Either
way it is one entry in the log, and durable when the command returns.
"""

from __future__ import annotations

import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from edge_agent.cli.agent_http import AgentAddress
from edge_agent.cli.async_main import run as run_async
from edge_agent.cli.common import (
    Failure,
    config_options,
    holds_store,
    local_token,
    port_options,
)
from edge_agent.cli.run import settings_of
from edge_agent.config import Config, Size, authority_file, people_url, with_sending
from edge_agent.errors import ConfigError, StoreFailed, StoreLocked
from edge_agent.net.access import everything
from edge_agent.ops.access import ORDER_HEADER
from edge_agent.security.audit import audited
from edge_agent.store import LOCK, STORE, StoreLock
from edge_agent.store.tools import look_inside
from edge_agent.system.files import acting_as_owner, give_to_owner

if TYPE_CHECKING:
    from edge_agent.ops.orders.orders import ConsumerOrder, Orders, QuarantineOrder
    from edge_agent.ops.orders.resends import ResendGiven
    from edge_agent.ops.orders.source_orders import SourceMove

    Order = ConsumerOrder | QuarantineOrder | SourceMove | ResendGiven

#: An order may be looked at first, in a history of years.
_ORDER_TIMEOUT_S = 60.0

Answer = TypeVar("Answer")
Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def reach_options(function: Decorated) -> Decorated:
    """``--config``, ``--data``, ``--url``, ``--token-file``, ``--ca-file``, for `reach`."""
    return config_options(
        port_options(
            function,
            variable="EDGE_AGENT_URL",
            port="The people's port of a running agent. [the one that holds the store]",
            token="the scope admin",
            scheme="https",
        )
    )


Rows = list[dict[str, Any]]


class Reached(ABC):
    """Who answers: a running agent, or the store itself."""

    @abstractmethod
    def _do(
        self, path: str, key: str, what: Callable[[Orders], Awaitable[Any]], order: Order | None
    ) -> Rows:
        """What stands under ``key`` in the answer of ``path``, which ``what`` gives locally."""

    def consumers(self) -> Rows:
        """Who has come how far."""
        return self._do("/api/consumers", "consumers", lambda orders: orders.consumers(), None)

    def move(self, order: ConsumerOrder) -> Rows:
        """See `Orders.move`."""
        return self._do("/api/consumers", "consumers", lambda orders: orders.move(order), order)

    def sources(self) -> Rows:
        """Whose the sources are."""
        return self._do("/api/sources", "sources", lambda orders: orders.sources(), None)

    def move_source(self, order: SourceMove) -> Rows:
        """See `Orders.move_source`."""
        return self._do("/api/sources", "sources", lambda orders: orders.move_source(order), order)

    def token_uses(self) -> Rows:
        """When each token was used last."""
        return self._do("/api/tokens", "tokens", lambda orders: orders.token_uses(), None)

    def resends(self) -> Rows:
        """What upstreams are sent once more."""
        return self._do("/api/resends", "resends", lambda orders: orders.resends(), None)

    def resend(self, order: ResendGiven) -> Rows:
        """See `Orders.resend`."""
        return self._do("/api/resends", "resends", lambda orders: orders.resend(order), order)

    def settle(self, order: QuarantineOrder) -> Rows:
        """See `Orders.settle`."""
        return self._do("/api/quarantine", "done", lambda orders: orders.settle(order), order)

    def quarantined(self, after: int, limit: int) -> Rows:
        """Entries as `told_quarantined` tells them."""

        async def told(orders: Orders) -> Rows:
            from edge_agent.ops.orders.orders import told_quarantined

            found = await orders.quarantined(after, limit, everything)
            # As it would arrive over HTTP.
            rows: Rows = json.loads(json.dumps([told_quarantined(*one) for one in found]))
            return rows

        return self._do(f"/api/quarantine?after={after}&limit={limit}", "entries", told, None)


@dataclass(frozen=True, slots=True)
class Remote(Reached):
    """A running agent. ``agent``: it has to be that one; None: whoever answers will do."""

    address: AgentAddress
    agent: str | None = None

    def _do(
        self, path: str, key: str, what: Callable[[Orders], Awaitable[Any]], order: Order | None
    ) -> Rows:
        if order is None:
            answer = self.address.json(path, told=key)
        else:
            # Two agents on one machine: the port that was configured may be the other one's.
            body = msgspec.json.encode(msgspec.structs.replace(order, agent=self.agent))
            headers = {ORDER_HEADER: "yes"}
            given: dict[str, Any] = {"order": body, "headers": headers}
            answer = self.address.json(path, told=key, timeout=_ORDER_TIMEOUT_S, **given)
        if self.agent is not None and answer.get("agent", self.agent) != self.agent:
            raise Failure(
                f"at {self.address.url} there is agent {answer['agent']}, the store is agent"
                f" {self.agent}'s: --url names its port"
            )
        found: Rows = answer[key]
        return found


@dataclass(frozen=True, slots=True)
class Local(Reached):
    """A store on which no agent runs."""

    config: Config

    def _do(
        self, path: str, key: str, what: Callable[[Orders], Awaitable[Any]], order: Order | None
    ) -> Rows:
        ask = partial(run_async, partial(_on_the_store, self.config, what))
        # Who only looks gives no order.
        if order is None or getattr(order, "look", False):
            told: Rows = ask()
            return told
        from edge_agent.ops.orders.in_audit import in_audit, outcome_of

        with audited(*in_audit(order)) as outcome:
            found: Rows = ask()
            outcome.told = outcome_of(found)
        return found


def reach(
    config: Path | None,
    data: str | None,
    url: str | None,
    token_file: Path | None,
    ca_file: str | None,
) -> Reached:
    """Whoever can answer.

    Raises:
        Failure: there is no store, or the agent that holds it shows no people's port.
    """
    if url is not None:
        return Remote(AgentAddress(url, token_file, ca_file))
    settings = settings_of(config, data)
    path = Path(settings.store.path)
    if not holds_store(path):
        raise Failure(f"{path} holds no store; --config, --data or --url names another")
    try:
        with acting_as_owner(path):
            StoreLock(path / LOCK).release()
    except StoreLocked as error:
        url = people_url(settings)
        if url is None:
            raise Failure(
                f"{error}, and its people's port is off: stop it first", error.exit_code
            ) from error
        with acting_as_owner(path):
            agent = look_inside(path).header.agent_id
        token_file = token_file or local_token(config, url)
        return Remote(AgentAddress(url, token_file, ca_file or authority_file(settings)), agent)
    return Local(as_it_is(with_sending(settings)))


def as_it_is(settings: Config) -> Config:
    """``settings`` with the size that the store has: a tool does not make it larger."""
    data = Path(settings.store.path) / "store" / "data.mdb"
    try:
        size = Size(data.stat().st_size)
    except OSError:
        return settings
    return msgspec.structs.replace(
        settings, store=msgspec.structs.replace(settings.store, size=size)
    )


def agreed(question: str, *, yes: bool) -> None:
    """Ask before something is lost.

    Raises:
        Failure: nobody is there to ask, or they said no.
    """
    if yes:
        return
    try:
        if click.confirm(question, err=True):
            return
    except click.Abort:
        raise Failure("nobody said yes; --yes does", 2) from None
    raise Failure("nothing was changed")


async def _identities(config: Config) -> Collection[str] | None:
    """The names of all tokens; None where none are configured, or where we may not look."""
    from edge_agent.security.tokens import list_tokens

    if config.listen.tokens is None:
        return None
    try:
        return [token.name for token in list_tokens(config.listen.tokens)]
    except ConfigError:
        return None


async def _on_the_store(config: Config, what: Callable[[Orders], Awaitable[Answer]]) -> Answer:
    # Imported here, as for `run`: whoever asks a running agent does not pay for it.
    import trio

    from edge_agent.assembly.wiring import group_limits, store_keys, store_settings
    from edge_agent.commit import Committer
    from edge_agent.log import Log
    from edge_agent.metrics import Metrics
    from edge_agent.ops.orders.orders import Orders
    from edge_agent.rules import RulesInForce, compile_rules
    from edge_agent.store import Engine
    from edge_agent.system.clock import SystemClock

    clock, metrics = SystemClock(), Metrics()
    compiled = compile_rules(config.rule, metrics, limits=config.limits, timer=time.perf_counter)
    rules = RulesInForce(compiled, metrics)
    # What it imports then may lie where the folder's owner may not read.
    clock.read()
    path = Path(config.store.path)
    settings = store_settings(config, keys=store_keys(config, os.urandom))
    with acting_as_owner(path):
        engine = Engine.open(path, settings, clock=clock, entropy=os.urandom)
        try:
            if engine.refusal is not None:
                # An agent waits until the disk takes writes; a command is over.
                raise StoreFailed(engine.refusal)
            committer = Committer(
                engine,
                run_blocking=trio.to_thread.run_sync,
                clock=clock,
                intervals=dict.fromkeys(config.log, 0.0),
                route=engine.route,
                limits=group_limits(config),
                metrics=metrics,
            )
            log = Log(engine, committer, trio.to_thread.run_sync)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(committer.run)
                try:
                    known = partial(_identities, config)
                    return await what(Orders(log, config, clock, rules=rules, identities=known))
                finally:
                    committer.close()
        finally:
            engine.close()
            give_to_owner(path, path / STORE)
