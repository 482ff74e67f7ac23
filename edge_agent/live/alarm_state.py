"""Judges whether an alarm goes on or off, for each stream of one rule over one log.

Pure: records go in, changes of state come out; the same records in the same order always give the
same changes, which is what lets a restart replay them from the last stored state.

Every condition but absence is about one number *x* of a record, its **measure**: the alarm's field
for ``above``, its negative for ``below``, how much the field is above its least value within
``per`` for ``rise``, the same of its negative for ``fall``; 1 or 0 for ``where``.

- An alarm goes **on** when x is greater than its limit and was so, record by record, for ``hold``.
  It goes **off** when x is less than where it clears, or where nothing is said, no longer greater
  than the limit. In between it stays as it is.
- Time is the records' own. A sensor's clock may be wrong: where the agent's own was synced at the
  commit, a record more than a day ahead of it is left out, and one ahead by less counts as of the
  agent's time. A record that is older than the newest of its stream says nothing about now. Both
  are counted as late.
- Of a boot whose clock is not set, the agent's times are those of another world: with the first
  record of another world, holding and rises begin anew. What is on stays on.
- A record without the field, or with something else than a number in it, changes nothing.

**Absence** goes by the agent's clock, by when records were committed: within one boot by its boot
clock, which nobody sets; else by its wall clock, where that was set then and is now; else silence
counts from the moment when it was met with. A stream that never spoke is not known. An alarm goes
on only while the agent runs and everything stored is read, `GRACE_NS` after its start at the
earliest: what was due while it was down is due then, and whoever comes back meanwhile was never
absent. It goes off with the next record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from edge_agent.config import Alarm
from edge_agent.live.stored_state import pack_state, unpack_state
from edge_agent.live.window_state import AHEAD_NS_MAX
from edge_agent.store import Boot
from edge_agent.system.clock import Reading
from edge_agent.values.aggregates import is_number
from edge_agent.values.conditions import compile_condition
from edge_agent.values.filter import compile_field
from edge_agent.values.record import NANOSECONDS, Record

#: Streams that one rule watches in one log.
STREAMS_MAX = 5000
#: How long after a start absence is not judged, ``absent`` where that is less: sensors come back.
GRACE_NS = 60 * NANOSECONDS
#: A rise is told from as many values of the time that it is about, where records are as many.
TRAIL_MAX = 60
#: Told from the states of windows, in which a number stands here.
_STATE_FORMAT = "alarms 1"
_NEVER_NS = -(2**63)
_SIGNS = {"above": 1, "below": -1, "rise": 1, "fall": -1}


@dataclass(frozen=True, slots=True)
class AlarmChange:
    """An alarm went on or off at ``time_ns``. ``since_ns`` is when its condition began, also of one
    that goes off; ``value`` is what made it change, None where the condition is a filter.
    """

    stream: str
    is_on: bool
    time_ns: int
    since_ns: int
    value: float | None
    clock_unset: bool = False


@dataclass(frozen=True, slots=True)
class _Condition:
    """``measure`` gives a record's number; what is greater than ``limit`` is on, and off again
    below ``clear`` or, where that is None, at the limit. ``sign`` makes the number shown of it.
    """

    measure: Callable[[Record], float | None]
    limit: float
    clear: float | None
    sign: int | None
    per_ns: int

    def holds(self, x: float) -> bool:
        return x > self.limit

    def clears(self, x: float) -> bool:
        return x <= self.limit if self.clear is None else x < self.clear


class _WatchedStream:
    """What is known of one stream."""

    __slots__ = ("boot_id", "boot_ns", "heard_ns", "is_dated", "is_on", "newest_ns", "pending_ns",
                 "seq", "since_ns", "trail", "value", "world")  # fmt: skip

    def __init__(self) -> None:
        self.seq = 0
        self.is_on = False
        #: Of what is on: since when its condition holds, and the number that made it so.
        self.since_ns = 0
        self.value: float | None = None
        #: Since when the condition holds of what is not on yet.
        self.pending_ns: int | None = None
        self.newest_ns = _NEVER_NS
        #: When the last record was committed, by the wall clock, whether that was set, and by the
        #: clock of which boot.
        self.heard_ns = 0
        self.is_dated = False
        self.boot_id = b""
        self.boot_ns = 0
        #: By whose unset clock the newest record is dated; "" by one that was set.
        self.world = ""
        #: Times and measures, both rising: the least since each of those times.
        self.trail: list[list[Any]] = []


class AlarmStates:
    """See the module's docstring. ``late`` and ``left_out`` only grow."""

    def __init__(self, alarm: Alarm, *, streams_max: int = STREAMS_MAX) -> None:
        #: Records that were no news, and those of streams for which there was no room.
        self.late = 0
        self.left_out = 0
        self._about = repr(alarm)
        self._absent_ns = None if alarm.absent is None else round(alarm.absent * NANOSECONDS)
        self._hold_ns = round(alarm.hold * NANOSECONDS)
        self._condition = None if self._absent_ns is not None else _condition_of(alarm)
        self._streams_max = streams_max
        self._streams: dict[str, _WatchedStream] = {}
        self._changes: list[AlarmChange] = []

    @property
    def changes(self) -> int:
        """Changes that nobody has taken yet."""
        return len(self._changes)

    def take_changes(self) -> list[AlarmChange]:
        """Changes since this was last asked, in order."""
        changes, self._changes = self._changes, []
        return changes

    def active(self) -> Iterator[tuple[str, int, float | None]]:
        """Each stream whose alarm is on, since when, and the number that made it so."""
        for name, stream in self._streams.items():
            if stream.is_on:
                yield name, stream.since_ns, stream.value

    def add(self, record: Record, committed: Reading, boot: Boot | None = None) -> None:
        """The next record. ``committed``: the agent's clocks then, as well as is known by now.
        ``boot``: the boot whose clock was not set when it came, None where it was.
        """
        stream = self._streams.get(record.stream)
        if stream is None:
            if len(self._streams) >= self._streams_max:
                # A tenth more than needed, so that this is not done for each new stream.
                self._forget_quiet(self._streams_max // 10 + 1)
            if len(self._streams) >= self._streams_max:
                self.left_out += 1
                return
            stream = self._streams[record.stream] = _WatchedStream()
        stream.seq = record.seq
        if self._condition is None:
            self._hear(record.stream, stream, committed)
            return
        time_ns = record.time_ns
        if committed.synced:
            if time_ns > committed.wall_ns + AHEAD_NS_MAX:
                self.late += 1
                return
            time_ns = min(time_ns, committed.wall_ns)
        world = ""
        if boot is not None and record.time_quality == "unsynced":
            world = f"{boot[0]}/{boot[1].hex()}"
        if world != stream.world:
            stream.world, stream.newest_ns = world, _NEVER_NS
            stream.pending_ns, stream.trail = None, []
        if record.time_ns < stream.newest_ns:
            self.late += 1
            return
        stream.newest_ns = time_ns
        x = self._condition.measure(record)
        if x is not None:
            self._judge(record, stream, time_ns, x)

    def absences_due(self, now: Reading) -> int | None:
        """In how many ns the first stream is absent; None where none will be."""
        assert self._absent_ns is not None
        silent = [_silent_ns(s, now) or 0 for s in self._streams.values() if not s.is_on]
        return self._absent_ns - max(silent) if silent else None

    def pass_time(self, now: Reading) -> None:
        """It is ``now``, and nothing stored is unread."""
        assert self._absent_ns is not None
        due: list[tuple[int, str]] = []
        for name, stream in self._streams.items():
            if stream.is_on:
                continue
            silent_ns = _silent_ns(stream, now)
            if silent_ns is None:
                _note_heard(stream, now)
            elif silent_ns >= self._absent_ns:
                due.append((stream.heard_ns, name))
        for heard_ns, name in sorted(due):
            stream = self._streams[name]
            stream.is_on, stream.since_ns = True, heard_ns
            stream.value = self._absent_ns / NANOSECONDS
            self._change(
                name, stream, heard_ns + self._absent_ns, stream.value, not stream.is_dated
            )

    def encode(self) -> bytes:
        """The state, at most `STATE_BYTES_MAX`; streams that do not fit are not watched on."""
        return pack_state(self._values, self._make_smaller)

    def decode(self, state: bytes) -> None:
        """Take up a state that `encode` gave. Where the rule said something else then, what is on
        stays on until a record says otherwise.
        """
        version, about, streams, *_ = unpack_state(state)
        if version != _STATE_FORMAT:
            # The rule had windows then.
            return
        for name, *values in streams:
            stream = self._streams[name] = _WatchedStream()
            for slot, value in zip(_WatchedStream.__slots__, values, strict=True):
                setattr(stream, slot, value)
            if about != self._about:
                stream.pending_ns, stream.trail = None, []

    def _hear(self, name: str, stream: _WatchedStream, committed: Reading) -> None:
        if stream.is_on:
            silent_ns = _silent_ns(stream, committed)
            value = None if silent_ns is None else silent_ns / NANOSECONDS
            stream.is_on = False
            self._change(name, stream, committed.wall_ns, value, not committed.synced)
        _note_heard(stream, committed)

    def _judge(self, record: Record, stream: _WatchedStream, time_ns: int, x: float) -> None:
        condition = self._condition
        assert condition is not None
        value: float | None = x
        if condition.per_ns:
            x = value = x - _least(stream.trail, time_ns, x, condition.per_ns)
        elif condition.sign is None:
            value = None
        else:
            value = x * condition.sign
        if stream.is_on:
            if condition.clears(x):
                stream.is_on = False
                self._change(record.stream, stream, time_ns, value, stream.world != "")
            return
        if not condition.holds(x):
            stream.pending_ns = None
            return
        if stream.pending_ns is None:
            stream.pending_ns = time_ns
        if time_ns - stream.pending_ns >= self._hold_ns:
            since_ns, stream.pending_ns = stream.pending_ns, None
            stream.is_on, stream.since_ns, stream.value = True, since_ns, value
            self._change(record.stream, stream, time_ns, value, stream.world != "")

    def _change(
        self, name: str, stream: _WatchedStream, at_ns: int, value: float | None, unset: bool
    ) -> None:
        change = AlarmChange(name, stream.is_on, at_ns, stream.since_ns, value, unset)
        self._changes.append(change)

    def _forget_quiet(self, count: int) -> bool:
        """Forget up to ``count`` streams that nothing is known of; False if there was none."""
        quiet = sorted(
            (stream.seq, name)
            for name, stream in self._streams.items()
            # Of absence, silence is just what has to be known.
            if not stream.is_on and stream.pending_ns is None and self._absent_ns is None
        )
        for _, name in quiet[:count]:
            del self._streams[name]
        return bool(quiet)

    def _make_smaller(self) -> None:
        count = len(self._streams) // 10 + 1
        if not self._forget_quiet(count):
            self.left_out += count
            oldest = sorted((stream.seq, name) for name, stream in self._streams.items())
            for _, name in oldest[:count]:
                del self._streams[name]

    def _values(self) -> object:
        streams = [
            [name, *(getattr(stream, slot) for slot in _WatchedStream.__slots__)]
            for name, stream in sorted(self._streams.items())
        ]
        return [_STATE_FORMAT, self._about, streams]


def alarms_without(state: bytes, matches: Callable[[str], bool]) -> bytes | None:
    """A state without the streams that match; None where it is none of alarms."""
    version, about, streams, *_ = unpack_state(state)
    if version != _STATE_FORMAT:
        return None
    kept = [one for one in streams if not matches(one[0])]
    return pack_state(lambda: [version, about, kept], kept.clear)


def _note_heard(stream: _WatchedStream, at: Reading) -> None:
    stream.heard_ns, stream.is_dated = at.wall_ns, at.synced
    stream.boot_id, stream.boot_ns = at.boot_id, at.boot_ns


def _silent_ns(stream: _WatchedStream, now: Reading) -> int | None:
    """For how long a stream has been silent; None where no clock says."""
    if stream.boot_id == now.boot_id:
        return now.boot_ns - stream.boot_ns
    # What lies ahead of now was dated by a clock that was wrong after all.
    if stream.is_dated and now.synced and now.wall_ns >= stream.heard_ns:
        return now.wall_ns - stream.heard_ns
    return None


def _condition_of(alarm: Alarm) -> _Condition:
    if alarm.where is not None:
        wanted = compile_condition(alarm.where)
        return _Condition(lambda record: float(wanted(record)), 0.5, None, None, 0)
    name, sign = next((n, s) for n, s in _SIGNS.items() if getattr(alarm, n) is not None)
    assert alarm.field is not None
    field_of = compile_field(alarm.field)

    def measure(record: Record) -> float | None:
        value = field_of(record.fields)
        return value * sign if is_number(value) else None

    limit = getattr(alarm, name)
    clear = alarm.clear_above if name == "below" else alarm.clear_below
    if name == "below":
        limit, clear = -limit, None if clear is None else -clear
    per_ns = round((alarm.per or 0) * NANOSECONDS)
    return _Condition(measure, limit, clear, sign, per_ns)


def _least(trail: list[list[Any]], time_ns: int, x: float, per_ns: int) -> float:
    """The least of ``x`` and those added to ``trail`` since ``per_ns`` ago; adds ``x``."""
    while trail and trail[-1][1] >= x:
        trail.pop()
    # Of many within a sixtieth of the time the first is the least, and stands for the others.
    slot_ns = max(1, per_ns // TRAIL_MAX)
    if not trail or trail[-1][0] // slot_ns != time_ns // slot_ns:
        trail.append([time_ns, float(x)])
    while trail[0][0] < time_ns - per_ns:
        del trail[0]
        if not trail:
            trail.append([time_ns, float(x)])
    least: float = trail[0][1]
    return least
