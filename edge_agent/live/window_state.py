"""Open windows of one rule over one log: what is in them, when they close, what is late.

Pure: records go in, closed windows come out; the same records in the same order always give the
same windows, which is what lets a restart replay them from the last stored state.

- Windows are ``window_ns`` long and aligned to 1970-01-01T00:00:00Z, so hours and days are UTC's.
  One ends every ``every_ns``, of which the length is a multiple: tumbling windows where both are
  the same, sliding ones where not. Those are merged of panes as long as ``every_ns``
  (`edge_agent.live.panes`), so that a record is put in one place however many windows it is in.
- Each stream has its own watermark: its newest record's time less the lateness. A window closes
  when the watermark reaches its end. A record counts in all its windows that are not closed; one
  whose windows all end at or before the watermark, or were closed earlier for another reason, is
  **late**: left out and counted.
- A sensor's clock may be wrong. Where the agent's own was synced at the commit, a record more than
  a day ahead of it is left out (counted as late), and one ahead by less moves the watermark no
  further than the agent's time: one bad clock reading cannot make what follows late for ever.
- Of a boot whose clock is not set, and of which nothing is known, the agent's times are those of
  another world: they may be anywhere, 2099 included. Records dated by them go into windows of
  their own, with a watermark of their own, for each stream and boot. They are told like others;
  what comes once the clock is set is not late for them.
- At most ``open_max`` windows are open, or rather panes of theirs: those of the oldest pane close
  early, counted; a record whose pane would be the oldest is late. The oldest also close where the
  state would outgrow its limit.
- A field is summarised where it is a number. Without named fields every number is, the first 64
  of a window, if its name has at most 100 characters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from edge_agent.live.panes import Fields, Panes
from edge_agent.live.stored_state import pack_state, unpack_state
from edge_agent.store import Boot
from edge_agent.values.aggregates import FIELD_NAME_MAX, FIELDS_MAX, Summary, is_number
from edge_agent.values.record import NANOSECONDS, Record

#: Streams without open windows whose watermark is remembered.
STREAMS_MAX = 1000
#: How far ahead of the agent's clock a record's time may be.
AHEAD_NS_MAX = 86_400 * NANOSECONDS
_STATE_FORMAT = 2
#: Between the name of a stream and the boot by whose unset clock its records are dated.
_APART = "\0"
#: Before anything a record says.
_NEVER_NS = -(2**63)


@dataclass(frozen=True, slots=True)
class ClosedWindow:
    """One window of one stream, done: what each field's numbers were. ``clock_unset``: it is a
    window by a clock of ours that was not set.
    """

    stream: str
    start_ns: int
    fields: Fields
    clock_unset: bool = False


class _Stream:
    """A stream's watermark and the panes of its open windows by start."""

    __slots__ = ("closed_until_ns", "newest_ns", "panes", "seq")

    def __init__(self, length: int) -> None:
        self.newest_ns = _NEVER_NS
        self.closed_until_ns = _NEVER_NS
        #: Newest record seen, to tell which stream was silent the longest.
        self.seq = 0
        self.panes = Panes(length)


