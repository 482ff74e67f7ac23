"""Renders the page at ``/``: one picture of the agent as plain HTML.

Rendered here and nowhere else: the few lines of script around it (`frame`) fetch it again
every two seconds and put the new ``<main>`` in the old one's place, so that nothing is formatted
twice, and a browser without script reloads it. Every word that was not written in this file is
escaped.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_agent.ops.figures import Figures, Rate
from edge_agent.ops.page.frame import document, table
from edge_agent.ops.status import (
    AlarmStatus,
    ConnectionStatus,
    LogStatus,
    RefusedStatus,
    Status,
    UpstreamStatus,
)
from edge_agent.ops.streams import Seen
from edge_agent.ops.text import ago, amount, duration, percent, phase, ratio, size
from edge_agent.printable import ended, html_text
from edge_agent.record import format_time
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
    return (
        "<h2>Card</h2>"
        + (f'<ul class="reasons">{lines}</ul>' if lines else "")
        + table(head, rows, numbers=set(range(1, 8)))
        + f"<p class=soft>{html_text(_footnote(wear))}</p>"
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


#: Streams and connections that the page lists; the API has them all.
ROWS_MAX = 100


def render_page(status: Status, streams: Sequence[tuple[str, Seen]], now_ns: int) -> bytes:
    """The whole page. ``streams`` are those that the reader may see; ``now_ns`` dates them."""
    agent = status.agent
    return document(
        "<header><h1>edge-agent</h1>"
        f'<span class="word {status.health.status}">{status.health.status}</span>'
        f'<span class="soft">{html_text(agent.id)} · {html_text(agent.version)} ·'
        f" up {duration(agent.uptime_s)} · {html_text(_date(agent.time))}</span></header>"
        + _reasons(status)
        + _figures(status.figures)
        + _upstreams(status.upstreams)
        + _store(status)
        + card_section(status)
        + _streams(status, streams, now_ns)
        + _connections(status.connections, status.connections_open)
        + _alarms(status.alarms)
        + _refused(status.refused)
    )


def render_locked() -> bytes:
    """The page for somebody without a token: a field for one."""
    return document(
        "<header><h1>edge-agent</h1></header><p>This agent shows itself to those who have a token"
        " with the scope <i>read</i>: <code>edge-agent token add NAME --read '**'</code>.</p>"
        '<form><label>Token <input id="token" type="password" autocomplete="off"></label>'
        " <button>Look in</button></form>"
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
    return (
        '<div class="figures">'
        + "".join(
            f'<div class="figure">{title}<b>{value}</b><small>{second}</small>'
            f"<small>{third}</small></div>"
            for title, value, second, third in cards
        )
        + "</div><p class=soft>R = N/T: N records in T seconds. Q = 1/T_q: T_q is the mean time of"
        " an answer in seconds. E = W/T_w: W records stored in T_w seconds of the processor.</p>"
    )


def _upstreams(upstreams: Sequence[UpstreamStatus]) -> str:
    if not upstreams:
        return "<h2>Upstreams</h2><p class=soft>None: what is received stays here.</p>"
    rows = (
        [
            html_text(one.name),
            html_text(phase(one.phase, one.retry_in_s)),
            amount(one.backlog_records),
            duration(one.backlog_s),
            amount(one.acknowledged_records),
            amount(one.refused_records),
            html_text(one.outlook or ""),
            html_text(one.error or ""),
        ]
        for one in upstreams
    )
    head = [
        "Upstream",
        "Phase",
        "Backlog",
        "Oldest",
        "Forwarded",
        "Refused",
        "Outlook",
        "Last error",
    ]
    return "<h2>Upstreams</h2>" + table(head, rows, numbers={2, 3, 4, 5}, texts={6, 7})


def _store(status: Status) -> str:
    store = status.store
    line = (
        f'<p><meter max="1" high="0.85" value="{store.fill:.3f}"></meter> {percent(store.fill)} of'
        f" {size(store.size_bytes)} in use · {amount(store.commits)} commits"
    )
    if store.commit_median_s is not None:
        line += f", {duration(store.commit_median_s)} each"
    if store.quarantine_entries:
        line += f" · {amount(store.quarantine_entries)} in quarantine"
    rows = ([html_text(log.name), *_log_cells(log)] for log in status.logs)
    head = ["Log", "Share in use", "Records", "Size", "Oldest", "Discarded", "Thinned", "Outlook"]
    return f"<h2>Store</h2>{line}</p>" + table(head, rows, numbers={2, 3, 5, 6}, texts={7})


def _log_cells(log: LogStatus) -> list[str]:
    return [
        f'<meter max="1" value="{min(log.fill, 1):.3f}"></meter> {percent(log.fill)}',
        amount(log.records),
        size(log.bytes),
        html_text(_date(log.oldest) if log.oldest else "–"),
        amount(log.discarded),
        amount(log.thinned),
        html_text(log.outlook or ""),
    ]


def _streams(status: Status, streams: Sequence[tuple[str, Seen]], now_ns: int) -> str:
    newest = sorted(streams, key=lambda pair: -pair[1].stored_ns)[:ROWS_MAX]
    rows = (
        [
            html_text(name),
            amount(seen.records),
            ago(now_ns - seen.stored_ns),
            _date(format_time(seen.stored_ns)),
            html_text(seen.source or "–"),
            html_text(seen.undated),
        ]
        for name, seen in sorted(newest)
    )
    head = ["Stream", "Records seen", "Last", "Kept at", "Source", "Time"]
    more = f"; the {ROWS_MAX} heard of last" if len(streams) > ROWS_MAX else ""
    return f"<h2>Streams <span class=soft>{len(streams)}{more}</span></h2>" + table(
        head, rows, numbers={1, 2}, texts={5}
    )


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
    return f"<h2>Connections <span class=soft>{count}</span></h2>" + table(
        head, rows, numbers={4, 5, 6}
    )


def _alarms(alarms: Sequence[AlarmStatus]) -> str:
    if not alarms:
        return ""
    rows = (
        [
            html_text(one.rule),
            html_text(one.stream),
            "–" if one.value is None else f"{one.value:.6g}",
            html_text(_date(one.since)),
            html_text(one.meaning),
        ]
        for one in alarms[:ROWS_MAX]
    )
    head = ["Rule", "Stream", "Value", "Since", "On when"]
    return "<h2>Alarms that are on</h2>" + table(head, rows, numbers={2}, texts={4})


def _refused(refused: Sequence[RefusedStatus]) -> str:
    if not refused:
        return ""
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
    return "<h2>Refused peers</h2>" + table(head, rows, numbers={2, 3}, texts={4})


def _rate(rate: Rate) -> tuple[str, str]:
    return f"{amount(rate.records_per_s)}/s", f"records; {size(rate.bytes_per_s)}/s"


def _in_words(rate: Rate) -> str:
    return f"{amount(rate.records_per_s)}/s, {size(rate.bytes_per_s)}/s"


def _date(text: str) -> str:
    return text[:19].replace("T", " ") + " UTC"
