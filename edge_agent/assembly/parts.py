"""The parts of one running agent, made from its configuration and from what it is given.

Nothing runs here: `edge_agent.agent` says in which order they start and end.
"""

from __future__ import annotations

import random as random_module
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

import trio

from edge_agent.assembly import startup
from edge_agent.assembly.next_start import NextStart
from edge_agent.assembly.reload import ConfigReload
from edge_agent.assembly.rule_reload import Compile, RuleReload
from edge_agent.assembly.wiring import (
    Listen,
    connection_status,
    consumers_of,
    group_limits,
    history_bytes,
    history_keep,
    set_bridge,
)
from edge_agent.bridge import UpstreamBridge
from edge_agent.commit import Committer, RunBlocking, Trace
from edge_agent.config import Config, Upstream, people_url
from edge_agent.digest import Digester
from edge_agent.forward import (
    Forwarder,
    LastInLine,
    LinkPace,
    UpstreamReload,
    Upstreams,
    make_sink,
)
from edge_agent.live import AlarmBoard, Live
from edge_agent.log import Log
from edge_agent.metrics import Metrics
from edge_agent.net.dial import Dial
from edge_agent.net.kept_sockets import KeptSockets
from edge_agent.net.refused_peers import RefusedPeers
from edge_agent.ops import (
    BridgeStatus,
    ConnectionStatus,
    Sources,
    UpstreamStatus,
    in_words,
    upstream_status,
)
from edge_agent.questions.asking import Asker
from edge_agent.questions.recall import HistoryRecall
from edge_agent.rules import RulesInForce, compile_rules
from edge_agent.scrubber import Scrubber
from edge_agent.security.renewal import Renewals
from edge_agent.security.token_uses import TokenUses
from edge_agent.security.tokens import Tokens
from edge_agent.server import Parts, Server
from edge_agent.store import Engine
from edge_agent.system.clock import Clock
from edge_agent.system.journal_tail import JournalTail


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the agent gets from outside; simulations give their own.

    Attributes:
        clock: tells the time.
        random: for jitter.
        run_blocking: calls the store; by default in a worker thread that is not abandoned.
        listen: opens the sensors' port.
        dial: reaches upstreams.
        trace: is told of events with their facts.
        hangups: says that a certificate, a token or the configuration was changed (SIGHUP).
        reread: the configuration as it is by then.
        kept: listening sockets of the agent before this one, and for the next.
    """

    clock: Clock
    random: random_module.Random
    run_blocking: RunBlocking
    listen: Listen
    dial: Dial
    trace: Trace | None
    hangups: trio.MemoryReceiveChannel[None] | None
    reread: Callable[[], Config] | None
    kept: KeptSockets | None


class AgentParts:
    """All parts, each with what it needs of the others."""

    def __init__(self, config: Config, engine: Engine, around: Surroundings) -> None:
        self.config = config
        self.around = around
        self.engine = engine
        self.metrics = Metrics()
        self.committer = self._committer()
        self.log = Log(engine, self.committer, around.run_blocking)
        self.live = Live(self.log, config.limits, clock=around.clock, metrics=self.metrics)
        file = config.listen.tokens
        self.tokens = None if file is None else Tokens(Path(file), run_blocking=around.run_blocking)
        self.refused = RefusedPeers(lambda: around.clock.read().wall_ns, trio.current_time)
        self.alarms = AlarmBoard(self.metrics)
        self.journal = JournalTail()
        self.rules = RulesInForce(self._compile(config.rule, limits=config.limits), self.metrics)
        self.digester, self.asker = self._history()
        self.bridge = UpstreamBridge()
        set_bridge(self.bridge, config.upstream, self.log.names())
        self.uses = TokenUses(self.log, around.clock, self._by_token)
        self.server = Server(self._of_the_server())
        interval_s = float(config.store.scrub_interval)
        self.scrubber = Scrubber(self.log, interval_s, around.clock, self.metrics)
        self.upstreams = self._all_upstreams()
        self.renewals = Renewals(
            config.listen,
            self.upstreams.online,
            around.hangups,
            self._reload().again,
            around.clock,
        )

    def sources(self) -> Sources:
        """What people and supervisors look at."""
        return Sources(
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

    def _committer(self) -> Committer:
        config, around, engine = self.config, self.around, self.engine
        return Committer(
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

    def _of_the_server(self) -> Parts:
        config, around = self.config, self.around
        return Parts(
            log=self.log,
            live=self.live,
            listen=config.listen,
            limits=config.limits,
            tokens=self.tokens,
            clock=around.clock,
            random=around.random,
            metrics=self.metrics,
            rules=self.rules,
            run_blocking=around.run_blocking,
            trace=around.trace,
            asker=self.asker,
            refused=self.refused,
            uses=self.uses,
            bridge=self.bridge,
            dashboard=None if (people := people_url(config)) is None else f"{people}/",
        )

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

        def keep_for(given: Sequence[Upstream]) -> None:
            engine.keep_for(consumers_of(config, given))
            set_bridge(self.bridge, given, self.log.names())

        return Upstreams(
            config.upstream,
            self._forwarder,
            keep_for,
            self.log,
            float(config.drain_timeout),
        )

    @property
    def _compile(self) -> Compile:
        return partial(compile_rules, metrics=self.metrics, timer=perf_counter)

    def _reload(self) -> ConfigReload:
        config, run_blocking = self.config, self.around.run_blocking
        return ConfigReload(
            self.around.reread,
            run_blocking,
            RuleReload(config, self.rules, self._compile, run_blocking).prepare,
            UpstreamReload(config, self.upstreams).prepare,
            NextStart(config, self.server.take_up).prepare,
        )

    def _forwarder(self, upstream: Upstream) -> Forwarder:
        cap = int(upstream.bytes_per_second)
        pace = LinkPace(cap) if cap else None
        make = partial(
            make_sink,
            identity=self.log.identity,
            clock=self.around.clock,
            run_blocking=self.around.run_blocking,
            dial=self.around.dial,
            news=self.log,
        )
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
            reached=self.bridge.reached if upstream.bridge else None,
            priorities={name: one.priority for name, one in self.config.log.items()},
        )

    def _upstreams(self) -> Sequence[UpstreamStatus]:
        bridge = self.bridge
        waits = BridgeStatus(bridge.records, bridge.turned_away)
        return [
            upstream_status(*one, waits if one[0].name == bridge.upstream else None)
            for one in self.upstreams.statistics()
        ]

    def _by_token(self) -> Iterator[tuple[str, str]]:
        for one in self.server.connections():
            if one.grant.identity:
                yield one.grant.identity, one.peer.address

    def _connections(self) -> Sequence[ConnectionStatus]:
        now_ns = self.around.clock.read().wall_ns
        return [connection_status(one, now_ns) for one in self.server.connections()]
