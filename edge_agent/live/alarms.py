"""Makes a record of each alarm that goes on or off, and keeps the list of those that are on.

A rule with an ``alarm`` watches each of its streams (`edge_agent.live.alarm_state` says when an
alarm is on); `edge_agent.live.derive` makes each change of state a record, once:

- Stream: the rule's ``into`` with ``{stream}`` put in, by default ``$rule/NAME/{stream}``.
- Time: that of the record that made it change; of an absence that of the agent's clock.
- Fields: ``state``, which is ``on`` or ``off``; ``value``, the number that made it change (of rise
  and fall how much it was; of an absence its seconds; of a filter it is not there); ``since``, when
  the condition began, also where it is off again; ``of``, the stream. ``clock_unset`` is true, and
  there at all, where those times are by a clock of ours that was not set.

What is on stands in an `AlarmBoard`, for whoever looks at the agent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from edge_agent.config import Alarm, Rule, format_duration
from edge_agent.live.alarm_state import GRACE_NS, AlarmChange, AlarmStates
from edge_agent.live.derive import Now, Result, derive, derived_runs
from edge_agent.log import Log
from edge_agent.metrics import Metrics
from edge_agent.store import Boot
from edge_agent.system.clock import Clock, Reading
from edge_agent.values.record import NANOSECONDS, Record, Run, format_time

#: A clock can be set at any time, so nobody sleeps for longer until a date.
_NAP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class AlarmOn:
    """An alarm that is on: of which rule, what it says, about which stream, since when, and the
    number that made it so.
    """

    rule: str
    meaning: str
    stream: str
    since_ns: int
    value: float | None


class AlarmBoard:
    """All alarms that are on."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._on: dict[tuple[str, str], list[AlarmOn]] = {}

    def put(self, rule: str, log: str, on: list[AlarmOn]) -> None:
        """What is on of one rule in one log now."""
        self._on[rule, log] = on
        count = sum(len(found) for (name, _), found in self._on.items() if name == rule)
        self._metrics.set("alarm_active", count, rule)

    def listing(self) -> list[AlarmOn]:
        """Those that are on, rule by rule, the oldest first."""
        found = [one for on in self._on.values() for one in on]
        return sorted(found, key=lambda one: (one.rule, one.since_ns, one.stream))


async def run_alarms(
    log: Log, rule: Rule, *, clock: Clock, metrics: Metrics, board: AlarmBoard
) -> None:
    """Do what a rule with an ``alarm`` says, until cancelled or the log takes nothing more."""

    def make(name: str) -> AlarmsOfLog:
        return AlarmsOfLog(rule, name, metrics=metrics, board=board)

    await derive(log, rule, make, clock=clock)


class AlarmsOfLog:
    """The alarms of one rule over one log; a `Derivation`."""

    def __init__(self, rule: Rule, name: str, *, metrics: Metrics, board: AlarmBoard) -> None:
        assert rule.alarm is not None
        self._rule = rule
        self._name = name
        self._metrics = metrics
        self._board = board
        self._meaning = in_words(rule.alarm)
        self._states = AlarmStates(rule.alarm)
        absent = rule.alarm.absent
        self._judges_absence = absent is not None
        self._grace_s = min(absent or 0.0, GRACE_NS / NANOSECONDS)
        #: When absence may be judged, on Trio's clock.
        self._judged_from_s = math.inf
        #: What metrics have been told of: late records, records left out.
        self._told = (0, 0)

    @property
    def ready(self) -> int:
        """Changes that nobody has taken yet."""
        return self._states.changes

    def take_up(self, state: bytes | None, now: Now) -> None:
        """Begin from a stored state."""
        if state is not None:
            self._states.decode(state)
        self._judged_from_s = now.trio_s + self._grace_s
        self.look(now)

    def add(self, record: Record, committed: Reading, boot: Boot | None) -> None:
        """The next record."""
        self._states.add(record, committed, boot)

    def look(self, now: Now) -> None:
        """Tell metrics, and show what is on once it is written."""
        states = self._states
        late, left_out = self._told
        self._told = states.late, states.left_out
        for metric, amount in (
            ("records_late_total", states.late - late),
            ("alarm_records_left_out_total", states.left_out - left_out),
        ):
            if amount:
                self._metrics.add(metric, amount, self._rule.name)
        if not states.changes:
            on = [AlarmOn(self._rule.name, self._meaning, *one) for one in states.active()]
            self._board.put(self._rule.name, self._name, on)

    def wake_in(self, now: Now) -> float:
        """Until the first stream is absent for too long."""
        if not self._judges_absence:
            return math.inf
        due_ns = self._states.absences_due(now.reading)
        if due_ns is None:
            return math.inf
        wait_s = max(due_ns / NANOSECONDS, self._judged_from_s - now.trio_s)
        return min(wait_s, _NAP_SECONDS)

    def pass_time(self, now: Now) -> None:
        """Some streams may be absent now."""
        if now.trio_s >= self._judged_from_s:
            self._states.pass_time(now.reading)

    def encode(self) -> bytes:
        """What is known of all streams."""
        return self._states.encode()

    def take(self, now: Now) -> tuple[Run, ...]:
        """The changes, as runs."""
        return derived_runs(self._rule, _results(self._states.take_changes()), now.reading)


def _results(changes: list[AlarmChange]) -> Iterator[Result]:
    for change in changes:
        fields: dict[str, object] = {"state": "on" if change.is_on else "off"}
        if change.value is not None:
            fields["value"] = change.value
        fields |= {"since": format_time(change.since_ns), "of": change.stream}
        if change.clock_unset:
            fields["clock_unset"] = True
        yield change.stream, change.time_ns, fields


def in_words(alarm: Alarm) -> str:
    """What is so when it is on: ``t above 30 for 2m``."""
    if alarm.absent is not None:
        return f"no data for {format_duration(alarm.absent)}"
    if alarm.above is not None:
        told = f"{alarm.field} above {alarm.above:g}"
    elif alarm.below is not None:
        told = f"{alarm.field} below {alarm.below:g}"
    elif alarm.per is not None:
        way = "up" if alarm.fall is None else "down"
        amount = alarm.rise or alarm.fall
        told = f"{alarm.field} {way} by more than {amount:g} in {format_duration(alarm.per)}"
    else:
        told = str(alarm.where)
    return f"{told} for {format_duration(alarm.hold)}" if alarm.hold else told
