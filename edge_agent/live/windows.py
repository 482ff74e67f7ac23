"""Windows: per stream and field count, min, max, mean and last, as derived records.

A rule with a ``window`` gathers what is stored in windows by the records' own time
(`edge_agent.live.window_state` says when they close and what is late), tumbling ones, or with
``every`` sliding ones; `edge_agent.live.derive` makes each of them a record, once:

- Stream: the rule's ``into`` with ``{stream}`` put in. Time: the window's start.
- Fields: those of `Summary.flat`, and ``of``, the stream, where ``into`` has no ``{stream}`` that
  tells it. ``clock_unset`` is true, and there at all, where the window is one by a clock of ours
  that was not set: its time is none then.

**Idle.** A stream that says nothing for ``idle``, by the agent's clock, closes those of its windows
that have ended by that clock (all of them while the clock is not synced). So a daily window
survives a pause at noon, and last week's data sent in one go is closed soon after.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from edge_agent.config import Rule
from edge_agent.live.derive import Now, Result, derive, derived_runs
from edge_agent.live.window_state import ClosedWindow, OpenWindows
from edge_agent.log import Log
from edge_agent.metrics import Metrics
from edge_agent.store import Boot
from edge_agent.system.clock import Clock, Reading
from edge_agent.values.record import NANOSECONDS, Record, Run

logger = logging.getLogger(__name__)

#: A wall clock can be set at any time, so nobody sleeps for longer until a date.
_NAP_SECONDS = 3600.0


async def run_windows(log: Log, rule: Rule, *, clock: Clock, metrics: Metrics) -> None:
    """Do what a rule with a ``window`` says, until cancelled or the log takes nothing more."""
    open_windows: dict[str, int] = {}

    def make(name: str) -> WindowsOfLog:
        return WindowsOfLog(rule, name, metrics=metrics, open_windows=open_windows)

    await derive(log, rule, make, clock=clock)


class WindowsOfLog:
    """The windows of one rule over one log; a `Derivation`."""

    def __init__(
        self, rule: Rule, name: str, *, metrics: Metrics, open_windows: dict[str, int]
    ) -> None:
        assert rule.window is not None
        self._rule = rule
        self._name = name
        self._metrics = metrics
        self._open_windows = open_windows
        self._windows = OpenWindows(
            window_ns=_whole_ns(rule.window),
            every_ns=None if rule.every is None else _whole_ns(rule.every),
            lateness_ns=round(rule.lateness * NANOSECONDS),
            fields=tuple(rule.fields),
            open_max=rule.open_windows,
        )
        #: Windows that were taken; and what metrics have been told of: late records, windows that
        #: closed early, and that.
        self._taken = 0
        self._told = (0, 0, 0)
        #: When a stream with open windows last spoke, on Trio's clock.
        self._spoke: dict[str, float] = {}

    @property
    def ready(self) -> int:
        """Closed windows that nobody has taken yet."""
        return self._windows.closed

    def take_up(self, state: bytes | None, now: Now) -> None:
        """Begin from a stored state; windows of another length close early."""
        early = 0 if state is None else self._windows.decode(state)
        if early:
            logger.warning(
                "rule %s: the window's length has changed; %d open windows close early",
                self._rule.name,
                early,
            )
        self._spoke = {stream: now.trio_s for stream, _ in self._windows.waiting()}

    def add(self, record: Record, committed: Reading, boot: Boot | None) -> None:
        """The next record."""
        self._windows.add(record, committed.wall_ns if committed.synced else None, boot)

    def look(self, now: Now) -> None:
        """Note who has spoken, and tell metrics."""
        windows, spoke = self._windows, self._spoke
        self._spoke = {
            stream: now.trio_s if stream in windows.seen else spoke.get(stream, now.trio_s)
            for stream, _ in windows.waiting()
        }
        windows.seen.clear()
        self._open_windows[self._name] = windows.open
        self._metrics.set("windows_open", sum(self._open_windows.values()), self._rule.name)
        late, early, taken = self._told
        self._told = windows.late, windows.early, self._taken
        self._count("records_late_total", windows.late - late)
        self._count("windows_closed_early_total", windows.early - early)
        self._count("windows_closed_total", self._taken - taken)

    def wake_in(self, now: Now) -> float:
        """Until the first silent stream's windows are due."""
        wait_s = float("inf")
        for stream, end_ns in self._windows.waiting():
            due_s = self._spoke[stream] + self._rule.idle - now.trio_s
            if now.reading.synced:
                due_s = max(due_s, (end_ns - now.reading.wall_ns) / NANOSECONDS)
            wait_s = min(wait_s, due_s)
        return min(wait_s, _NAP_SECONDS) if self._windows.open else wait_s

    def pass_time(self, now: Now) -> None:
        """Close silent streams' windows."""
        until_ns = now.reading.wall_ns if now.reading.synced else None
        silent = [
            stream
            for stream, _ in self._windows.waiting()
            if now.trio_s >= self._spoke[stream] + self._rule.idle
        ]
        for stream in silent:
            self._windows.close_idle(stream, until_ns)

    def encode(self) -> bytes:
        """The open windows; the oldest close where there is no room for them."""
        return self._windows.encode()

    def take(self, now: Now) -> tuple[Run, ...]:
        """The closed windows, as runs."""
        closed = self._windows.take_closed()
        self._taken += len(closed)
        return window_runs(self._rule, closed, now)

    def _count(self, metric: str, amount: int) -> None:
        if amount:
            self._metrics.add(metric, amount, self._rule.name)


def _whole_ns(seconds: float) -> int:
    # Durations are read in microseconds; in ns a float of 200 days would no more be exact.
    return round(seconds * 1_000_000) * 1000


def window_runs(rule: Rule, closed: list[ClosedWindow], now: Now) -> tuple[Run, ...]:
    """The windows as runs to append."""
    tell_stream = rule.into is not None and "{stream}" not in rule.into
    return derived_runs(rule, _results(closed, tell_stream=tell_stream), now.reading)


def _results(closed: list[ClosedWindow], *, tell_stream: bool) -> Iterator[Result]:
    for window in closed:
        fields: dict[str, object] = {"of": window.stream} if tell_stream else {}
        if window.clock_unset:
            fields["clock_unset"] = True
        for field, summary in window.fields.items():
            fields |= summary.flat(field)
        yield window.stream, window.start_ns, fields
