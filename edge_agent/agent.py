"""One run of the agent: opens the store, nests the nurseries, drains.

The nesting of the nurseries is the shutdown order, read from the inside out::

    agent.run
    └─ edges nursery            people look in until the very end; cancelled last
       └─ commit nursery        ends when its queue is closed and drained
          └─ readers nursery    rules are cancelled; forwarders finish what is in flight
             └─ session nursery ends when every connection has said goodbye, or at the deadline
                └─ listener     stops first, when ``stop`` is set

The readers lie *within* the commit nursery, other than in the first sketch of the design: what an
upstream acknowledges during the drain is a position that has to be committed, and an upstream that
is not keyed by our numbers would otherwise be sent the last batch again after each restart.

What an exception that nobody expected may end:

==================================== =============================================================
committer                            the agent: what was acked is safe, what a commit did is not
                                     known, and nobody would be answered any more
a listening socket                   the agent, after goodbyes: nothing comes in any more
what all connections share           that task alone; it is run again (``server/server.py``)
one connection                       that connection (``server/server.py``)
one lane of an upstream              that lane, which says so, backs off and begins anew
                                     (``forward/forwarder.py``)
a rule's windows or alarms, the      that task alone; it is run again (``supervise.py``)
scrub, history, the list of streams,
rates and wear, the people's port,
the watchdog, asking for the time
live views' note of a commit         that note: a view reads on with the next one
==================================== =============================================================

Everything that a simulation replaces is an argument of `run`: the clock, chance, how blocking calls
are made, how to listen and how to dial.
"""

from __future__ import annotations

import os
import random as random_module
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from edge_agent.assembly import startup
from edge_agent.assembly.parts import AgentParts, Surroundings
from edge_agent.assembly.wiring import (
    Listen,
    address_of,
    listen_tcp,
    run_all,
    store_keys,
    store_settings,
)
from edge_agent.commit import RunBlocking, Trace
from edge_agent.config import Config, with_sending
from edge_agent.live import run_alarms, run_windows
from edge_agent.net.dial import Dial, NameLookup, dial_tcp
from edge_agent.net.kept_sockets import KeptSockets
from edge_agent.ops import (
    Notifier,
    Watch,
    run_watchdog,
)
from edge_agent.security.tls import server_context
from edge_agent.store import Engine, LookAtMedium, medium_of
from edge_agent.supervise import FirstStart, supervised, supervised_once_started
from edge_agent.system.clock import Clock, SystemClock

#: What the last commit of a drain gets beyond ``drain_timeout``: cards stall for seconds. What was
#: not committed by then was not acked either.
LAST_COMMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Running:
    """What callers of `run` learn once it listens: where, as ``host:port``."""

    sensor_addresses: tuple[str, ...]
    http_address: str | None


async def run(
    config: Config,
    *,
    stop: trio.Event,
    clock: Clock | None = None,
    random: random_module.Random | None = None,
    entropy: Callable[[int], bytes] = os.urandom,
    run_blocking: RunBlocking = trio.to_thread.run_sync,
    listen: Listen | None = None,
    dial: Dial | None = None,
    trace: Trace | None = None,
    medium: LookAtMedium = medium_of,
    hangups: trio.MemoryReceiveChannel[None] | None = None,
    reread: Callable[[], Config] | None = None,
    kept: KeptSockets | None = None,
    task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED,
) -> None:
    """The agent, until ``stop`` is set and all it accepted is acked; cancelling takes no ack back.

    ``config`` is as `edge_agent.config.load` gives it; set ``stop`` to drain. ``entropy`` is for
    ids and for what is sealed; ``medium`` tells where the store's file is, so that a copy is
    noticed. All others are as in `edge_agent.assembly.parts.Surroundings`, and the machine's own
    where they are not given. ``task_status`` is started once the agent listens.

    Raises:
        ConfigError, OSError: configuration and machine do not fit: a file or an address.
        StoreError: the store cannot even be read; the text says why.
    """
    around = Surroundings(
        clock=clock or SystemClock(),
        random=random or random_module.SystemRandom(),
        run_blocking=run_blocking,
        listen=listen or partial(listen_tcp, kept=kept),
        dial=dial or dial_tcp,
        trace=trace,
        hangups=hangups,
        reread=reread,
        kept=kept,
    )
    startup.require(config)
    config = with_sending(config)
    engine = await run_blocking(_open, config, medium, around.clock, entropy)
    with closing(engine):  # Waits for the call that is running, and syncs nothing: it is quick.
        await _AgentRun(AgentParts(config, engine, around)).run(stop, task_status)


def _open(
    config: Config, medium: LookAtMedium, clock: Clock, entropy: Callable[[int], bytes]
) -> Engine:
    settings = store_settings(config, medium, store_keys(config, entropy))
    return Engine.open(Path(config.store.path), settings, clock=clock, entropy=entropy)


