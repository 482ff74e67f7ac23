"""One frozen picture of the agent: what ``/api/status``, the page and ``edge-agent status`` show.

`Status` is made once per question by `sampler.Watch.look` and is the only thing that the page,
the JSON, the metrics' gauges and the verdict on health are made of, so that they cannot disagree.
Field names are the JSON keys and part of the interface: add, do not rename. Every size is in
bytes, every ``_s`` in seconds, every ``time`` RFC 3339 in UTC; None means "not known".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import msgspec

from edge_agent.digest import HistoryStatus
from edge_agent.errors import Obstacle
from edge_agent.ops.figures import Figures
from edge_agent.wear import Wear

Word = Literal["ok", "degraded", "failed"]


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """Who this is."""

    id: str
    version: str
    store_id: str
    epoch: str
    started: str
    uptime_s: float
    time: str
    clock_synced: bool
    pid: int


@dataclass(frozen=True, slots=True)
class Reason:
    """Why: ``code`` is stable and for programs, ``message`` is one sentence for people."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class HealthVerdict:
    """The word, why it is not ``ok``, and what else a person should know."""

    status: Word
    reasons: tuple[Reason, ...]
    warnings: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class LogStatus:
    """One named log. ``fill`` is the part of its share that is in use, 0 to 1 and a bit.

    ``loss_in_s`` is when the oldest undelivered record is lost at today's rate, or senders are
    told to wait, as ``outlook`` says in words; 0 while it happens, None where it is not in sight.
    ``refused_lately`` counts the last two minutes; ``thinned`` records gave way to ``aggregates``.
    """

    name: str
    records: int
    bytes: int
    share_bytes: int
    fill: float
    first_seq: int
    last_seq: int
    oldest: str | None
    when_full: str
    committed: int
    discarded: int
    damaged: int
    refused: int
    refused_lately: int = 0
    loss_in_s: float | None = None
    outlook: str | None = None
    thinned: int = 0
    aggregates: int = 0


@dataclass(frozen=True, slots=True)
class LastBatch:
    """What the last batch met that was really sent: ``outcome`` is ``acknowledged``, ``refused`` or
    ``failed``, ``http_status`` the answer's, 0 without one; ``cause`` is why, None where it was
    acknowledged.
    """

    time: str
    outcome: str
    http_status: int
    seconds: float
    bytes: int
    first_seq: int
    last_seq: int
    cause: str | None


@dataclass(frozen=True, slots=True)
class LaneStatus:
    """One log on its way to one upstream: acknowledged up to ``floor``; ``backlog_s`` is the age
    of the oldest record behind it, 0 where none is, or where none was looked at yet.
    ``largest_passed_bytes`` and ``smallest_failed_bytes`` are what is known of how large a body
    gets through, 0 for nothing; ``uncompressed``: the upstream refuses the configured compression.
    ``waits_for``: the window that it waits for, in words.
    ``part`` is ``backlog`` for what is sent beside newer records and ends where these begin.
    """

    log: str
    phase: str
    connected: bool
    floor: int
    backlog_records: int
    backlog_s: float
    last_batch: LastBatch | None = None
    largest_passed_bytes: int = 0
    smallest_failed_bytes: int = 0
    uncompressed: bool = False
    waits_for: str | None = None
    part: str = "live"


@dataclass(frozen=True, slots=True)
class ResendStatus:
    """What an upstream is sent once more of a log, by order ``number``: seqs ``first`` to ``last``,
    of which it has everything up to ``floor``: ``done_records`` of these numbers, ``left_records``
    are to come, those that no record was given left out of both. ``sent_records`` were acknowledged
    since the agent started, ``gone_records`` are no longer there. ``error``: why it does not get
    on, None where it does. ``drains_in_s``: when it will have been sent at this rate, None where
    nothing can be said.
    """

    number: int
    log: str
    streams: tuple[str, ...]
    first: int
    last: int
    floor: int
    done_records: int
    left_records: int
    phase: str
    sent_records: int
    gone_records: int
    error: str | None = None
    drains_in_s: float | None = None


@dataclass(frozen=True, slots=True)
class BridgeStatus:
    """Acknowledgements to other agents wait for an upstream, those of ``records`` at this moment;
    ``turned_away`` agents were asked to come back since it last got on.
    """

    records: int
    turned_away: int


