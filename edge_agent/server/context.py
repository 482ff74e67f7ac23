"""This module holds what connections share (`Parts`), and what others see of one (`Visitor`)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from edge_agent.clock import Clock
from edge_agent.commit import RunBlocking, Trace
from edge_agent.config import Limits, Listen
from edge_agent.connection_quota import Arrivals, ProvedQuota, UnprovedQuota
from edge_agent.copied_sources import Copies
from edge_agent.live import Before, Live, TimeKeyOf
from edge_agent.log import Log
from edge_agent.metrics import Metrics
from edge_agent.record import Run
from edge_agent.refused_peers import RefusedPeers
from edge_agent.server.acks import Teller
from edge_agent.server.admission import Grant, Peer, RateLimits
from edge_agent.server.fair_turns import Turns
from edge_agent.server.flow_control import SessionWindows
from edge_agent.server.keepalive import SilenceWatch
from edge_agent.server.poller import SharedReader
from edge_agent.server.source_claims import Claims
from edge_agent.server.source_owners import Owners
from edge_agent.store import Quarantined
from edge_agent.tokens import Tokens
from edge_agent.wire import ConnectionMode, Endpoint, FailureMemory, ServerSession, WireLimits


class MessageCounters:
    """What is counted for every list of messages."""

    __slots__ = ("bytes", "messages", "records")

    def __init__(self, metrics: Metrics) -> None:
        self.messages = metrics.counter("messages_received_total")
        self.records = metrics.counter("records_received_total")
        self.bytes = metrics.counter("received_bytes_total")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The agent, as far as a connection needs it."""

    log: Log
    live: Live
    listen: Listen
    limits: Limits
    tokens: Tokens | None
    clock: Clock
    random: random.Random
    metrics: Metrics
    counters: MessageCounters
    before: Before | None
    time_key: TimeKeyOf | None
    run_blocking: RunBlocking
    trace: Trace | None
    what_this_is: str
    windows: SessionWindows
    rates: RateLimits
    claims: Claims
    copies: Copies
    owners: Owners
    failures: FailureMemory = field(default_factory=FailureMemory)
    teller: Teller = field(default_factory=Teller)
    silence: SilenceWatch
    reader: SharedReader | None = field(default_factory=SharedReader.if_available)
    arrivals: Arrivals
    unproved: UnprovedQuota
    proved: ProvedQuota
    refused: RefusedPeers
    turns: Turns = field(default_factory=Turns)

    @property
    def wire_limits(self) -> WireLimits:
        """The limits for a sensor's messages."""
        # Plain integers: `Size` knows its unit, which an encoder does not understand.
        limits = self.limits
        return WireLimits(
            int(limits.message_bytes),
            int(limits.record_bytes),
            limits.record_depth,
            limits.batch_records,
        )

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

    def apply_rules(self, runs: Sequence[Run]) -> tuple[Run, ...]:
        """What the rules before storing make of ``runs``."""
        if self.before is None:
            return tuple(runs)
        if len(runs) == 1:
            return self.before(runs[0])
        return tuple(kept for run in runs for kept in self.before(run))


@dataclass(frozen=True, slots=True)
class ConnectionView:
    """One connection at one moment, for status.

    Attributes:
        kind: ``ingest``, ``forward``, ``subscribe`` or ``query``; "" before the upgrade.
        mode: ``plain``, ``json`` or ``msgpack``.
        name: stream or pattern of the path.
        peer: address; token: name of the token, or the address again.
        source: who sends, as stored; "" where it has not said so.
        since_ns: wall clock when it was accepted.
        next: number that comes next (plain: messages so far); acked: told to be durable.
        in_flight_bytes: received and not yet committed.
    """

    kind: str
    mode: str
    name: str
    peer: str
    token: str
    source: str
    since_ns: int
    next: int
    acked: int
    in_flight_bytes: int


@dataclass(slots=True)
class Visitor:
    """Who is connected, and how far it has come: its session knows, or its pump tells."""

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

    def view(self) -> ConnectionView:
        """A snapshot."""
        session = self.session
        return ConnectionView(
            kind=self.target.kind,
            mode=self.mode,
            name=self.target.name,
            peer=self.peer.address,
            token=self.grant.name,
            source=self.source,
            since_ns=self.since_ns,
            next=self.next if session is None else session.number,
            acked=self.acked if session is None else session.acked,
            in_flight_bytes=0 if session is None else session.bytes_in_flight,
        )
