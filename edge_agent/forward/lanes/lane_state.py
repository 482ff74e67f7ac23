"""This module says where a lane stands: to the lane, to metrics, and to status as a snapshot."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from edge_agent.errors import Obstacle, SinkRefused, SinkUnavailable
from edge_agent.forward.lanes.lane_phases import HELD, WAITING, Event, Phase, next_phase
from edge_agent.forward.sink import Acknowledged, Batch, Part
from edge_agent.metrics import Metrics
from edge_agent.store import Block, Gap
from edge_agent.system.clock import Reading
from edge_agent.values.record import NANOSECONDS, UNSET_CLOCK_BEFORE_NS

logger = logging.getLogger(__name__)

FailureKind = Literal[
    "unavailable", "slow", "misconfigured", "refused", "rewind", "copied", "mistake"
]

Outcome = Literal["acknowledged", "refused", "failed"]


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What became of one batch that was really sent.

    Attributes:
        when_ns: when that was known, wall clock.
        first, last: its seqs.
        size: bytes as sent.
        seconds: from its sending to the answer; 0 where it is not known.
        status: of an HTTP answer, 0 without one.
        outcome: ``acknowledged``, ``refused`` or ``failed``.
        cause: why, "" where it was acknowledged.
    """

    when_ns: int
    first: int
    last: int
    size: int
    seconds: float
    status: int
    outcome: Outcome
    cause: str


def report_of(
    first: int,
    last: int,
    outcome: Acknowledged | SinkRefused | SinkUnavailable,
    seconds: float,
    wall_ns: int,
) -> BatchReport | None:
    """The report of a ``send``; None where nothing was sent, or nothing is known yet."""
    word: Outcome
    if isinstance(outcome, Acknowledged):
        if not outcome.records:
            return None
        size, word, cause = outcome.size, "acknowledged", ""
    else:
        if not (outcome.status or outcome.sent_bytes):
            return None
        size, cause = outcome.sent_bytes, str(outcome)
        word = "refused" if isinstance(outcome, SinkRefused) else "failed"
    status = outcome.status
    return BatchReport(wall_ns, first, last, size, seconds, status, word, cause)


@dataclass(frozen=True, slots=True)
class LaneStatistics:
    """One log of one upstream, at one moment.

    Attributes:
        log: name of the log.
        phase: `Phase` in words, `HELD` or `WAITING`.
        connected: whether the last attempt succeeded and lasts.
        floor: everything up to this seq is acknowledged.
        backlog_records: durable here, not acknowledged there; filtered records among them.
        backlog_bytes: the same as they are stored, as far as they were read; else an estimate by
            the size of what was sent last. 0 before anything was read.
        backlog_seconds: age of the oldest of them, by its commit time; 0 without any, or before any
            was looked at.
        error: the last failure as a sentence, "" before the first.
        error_ns: when it was, wall clock; 0 before the first.
        obstacle: where it lies.
        failing: whether the upstream has been out of reach since, as far as is known.
        failures: failures in a row.
        next_try_s: until the next attempt; 0 unless backing off.
        records, size, refused, rewinds, gap_records: since the start: acknowledged records and
            their bytes as sent, records refused for good, times the upstream had lost data, and
            records of its loss that were no longer here.
        mistaken: whether it fails on a mistake of our own.
        plain: whether it is sent uncompressed because the upstream refuses the configured way.
        passed, failed: the largest body that got through, the smallest that was cut off, in bytes;
            0 where there is none.
        report: what the last batch met that was really sent.
        waits_for: the window that it waits for, in words; "" where it does not.
        expired: records that were too old to be sent.
        part: of which part of the log; "backlog" where that is sent beside newer records.
    """

    log: str
    phase: str
    connected: bool
    floor: int
    backlog_records: int
    backlog_bytes: int
    backlog_seconds: float
    error: str
    error_ns: int
    failing: bool
    failures: int
    next_try_s: float
    records: int
    size: int
    refused: int
    rewinds: int
    gap_records: int
    obstacle: Obstacle = "between"
    mistaken: bool = False
    plain: bool = False
    passed: int = 0
    failed: int = 0
    report: BatchReport | None = None
    waits_for: str = ""
    expired: int = 0
    part: Part = "live"


