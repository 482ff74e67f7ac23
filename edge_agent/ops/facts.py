"""The facts of a running agent for status, page and metrics, and how they are put together.

`Sources` is a handful of values and callables, so that nothing here knows the server or how the
parts were put together. The functions below turn each part's own statistics into what
`edge_agent.ops.status` shows; `edge_agent.ops.sampler` puts them together.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_agent.config import Config, Share, Upstream, parse_address
from edge_agent.config import LogConfig as LogSettings
from edge_agent.copied_sources import CopiesSeen
from edge_agent.metrics import Metrics
from edge_agent.net.access import is_loopback
from edge_agent.net.refused_peers import RefusedPeer, RefusedPeers
from edge_agent.ops import health
from edge_agent.ops.forecast import about_budget, about_card
from edge_agent.ops.status import (
    AlarmStatus,
    BridgeStatus,
    CertificateStatus,
    ConnectionStatus,
    CopiesStatus,
    JournalStatus,
    LaneStatus,
    LastBatch,
    LogStatus,
    Reason,
    RefusedStatus,
    ResendStatus,
    StoreStatus,
    UpstreamStatus,
)
from edge_agent.output.printable import ended, grouped, often
from edge_agent.scrubber import ScrubStatus
from edge_agent.security.certificate_life import CertificateLife
from edge_agent.security.token_uses import TokenUses
from edge_agent.security.tokens import Tokens
from edge_agent.store import Identity, loss_in_words
from edge_agent.system.clock import Clock
from edge_agent.values.record import DAY_S, NANOSECONDS, format_time
from edge_agent.wear import Wear

if TYPE_CHECKING:
    from edge_agent.commit import CommitStatistics
    from edge_agent.digest import Digester, HistoryStatus
    from edge_agent.forward import (
        ForwarderStatistics,
        Lane,
        LaneStatistics,
        Resend,
        ResendProgress,
    )
    from edge_agent.live import AlarmOn, Live
    from edge_agent.log import Log
    from edge_agent.ops.orders.orders import Part
    from edge_agent.questions.asking import Asker
    from edge_agent.rules import RulesInForce
    from edge_agent.store import StoreStatistics
    from edge_agent.system.journal_tail import JournalLine

#: For so long after it happened health tells of it; status always.
TOLD_S = 7 * DAY_S


def copies_status(identity: Identity, sources: CopiesSeen) -> CopiesStatus:
    """What status shows."""
    note = identity.copied
    return CopiesStatus(
        0 if note is None else note.times,
        None if note is None else format_time(note.when_ns),
        None if note is None else note.reason,
        sources.times,
        sources.source or None,
        format_time(sources.when_ns) if sources.times else None,
    )


def about_copies(identity: Identity, sources: CopiesSeen, wall_ns: int) -> Iterator[Reason]:
    """What health tells, while it is news."""
    note = identity.copied
    if note is not None and _is_news(note.when_ns, wall_ns):
        yield Reason(
            "store_copied",
            f"On {format_time(note.when_ns)} this store was found to be a copy:"
            f" {ended(note.reason)} What it held and nobody had acknowledged to it goes upstream"
            f" under the new epoch {identity.epoch}; some of it may be there twice.",
        )
    if sources.times and _is_news(sources.when_ns, wall_ns):
        yield Reason(
            "source_copied",
            f"A source came back as a copy of its store {often(sources.times)} since the start,"
            f" at last {sources.source} on {format_time(sources.when_ns)}: an older image was put"
            " back, or two run at once. Nothing is lost; some of its records may be here twice.",
        )


def _is_news(when_ns: int, wall_ns: int) -> bool:
    # By a clock that was not set nobody can tell how long ago it was.
    return abs(wall_ns - when_ns) < TOLD_S * NANOSECONDS


#: What is shown of a log that is in the store and not in the configuration.
UNCONFIGURED = LogSettings(share=Share(0.0))


#: A card that lasts less than this is worth a warning: it has to be bought, and somebody to go.
WORN_OUT_SOON_S = 365 * DAY_S


Renewed = Callable[[str, ssl.SSLContext, Callable[[], ssl.SSLContext | None]], None]
"""Lets a port's context show what is renewed: the port, the context, what makes another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Everything that looking in needs.

    Attributes:
        config: what is in force.
        clock: the agent's.
        metrics: the agent's; gauges are set here when somebody looks.
        log: the waist.
        live: questions and live views.
        digester, asker: history, and how it is asked; None where it is off.
        upstreams: what `upstream_status` makes of each, in the configuration's order.
        configured: the upstreams as they are by now; None: as ``config`` has them.
        connections: the open sensor connections.
        copies: sources that came back as copies of their stores.
        rules: those that act before storing, for what is read again from quarantine, too.
        lane: the running lane that a consumer of a log is, None where there is none.
        resend: what an upstream's consumer is sent once more of a log, None where it does not run.
        part: ends the connections of sources, and those by which identities forward.
        salvage: what the last salvage did, in sentences (`in_words`), for as long as its damaged
            folder is there; None without one.
        files: looks at the files that the configuration names; called in a thread.
        scrub: how far the pass over all checksums is.
        alarms: those that are on.
        tokens: None where none are configured.
        refused: who was refused lately, at either port.
        journal: the last lines of the journal, the newest first.
        renewed: is told of a context that shall show what is renewed.
        uses: is told of tokens that let somebody in, and says when each last did.
    """

    config: Config
    clock: Clock
    metrics: Metrics
    log: Log
    live: Live
    upstreams: Callable[[], Sequence[UpstreamStatus]]
    connections: Callable[[], Sequence[ConnectionStatus]]
    copies: Callable[[], CopiesSeen]
    rules: RulesInForce
    lane: Callable[[str, str], Lane | None]
    resend: Callable[[str, str], Resend | None]
    part: Part
    salvage: Callable[[], str | None]
    files: Callable[[], health.FilesFact]
    scrub: Callable[[], ScrubStatus]
    alarms: Callable[[], Sequence[AlarmOn]]
    tokens: Tokens | None
    refused: RefusedPeers
    journal: Callable[[], Sequence[JournalLine]]
    renewed: Renewed
    digester: Digester | None = None
    asker: Asker | None = None
    configured: Callable[[], Sequence[Upstream]] | None = None
    uses: TokenUses | None = None


def log_status(
    name: str, config: Config, store: StoreStatistics | None, log: Log, metrics: Metrics
) -> LogStatus:
    """One log. ``store`` is None while the disk refuses; then what memory knows is shown."""
    held = store.logs.get(name) if store is not None else None
    # One that is no longer configured takes nothing new and yields what it has.
    settings = config.log.get(name, UNCONFIGURED)
    share = held.share_bytes if held else int(settings.share * config.store.size)
    size = held.bytes if held else 0
    return LogStatus(
        name=name,
        records=held.records if held else log.last_seq(name) - log.first_seq(name) + 1,
        bytes=size,
        share_bytes=share,
        fill=size / share if share else 0.0,
        first_seq=log.first_seq(name),
        last_seq=log.last_seq(name),
        oldest=format_time(held.oldest_stored_ns) if held and held.oldest_stored_ns else None,
        when_full=settings.when_full,
        committed=int(metrics.get("records_committed_total", name)),
        discarded=int(metrics.get("records_discarded_total", name)),
        damaged=int(metrics.get("records_damaged_total", name)),
        refused=int(metrics.get("records_refused_total", name)),
        thinned=int(metrics.get("records_thinned_total", name)),
        aggregates=int(metrics.get("thinned_aggregates_total", name)),
    )


def store_status(
    config: Config,
    store: StoreStatistics | None,
    commit: CommitStatistics,
    problem: str | None,
    metrics: Metrics,
    scrub: ScrubStatus | None = None,
) -> StoreStatus:
    """The file. ``problem`` is why the disk refuses at present."""
    scrub = scrub or ScrubStatus()
    size = store.size if store else int(config.store.size)
    used = store.used_bytes if store else 0
    return StoreStatus(
        path=config.store.path,
        size_bytes=size,
        used_bytes=used,
        fill=used / size if size else 0.0,
        quarantine_entries=store.quarantine_entries if store else 0,
        quarantine_bytes=store.quarantine_bytes if store else 0,
        sources=store.sources if store else 0,
        commits=commit.commits,
        commit_median_s=commit.commit_median or None,
        failures=int(metrics.total("store_failures_total")),
        healthy=problem is None,
        readable=store is not None,
        problem=problem,
        clock_doubt_s=store.clock_doubt_ns / NANOSECONDS if store else 0.0,
        scrub_finished=format_time(scrub.finished_ns) if scrub.finished_ns else None,
        scrub_blocks=scrub.blocks,
        scrub_damaged=scrub.damaged,
        sources_max=store.sources_max if store else config.limits.sources,
        sources_of=store.sources_of if store else {},
        sources_lacking=store.lacking if store else {},
        key_id=store.key_id if store else "",
        page_bytes=store.page_bytes if store else 0,
    )


def upstream_status(
    upstream: Upstream, now: ForwarderStatistics, bridge: BridgeStatus | None = None
) -> UpstreamStatus:
    """One upstream, its lanes (one for each log) taken together."""
    waits = [lane.next_try_s for lane in now.lanes if lane.next_try_s > 0]
    return UpstreamStatus(
        name=now.name,
        url=now.url,
        phase=now.phase,
        connected=now.connected,
        misconfigured=now.phase == "stopped",
        required=upstream.required,
        backlog_records=now.backlog_records,
        backlog_bytes=now.backlog_bytes,
        backlog_s=now.backlog_seconds,
        acknowledged_records=now.records,
        refused_records=now.refused,
        failures=max((lane.failures for lane in now.lanes), default=0),
        error=now.error or None,
        retry_in_s=min(waits, default=None),
        rewinds=now.rewinds,
        gap_records=sum(lane.gap_records for lane in now.lanes),
        expired_records=sum(lane.expired for lane in now.lanes),
        lanes=tuple(map(_lane_status, now.lanes)),
        mistaken=any(lane.mistaken for lane in now.lanes),
        obstacle=now.obstacle,
        acknowledged_bytes=now.size,
        resends=tuple(map(_resend_status, now.resends)),
        bridge=bridge,
    )


def _resend_status(now: ResendProgress) -> ResendStatus:
    order, lane = now.order, now.lane
    return ResendStatus(
        order.number,
        now.log,
        order.streams,
        order.first,
        order.last,
        now.floor,
        now.done,
        now.left,
        "waits for newer records" if lane is None else lane.phase,
        order.sent,
        order.gone,
        (lane.error or None) if lane is not None and lane.failing else None,
    )


def refused_status(refused: Sequence[RefusedPeer], now_ns: int) -> tuple[RefusedStatus, ...]:
    """Who was refused lately; ``now_ns`` is the wall clock."""
    return tuple(
        RefusedStatus(
            address=one.address,
            port=one.port,
            reason=one.reason,
            sentence=one.sentence,
            count=one.count,
            first=format_time(one.first_ns),
            last=format_time(one.last_ns),
            last_s=max(0.0, (now_ns - one.last_ns) / NANOSECONDS),
        )
        for one in refused
    )


def certificate_status(life: CertificateLife | None) -> CertificateStatus | None:
    """Until when the ports' certificate is good."""
    if life is None:
        return None
    authority_s = life.authority_ends_s
    return CertificateStatus(
        format_time(int(life.ends_s) * NANOSECONDS),
        None if authority_s is None else format_time(int(authority_s) * NANOSECONDS),
        "it was made elsewhere" if authority_s is None else life.obstacle or None,
    )