class OpenWindows:
    """See the module's docstring. ``late`` and ``early`` only grow."""

    def __init__(
        self,
        *,
        window_ns: int,
        every_ns: int | None = None,
        lateness_ns: int,
        fields: tuple[str, ...] = (),
        open_max: int = 1000,
    ) -> None:
        self._window_ns = window_ns
        self._every_ns = every_ns or window_ns
        assert window_ns > 0 and open_max > 0 and window_ns % self._every_ns == 0
        #: Records left out, and windows closed for want of room.
        self.late = 0
        self.early = 0
        #: Number of open windows, or of their panes.
        self.open = 0
        #: Streams that had records since the owner last emptied this.
        self.seen: set[str] = set()
        self._lateness_ns = lateness_ns
        self._fields = fields
        self._open_max = open_max
        self._streams: dict[str, _Stream] = {}
        self._closed: list[ClosedWindow] = []

    @property
    def closed(self) -> int:
        """Closed windows that nobody has taken yet."""
        return len(self._closed)

    def take_closed(self) -> list[ClosedWindow]:
        """Windows that closed since this was last asked, in the order in which they did."""
        closed, self._closed = self._closed, []
        return closed

    def add(self, record: Record, clock_ns: int | None, boot: Boot | None = None) -> None:
        """The next record. ``clock_ns``: when it was committed, None if no synced clock says.
        ``boot``: the boot whose clock was not set when it came, None where it was.
        """
        name = record.stream
        if boot is not None and record.time_quality == "unsynced":
            name = f"{name}{_APART}{boot[0]}/{boot[1].hex()}"
        stream = self._streams.get(name)
        if stream is None:
            if len(self._streams) > STREAMS_MAX + self.open:
                # A tenth more than needed, so that this is not done for each new stream.
                self._forget_quiet(keep=STREAMS_MAX - STREAMS_MAX // 10)
            stream = self._new(name)
        stream.seq = record.seq
        self.seen.add(name)
        time_ns = record.time_ns
        if clock_ns is not None and time_ns > clock_ns + AHEAD_NS_MAX:
            self.late += 1
            return
        number = time_ns // self._every_ns
        if number * self._every_ns + self._window_ns <= stream.closed_until_ns or not self._put(
            record, name, stream, number
        ):
            self.late += 1
            return
        reached = time_ns if clock_ns is None else min(time_ns, clock_ns + self._lateness_ns)
        if reached > stream.newest_ns:
            stream.newest_ns = reached
            watermark = reached - self._lateness_ns
            if watermark > stream.closed_until_ns:
                self._close_until(name, stream, watermark)
                stream.closed_until_ns = watermark

    def waiting(self) -> Iterable[tuple[str, int]]:
        """Each stream with open windows, and when the oldest of them ends, in ns since 1970; 0
        where that is by a clock that was not set.
        """
        for name, stream in self._streams.items():
            if stream.panes.by_number:
                yield name, 0 if _APART in name else self._first_end(stream) * self._every_ns

    def close_idle(self, name: str, until_ns: int | None) -> None:
        """A stream is silent: close its windows that end by ``until_ns``, or all for None."""
        stream = self._streams[name]
        if until_ns is None or _APART in name:
            until_ns = max(stream.panes.by_number, default=0) * self._every_ns + self._window_ns
        self._close_until(name, stream, until_ns)

    def close_all(self) -> None:
        """Close everything early; the rule has changed."""
        while self.open:
            self._close_oldest()

    def encode(self) -> bytes:
        """The state, at most `STATE_BYTES_MAX`; what does not fit closes early."""
        return pack_state(self._values, self._make_smaller)

    def decode(self, state: bytes) -> int:
        """Take up a state that `encode` gave. Of windows of another length, which the rule had
        before, those that were open close early; how many.
        """
        version, window_ns, *rest = unpack_state(state)
        if version not in (1, _STATE_FORMAT):
            # The rule was about something else then.
            return 0
        every_ns, streams = (window_ns, rest[0]) if version == 1 else (rest[0], _unfold(*rest))
        if (window_ns, every_ns) == (self._window_ns, self._every_ns):
            self._take_up(streams)
            return 0
        before = OpenWindows(window_ns=window_ns, every_ns=every_ns, lateness_ns=0)
        before._take_up(streams)
        before.close_all()
        self._closed += before.take_closed()
        self.early += before.early
        self._take_up([*watermark, []] for *watermark, _ in streams)
        return before.early

    def _take_up(self, streams: Iterable[Any]) -> None:
        for name, newest_ns, closed_until_ns, seq, panes in streams:
            stream = self._new(name)
            stream.newest_ns, stream.seq = newest_ns, seq
            stream.closed_until_ns = max(closed_until_ns, newest_ns - self._lateness_ns)
            for start, fields in panes:
                stream.panes.by_number[start // self._every_ns] = {
                    field: Summary.from_state(summary) for field, summary in fields
                }
                self.open += 1

    def _new(self, name: str) -> _Stream:
        stream = self._streams[name] = _Stream(self._window_ns // self._every_ns)
        return stream

    def _put(self, record: Record, name: str, stream: _Stream, number: int) -> bool:
        """False if there is no room, and the record's pane would be the oldest of all."""
        fields = record.fields
        numbers = [
            (field, fields[field])
            for field in self._fields or fields
            if is_number(fields.get(field)) and len(field) <= FIELD_NAME_MAX
        ]
        if not numbers:
            return True
        pane = stream.panes.by_number.get(number)
        if pane is None:
            if self.open >= self._open_max:
                if (number, name) < self._oldest():
                    return False
                self._close_oldest()
            pane = stream.panes.by_number[number] = {}
            self.open += 1
        stream.panes.touch(number)
        for field, value in numbers:
            summary = pane.get(field)
            if summary is None:
                if len(pane) >= FIELDS_MAX:
                    continue
                summary = pane[field] = Summary()
            summary.add(value, record.time_ns)
        return True

    def _first_end(self, stream: _Stream) -> int:
        """The number of the pane before which the oldest window ends that is not closed."""
        return max(stream.closed_until_ns // self._every_ns, min(stream.panes.by_number)) + 1

    def _close_until(self, name: str, stream: _Stream, until_ns: int) -> None:
        """Close what ends by then; panes that no open window needs go."""
        panes, every_ns = stream.panes.by_number, self._every_ns
        length = self._window_ns // every_ns
        told, apart, _ = name.partition(_APART)
        until = until_ns // every_ns
        while panes and (end := self._first_end(stream)) <= until:
            fields = stream.panes.window(end)
            self._closed.append(ClosedWindow(told, (end - length) * every_ns, fields, bool(apart)))
            stream.closed_until_ns = end * every_ns
            for number in [number for number in panes if number + length <= end]:
                del panes[number]
                self.open -= 1

    def _close_oldest(self) -> None:
        number, name = self._oldest()
        closed = self.closed
        until_ns = number * self._every_ns + self._window_ns
        self._close_until(name, self._streams[name], until_ns)
        self.early += self.closed - closed

    def _oldest(self) -> tuple[int, str]:
        return min(
            (min(s.panes.by_number), name) for name, s in self._streams.items() if s.panes.by_number
        )

    def _forget_quiet(self, keep: int) -> bool:
        """Drop the watermarks of streams without open windows, but for the ``keep`` that spoke
        last. False if there was none to drop.
        """
        quiet = sorted((s.seq, name) for name, s in self._streams.items() if not s.panes.by_number)
        for _, name in quiet[: max(0, len(quiet) - keep)]:
            del self._streams[name]
        return len(quiet) > keep

    def _make_smaller(self) -> None:
        if not self._forget_quiet(keep=0):
            for _ in range(self.open // 10 + 1):
                self._close_oldest()

    def _values(self) -> object:
        # Alike beside alike, and times from the pane's start: that is a third of the bytes.
        streams: list[Any] = []
        names: dict[str, int] = {}
        rows: list[tuple[float, ...]] = []
        for name, stream in sorted(self._streams.items()):
            panes = []
            for number, fields in sorted(stream.panes.by_number.items()):
                panes.append([number, *(names.setdefault(f, len(names)) for f in sorted(fields))])
                for _, summary in sorted(fields.items()):
                    # Without the first number and its time, which no window tells.
                    *figures, _, _, last, last_ns = summary.state()
                    rows.append((*figures, last, last_ns - number * self._every_ns))
            streams.append([name, stream.newest_ns, stream.closed_until_ns, stream.seq, panes])
        columns = list(zip(*rows, strict=True))
        return [_STATE_FORMAT, self._window_ns, self._every_ns, streams, list(names), columns]


def windows_without(state: bytes, matches: Callable[[str], bool]) -> bytes | None:
    """A state without the streams that match; None where it is none of windows."""
    version, window_ns, every_ns, *_ = unpack_state(state)
    if version not in (1, _STATE_FORMAT):
        return None
    # No watermark is moved by this.
    known = OpenWindows(
        window_ns=window_ns,
        every_ns=every_ns if version == _STATE_FORMAT else None,
        lateness_ns=-2 * _NEVER_NS,
    )
    known.decode(state)
    for name in [one for one in known._streams if matches(one.partition(_APART)[0])]:
        del known._streams[name]
    return known.encode()


def _unfold(every_ns: int, streams: Any, names: list[str], columns: Any) -> list[Any]:
    """The streams of a state, each pane with the figures of its fields."""
    rows = zip(*columns, strict=True)
    return [
        [*watermark, [_pane(number * every_ns, of, names, rows) for number, *of in panes]]
        for *watermark, panes in streams
    ]


def _pane(start_ns: int, of: list[int], names: list[str], rows: Iterator[Any]) -> list[Any]:
    fields = []
    for field in of:
        *figures, last, after_ns = next(rows)
        at_ns = start_ns + after_ns
        fields.append([names[field], [*figures, last, at_ns, last, at_ns]])
    return [start_ns, fields]