class _AgentRun:
    """What starts when, and the order in which it ends."""

    def __init__(self, parts: AgentParts) -> None:
        self._parts = parts

    async def run(self, stop: trio.Event, task_status: trio.TaskStatus[Running]) -> None:
        """Run until ``stop``, then drain from the inside out."""
        trio.socket.set_custom_hostname_resolver(NameLookup())
        with self._parts.journal.attached():
            await self._run(stop, task_status)

    async def _run(self, stop: trio.Event, task_status: trio.TaskStatus[Running]) -> None:
        parts, notifier = self._parts, Notifier.from_environment()
        async with trio.open_nursery() as edges:
            watch, http_address = await self._look_in(edges)
            async with trio.open_nursery() as committing:
                committing.start_soon(parts.committer.run)
                async with trio.open_nursery() as readers:
                    forwarded = self._start_readers(readers)
                    async with trio.open_nursery() as sessions:
                        addresses = await self._listen(sessions, readers)
                        self._supervise(edges, "the watchdog", partial(_watchdog, notifier, watch))
                        notifier.ready(watch.describe())
                        task_status.started(Running(addresses, http_address))
                        await stop.wait()
                        notifier.stopping()
                        deadline = trio.current_time() + float(parts.config.drain_timeout)
                        sessions.cancel_scope.deadline = deadline
                        parts.server.stop()
                    await self._finish_forwarding(forwarded, deadline)
                    readers.cancel_scope.cancel("the agent is stopping")
                parts.uses.write()
                committing.cancel_scope.deadline = max(
                    deadline, trio.current_time() + LAST_COMMIT_S
                )
                parts.committer.close()
            edges.cancel_scope.cancel("the agent has stopped")

    async def _listen(self, sessions: trio.Nursery, readers: trio.Nursery) -> tuple[str, ...]:
        """Open the sensors' port; its addresses. What renews its certificate does not keep
        sessions open.
        """
        parts = self._parts
        tls = await parts.around.run_blocking(server_context, parts.config.listen)
        if tls is not None:
            again = partial(server_context, parts.config.listen)
            parts.renewals.add("listen.address", tls, again)
        if tls is not None or parts.around.hangups is not None:
            self._supervise(readers, "renewing", parts.renewals.run)
        listeners = await parts.around.listen(parts.config.listen.address, tls)
        addresses = tuple(address_of(listener) for listener in listeners)
        await sessions.start(parts.server.run, listeners)
        return addresses

    async def _look_in(self, edges: trio.Nursery) -> tuple[Watch, str | None]:
        """Start what people and supervisors look at; where the people's port listens."""
        parts = self._parts
        watch = Watch(parts.sources())
        self._supervise(edges, "what status is made of", watch.run)
        if parts.config.http.address == "off":
            return watch, None
        # Imported here: whoever turns the port off does not pay for its libraries.
        from edge_agent.ops.port import serve_people

        async def serve(first: FirstStart[str]) -> None:
            async with trio.open_nursery() as nursery:
                people = partial(serve_people, watch, kept=parts.around.kept)
                first.started(await nursery.start(people))

        port = partial(supervised_once_started, "the people's port", serve, metrics=parts.metrics)
        address: str = await edges.start(port)
        return watch, address

    def _supervise(
        self, nursery: trio.Nursery, what: str, task: Callable[[], Awaitable[None]]
    ) -> None:
        """Start a task that the agent can do without for a while."""
        nursery.start_soon(partial(supervised, what, task, metrics=self._parts.metrics))

    def _start_readers(self, readers: trio.Nursery) -> trio.Event:
        """Start rules and forwarders; the event is set when the last forwarder has returned."""
        parts = self._parts
        for rule in parts.config.rule:
            if rule.window is not None:
                run = run_windows
            elif rule.alarm is not None:
                run = partial(run_alarms, board=parts.alarms)
            else:
                continue
            task = partial(run, parts.log, rule, clock=parts.around.clock, metrics=parts.metrics)
            self._supervise(readers, f"rule {rule.name}", task)
        self._supervise(readers, "the scrub", parts.scrubber.run)
        if isinstance(parts.around.clock, SystemClock):
            asking = parts.around.clock.ask_timedated
            self._supervise(readers, "asking whether the clock is set", asking)
        if parts.tokens is not None:
            self._supervise(readers, "uses of tokens", parts.uses.run)
        if parts.digester is not None and parts.asker is not None:
            self._supervise(readers, "history", parts.digester.run)
            self._supervise(readers, "answers", parts.asker.run)
        done = trio.Event()
        readers.start_soon(run_all, [parts.upstreams.run], done)
        return done

    async def _finish_forwarding(self, done: trio.Event, deadline: float) -> None:
        self._parts.upstreams.stop()
        with trio.CancelScope(deadline=deadline):
            await done.wait()


async def _watchdog(notifier: Notifier, watch: Watch) -> None:
    await run_watchdog(notifier, watch.commit_waits_s, describe=watch.describe)