def journal_status(lines: Sequence[JournalLine]) -> tuple[JournalStatus, ...]:
    """The last lines of the journal."""
    return tuple(
        JournalStatus(format_time(one.when_ns), one.level.lower(), one.text) for one in lines
    )


def alarm_status(on: Sequence[AlarmOn]) -> tuple[AlarmStatus, ...]:
    """The alarms that are on."""
    return tuple(
        AlarmStatus(one.rule, one.meaning, one.stream, format_time(one.since_ns), one.value)
        for one in on
    )


def facts(
    sources: Sources,
    store: StoreStatus,
    commit_waits_s: float,
    logs: Sequence[LogStatus],
    upstreams: Sequence[UpstreamStatus],
    wear: Wear,
    files: health.FilesFact,
    history: HistoryStatus | None = None,
    alarms: Sequence[AlarmStatus] = (),
) -> health.Facts:
    """What the verdict is made of."""
    now = sources.clock.read()
    return health.Facts(
        store=store,
        logs=logs,
        upstreams=upstreams,
        commit_waits_s=commit_waits_s,
        clock_synced=now.synced,
        salvage=sources.salvage(),
        open_ports=open_ports(sources.config),
        files=files,
        history=history,
        budget=about_budget(wear),
        budget_kept=wear.budget is None or wear.budget.kept,
        copies=tuple(about_copies(sources.log.identity, sources.copies(), now.wall_ns)),
        mistakes=tuple(_mistakes(sources.metrics)),
        hooks_off=sources.rules.hooks_off(),
        alarms=alarms,
        card=about_card(wear) if (wear.life_s or 0.0) < WORN_OUT_SOON_S else None,
    )