class Standing:
    """The mutable side of `LaneStatistics`."""

    def __init__(self, upstream: str, metrics: Metrics) -> None:
        self._upstream, self._metrics = upstream, metrics
        self.phase = Phase.CAUGHT_UP
        self.open = False
        self.floor = 0
        self.failures = 0
        self.next_try_at: float | None = None
        self._error, self._error_ns, self._failing = "", 0, False
        self._kind: FailureKind = "unavailable"
        self._obstacle: Obstacle = "between"
        self._report: BatchReport | None = None
        self._records = self._size = self._refused = self._rewinds = self._gap_records = 0
        #: (last seq, when stored or None for a gap, bytes) of what was read and is not
        #: acknowledged, oldest first.
        self._unsettled: deque[tuple[int, _Commit | None, int]] = deque()
        self._waits_since: _Commit | None = None
        self._bytes_per_record = 0.0
        #: What was withheld up to there is counted, however often it comes up.
        self._withheld_upto = self._expired_upto = self._expired = 0

    @property
    def connected(self) -> bool:
        """Whether the last attempt succeeded, as far as is known."""
        return self.open and not self._failing

    @property
    def unsettled(self) -> bool:
        """Whether something was handed to the sink and is not acknowledged."""
        return bool(self._unsettled)

    def enter(self, event: Event) -> None:
        """Follow the table of phases."""
        self.phase = next_phase(self.phase, event)

    def opened(self, floor: int, *, proven: bool) -> None:
        """The sink is open and begins behind ``floor``; ``proven`` if the upstream said so."""
        self.open = True
        self._failing = self._failing and not proven
        self.floor = floor
        self._unsettled.clear()

    def closed(self) -> None:
        """The sink is closed."""
        self.open = False

    def met(self, report: BatchReport | None) -> None:
        """A batch was sent; None where nothing can be said of it."""
        self._report = report or self._report

    def mistaken(self) -> None:
        """The lane failed on a mistake of ours, wherever it was."""
        self.phase = Phase.BACKING_OFF
        self.failures += 1
        self.closed()
        self._unsettled.clear()

    def rests(self) -> None:
        """A person holds it; there is neither a connection nor a next try."""
        self.enter(Event.HELD)
        self.next_try_at = None
        self.failures, self._failing = 0, False
        self._unsettled.clear()

    def read(self, batch: Batch) -> int:
        """The batch was read and is about to be handed over; how many of its records are withheld
        that were not counted before.
        """
        withheld = 0
        blocks = [item for item in batch.items if isinstance(item, Block)]
        size = sum(len(block.payload) for block in blocks)
        if blocks:
            self._bytes_per_record = size / sum(block.count for block in blocks)
        if batch.withheld and batch.last > self._withheld_upto:
            self._withheld_upto, withheld = batch.last, batch.withheld
            self._metrics.add("forward_withheld_total", withheld, self._upstream)
            logger.warning(
                "upstream %s: %d records of log %s were thinned while it had a part of them;"
                " it is not given the rest of their aggregates",
                self._upstream,
                withheld,
                batch.log,
            )
        if batch.expired and batch.last > self._expired_upto:
            self._expired_upto = batch.last
            self._expired += batch.expired
            self._metrics.add("forward_expired_total", batch.expired, self._upstream)
        if not self._unsettled or self._unsettled[-1][0] < batch.last:
            self._unsettled.append((batch.last, _first_commit(blocks), size))
        return withheld

    def waiting(self, items: Sequence[Block | Gap]) -> None:
        """What comes next in the log, seen without being sent: for the age of the backlog."""
        blocks = [item for item in items if isinstance(item, Block)]
        self._waits_since = _first_commit(blocks)

    def acknowledged(self, acknowledged: Acknowledged) -> None:
        """The floor moves up."""
        self.floor = acknowledged.upto
        self.failures, self._failing = 0, False
        self._waits_since = None
        self._records += acknowledged.records
        self._size += acknowledged.size
        while self._unsettled and self._unsettled[0][0] <= self.floor:
            self._unsettled.popleft()
        self._metrics.add("forwarded_records_total", acknowledged.records, self._upstream)
        self._metrics.add("forwarded_bytes_total", acknowledged.size, self._upstream)
        self._metrics.add("forward_batches_total", 1, self._upstream)

    def refused(self, count: int, others: Acknowledged | None = None) -> None:
        """Records that the upstream will never take; ``others`` of their batch it has taken."""
        self._refused += count
        self._metrics.add("forward_refused_total", count, self._upstream)
        if others is not None:
            self.acknowledged(others)

    def rewound(self, gap_records: int) -> None:
        """The upstream had lost data, of which ``gap_records`` are no longer here."""
        self._rewinds += 1
        self._gap_records += gap_records
        self._metrics.add("forward_rewinds_total", 1, self._upstream)
        self._metrics.add("forward_gap_records_total", gap_records, self._upstream)

    def failed(
        self, kind: FailureKind, error: str, wall_ns: int, obstacle: Obstacle = "here"
    ) -> None:
        """Something went wrong; ``kind`` is the metric's label."""
        self._error, self._error_ns, self._kind, self._obstacle = error, wall_ns, kind, obstacle
        self._failing = self._failing or kind not in ("refused", "rewind", "copied")
        self._metrics.add("forward_failures_total", 1, self._upstream, kind)

    def snapshot(self, log: str, backlog: int, clocks: Reading, now: float) -> LaneStatistics:
        """What status shows; ``now`` is Trio's clock, ``backlog`` how many records of the log are
        behind the floor.
        """
        known = (commit for _, commit, _ in self._unsettled if commit is not None)
        oldest = next(known, self._waits_since) if backlog else None
        read_bytes = sum(size for _, _, size in self._unsettled)
        unread = backlog - max(0, self._unsettled[-1][0] - self.floor if self._unsettled else 0)
        is_held = self.phase is Phase.BACKING_OFF and self._kind == "slow"
        return LaneStatistics(
            log=log,
            phase=HELD if is_held else self.phase.value,
            connected=self.connected,
            floor=self.floor,
            backlog_records=backlog,
            backlog_bytes=read_bytes + round(max(0, unread) * self._bytes_per_record),
            backlog_seconds=0.0 if oldest is None else oldest.age_s(clocks),
            error=self._error,
            error_ns=self._error_ns,
            failing=self._failing,
            failures=self.failures,
            next_try_s=max(0.0, self.next_try_at - now) if self.next_try_at is not None else 0.0,
            records=self._records,
            size=self._size,
            refused=self._refused,
            rewinds=self._rewinds,
            gap_records=self._gap_records,
            obstacle=self._obstacle,
            mistaken=self._failing and self._kind == "mistake",
            report=self._report,
            expired=self._expired,
        )