@dataclass(frozen=True, slots=True)
class UpstreamStatus:
    """One upstream. ``phase`` is the forwarder's own word, e.g. ``sending`` or ``held``.

    ``backlog_records`` counts records of the log that it has not acknowledged, filtered ones
    included; ``misconfigured`` means that waiting will not help, a person must change something;
    ``rewinds`` is how often it had lost what it had acknowledged, ``gap_records`` how much of that
    was no longer here to be sent again; ``expired_records`` were too old for it (``max_age``).
    ``retry_in_s`` is when it is tried again, None where it is not waited for. ``obstacle`` says
    where what the error is about lies: ``here`` (a file, the disk, the clock), ``between`` (no
    connection), or ``there``: it has answered.
    ``drains_in_s`` is when the backlog will have drained at this link, None where it does not, or
    where there is none worth the name; ``outlook`` says either in words, or until when it waits.
    ``mistaken``: it fails on a mistake of the agent's own. ``records_per_s`` and ``bytes_per_s``
    are what it acknowledged in the last two minutes, None before that can be told. ``resends``:
    what it is sent once more, which counts as no backlog. ``bridge``: what waits for it,
    None where acknowledgements to other agents do not.
    """

    name: str
    url: str
    phase: str
    connected: bool
    misconfigured: bool
    required: bool
    backlog_records: int
    backlog_bytes: int | None
    backlog_s: float | None
    acknowledged_records: int
    refused_records: int
    failures: int
    error: str | None
    retry_in_s: float | None
    rewinds: int
    gap_records: int
    lanes: tuple[LaneStatus, ...] = ()
    drains_in_s: float | None = None
    outlook: str | None = None
    mistaken: bool = False
    obstacle: Obstacle | None = None
    expired_records: int = 0
    acknowledged_bytes: int = 0
    records_per_s: float | None = None
    bytes_per_s: float | None = None
    resends: tuple[ResendStatus, ...] = ()
    bridge: BridgeStatus | None = None


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """One open connection to the sensors' port.

    ``next`` is the number that comes next (plain: messages so far), ``acked`` the number before
    which everything was told to be durable; ``mode`` says what for and how, e.g.
    ``ingest msgpack``.
    """

    source: str
    stream: str
    peer: str
    mode: str
    connected_s: float
    next: int
    acked: int
    in_flight_bytes: int


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """The file. ``used_bytes`` are pages in use; the rest is free or headroom. ``readable``: also
    while it is not ``healthy``, because the disk refuses writes alone. ``clock_doubt_s``: by how
    much the clock, said to be set, contradicts what the store knows; 0 while it does not.
    ``scrub_finished``: when the last pass over all checksums ended; ``scrub_blocks`` were checked
    in the present one, ``scrub_damaged`` failed since the agent started. ``sources_of``: how many
    of the ``sources_max`` each token has, "" for those of nobody; ``sources_lacking``: who found no
    place for one more in the last ten minutes, with what it may have. ``key_id``: of the key that
    seals what is stored, "" where none does. ``page_bytes``: what the file is written in, on which
    the bytes of a commit depend; 0 while it is not known.
    """

    path: str
    size_bytes: int
    used_bytes: int
    fill: float
    quarantine_entries: int
    quarantine_bytes: int
    sources: int
    commits: int
    commit_median_s: float | None
    failures: int
    healthy: bool
    readable: bool
    problem: str | None
    clock_doubt_s: float = 0.0
    scrub_finished: str | None = None
    scrub_blocks: int = 0
    scrub_damaged: int = 0
    sources_max: int = 0
    sources_of: dict[str, int] = field(default_factory=dict)
    sources_lacking: dict[str, int] = field(default_factory=dict)
    key_id: str = ""
    page_bytes: int = 0


@dataclass(frozen=True, slots=True)
class CopiesStatus:
    """``times`` this store was found to be a copy, ``at`` and for what ``reason`` the last time;
    how many ``sources`` came back as copies since the start, which the last time, and when.
    """

    times: int = 0
    at: str | None = None
    reason: str | None = None
    sources: int = 0
    last_source: str | None = None
    last_source_at: str | None = None


@dataclass(frozen=True, slots=True)
class StreamsStatus:
    """How many streams were seen since the agent started looking; see ``/api/streams``.

    ``undated``: those whose newest records say no time and were dated on arrival.
    """

    seen: int
    forgotten: int
    undated: int = 0


@dataclass(frozen=True, slots=True)
class RefusedStatus:
    """Peers of one address that were refused for one reason, before they were let in.

    ``port`` is ``listen.address`` or ``http.address``; ``sentence`` says what was wrong and what
    helps; ``last`` was ``last_s`` ago.
    """

    address: str
    port: str
    reason: str
    sentence: str
    count: int
    first: str
    last: str
    last_s: float


@dataclass(frozen=True, slots=True)
class JournalStatus:
    """A line of the journal; ``level`` is info, warning, error or critical."""

    time: str
    level: str
    text: str


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    """Until when the ports' certificate is good, and the authority of our own that made it (None
    where somebody else did); ``not_renewed_here``: why this agent does not renew it itself, None
    where it does.
    """

    ends: str
    authority_ends: str | None
    not_renewed_here: str | None


@dataclass(frozen=True, slots=True)
class AlarmStatus:
    """An alarm that is on: a rule's, about one stream. ``meaning`` is the rule in words; ``value``
    is the number that made it so, None where there is none.
    """

    rule: str
    meaning: str
    stream: str
    since: str
    value: float | None


@dataclass(frozen=True, slots=True)
class Status:
    """Everything. ``wear_outlook``: what `Wear` means for the card and the budget, in sentences;
    ``history``: None where it is off; ``alarms``: those that are on;
    ``journal``: its last lines, the newest first; ``certificate``: None where none can be read.
    """

    agent: AgentStatus
    health: HealthVerdict
    figures: Figures
    store: StoreStatus
    logs: tuple[LogStatus, ...]
    upstreams: tuple[UpstreamStatus, ...]
    connections: tuple[ConnectionStatus, ...]
    connections_open: int
    streams: StreamsStatus
    wear: Wear
    wear_outlook: tuple[str, ...]
    copies: CopiesStatus = field(default_factory=CopiesStatus)
    refused: tuple[RefusedStatus, ...] = ()
    history: HistoryStatus | None = None
    alarms: tuple[AlarmStatus, ...] = ()
    journal: tuple[JournalStatus, ...] = ()
    certificate: CertificateStatus | None = None

    def to_json(self) -> bytes:
        """Compact JSON, UTF-8."""
        return msgspec.json.encode(self)