def missing_protection(config: Config, address: str) -> tuple[str, ...]:
    """What of TLS and tokens a port on ``address`` lacks; nothing on loopback."""
    if address == "off" or is_loopback(parse_address(address)[0]):
        return ()
    lacking = () if config.listen.tls_certificate is not None else ("TLS",)
    return lacking if config.listen.tokens is not None else (*lacking, "tokens")


def what_is_open(address: str, lacking: Sequence[str]) -> str:
    """What that means, in words."""
    if "tokens" in lacking:
        return (
            f"{address} has no {' and no '.join(lacking)}: anybody who reaches it may send and read"
        )
    return (
        f"{address} has tokens but no TLS: anybody on that network reads tokens and"
        " records, and can then use them"
    )


def _mistakes(metrics: Metrics) -> Iterator[health.MistakeFact]:
    for (task,), times in metrics.labelled("own_mistakes_total"):
        rests = metrics.get("task_resting", task) > 0
        yield health.MistakeFact(task, int(times), rests)


def open_ports(config: Config) -> str:
    """What listens off loopback without TLS or without tokens, in words; "" with nothing."""
    addresses = (config.listen.address, config.http.address)
    told = [
        what_is_open(address, lacking)
        for address in addresses
        if (lacking := missing_protection(config, address))
    ]
    return "; ".join(told)


