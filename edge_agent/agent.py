"""The composition root: opens the parts, nests the nurseries, drains.

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
the watchdog
live views' note of a commit         that note: a view reads on with the next one
==================================== =============================================================

Everything that a simulation replaces is an argument of `run`: the clock, chance, how blocking calls
are made, how to listen and how to dial.
"""

from __future__ import annotations

import os
import random as random_module
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

import trio

from edge_agent import startup
from edge_agent.asking import Asker
from edge_agent.audit import SIGNAL, audited
from edge_agent.clock import Clock, SystemClock
from edge_agent.commit import Committer, RunBlocking, Trace
from edge_agent.config import Config, Upstream, people_url, with_sending
from edge_agent.dial import Dial, NameLookup, dial_tcp
from edge_agent.digest import Digester
from edge_agent.forward import (
    Forwarder,
    LastInLine,
    LinkPace,
    UpstreamReload,
    Upstreams,
    make_sink,
)
from edge_agent.journal_tail import JournalTail
from edge_agent.kept_sockets import KeptSockets
from edge_agent.live import AlarmBoard, Live, run_alarms, run_windows
from edge_agent.log import Log
from edge_agent.metrics import Metrics
from edge_agent.next_start import NextStart
from edge_agent.ops import (
    ConnectionStatus,
    Notifier,
    Sources,
    UpstreamStatus,
    Watch,
    in_words,
    run_watchdog,
    upstream_status,
)
from edge_agent.recall import HistoryRecall
from edge_agent.refused_peers import RefusedPeers
from edge_agent.renewal import Renewals
from edge_agent.rule_reload import Compile, RuleReload
from edge_agent.rules import RulesInForce, compile_rules
from edge_agent.scrubber import Scrubber
from edge_agent.server import Parts, Server
from edge_agent.store import Engine, LookAtMedium, medium_of
from edge_agent.supervise import FirstStart, supervised, supervised_once_started
from edge_agent.tls import server_context
from edge_agent.token_uses import TokenUses
from edge_agent.tokens import Tokens
from edge_agent.wiring import (
    Listen,
    address_of,
    connection_status,
    consumers_of,
    group_limits,
    history_bytes,
    history_keep,
    listen_tcp,
    run_all,
    store_keys,
    store_settings,
)

#: What the last commit of a drain gets beyond ``drain_timeout``: cards stall for seconds. What was
#: not committed by then was not acked either.
LAST_COMMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Running:
    """What callers of `run` learn once it listens: where, as ``host:port``."""

    sensor_addresses: tuple[str, ...]
    http_address: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the agent gets from outside; simulations give their own."""

    clock: Clock
    random: random_module.Random
    run_blocking: RunBlocking
    listen: Listen
    dial: Dial
    trace: Trace | None
    hangups: trio.MemoryReceiveChannel[None] | None
    reread: Callable[[], Config] | None
    kept: KeptSockets | None


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

    Args:
        config: as `edge_agent.config.load` gives it.
        stop: set it to drain.
        clock: the machine's own where not given.
        random: for jitter; likewise.
        entropy: for ids, and for what is sealed.
        run_blocking: calls the store; in a worker thread that is not abandoned by default.
        listen: opens the sensors' port; sockets where not given.
        dial: reaches upstreams; sockets where not given.
        trace: is told of events with their facts.
        medium: tells where the store's file is, so that a copy is noticed.
        hangups: says that a certificate, a token or the rules were renewed (SIGHUP).
        reread: the configuration as it is by then, for the rules in it.
        kept: listening sockets of the agent before this one, and for the next.
        task_status: started once the agent listens.

    Raises:
        ConfigError, OSError: configuration and machine do not fit: a file or an address.
        StoreError: the store cannot even be read; the text says why.
    """
    around = Surroundings(
        clock=clock or SystemClock(), random=random or random_module.SystemRandom(),
        run_blocking=run_blocking, listen=listen or partial(listen_tcp, kept=kept),
        dial=dial or dial_tcp, trace=trace, hangups=hangups, reread=reread, kept=kept,
    )  # fmt: skip
    startup.require(config)
    config = with_sending(config)
    engine = await run_blocking(_open, config, medium, around.clock, entropy)
    with closing(engine):  # Waits for the call that is running, and syncs nothing: it is quick.
        await _Parts(config, engine, around).run(stop, task_status)


def _open(
    config: Config, medium: LookAtMedium, clock: Clock, entropy: Callable[[int], bytes]
) -> Engine:
    settings = store_settings(config, medium, store_keys(config, entropy))
    return Engine.open(Path(config.store.path), settings, clock=clock, entropy=entropy)


