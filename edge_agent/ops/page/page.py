"""Renders the page at ``/``: one picture of the agent as plain HTML.

Rendered here and nowhere else: a script (``static/page.js``) fetches it again every two seconds and
puts what has changed into the parts with ``data-fresh``, so that nothing is formatted twice, and a
browser without script reloads it. Every word that was not written in this file is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from edge_agent.ops.figures import Figures, Rate
from edge_agent.ops.page.frame import LOGOUT, PAUSE, document, section, table
from edge_agent.ops.page.stream_list import StreamRow, address_of, search, stream_list
from edge_agent.ops.status import (
    AlarmStatus,
    ConnectionStatus,
    JournalStatus,
    LogStatus,
    RefusedStatus,
    Status,
    UpstreamStatus,
)
from edge_agent.ops.text import (
    UNKNOWN,
    ago,
    amount,
    bridging,
    duration,
    percent,
    phase,
    ratio,
    resending,
    size,
    taken,
)
from edge_agent.output.printable import ended, html_text
from edge_agent.store import Quarantined
from edge_agent.wear import Stretch, Wear


def card_section(status: Status) -> str:
    """The section, as HTML."""
    wear = status.wear
    told = (ended(line[0].upper() + line[1:]) for line in status.wear_outlook)
    lines = "".join(f"<li>{html_text(line)}" for line in told)
    head = [
        "Written to the card", "By the agent", "Agent, per day", "All programs, per day",
        "Commits", "Per commit", "Per byte kept", "Blocks, per byte kept",
    ]  # fmt: skip
    rows = [
        _row("Last hour", 3600, wear.hour),
        _row("Last 24 hours", 86_400, wear.day),
        _row("Since start", None, wear.since_start),
    ]
    return section(
        "card",
        "Card",
        (f'<ul class="reasons">{lines}</ul>' if lines else "")
        + table("card", head, rows, numbers=set(range(1, 8)))
        + f"<p class=soft>{html_text(_footnote(wear))}</p>",
    )


def _row(title: str, whole_s: float | None, stretch: Stretch) -> list[str]:
    part = whole_s is not None and stretch.seconds < 0.98 * whole_s
    return [
        f"{title} <span class=soft>({duration(stretch.seconds)} so far)</span>" if part else title,
        size(stretch.written_bytes, 1000),
        size(stretch.written_per_day, 1000),
        size(stretch.card_per_day, 1000),
        amount(stretch.commits),
        size(stretch.bytes_per_commit, 1000),
        ratio(stretch.amplification),
        ratio(stretch.block_amplification),
    ]


def _footnote(wear: Wear) -> str:
    told = [f"The agent: {wear.counted_by}."] if wear.counted_by else []
    if wear.card_counted_by:
        told.append(f"All programs: {wear.card_counted_by}.")
    if wear.since_start.amplification is not None:
        told.append(
            "Per byte kept: how many bytes were written for each byte of records that was stored;"
            " the last column counts those of the records' blocks alone."
        )
    total = wear.total_bytes if wear.total_card_bytes is None else wear.total_card_bytes
    if total is not None:
        since = f" since {wear.total_since[:10]}" if wear.total_since else ""
        told.append(f"Known to be written in all{since}: {size(total, 1000)}.")
    if told and wear.endurance_bytes is None:
        told.append("Set wear.endurance to see how long the card will last.")
    return " ".join(told) or "Nobody counts here what is written."


#: Connections and refused peers that the page lists; the API has them all.
ROWS_MAX = 100
#: Of quarantine, the newest.
QUARANTINE_SHOWN = 5
_BODY_CHARACTERS = 120
#: What the verdict means for whoever looks.
_VERDICTS = {
    "ok": "all is well",
    "degraded": "it works, but not all of it",
    "failed": "it does not keep what is sent",
}


def render_page(
    status: Status,
    streams: Sequence[StreamRow],
    now_ns: int,
    *,
    wanted: str = "",
    quarantine: Sequence[tuple[int, Quarantined]] = (),
    signed_in: bool = False,
) -> bytes:
    """The whole page.

    Args:
        status: the picture.
        streams: those that the reader may see.
        now_ns: dates what is shown.
        wanted: words that the names of the streams to show have.
        quarantine: the newest entries that the reader may see, by number.
        signed_in: the reader has a session that can be ended.
    """
    parts = (
        f'<div id="reasons" data-fresh>{_reasons(status)}</div>',
        _alarms(status.alarms),
        _search(streams, wanted),
        stream_list(streams, wanted, now_ns),
        _upstreams(status.upstreams),
        _store(status),
        card_section(status),
        _quarantine(status, quarantine, now_ns),
        _figures(status.figures),
        _connections(status.connections, status.connections_open),
        _refused(status.refused),
        _journal(status.journal),
    )
    return document(
        "overview",
        "edge-agent",
        _header(status, signed_in),
        "".join(parts),
        module="overview.js",
        foot=PAUSE + '<noscript><a href="">Look again</a></noscript><br>',
    )


def render_locked(then: str, trouble: str = "") -> bytes:
    """The page for somebody without a token: a field for one. ``then`` is what is shown next,
    ``trouble`` why the last token did not do.
    """
    told = f'<p class="trouble" id="trouble" role="alert">{html_text(trouble)}</p>'
    faulty = ' aria-invalid="true" aria-describedby="trouble" autofocus' if trouble else ""
    return document(
        "locked",
        "Sign in · edge-agent",
        "<header><h1>edge-agent</h1></header>",
        "<p>This agent shows itself to those who have a token with the scope <i>read</i>. Who may"
        " change it makes one: <code>edge-agent token add NAME --read '**'</code>.</p>"
        f'{told if trouble else ""}<form method="post" action="/login">'
        f'<input type="hidden" name="then" value="{html_text(then)}">'
        '<label>Token <input name="token" type="password" required'
        f' autocomplete="current-password"{faulty}></label> <button>Look in</button>'
        "</form>",
        module="locked.js",
    )


def _header(status: Status, signed_in: bool) -> str:
    agent, word, alarms = status.agent, status.health.status, len(status.alarms)
    # What a screen reader is to say by itself: this, and nothing that changes all the time.
    on = f"; {alarms} {'alarm is' if alarms == 1 else 'alarms are'} on" if alarms else ""
    return (
        '<header><h1>edge-agent</h1><span id="verdict" role="status" data-fresh>'
        f'<span class="word {word}">{word}</span> {_VERDICTS[word]}{on}</span>'
        f'<span class="soft" id="agent" data-fresh>{html_text(agent.id)} ·'
        f" {html_text(agent.version)} · up {duration(agent.uptime_s)} ·"
        f" {html_text(_date(agent.time))}</span>{LOGOUT if signed_in else ''}</header>"
    )


def _search(streams: Sequence[StreamRow], wanted: str) -> str:
    found = f"{len(search(wanted, streams))} of {len(streams)} found" if wanted else ""
    return (
        '<form role="search" action="/"><label>Find streams <input type="search" name="q"'
        f' value="{html_text(wanted)}" autocomplete="off"></label>'
        f' <span class="soft" id="found" role="status" data-fresh>{found}</span>'
        " <noscript><button>Find</button></noscript></form>"
    )


def _reasons(status: Status) -> str:
    lines = [reason.message for reason in (*status.health.reasons, *status.health.warnings)]
    if not lines:
        return ""
    return '<ul class="reasons">' + "".join(f"<li>{html_text(line)}" for line in lines) + "</ul>"


def _figures(figures: Figures) -> str:
    now, ever = figures.now, figures.since_start
    cards = [
        (
            "Received: transfer rate R",
            *_rate(now.received),
            f"since start {_in_words(ever.received)}",
        ),
        (
            "Forwarded: transfer rate R",
            *_rate(now.forwarded),
            f"since start {_in_words(ever.forwarded)}",
        ),
        (
            "Questions: query performance Q",
            "–" if ever.queries_per_s is None else f"{amount(ever.queries_per_s)}/s",
            f"{ever.queries} answered",
            "answers a second, one after the other, since start",
        ),
        (
            "Processing efficiency E",
            amount(now.records_per_cpu_s),
            f"records kept per CPU second; {percent(now.cpu)} of a core in use",
            f"since start {amount(ever.records_per_cpu_s)}",
        ),
    ]
    return section(
        "speed",
        "Speed",
        '<dl class="figures">'
        + "".join(
            f'<div class="figure"><dt>{title}</dt><dd><b>{value}</b> <small>{second}</small>'
            f" <small>{third}</small></dd></div>"
            for title, value, second, third in cards
        )
        + "</dl><p class=soft>R = N/T: N records in T seconds. Q = 1/T_q: T_q is the mean time of"
        " an answer in seconds. E = W/T_w: W records stored in T_w seconds of the processor.</p>",
    )


def _upstreams(upstreams: Sequence[UpstreamStatus]) -> str:
    if not upstreams:
        nothing = "<p class=soft>None: what is received stays here.</p>"
        return section("upstreams", "Upstreams", nothing)
    rows = (
        [
            html_text(one.name),
            html_text(phase(one.phase, one.retry_in_s)),
            amount(one.backlog_records),
            duration(one.backlog_s),
            UNKNOWN if one.drains_in_s is None else duration(one.drains_in_s),
            taken(one.records_per_s, one.bytes_per_s),
            amount(one.acknowledged_records),
            amount(one.refused_records),
            html_text("; ".join(_outlook(one))),
            html_text(one.error or ""),
        ]
        for one in upstreams
    )
    head = [
        "Upstream",
        "Phase",
        "Backlog",
        "Oldest",
        "Drained in",
        "Takes",
        "Forwarded",
        "Refused",
        "Outlook",
        "Last error",
    ]
    inside = table("upstreams", head, rows, numbers={2, 3, 4, 5, 6, 7}, texts={8, 9})
    return section("upstreams", "Upstreams", inside)


def _outlook(one: UpstreamStatus) -> Iterator[str]:
    if one.outlook:
        yield one.outlook
    if one.bridge and (waits := bridging({"bridge": asdict(one.bridge)})):
        yield waits
    for resend in one.resends:
        yield resending(asdict(resend))


def _store(status: Status) -> str:
    store = status.store
    line = (
        '<p><meter aria-label="Store in use" max="1" high="0.85"'
        f' value="{store.fill:.3f}"></meter> {percent(store.fill)} of'
        f" {size(store.size_bytes)} in use · {amount(store.commits)} commits"
    )
    if store.commit_median_s is not None:
        line += f", {duration(store.commit_median_s)} each"
    if store.quarantine_entries:
        line += f" · {amount(store.quarantine_entries)} in quarantine"
    rows = ([html_text(log.name), *_log_cells(log)] for log in status.logs)
    head = ["Log", "Share in use", "Records", "Size", "Oldest", "Discarded", "Thinned", "Outlook"]
    inside = f"{line}</p>" + table("store", head, rows, numbers={2, 3, 5, 6}, texts={7})
    return section("store", "Store", inside)


def _log_cells(log: LogStatus) -> list[str]:
    fill = f"{min(log.fill, 1):.3f}"
    return [
        f'<meter aria-label="Share in use" max="1" value="{fill}"></meter> {percent(log.fill)}',
        amount(log.records),
        size(log.bytes),
        html_text(_date(log.oldest) if log.oldest else "–"),
        amount(log.discarded),
        amount(log.thinned),
        html_text(log.outlook or ""),
    ]


def _quarantine(status: Status, entries: Sequence[tuple[int, Quarantined]], now_ns: int) -> str:
    if not entries:
        return '<section id="quarantine" data-fresh hidden></section>'
    rows = (
        [
            str(number),
            ago(now_ns - one.arrival_ns),
            html_text(one.stream or "–"),
            html_text(one.source or "–"),
            html_text(one.reason),
            f"<code>{html_text(_beginning(one.body))}</code>",
        ]
        for number, one in entries
    )
    head = ["Number", "Came", "Stream", "Source", "Why", "What came"]
    inside = (
        "<p class=soft>What could not be used, and is kept for you to look at:"
        " <code>edge-agent quarantine list</code> shows all of it.</p>"
        + table("quarantine", head, rows, numbers={0, 1}, texts={4, 5})
    )
    soft = f"{amount(status.store.quarantine_entries)} in all, the newest first"
    return section("quarantine", "Quarantine", inside, soft=soft)


def _beginning(body: bytes) -> str:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = body.hex(" ")
    return text if len(text) <= _BODY_CHARACTERS else f"{text[:_BODY_CHARACTERS]}…"


def _connections(connections: Sequence[ConnectionStatus], count: int) -> str:
    rows = (
        [
            html_text(one.source or "–"),
            html_text(one.stream),
            html_text(one.mode),
            html_text(one.peer),
            duration(one.connected_s),
            str(one.next),
            str(one.acked) if one.acked else "–",
        ]
        for one in connections[:ROWS_MAX]
    )
    head = ["Source", "Stream", "Mode", "From", "For", "Next", "Acked to"]
    inside = table("connections", head, rows, numbers={4, 5, 6})
    return section("connections", "Connections", inside, soft=str(count))


def _alarms(alarms: Sequence[AlarmStatus]) -> str:
    if not alarms:
        return '<section id="alarms" data-fresh hidden></section>'
    rows = (
        [
            html_text(one.rule),
            f'<a href="{html_text(address_of(one.stream))}">{html_text(one.stream)}</a>',
            "–" if one.value is None else f"{one.value:.6g}",
            html_text(_date(one.since)),
            html_text(one.meaning),
        ]
        for one in alarms[:ROWS_MAX]
    )
    head = ["Rule", "Stream", "Value", "Since", "On when"]
    inside = table("alarms", head, rows, numbers={2}, texts={4})
    return section("alarms", "Alarms that are on", inside)


def _refused(refused: Sequence[RefusedStatus]) -> str:
    if not refused:
        return '<section id="refused" data-fresh hidden></section>'
    rows = (
        [
            html_text(one.address or "–"),
            html_text(one.port),
            amount(one.count),
            f"{duration(one.last_s)} ago",
            html_text(one.sentence),
        ]
        for one in refused[:ROWS_MAX]
    )
    head = ["From", "At", "Times", "Last", "Why, and what helps"]
    inside = table("refused", head, rows, numbers={2, 3}, texts={4})
    return section("refused", "Refused peers", inside)


def _journal(lines: Sequence[JournalStatus]) -> str:
    if not lines:
        return '<section id="journal" data-fresh hidden></section>'
    rows = ([_date(one.time), html_text(one.level), html_text(one.text)] for one in lines)
    inside = table("journal", ["When", "Kind", "What"], rows, numbers=set(), texts={2})
    return section("journal", "Journal", inside, soft="the last lines, the newest first")


def _rate(rate: Rate) -> tuple[str, str]:
    return f"{amount(rate.records_per_s)}/s", f"records; {size(rate.bytes_per_s)}/s"


def _in_words(rate: Rate) -> str:
    return f"{amount(rate.records_per_s)}/s, {size(rate.bytes_per_s)}/s"


def _date(text: str) -> str:
    return text[:19].replace("T", " ") + " UTC"
