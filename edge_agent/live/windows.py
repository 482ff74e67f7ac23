"""Tumbling windows: per stream and field count, min, max, mean and last, as derived records.

A rule with a ``window`` is a consumer of each log, called ``rule/NAME``. It reads what is durable,
gathers it in windows by the records' own time (`edge_agent.live.window_state` says when they close
and what is late), and appends one record per closed window:

- Stream: the rule's ``into`` with ``{stream}`` put in, by default ``$rule/NAME/{stream}``. A name
  too long to be one is cut and made unique again. Source: ``$rule/NAME``. Time: the window's start.
- Fields: those of `Summary.flat`, and ``of``, the stream, where ``into`` has no ``{stream}`` that
  tells it. ``clock_unset`` is true, and there at all, where the window is one by a clock of ours
  that was not set: its time is none then.

**Exactly once.** Outputs, the position behind the last record used and the windows still open then
are one entry of the log: they commit together or not at all. After a crash what follows that
position is read again and gives the same windows; or better ones, where a clock was set meanwhile
and what it had said before is now read corrected. While nothing closes, position and state are
written every 10,000 records only, so that windows add little to what is written.

**Idle.** A stream that says nothing for ``idle``, by the agent's clock, closes those of its windows
that have ended by that clock (all of them while the clock is not synced). So a daily window
survives a pause at noon, and last week's data sent in one go is closed soon after.

**No loops.** A rule never sees its own records, those of other rules only with ``derived``, and
never an aggregate that a full log has put in the place of records.

Where a log refuses the outputs (`StoreFull`), the rule waits with them. It reads each log by
itself: streams are expected to stay in one log.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar, TypeVarTuple

import msgpack
import trio

from edge_agent.aggregates import THINNED_SOURCE
from edge_agent.clock import Clock, Reading
from edge_agent.commit import Closed
from edge_agent.config import Rule
from edge_agent.errors import StoreDamaged, StoreError, StoreFailed, StoreFull
from edge_agent.live.window_state import ClosedWindow, OpenWindows
from edge_agent.log import Log
from edge_agent.metrics import Metrics
from edge_agent.record import NANOSECONDS, Run, as_sent
from edge_agent.store import Block, Entry, Gap, Position
from edge_agent.stream_names import STREAM_BYTES_MAX, compile_patterns


def derived_source(rule: str) -> str:
    """The source of what a rule derives, which is how derived records are told."""
    return f"$rule/{rule}"


def derived_stream(into: str, stream: str) -> str:
    """``into`` with ``{stream}`` put in; ``$`` stays in front of a name only."""
    name = into.replace("{stream}", stream.removeprefix("$"))
    if len(name) > STREAM_BYTES_MAX:
        name = f"{name[: STREAM_BYTES_MAX - 9].rstrip('/')}-{zlib.crc32(name.encode()):08x}"
    return name


def derived_runs(closed: Sequence[ClosedWindow], rule: Rule, now: Reading) -> tuple[Run, ...]:
    """The windows as runs to append, one for each derived stream, windows in order."""
    source = derived_source(rule.name)
    into = rule.into or source + "/{stream}"
    by_stream: dict[str, list[ClosedWindow]] = {}
    for window in closed:
        by_stream.setdefault(derived_stream(into, window.stream), []).append(window)
    return tuple(
        Run(
            stream=stream,
            source=source,
            source_seq=0,
            arrival_ns=now.wall_ns,
            synced=now.synced,
            count=len(windows),
            body=b"".join(_body(window, tell_stream="{stream}" not in into) for window in windows),
            time_min_ns=min(window.start_ns for window in windows),
            time_max_ns=max(window.start_ns for window in windows),
        )
        for stream, windows in by_stream.items()
    )


def _body(window: ClosedWindow, *, tell_stream: bool) -> bytes:
    start = msgpack.Timestamp(*divmod(window.start_ns, NANOSECONDS))
    record: dict[str, object] = {"time": as_sent(window.start_ns, start)}
    if tell_stream:
        record["of"] = window.stream
    if window.clock_unset:
        record["clock_unset"] = True
    for field, summary in window.fields.items():
        record |= summary.flat(field)
    body: bytes = msgpack.packb(record)
    return body


logger = logging.getLogger(__name__)

#: Records after which position and state are written although nothing closed.
SAVE_RECORDS = 10_000
#: Closed windows that are written before more is read.
WRITE_WINDOWS = 1000
#: A piece of reading with fewer records is done in the event loop: a thread would cost more.
_INLINE_RECORDS = 200
_READ_BYTES = 256 * 1024
#: A wall clock can be set at any time, so nobody sleeps for longer until a date.
_NAP_SECONDS = 3600.0
#: Between attempts to read while the disk refuses; the committer reopens the store.
_RETRY_SECONDS = 1.0

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def window_consumer(rule: str) -> str:
    """Name of the consumer that a rule is, in every log."""
    return f"rule/{rule}"


async def run_windows(log: Log, rule: Rule, *, clock: Clock, metrics: Metrics) -> None:
    """Do what a rule with a ``window`` says, until cancelled or the log takes nothing more."""
    assert rule.window is not None
    open_windows: dict[str, int] = {}
    async with trio.open_nursery() as nursery:
        for name in log.names():
            task = _Task(log, rule, name, clock=clock, metrics=metrics, open_windows=open_windows)
            nursery.start_soon(task.run)


class _Task:
    """One rule over one log."""

    def __init__(
        self,
        log: Log,
        rule: Rule,
        name: str,
        *,
        clock: Clock,
        metrics: Metrics,
        open_windows: dict[str, int],
    ) -> None:
        self._log = log
        self._rule = rule
        self._name = name
        self._clock = clock
        self._metrics = metrics
        self._open_windows = open_windows
        self._matches = compile_patterns(rule.streams)
        self._own = derived_source(rule.name)
        assert rule.window is not None
        self._windows = OpenWindows(
            window_ns=max(1, round(rule.window * NANOSECONDS)),
            lateness_ns=round(rule.lateness * NANOSECONDS),
            fields=tuple(rule.fields),
            open_max=rule.open_windows,
        )
        #: Everything up to it is in the windows; everything up to the other is durably done.
        self._after = 0
        self._saved = 0
        #: When a stream with open windows last spoke, on Trio's clock.
        self._spoke: dict[str, float] = {}

    async def run(self) -> None:
        try:
            await self._take_up()
            while True:
                await self._read_on()
                if self._windows.closed:
                    await self._write()
                elif self._after - self._saved >= SAVE_RECORDS:
                    await self._log.acknowledge(self._position())
                    self._saved = self._after
                await self._wait()
        except (Closed, StoreFailed):
            # Of appends alone: the agent is stopping. What was not written is read again after the
            # next start.
            return

    async def _take_up(self) -> None:
        consumer = window_consumer(self._rule.name)
        floor, state = await _patiently(self._log.position, consumer, self._name)
        last = self._log.last_seq(self._name)
        self._after = self._saved = min(floor, last)
        if floor > last:
            # The store was read back from a damaged one and has lost its newest records.
            back = Position(consumer, self._name, last, rewind=True)
            await self._log.acknowledge(back)
        if state is not None and not self._windows.decode(state):
            logger.warning(
                "rule %s: the window's length has changed; %d open windows close early",
                self._rule.name,
                self._windows.open,
            )
            self._windows.close_all()
        now = trio.current_time()
        self._spoke = {stream: now for stream, _ in self._windows.waiting()}

    async def _read_on(self) -> None:
        """Put what there is into windows, until the end or until enough have closed."""
        while self._log.last_seq(self._name) > self._after:
            items = await _patiently(self._log.read, self._name, self._after, _READ_BYTES)
            if not items:
                return
            late, early = self._windows.late, self._windows.early
            if items[-1].last - self._after <= _INLINE_RECORDS:
                self._process(items)
                await trio.lowlevel.checkpoint()
            else:
                await self._log.run_blocking(self._process, items)
            self._after = items[-1].last
            self._note_streams()
            self._count("records_late_total", self._windows.late - late)
            self._count("windows_closed_early_total", self._windows.early - early)
            if self._windows.closed >= WRITE_WINDOWS or self._after - self._saved >= SAVE_RECORDS:
                return

    def _process(self, items: Sequence[Block | Gap]) -> None:
        windows, after = self._windows, self._after
        for item in items:
            if isinstance(item, Gap):
                if after:
                    logger.warning(
                        "rule %s: records %d to %d of log %s are %s; their windows lack them",
                        self._rule.name,
                        item.first,
                        item.last,
                        item.log,
                        item.reason,
                    )
                continue
            clock_ns = item.when_ns if item.synced or item.correction is not None else None
            boot = item.unset_boot
            try:
                for record in item.records(self._matches):
                    if record.seq > after and not self._is_derived(record.source):
                        windows.add(record, clock_ns, boot)
            except StoreDamaged:
                # Its checksum was right, so it was written like this; what follows is sound.
                continue

    def _is_derived(self, source: str) -> bool:
        if source == self._own:
            return True
        if source.startswith(THINNED_SOURCE):
            # The sums over a minute are no measurement, and it may have seen some of these before.
            return True
        return source.startswith("$rule/") and not self._rule.derived

    async def _write(self) -> None:
        """Append what closed, together with the position and what is still open."""
        early = self._windows.early
        position = self._position()
        self._count("windows_closed_early_total", self._windows.early - early)
        closed = self._windows.take_closed()
        runs = derived_runs(closed, self._rule, self._clock.read())
        entry = Entry(runs=runs, positions=(position,))
        while True:
            ticket = await self._log.append(entry)
            try:
                await ticket.wait()
                break
            except StoreFull as full:
                await trio.sleep(full.retry_after)
        self._saved = self._after
        self._count("windows_closed_total", len(closed))
        self._note_streams()

    def _position(self) -> Position:
        consumer = window_consumer(self._rule.name)
        return Position(consumer, self._name, self._after, self._windows.encode())

    async def _wait(self) -> None:
        """Until there is more to read, or a silent stream's windows are due."""
        deadline = self._idle_deadline()
        with trio.move_on_at(deadline) as patience:
            await self._log.wait_past(self._name, self._after)
        if patience.cancelled_caught:
            self._close_idle()

    def _idle_deadline(self) -> float:
        now, reading = trio.current_time(), self._clock.read()
        deadline = float("inf")
        for stream, end_ns in self._windows.waiting():
            due = self._spoke[stream] + self._rule.idle
            if reading.synced:
                due = max(due, now + (end_ns - reading.wall_ns) / NANOSECONDS)
            deadline = min(deadline, due)
        return min(deadline, now + _NAP_SECONDS) if self._windows.open else deadline

    def _close_idle(self) -> None:
        now, reading = trio.current_time(), self._clock.read()
        until_ns = reading.wall_ns if reading.synced else None
        silent = [
            stream
            for stream, _ in self._windows.waiting()
            if now >= self._spoke[stream] + self._rule.idle
        ]
        for stream in silent:
            self._windows.close_idle(stream, until_ns)

    def _note_streams(self) -> None:
        now, windows = trio.current_time(), self._windows
        spoke = self._spoke
        self._spoke = {
            stream: now if stream in windows.seen else spoke.get(stream, now)
            for stream, _ in windows.waiting()
        }
        windows.seen.clear()
        self._open_windows[self._name] = windows.open
        self._metrics.set("windows_open", sum(self._open_windows.values()), self._rule.name)

    def _count(self, metric: str, amount: int) -> None:
        if amount:
            self._metrics.add(metric, amount, self._rule.name)


async def _patiently(question: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
    """What the log says, once the disk lets it."""
    while True:
        try:
            return await question(*args)
        except StoreError:
            await trio.sleep(_RETRY_SECONDS)