class _Parts:
    """All parts of one running agent, and the order in which they end."""

    def __init__(self, config: Config, engine: Engine, around: Surroundings) -> None:
        self.config = config
        self.around = around
        self.engine = engine
        self.metrics = Metrics()
        self.committer = Committer(
            engine,
            run_blocking=around.run_blocking,
            clock=around.clock,
            intervals={name: float(log.commit_interval) for name, log in config.log.items()},
            route=engine.route,
            limits=group_limits(config),
            metrics=self.metrics,
            trace=around.trace,
            reopen_after=float(config.store.reopen_after),
        )
        self.log = Log(engine, self.committer, around.run_blocking)
        self.live = Live(self.log, config.limits, clock=around.clock, metrics=self.metrics)
        self.tokens = _tokens(config, around)
        self.refused = RefusedPeers(lambda: around.clock.read().wall_ns, trio.current_time)
        self.alarms = AlarmBoard(self.metrics)
        self.journal = JournalTail()
        self.rules = RulesInForce(self._compile(config.rule, limits=config.limits), self.metrics)
        self.digester, self.asker = self._history()
        self.uses = TokenUses(self.log, around.clock, self._by_token)
        parts = Parts(
            log=self.log, live=self.live, listen=config.listen, limits=config.limits,
            tokens=self.tokens, clock=around.clock, random=around.random, metrics=self.metrics,
            rules=self.rules, run_blocking=around.run_blocking, trace=around.trace,
            asker=self.asker, refused=self.refused, uses=self.uses,
            dashboard=None if (people := people_url(config)) is None else f"{people}/",
        )  # fmt: skip
        self.server = Server(parts)
        self.scrubber = self._scrubber()
        self.upstreams = self._all_upstreams()
        again = partial(_read_again, *self._reloads())
        heard = (self.upstreams.online, around.hangups)
        self.renewals = Renewals(config.listen, *heard, again, around.clock)

    async def run(self, stop: trio.Event, task_status: trio.TaskStatus[Running]) -> None:
        """Run until ``stop``, then drain from the inside out."""
        trio.socket.set_custom_hostname_resolver(NameLookup())
        with self.journal.attached():
            await self._run(stop, task_status)

    async def _run(self, stop: trio.Event, task_status: trio.TaskStatus[Running]) -> None:
        notifier = Notifier.from_environment()
        async with trio.open_nursery() as edges:
            watch, http_address = await self._look_in(edges)
            async with trio.open_nursery() as committing:
                committing.start_soon(self.committer.run)
                async with trio.open_nursery() as readers:
                    forwarded = self._start_readers(readers)
                    async with trio.open_nursery() as sessions:
                        addresses = await self._listen(sessions, readers)
                        self._supervise(edges, "the watchdog", partial(_watchdog, notifier, watch))
                        notifier.ready(watch.describe())
                        task_status.started(Running(addresses, http_address))
                        await stop.wait()
                        notifier.stopping()
                        deadline = trio.current_time() + float(self.config.drain_timeout)
                        sessions.cancel_scope.deadline = deadline
                        self.server.stop()
                    await self._finish_forwarding(forwarded, deadline)
                    readers.cancel_scope.cancel("the agent is stopping")
                self.uses.write()
                committing.cancel_scope.deadline = max(
                    deadline, trio.current_time() + LAST_COMMIT_S
                )
                self.committer.close()
            edges.cancel_scope.cancel("the agent has stopped")

    async def _listen(self, sessions: trio.Nursery, readers: trio.Nursery) -> tuple[str, ...]:
        """Open the sensors' port; its addresses. What renews its certificate does not keep
        sessions open.
        """
        tls = await self.around.run_blocking(server_context, self.config.listen)
        if tls is not None:
            again = partial(server_context, self.config.listen)
            self.renewals.add("listen.address", tls, again)
        if tls is not None or self.around.hangups is not None:
            self._supervise(readers, "renewing", self.renewals.run)
        listeners = await self.around.listen(self.config.listen.address, tls)
        addresses = tuple(address_of(listener) for listener in listeners)
        await sessions.start(self.server.run, listeners)
        return addresses

    async def _look_in(self, edges: trio.Nursery) -> tuple[Watch, str | None]:
        """Start what people and supervisors look at; where the people's port listens."""
        watch = Watch(
            Sources(
                config=self.config,
                clock=self.around.clock,
                metrics=self.metrics,
                log=self.log,
                live=self.live,
                digester=self.digester,
                asker=self.asker,
                upstreams=self._upstreams,
                connections=self._connections,
                copies=lambda: self.server.copies,
                rules=self.rules,
                lane=self.upstreams.lane,
                resend=self.upstreams.resend,
                configured=lambda: self.upstreams.configured,
                part=self.server.part,
                salvage=lambda: in_words(self.engine.salvage_report),
                files=partial(startup.look_at_files, self.config, self.around.clock),
                scrub=lambda: self.scrubber.status,
                alarms=self.alarms.listing,
                tokens=self.tokens,
                refused=self.refused,
                journal=self.journal.newest_first,
                renewed=self.renewals.add,
                uses=self.uses,
            )
        )
        self._supervise(edges, "what status is made of", watch.run)
        if self.config.http.address == "off":
            return watch, None
        # Imported here: whoever turns the port off does not pay for its libraries.
        from edge_agent.ops.port import serve_people

        async def serve(first: FirstStart[str]) -> None:
            async with trio.open_nursery() as nursery:
                people = partial(serve_people, watch, kept=self.around.kept)
                first.started(await nursery.start(people))

        port = partial(supervised_once_started, "the people's port", serve, metrics=self.metrics)
        address: str = await edges.start(port)
        return watch, address

    def _supervise(
        self, nursery: trio.Nursery, what: str, task: Callable[[], Awaitable[None]]
    ) -> None:
        """Start a task that the agent can do without for a while."""
        nursery.start_soon(partial(supervised, what, task, metrics=self.metrics))

    def _history(self) -> tuple[Digester | None, Asker | None]:
        if not self.config.history.enabled:
            return None, None
        digester = Digester(
            self.log,
            Path(self.config.store.path),
            history_bytes(self.config),
            history_keep(self.config),
            clock=self.around.clock,
            metrics=self.metrics,
            scrub_s=float(self.config.store.scrub_interval),
            seals=self.engine.settings.keys,
        )
        seconds = float(self.config.limits.query_seconds)
        return digester, Asker(digester, seconds=seconds, metrics=self.metrics)

    def _all_upstreams(self) -> Upstreams:
        config, engine = self.config, self.engine
        return Upstreams(
            config.upstream,
            self._forwarder,
            lambda given: engine.keep_for(consumers_of(config, given)),
            self.log,
            float(config.drain_timeout),
        )

    def _scrubber(self) -> Scrubber:
        interval_s = float(self.config.store.scrub_interval)
        return Scrubber(self.log, interval_s, self.around.clock, self.metrics)

    @property
    def _compile(self) -> Compile:
        return partial(compile_rules, metrics=self.metrics, timer=perf_counter)

    def _reloads(self) -> tuple[RuleReload, UpstreamReload, NextStart]:
        config, read = self.config, (self.around.reread, self.around.run_blocking)
        rules = RuleReload(config, self.rules, self._compile, *read)
        upstreams = UpstreamReload(config, self.upstreams, *read)
        return rules, upstreams, NextStart(config, *read, self.server.take_up)

    def _forwarder(self, upstream: Upstream) -> Forwarder:
        cap = int(upstream.bytes_per_second)
        pace = LinkPace(cap) if cap else None
        make = partial(
            make_sink, identity=self.log.identity, clock=self.around.clock,
            run_blocking=self.around.run_blocking, dial=self.around.dial, news=self.log,
        )  # fmt: skip
        return Forwarder(
            upstream,
            self.log,
            partial(make, upstream, pace=pace),
            make_again=partial(make, pace=LastInLine(pace) if pace else None),
            recall=HistoryRecall(self.asker) if self.asker else None,
            clock=self.around.clock,
            dice=self.around.random,
            metrics=self.metrics,
            trace=self.around.trace,
            priorities={name: one.priority for name, one in self.config.log.items()},
        )

    def _start_readers(self, readers: trio.Nursery) -> trio.Event:
        """Start rules and forwarders; the event is set when the last forwarder has returned."""
        for rule in self.config.rule:
            if rule.window is not None:
                run = run_windows
            elif rule.alarm is not None:
                run = partial(run_alarms, board=self.alarms)
            else:
                continue
            task = partial(run, self.log, rule, clock=self.around.clock, metrics=self.metrics)
            self._supervise(readers, f"rule {rule.name}", task)
        self._supervise(readers, "the scrub", self.scrubber.run)
        if self.tokens is not None:
            self._supervise(readers, "uses of tokens", self.uses.run)
        if self.digester is not None and self.asker is not None:
            self._supervise(readers, "history", self.digester.run)
            self._supervise(readers, "answers", self.asker.run)
        done = trio.Event()
        readers.start_soon(run_all, [self.upstreams.run], done)
        return done

    async def _finish_forwarding(self, done: trio.Event, deadline: float) -> None:
        self.upstreams.stop()
        with trio.CancelScope(deadline=deadline):
            await done.wait()

    def _upstreams(self) -> Sequence[UpstreamStatus]:
        return [upstream_status(*one) for one in self.upstreams.statistics()]

    def _by_token(self) -> Iterator[tuple[str, str]]:
        for one in self.server.connections():
            if one.grant.identity:
                yield one.grant.identity, one.peer.address

    def _connections(self) -> Sequence[ConnectionStatus]:
        now_ns = self.around.clock.read().wall_ns
        return [connection_status(one, now_ns) for one in self.server.connections()]


async def _read_again(rules: RuleReload, upstreams: UpstreamReload, rest: NextStart) -> None:
    with audited("reload", "the configuration and the files it names", SIGNAL) as outcome:
        kept = [
            one for one in (await rules.again(), await upstreams.again(), await rest.again()) if one
        ]
        if kept:
            outcome.told = f"in part: {'; '.join(kept)}"


def _tokens(config: Config, around: Surroundings) -> Tokens | None:
    if config.listen.tokens is None:
        return None
    return Tokens(Path(config.listen.tokens), run_blocking=around.run_blocking)


async def _watchdog(notifier: Notifier, watch: Watch) -> None:
    await run_watchdog(notifier, watch.commit_waits_s, describe=watch.describe)