class _Commit(NamedTuple):
    """When a block was committed, by both clocks."""

    boot_id: bytes
    boot_ns: int
    when_ns: int

    def age_s(self, now: Reading) -> float:
        """Seconds since; 0 where nobody can tell."""
        if self.boot_id == now.boot_id:
            # The other clock may have been set since, by years.
            return max(0.0, (now.boot_ns - self.boot_ns) / NANOSECONDS)
        if self.when_ns < UNSET_CLOCK_BEFORE_NS <= now.wall_ns:
            # An earlier boot's clock was never set. Half a century would be no age.
            return 0.0
        return max(0.0, (now.wall_ns - self.when_ns) / NANOSECONDS)


def _first_commit(blocks: Sequence[Block]) -> _Commit | None:
    return _Commit(blocks[0].boot_id, blocks[0].boot_ns, blocks[0].when_ns) if blocks else None


def waiting_backlog(live: LaneStatistics, floor: int, records: int) -> LaneStatistics:
    """A backlog of ``records`` whose lane has not begun, beside the lane of newer records."""
    return replace(
        live, part="backlog", floor=floor, backlog_records=records, backlog_bytes=0,
        records=0, size=0, refused=0, rewinds=0, gap_records=0, expired=0, report=None,
    )  # fmt: skip


def held_up(now: LaneStatistics, trouble: str, wall_ns: int) -> LaneStatistics:
    """``now`` while something has to be durable before it is sent, and the disk refuses."""
    if not now.backlog_records:
        return now
    error = f"waits until the disk takes writes: {trouble}"
    return replace(
        now, connected=False, failing=True, error=error, error_ns=wall_ns, obstacle="here"
    )


def waiting(now: LaneStatistics, waits_for: str) -> LaneStatistics:
    """``now`` of a lane that rests until a window, in words; unchanged where it does not rest."""
    if not waits_for or now.phase != Phase.PAUSED.value:
        return now
    return replace(now, phase=WAITING, waits_for=waits_for)
