"""Is the agent well? A pure verdict with its reasons, from plain facts.

Three words. ``ok``. ``degraded``: it does its main job, keeping and answering, but a person should
look: an upstream is away or refuses, the disk refuses and the agent keeps trying, a log is full.
``failed``: it cannot keep what it is given now. Only ``failed`` answers 503, because a supervisor
that restarts an agent whose upstream is away makes everything worse.

Warnings are about how it is set up or what has been lost for good, and tell of alarms that are on;
they change no verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from edge_agent.digest import HistoryStatus
from edge_agent.errors import Obstacle
from edge_agent.ops.status import (
    AlarmStatus,
    HealthVerdict,
    LogStatus,
    Reason,
    StoreStatus,
    UpstreamStatus,
    Word,
)
from edge_agent.output.printable import counted, ended, grouped, often
from edge_agent.security.certificate_life import (
    AUTHORITY_LATE_S,
    AUTHORITY_SOON_S,
    SOON_S,
    CertificateLife,
)
from edge_agent.values.record import DAY_S

#: A commit that takes longer than this is shown; cards stall for seconds now and then.
SLOW_COMMIT_S = 10.0
#: After so long without any commit of what waits, nothing is being kept.
STALLED_COMMIT_S = 60.0
#: The part of the file in use from which commits may soon find no free pages.
FILE_FULL = 0.95
LOG_FULL = 0.98
#: What an upstream's absence costs is said as soon as it is less than a day away.
LOSS_SOON_S = DAY_S
#: What is wrong with an upstream, by where the obstacle lies.
_OBSTACLES: dict[Obstacle | None, str] = {
    "here": "is sent nothing",
    "between": "cannot be reached",
    "there": "answers, but takes nothing",
    None: "gets nothing",
}


@dataclass(frozen=True, slots=True)
class FilesFact:
    """The files that the configuration names: why each of tokens, certificate and key that cannot
    be used cannot; until when the agent's own certificate is good, None without one.
    """

    unusable: tuple[str, ...] = ()
    certificate: CertificateLife | None = None


@dataclass(frozen=True, slots=True)
class MistakeFact:
    """A task that failed on a mistake of the agent's own: how often since the start, and whether it
    waits to be run again.
    """

    task: str
    times: int
    rests: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """What the verdict is made of.

    Attributes:
        store, logs, upstreams: as status shows them.
        commit_waits_s: for how long the oldest append has waited for a commit.
        salvage: what the last salvage did, in sentences; None where there was none.
        open_ports: which port that listens off loopback lacks TLS or tokens, in words; "" for none.
        budget: what the budget of bytes a day takes, or why it is not kept; None with nothing to
            say.
        card: how long it lasts, where that is less than a year or over.
        copies: what was noticed of copied stores (`edge_agent.ops.facts`).
        mistakes: tasks that failed on a mistake of the agent's own.
        history: how far it is; None where it is off.
        hooks_off: rules whose hooks were too slow and are not called any more.
        alarms: those that are on, rule by rule.
    """

    store: StoreStatus
    logs: Sequence[LogStatus]
    upstreams: Sequence[UpstreamStatus]
    commit_waits_s: float
    clock_synced: bool
    salvage: str | None
    budget: str | None = None
    budget_kept: bool = True
    card: str | None = None
    open_ports: str = ""
    files: FilesFact = FilesFact()
    copies: tuple[Reason, ...] = ()
    mistakes: tuple[MistakeFact, ...] = ()
    history: HistoryStatus | None = None
    hooks_off: tuple[str, ...] = ()
    alarms: Sequence[AlarmStatus] = ()


def judge(facts: Facts) -> HealthVerdict:
    """The verdict on ``facts``."""
    failures = tuple(_failures(facts))
    degraded = tuple(_degradations(facts))
    word: Word = "failed" if failures else "degraded" if degraded else "ok"
    return HealthVerdict(word, failures + degraded, tuple(_warnings(facts)))


def _failures(facts: Facts) -> Iterable[Reason]:
    if facts.store.problem is not None:
        can = "can still" if facts.store.readable else "cannot even"
        yield Reason(
            "store_failing",
            f"The disk refuses: {ended(facts.store.problem)} Nothing is taken or acked until it"
            f" recovers; what is stored {can} be read.",
        )
    if facts.commit_waits_s >= STALLED_COMMIT_S:
        yield Reason(
            "commit_stalled",
            f"What was received has waited {facts.commit_waits_s:.0f} s for a commit.",
        )


def _degradations(facts: Facts) -> Iterable[Reason]:
    if SLOW_COMMIT_S <= facts.commit_waits_s < STALLED_COMMIT_S:
        yield Reason(
            "commit_slow",
            f"What was received has waited {facts.commit_waits_s:.0f} s for a commit:"
            " the card is slow or stalls.",
        )
    if facts.store.fill >= FILE_FULL:
        yield Reason("store_full", f"{facts.store.fill:.0%} of the store file is in use.")
    for log in facts.logs:
        if log.when_full == "refuse" and (log.refused_lately or log.fill >= LOG_FULL):
            yield Reason("log_full", _full(log))
    for upstream in facts.upstreams:
        yield from _about_upstream(upstream)
    for problem in facts.files.unusable:
        yield Reason(
            "file_unusable",
            f"{ended(problem)} The agent goes on with what it read last; a start would be refused.",
        )
    if facts.files.certificate is not None:
        yield from _about_end(facts.files.certificate)
    yield from _about_processing(facts)
    for owner, share in facts.store.sources_lacking.items():
        yield Reason("too_many_sources", _crowded(owner, share, facts.store))
    for mistake in facts.mistakes:
        if mistake.rests:
            yield Reason("own_mistake", f"{_mistaken(mistake)} It waits to be run again.")
    if facts.budget is not None and not facts.budget_kept:
        yield Reason("wear_over_budget", _sentence(facts.budget))


def _about_processing(facts: Facts) -> Iterable[Reason]:
    if facts.history is not None and facts.history.trouble is not None:
        yield Reason("history_failing", ended(f"History is not written: {facts.history.trouble}"))
    for rule in facts.hooks_off:
        yield Reason(
            "hook_off",
            f"The hook of the rule {rule} was too slow and is not called any more; its records pass"
            " as they are. SIGHUP, or a restart, tries it again.",
        )


def _full(log: LogStatus) -> str:
    # Not by its fill alone: large records find no room long before the last byte is used, and
    # trimming leaves some room of its own.
    if log.refused_lately:
        return (
            f"Log {log.name} is full: it refused {grouped(log.refused_lately)} records in the last"
            " two minutes, and goes on until upstreams have taken some."
        )
    return f"Log {log.name} is nearly full; then senders are told to wait."


def _crowded(owner: str, share: int, store: StoreStatus) -> str:
    held = store.sources_of.get(owner, 0)
    if owner and held >= share:
        told = f"Too many sources of {owner}: it has {grouped(held)}, all that it may"
    else:
        told = f"Too many sources: {grouped(store.sources)} are remembered, all that there may be"
    return (
        f"{told}, and none of them is unused. New ones are turned away. See edge-agent source list;"
        " limits.sources sets how many there may be."
    )


def _about_upstream(upstream: UpstreamStatus) -> Iterable[Reason]:
    because = f": {upstream.error}" if upstream.error else ""
    if upstream.misconfigured:
        yield Reason(
            "upstream_misconfigured",
            ended(f"Upstream {upstream.name} refuses and waiting will not help{because}")
            + f" {grouped(upstream.backlog_records)} records wait.",
        )
    elif upstream.mistaken:
        yield Reason(
            "upstream_mistaken",
            ended(f"Upstream {upstream.name} {upstream.error}")
            + " It is tried again and again; please report"
            f" what the journal says. {grouped(upstream.backlog_records)} records wait.",
        )
    elif not upstream.connected and upstream.error:
        # Without an error it has merely not been tried yet, as in the first second after a start.
        yield Reason(
            "upstream_offline",
            ended(f"Upstream {upstream.name} {_OBSTACLES[upstream.obstacle]}{because}")
            + f" {grouped(upstream.backlog_records)} records wait.",
        )


def _about_end(life: CertificateLife) -> Iterable[Reason]:
    if life.ends_in_s <= SOON_S:
        yield Reason(
            "certificate_ends",
            f"The agent's certificate {_ends(life.ends_in_s)}: nobody connects then."
            " `edge-agent tls init` renews one that it made, under the same authority.",
        )
    left_s = life.authority_ends_in_s
    if left_s is not None and left_s <= AUTHORITY_LATE_S:
        yield _authority(left_s)


def _about_renewal(life: CertificateLife) -> Iterable[Reason]:
    if life.is_overdue and life.ends_in_s > SOON_S:
        why = f"The agent cannot do it: {life.obstacle}." if life.obstacle else "See the journal."
        yield Reason(
            "certificate_not_renewed",
            f"The agent's certificate {_ends(life.ends_in_s)} and should have been renewed by now."
            f" {why} As root: `edge-agent tls renew` does it now, `systemctl enable --now"
            " edge-agent-renew.timer` each time.",
        )
    left_s = life.authority_ends_in_s
    if left_s is not None and AUTHORITY_LATE_S < left_s <= AUTHORITY_SOON_S:
        yield _authority(left_s)


def _authority(left_s: float) -> Reason:
    return Reason(
        "authority_ends",
        f"The authority of your own that certifies this agent (ca.pem) {_ends(left_s)}; sensors"
        " that trust it alone do not connect then. Make another one in another folder (`edge-agent"
        " tls init`), give sensors both ca.pem, and change over: docs/certificates.md.",
    )


def _ends(in_s: float) -> str:
    days = in_s / DAY_S
    return f"ends in {days:.0f} days" if days > 0 else f"ended {-days:.0f} days ago"


def _about_history(history: HistoryStatus | None) -> Iterable[Reason]:
    if history is None:
        return
    if history.damaged:
        yield Reason(
            "history_damaged",
            f"{grouped(history.damaged)} parts of history failed their checksum and are left out of"
            " answers; the journal says which. The logs are sound.",
        )
    if history.missed:
        yield Reason(
            "history_missed",
            f"{grouped(history.missed)} records were trimmed from a log before history had taken"
            " them: charts and queries lack them. A larger log.share leaves it more time.",
        )


def _warnings(facts: Facts) -> Iterable[Reason]:
    for _, alarms in groupby(facts.alarms, key=lambda alarm: alarm.rule):
        yield Reason("alarm", _alarming(list(alarms)))
    if facts.open_ports:
        yield Reason("insecure", ended(f"As `insecure = true` asks: {facts.open_ports}"))
    if not facts.clock_synced:
        yield Reason(
            "clock_unsynced",
            "The clock has not been set since boot: times may be wrong, and nothing is trimmed"
            " by age. Records are put right once it is set.",
        )
    elif facts.store.clock_doubt_s:
        hours = abs(facts.store.clock_doubt_s) / 3600
        way = "ahead of" if facts.store.clock_doubt_s > 0 else "behind"
        yield Reason(
            "clock_doubted",
            f"The clock is said to be set, but is {hours:,.1f} hours {way} what was known before."
            " It is believed once it has stood for ten minutes.",
        )
    if facts.files.certificate is not None:
        yield from _about_renewal(facts.files.certificate)
    if facts.salvage is not None:
        yield Reason("salvaged", facts.salvage)
    yield from facts.copies
    yield from _about_history(facts.history)
    for mistake in facts.mistakes:
        if not mistake.rests:
            yield Reason("own_mistake", f"{_mistaken(mistake)} It runs again.")
    for upstream in facts.upstreams:
        yield from _about_rest(upstream)
    yield from _about_wear(facts)
    for log in facts.logs:
        yield from _about_log(log)
    if entries := facts.store.quarantine_entries:
        told = "1 entry is" if entries == 1 else f"{grouped(entries)} entries are"
        yield Reason(
            "quarantined",
            f"{told} in quarantine: input or records that could not be used"
            " (edge-agent quarantine list).",
        )


def _about_rest(upstream: UpstreamStatus) -> Iterable[Reason]:
    wait = f"{grouped(upstream.backlog_records)} records wait."
    if upstream.phase == "paused":
        yield Reason(
            "upstream_paused",
            f"Upstream {upstream.name} is paused; {wait}"
            f" To go on: edge-agent consumer resume {upstream.name}",
        )
    elif upstream.phase == "waiting" and upstream.outlook:
        yield Reason(
            "upstream_waiting",
            f"Upstream {upstream.name} {upstream.outlook}, as its windows say; {wait}",
        )


def _about_wear(facts: Facts) -> Iterable[Reason]:
    if facts.budget is not None and facts.budget_kept:
        budget = _sentence(facts.budget).rstrip(".")
        yield Reason("commits_spread", f"{budget}: acks come later, as asked.")
    if facts.card is not None:
        yield Reason("card_wearing_out", _sentence(facts.card))


def _about_log(log: LogStatus) -> Iterable[Reason]:
    soon = log.loss_in_s is not None and log.loss_in_s < LOSS_SOON_S
    if soon and not log.refused_lately and log.outlook is not None:
        yield Reason("loss_ahead", ended(f"Log {log.name}: {log.outlook}"))
    if log.discarded:
        yield Reason(
            "discarded",
            f"Log {log.name}: {log.discarded} records were discarded before an upstream had them.",
        )
    if log.thinned:
        yield Reason(
            "thinned",
            f"Log {log.name}: {grouped(log.thinned)} records were thinned to"
            f" {grouped(log.aggregates)} per-minute aggregates before an upstream had them.",
        )
    if log.damaged:
        yield Reason("damaged", f"Log {log.name}: {log.damaged} records failed their checksum.")


def _alarming(alarms: Sequence[AlarmStatus]) -> str:
    """The alarms of one rule that are on; not which streams, as anybody may ask for health."""
    what = counted(len(alarms), "stream")
    oldest = min(alarm.since for alarm in alarms)
    return f"Alarm {alarms[0].rule} is on for {what}, since {oldest}."


def _mistaken(fact: MistakeFact) -> str:
    return (
        f"A task of the agent failed {often(fact.times)} since the start on a mistake of its own"
        f" ({fact.task}); please report what the journal says."
    )


def _sentence(clause: str) -> str:
    return ended(clause[0].upper() + clause[1:])
