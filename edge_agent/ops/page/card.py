"""The page's section about the card: what is written to it, how long it lasts, the budget."""

from __future__ import annotations

from edge_agent.ops.page.frame import table
from edge_agent.ops.status import Status
from edge_agent.ops.text import amount, duration, ratio, size
from edge_agent.printable import ended, html_text
from edge_agent.wear import Stretch, Wear


def card_section(status: Status) -> str:
    """The section, as HTML."""
    wear = status.wear
    told = (ended(line[0].upper() + line[1:]) for line in status.wear_outlook)
    lines = "".join(f"<li>{html_text(line)}" for line in told)
    head = [
        "Written", "Agent", "Agent, a day", "All, a day", "Commits", "Each", "×", "× blocks",
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
    told = [f"Agent: {wear.counted_by}."] if wear.counted_by else []
    if wear.card_counted_by:
        told.append(f"All: {wear.card_counted_by}.")
    if wear.since_start.amplification is not None:
        told.append("×: bytes written, and bytes of blocks, for each byte of records kept.")
    total = wear.total_bytes if wear.total_card_bytes is None else wear.total_card_bytes
    if total is not None:
        since = f" since {wear.total_since[:10]}" if wear.total_since else ""
        told.append(f"Known to be written in all{since}: {size(total, 1000)}.")
    if told and wear.endurance_bytes is None:
        told.append("Set wear.endurance to see how long the card will last.")
    return " ".join(told) or "Nobody counts here what is written."
