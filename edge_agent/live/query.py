"""Bounded questions about what is stored.

`parse_query` understands the parameters of ``/query`` and ``/api/query``; `Queries.run` answers.

=========== ==================================================================================
stream      pattern, ``**`` by default
from, to    times (``from <= time < to``), or positions ``log:seq`` (that log alone, both included)
filter      see `edge_agent.values.filter`
limit       records at most, 1000 by default
next        where to go on: ``next`` of the answer before, all else unchanged
aggregate   a field: count, min, max, mean, first and last per stream, instead of records
=========== ==================================================================================

Records come log by log in the configuration's order, each in order of ``seq``. Every answer is
bounded in records, in memory and in time; one that had to end early is ``truncated`` and says in
``next`` where to go on. Blocks are left out by the time range in their header, unread; what is
decoded is decoded away from the event loop's thread, a piece at a time (`scan`). At most
``concurrent`` questions are worked on at one time, others wait for as long as an answer may take.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import trio

from edge_agent.errors import ProtocolError, StoreDamaged
from edge_agent.log import Log
from edge_agent.metrics import Metrics
from edge_agent.store import Block, Gap
from edge_agent.values.aggregates import Summary, is_number
from edge_agent.values.filter import Filter, compile_filter
from edge_agent.values.moments import (
    Position,
    bad_query,
    format_position,
    parse_moment,
    parse_position,
)
from edge_agent.values.record import TIME_NS_MAX, Record
from edge_agent.values.stream_names import compile_pattern

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


#: Read from the store at a time; decoded it is several times that.
_PIECE_BYTES = 128 * 1024
_PARAMETERS = ("stream", "from", "to", "filter", "limit", "next", "aggregate")


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """What one answer may cost: records, seconds, bytes in memory; how many at one time."""

    records: int = 100_000
    seconds: float = 10.0
    concurrent: int = 4
    bytes: int = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class QueryAnswer:
    """What was found.

    Attributes:
        records: in order of log and seq; empty for an aggregate.
        aggregates: stream to its figures, by name; empty without an aggregate.
        truncated: there may be more; ``next`` says where to go on.
        next: ``log:seq``, None when everything was looked at.
        scanned: records that were looked at.
        seconds: how long it took, waiting for a turn not counted.
    """

    records: list[Record]
    aggregates: dict[str, dict[str, float]]
    truncated: bool
    next: str | None
    scanned: int
    seconds: float


def parse_query(
    parameters: Mapping[str, str], now_ns: int, limits: QueryLimits | None = None
) -> Query:
    """The question that ``parameters`` (text to text) ask; see the module's docstring.

    Raises:
        ProtocolError: ``bad_query``, which names the parameter and what was expected.
    """
    for name in parameters:
        if name not in _PARAMETERS:
            raise bad_query(
                f"{name[:60]}: no such parameter; there are {', '.join(_PARAMETERS)}"
                " (and history's: fields, step, group, fill, order, times)"
            )
    try:
        matches = compile_pattern(parameters.get("stream", "**"))
    except ProtocolError as error:
        raise bad_query(f"stream: {error.message}") from None
    start, end = _bound(parameters, "from", now_ns), _bound(parameters, "to", now_ns)
    logs = {bound[0] for bound in (start, end) if isinstance(bound, tuple)}
    if len(logs) > 1:
        raise bad_query("from, to: positions in the same log were expected")
    following = parameters.get("next")
    position = None if following is None else parse_position(following)
    if following is not None and position is None:
        raise bad_query(f"next: expected log:seq as an answer gave it, got {following[:60]!r}")
    text = parameters.get("filter", "").strip()
    return Query(
        matches=matches,
        from_ns=start if isinstance(start, int) else EARLIEST_NS,
        to_ns=end if isinstance(end, int) else TIME_NS_MAX,
        limit=_limit(parameters.get("limit"), limits or QueryLimits()),
        wanted=compile_filter(text) if text else None,
        aggregate=parameters.get("aggregate") or None,
        log=next(iter(logs), None),
        from_seq=start[1] if isinstance(start, tuple) else 1,
        to_seq=end[1] if isinstance(end, tuple) else SEQ_MAX,
        next=position,
    )


class Queries:
    """Answers questions, so many at one time."""

    def __init__(self, log: Log, limits: QueryLimits, metrics: Metrics) -> None:
        self._log = log
        self._limits = limits
        self._metrics = metrics
        self._turns = trio.CapacityLimiter(limits.concurrent)
        # Threads that scan share one interpreter: two at a time are no quicker than one after the
        # other, but the event loop, and with it every ack, would wait for both.
        self._scanning = trio.Lock()

    async def run(self, query: Query) -> QueryAnswer:
        """The answer.

        Raises:
            ProtocolError: ``bad_query``, the log is not known; ``busy``, too many others ask.
            StoreFailed: the disk refused.
        """
        with trio.move_on_after(self._limits.seconds) as patience:
            await self._turns.acquire()
        if patience.cancelled_caught:
            raise ProtocolError(
                "busy", f"{self._limits.concurrent} queries are being answered; try again later"
            )
        try:
            answer = await run_query(self._log, query, self._limits, self._scanning)
        finally:
            self._turns.release()
        self._metrics.add("queries_total")
        self._metrics.add("query_seconds_total", answer.seconds)
        return answer


async def run_query(
    log: Log,
    query: Query,
    limits: QueryLimits | None = None,
    scanning: trio.Lock | None = None,
) -> QueryAnswer:
    """The answer to one question, within the limits on records, seconds and bytes.

    ``scanning`` is held while a block is looked through, by one question at a time.
    """
    limits = limits or QueryLimits()
    scanning = scanning or trio.Lock()
    began = trio.current_time()
    deadline = began + limits.seconds
    found = ScanResult(room=limits.bytes)
    place: Position | None = None
    for name, first in _starts(log, query):
        place = await _search(log, query, found, (name, first), deadline, scanning)
        if place is not None:
            break
    return QueryAnswer(
        records=found.records,
        aggregates={stream: summary.figures() for stream, summary in found.summaries.items()},
        truncated=place is not None,
        next=None if place is None else format_position(place),
        scanned=found.scanned,
        seconds=trio.current_time() - began,
    )


def _starts(log: Log, query: Query) -> list[Position]:
    """Each log to look at, and the first position there."""
    for named in (query.log, query.next and query.next[0]):
        if named is not None and named not in log.names():
            raise bad_query(f"there is no log {named!r}; there are {', '.join(log.names())}")
    names = list(log.names()) if query.log is None else [query.log]
    starts = [(name, query.from_seq) for name in names]
    if query.next is None:
        return starts
    name, first = query.next
    begun = names.index(name) if name in names else len(names)
    return [(name, max(first, query.from_seq)), *starts[begun + 1 :]]


async def _search(
    log: Log,
    query: Query,
    found: ScanResult,
    start: Position,
    deadline: float,
    scanning: trio.Lock,
) -> Position | None:
    """Look through one log; where to go on if something stopped it."""
    name, first = start
    after = first - 1
    if query.from_ns > 0:
        after = max(after, await log.read_near(name, query.from_ns) - 1)
    # What comes in while we look is not part of the question, or it might never end.
    end = min(query.to_seq, log.last_seq(name))
    while after < end:
        if trio.current_time() >= deadline:
            return name, after + 1
        items = await log.read(name, after, _PIECE_BYTES)
        if not items:
            break
        # One block at a time: well compressed, a piece may hold more than there are seconds for.
        for item in items:
            async with scanning:
                stopped = await log.run_blocking(scan, [item], query, found, after + 1, end)
            if stopped is not None:
                return name, stopped
            after = item.last
            if trio.current_time() >= deadline:
                break
    return None


def _bound(parameters: Mapping[str, str], what: str, now_ns: int) -> int | Position | None:
    text = parameters.get(what, "")
    if not text:
        return None
    return parse_position(text) or parse_moment(text, now_ns, what=what)


def _limit(text: str | None, limits: QueryLimits) -> int:
    if not text:
        return min(LIMIT_DEFAULT, limits.records)
    # Not more digits than a number of 64 bits: Python reads no number of thousands of them.
    is_number = text.isascii() and text.isdigit() and len(text) < 20
    if not is_number or not 1 <= int(text) <= limits.records:
        raise bad_query(f"limit: expected 1 to {limits.records} records, got {text[:60]!r}")
    return int(text)
