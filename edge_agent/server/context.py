"""This module holds what connections share (`Parts`), and what others see of one (`Visitor`)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from edge_agent.bridge import UpstreamBridge
from edge_agent.commit import RunBlocking, Trace
from edge_agent.config import Limits, Listen
from edge_agent.copied_sources import Copies
from edge_agent.live import Live
from edge_agent.log import Log
from edge_agent.metrics import Metrics
from edge_agent.net.connection_quota import Arrivals, ProvedQuota, UnprovedQuota
from edge_agent.net.refused_peers import RefusedPeers
from edge_agent.questions.asking import Asker
from edge_agent.rules import RulesInForce
from edge_agent.security.token_uses import TokenUses
from edge_agent.security.tokens import Tokens
from edge_agent.server.acks import Teller
from edge_agent.server.admission import Grant, Peer, RateLimits
from edge_agent.server.closing import NotNow, Refused, not_now
from edge_agent.server.fair_turns import Turns
from edge_agent.server.flow_control import SessionWindows
from edge_agent.server.keepalive import SilenceWatch
from edge_agent.server.poller import SharedReader
from edge_agent.server.posting.posted_keys import PostedKeys
from edge_agent.server.source_claims import Claims
from edge_agent.server.source_owners import Owners
from edge_agent.session import FailureMemory
from edge_agent.store import Quarantined
from edge_agent.system.clock import Clock
from edge_agent.values.record import Run
from edge_agent.wire import ConnectionMode, Endpoint, Reject, ServerSession, WireLimits


class MessageCounters:
    """What is counted for every list of messages."""

    __slots__ = ("bytes", "messages", "records")

    def __init__(self, metrics: Metrics) -> None:
        self.messages = metrics.counter("messages_received_total")
        self.records = metrics.counter("records_received_total")
        self.bytes = metrics.counter("received_bytes_total")


@dataclass(slots=True, kw_only=True)
class Parts:
    """The agent, as far as the sensors' port needs it, and what connections share.

    Attributes:
        log, live: what is written to and read from.
        listen, limits: the configuration's sections of these names.
        tokens: None where no tokens are asked for.
        clock, random, metrics, trace: as everywhere. ``trace`` is told of "welcome" and "acked".
        rules: those that act before storing, and say where a stream has its time.
        run_blocking: for work that would hold the event loop up.
        asker: asks history; None where it is off.
        dashboard: URL of the people's port, for people who come here with a browser.
        refused: is told of peers that were refused before they were let in.
        uses: is told of tokens that let somebody in.
        bridge: what acknowledgements to other agents wait for, where they do.
    """

    log: Log
    live: Live
    listen: Listen
    limits: Limits
    tokens: Tokens | None
    clock: Clock
    random: random.Random
    metrics: Metrics
    rules: RulesInForce
    run_blocking: RunBlocking = trio.to_thread.run_sync
    trace: Trace | None = None
    asker: Asker | None = None
    dashboard: str | None = None
    refused: RefusedPeers
    uses: TokenUses | None = None
    bridge: UpstreamBridge = field(default_factory=UpstreamBridge)
    failures: FailureMemory = field(default_factory=FailureMemory)
    teller: Teller = field(default_factory=Teller)
    reader: SharedReader | None = field(default_factory=SharedReader.if_available)
    turns: Turns = field(default_factory=Turns)
    counters: MessageCounters = field(init=False)
    windows: SessionWindows = field(init=False)
    rates: RateLimits = field(init=False)
    claims: Claims = field(init=False)
    copies: Copies = field(init=False)
    owners: Owners = field(init=False)
    silence: SilenceWatch = field(init=False)
    arrivals: Arrivals = field(init=False)
    unproved: UnprovedQuota = field(init=False)
    proved: ProvedQuota = field(init=False)
    posted: PostedKeys = field(init=False)
    #: How many were sent away together, at a stop or by order; they come back together.
    sent_away: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        listen, limits = self.listen, self.limits
        self.counters = MessageCounters(self.metrics)
        self.windows = SessionWindows(
            limits.in_flight_bytes, limits.window_bytes, listen.connections
        )
        self.rates = RateLimits(limits.records_per_second)
        self.claims = Claims(self.metrics)
        self.copies = Copies(self.clock, self.metrics)
        self.owners = Owners(self.tokens, limits.sources)
        self.silence = SilenceWatch(listen.idle_timeout)
        self.arrivals = Arrivals(listen.unproved_per_address, trio.current_time)
        self.unproved = UnprovedQuota(
            listen.unproved, listen.unproved_per_address, trio.current_time
        )
        self.proved = ProvedQuota(listen.connections)
        self.posted = PostedKeys(self.log, limits.sources)

    @property
    def what_this_is(self) -> str:
        """A line for people who come to the sensors' port with a browser or curl."""
        where = f"at {self.dashboard}" if self.dashboard else "on another port"
        told = "This is the sensors' port of an edge agent: WebSocket, or POST to /ingest/STREAM"
        return f"{told}; the dashboard is {where}."

    @property
    def wire_limits(self) -> WireLimits:
        """The limits for a sensor's messages."""
        return WireLimits.of(self.limits)

    def tell(self, event: str, **facts: object) -> None:
        """Tell the trace, if there is one."""
        if self.trace is not None:
            self.trace(event, facts)

    def count(
        self, messages: int, records: int, size: int, refused: Sequence[Quarantined] = ()
    ) -> None:
        """Count what came in."""
        self.counters.messages.value += messages
        self.counters.records.value += records
        self.counters.bytes.value += size
        for item in refused:
            self.metrics.add("records_nacked_total", 1, item.code)

    def not_now(self, refused: Refused) -> NotNow:
        """What to tell a peer whose records the log does not take."""
        return not_now(refused, self.random, self.sent_away)

    def apply_rules(self, runs: tuple[Run, ...]) -> tuple[tuple[Run, ...], tuple[Reject, ...]]:
        """What the rules before storing make of ``runs``, and what they set aside."""
        rules = self.rules
        if not (rules.are_any and rules.are_for(runs)):
            return runs, ()
        ruled = rules.apply(runs)
        for reject in ruled.rejects:
            self.metrics.add("records_nacked_total", 1, reject.code)
        return ruled.runs, ruled.rejects


@dataclass(slots=True)
class Visitor:
    """Who is connected, and how far it has come: its session knows, or its pump tells.

    Attributes:
        peer, grant, target, mode: as it was let in; ``source`` is "" until it has said so.
        since_ns: wall clock when it was accepted.
        next: number that comes next (plain: messages so far); acked: told to be durable.
        session: knows both itself, where there is one.
    """

    peer: Peer
    grant: Grant
    target: Endpoint
    mode: ConnectionMode
    since_ns: int
    source: str = ""
    next: int = 0
    acked: int = 0
    session: ServerSession | None = None

    @property
    def has_spoken(self) -> bool:
        """Whether anything that means something has come from it: a hello, or a message."""
        return self.next > 0 or (self.session is not None and bool(self.source))