def in_words(report: Mapping[str, Any] | None) -> str | None:
    """What a salvage did (`edge_agent.store.repair.salvage`), for whoever stands before the board;
    None without one.
    """
    if report is None:
        return None
    lost = loss_in_words(report["missing"], report["possible"], all_known=report["all_known"])
    told = (
        f"On {format_time(report['when_ns'])} the store was found damaged ({report['reason']})."
        f" {grouped(report['records'])} records were read back and {lost}."
        f" The damaged file is kept in {report['moved_to']}."
    )
    if not report["complete"]:
        told += " The new file was too small for all: set store.size larger, the rest is in there."
    return told


def _lane_status(lane: LaneStatistics) -> LaneStatus:
    met = lane.report
    return LaneStatus(
        lane.log,
        lane.phase,
        lane.connected,
        lane.floor,
        lane.backlog_records,
        lane.backlog_seconds,
        last_batch=None
        if met is None
        else LastBatch(
            format_time(met.when_ns),
            met.outcome,
            met.status,
            round(met.seconds, 3),
            met.size,
            met.first,
            met.last,
            met.cause or None,
        ),
        largest_passed_bytes=lane.passed,
        smallest_failed_bytes=lane.failed,
        uncompressed=lane.plain,
        waits_for=lane.waits_for or None,
        part=lane.part,
    )
