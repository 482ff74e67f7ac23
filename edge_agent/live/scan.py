"""A question, and looking for its answer in blocks.

`scan` is the part of answering that takes the processor's time. It knows nothing of logs and
deadlines: it is given blocks and what was found so far, and runs in a thread of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge_agent.aggregates import Summary, is_number
from edge_agent.errors import StoreDamaged
from edge_agent.live.filter import Filter
from edge_agent.live.moments import Position, bad_query
from edge_agent.record import TIME_NS_MAX, Record
from edge_agent.store import Block, Gap

LIMIT_DEFAULT = 1000
SEQ_MAX = 2**63
#: Before 1970 too: there are measurements from then, and clocks that wake on its first day.
EARLIEST_NS = -(2**63)
#: An aggregate over more streams than this is a mistake in the pattern.
AGGREGATED_STREAMS_MAX = 10_000
#: What a decoded record with four numbers occupies in memory, about.
_RECORD_BYTES = 600


@dataclass(frozen=True, slots=True)
class Query:
    """One question.

    Attributes:
        matches: which streams.
        from_ns, to_ns: ``from_ns <= time < to_ns``.
        limit: records at most.
        wanted: the filter, None without one.
        aggregate: name of a field, None for records.
        log: this log alone, None for all.
        from_seq, to_seq: positions there, both included.
        next: where an earlier answer ended: the first position not looked at.
    """

    matches: Callable[[str], bool]
    from_ns: int = EARLIEST_NS
    to_ns: int = TIME_NS_MAX
    limit: int = LIMIT_DEFAULT
    wanted: Filter | None = None
    aggregate: str | None = None
    log: str | None = None
    from_seq: int = 1
    to_seq: int = 2**63
    next: Position | None = None


@dataclass(slots=True)
class ScanResult:
    """What was found so far. ``room``: bytes of memory that further records may take."""

    room: int
    records: list[Record] = field(default_factory=list)
    summaries: dict[str, Summary] = field(default_factory=dict)
    scanned: int = 0


def scan(
    items: Sequence[Block | Gap], query: Query, found: ScanResult, first: int, last: int
) -> int | None:
    """Look for records with ``first <= seq <= last`` that answer the question.

    Returns the seq of the first record that there was no more room for; None if all were looked
    at. Raises ProtocolError (``bad_query``) for an aggregate over too many streams.
    """
    take = _take if query.aggregate is None else _aggregate
    for item in items:
        if isinstance(item, Gap) or item.first > last:
            continue
        if item.earliest_ns >= query.to_ns or item.latest_ns < query.from_ns:
            continue
        try:
            for record in item.records(query.matches):
                if not first <= record.seq <= last:
                    continue
                found.scanned += 1
                if not query.from_ns <= record.time_ns < query.to_ns:
                    continue
                if query.wanted is not None and not query.wanted(record):
                    continue
                if not take(record, query, found):
                    return record.seq
        except StoreDamaged:
            # Its checksum was right, so it was written like this; what lies behind it is sound.
            continue
    return None


def _take(record: Record, query: Query, found: ScanResult) -> bool:
    if len(found.records) >= query.limit or (found.records and found.room <= 0):
        return False
    found.records.append(record)
    found.room -= _RECORD_BYTES + _weight(record.fields)
    return True


def _aggregate(record: Record, query: Query, found: ScanResult) -> bool:
    assert query.aggregate is not None
    value: Any = record.fields.get(query.aggregate)
    if is_number(value):
        summary = found.summaries.get(record.stream)
        if summary is None:
            if len(found.summaries) >= AGGREGATED_STREAMS_MAX:
                raise bad_query(
                    f"stream: an aggregate takes at most {AGGREGATED_STREAMS_MAX} streams; "
                    "name them more narrowly"
                )
            summary = found.summaries[record.stream] = Summary()
        summary.add(value, record.time_ns)
    return True


def _weight(value: Any) -> int:
    """Bytes of what has no fixed size in a value, about."""
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, dict):
        return sum(64 + _weight(item) for item in value.values())
    if isinstance(value, list):
        return sum(32 + _weight(item) for item in value)
    return 0
