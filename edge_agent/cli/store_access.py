"""Reaching a store: through the agent that runs on it, or directly where none does.

An order is obeyed by the agent that runs, over its people's port (``--url``, or the store's lock is
taken: then at ``http.address``, and by no other agent than the one whose store it is), or by the
same code (`edge_agent.ops.orders.orders`) on the store itself, which is locked meanwhile. Either
way it is one entry in the log, and durable when the command returns.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from edge_agent.cli.agent_http import AgentAddress
from edge_agent.cli.async_main import run as run_async
from edge_agent.cli.common import Failure, config_options, holds_store, port_options
from edge_agent.cli.run import settings_of
from edge_agent.config import Config, Size, authority_file, people_url
from edge_agent.errors import ConfigError, StoreFailed, StoreLocked
from edge_agent.files import acting_as_owner, give_to_owner
from edge_agent.ops.access import ORDER_HEADER
from edge_agent.store import LOCK, STORE, StoreLock
from edge_agent.store.tools import look_inside

if TYPE_CHECKING:
    from edge_agent.ops.orders.orders import ConsumerOrder, Orders, QuarantineOrder
    from edge_agent.ops.orders.sources import SourceMove

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


@dataclass(frozen=True, slots=True)
class Remote:
    """A running agent. ``agent``: it has to be that one; None: whoever answers will do."""

    address: AgentAddress
    agent: str | None = None

    def consumers(self) -> list[dict[str, Any]]:
        """Who has come how far."""
        return self._ask("/api/consumers", "consumers")

    def move(self, order: ConsumerOrder) -> list[dict[str, Any]]:
        """See `Orders.move`."""
        return self._ask("/api/consumers", "consumers", order)

    def sources(self) -> list[dict[str, Any]]:
        """Whose the sources are."""
        return self._ask("/api/sources", "sources")

    def move_source(self, order: SourceMove) -> list[dict[str, Any]]:
        """See `Orders.move_source`."""
        return self._ask("/api/sources", "sources", order)

    def quarantined(self, after: int, limit: int) -> list[dict[str, Any]]:
        """Entries as `told_quarantined` tells them."""
        return self._ask(f"/api/quarantine?after={after}&limit={limit}", "entries")

    def settle(self, order: QuarantineOrder) -> list[dict[str, Any]]:
        """See `Orders.settle`."""
        return self._ask("/api/quarantine", "done", order)

    def _ask(
        self,
        path: str,
        key: str,
        order: ConsumerOrder | QuarantineOrder | SourceMove | None = None,
    ) -> list[dict[str, Any]]:
        if order is not None:
            # Two agents on one machine: the port that was configured may be the other one's.
            order = msgspec.structs.replace(order, agent=self.agent)
            body = msgspec.json.encode(order)
            answer = self.address.json(path, order=body, headers={ORDER_HEADER: "yes"})
        else:
            answer = self.address.json(path)
        if self.agent is not None and answer.get("agent", self.agent) != self.agent:
            raise Failure(
                f"at {self.address.url} there is agent {answer['agent']}, the store is agent"
                f" {self.agent}'s: --url names its port"
            )
        found: list[dict[str, Any]] = answer[key]
        return found


@dataclass(frozen=True, slots=True)
class Local:
    """A store on which no agent runs."""

    config: Config

    def consumers(self) -> list[dict[str, Any]]:
        """As `Remote`."""
        return self._do(lambda orders: orders.consumers())

    def move(self, order: ConsumerOrder) -> list[dict[str, Any]]:
        """As `Remote`."""
        return self._do(lambda orders: orders.move(order))

    def sources(self) -> list[dict[str, Any]]:
        """As `Remote`."""
        return self._do(lambda orders: orders.sources())

    def move_source(self, order: SourceMove) -> list[dict[str, Any]]:
        """As `Remote`."""
        return self._do(lambda orders: orders.move_source(order))

    def quarantined(self, after: int, limit: int) -> list[dict[str, Any]]:
        """As `Remote`."""
        from edge_agent.ops.orders.orders import told_quarantined

        found = self._do(lambda orders: orders.quarantined(after, limit, lambda stream: True))
        # As it would arrive over HTTP.
        told = [told_quarantined(number, item) for number, item in found]
        decoded: list[dict[str, Any]] = json.loads(json.dumps(told))
        return decoded

    def settle(self, order: QuarantineOrder) -> list[dict[str, Any]]:
        """As `Remote`."""
        return self._do(lambda orders: orders.settle(order))

    def _do(self, what: Callable[[Orders], Awaitable[Answer]]) -> Answer:
        return run_async(partial(_on_the_store, self.config, what))


def reach(
    config: Path | None,
    data: str | None,
    url: str | None,
    token_file: Path | None,
    ca_file: str | None,
) -> Remote | Local:
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
        return Remote(AgentAddress(url, token_file, ca_file or authority_file(settings)), agent)
    return Local(as_it_is(settings))


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
    from edge_agent.tokens import list_tokens

    if config.listen.tokens is None:
        return None
    try:
        return [token.name for token in list_tokens(config.listen.tokens)]
    except ConfigError:
        return None


async def _on_the_store(config: Config, what: Callable[[Orders], Awaitable[Answer]]) -> Answer:
    # Imported here, as for `run`: whoever asks a running agent does not pay for it.
    import trio

    from edge_agent.clock import SystemClock
    from edge_agent.commit import Committer
    from edge_agent.live import compile_rules
    from edge_agent.log import Log
    from edge_agent.metrics import Metrics
    from edge_agent.ops.orders.orders import Orders
    from edge_agent.store import Engine
    from edge_agent.wiring import group_limits, store_settings

    clock, metrics = SystemClock(), Metrics()
    before = compile_rules(config.rule, metrics)
    # What it imports then may lie where the folder's owner may not read.
    clock.read()
    path = Path(config.store.path)
    with acting_as_owner(path):
        engine = Engine.open(path, store_settings(config), clock=clock, entropy=os.urandom)
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
                    return await what(Orders(log, config, clock, before=before, identities=known))
                finally:
                    committer.close()
        finally:
            engine.close()
            give_to_owner(path, path / STORE)
