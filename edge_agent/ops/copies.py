"""Tells people of copied stores: our own, and those of sources."""

from __future__ import annotations

from collections.abc import Iterator

from edge_agent.copied_sources import CopiesSeen
from edge_agent.ops.status import CopiesStatus, Reason
from edge_agent.printable import ended
from edge_agent.record import DAY_S, NANOSECONDS, format_time
from edge_agent.store import Identity

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
        often = "once" if sources.times == 1 else f"{sources.times} times"
        yield Reason(
            "source_copied",
            f"A source came back as a copy of its store {often} since the start, at last"
            f" {sources.source} on {format_time(sources.when_ns)}: an older image was put back, or"
            " two run at once. Nothing is lost; some of its records may be here twice.",
        )


def _is_news(when_ns: int, wall_ns: int) -> bool:
    # By a clock that was not set nobody can tell how long ago it was.
    return abs(wall_ns - when_ns) < TOLD_S * NANOSECONDS
