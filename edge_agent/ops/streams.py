"""The streams there are, and when each was last heard of: a bounded reader of the log's tail.

Nothing on the way in keeps such a list; it follows the log like any other reader, at most one
round a second, and an agent that receives nothing costs nothing. A round looks at the heads of
runs (records of one source and stream that arrived together) in at most `ROUND_BYTES` of blocks
or about `ROUND_RUNS` runs, which is one or two per cent of a core. What a busy log has beyond
that is skipped, counted in ``skipped``, and the newest is looked at: at 300,000 records a second
the counts are a sample, while names and times stay right. (Decoding every head would have cost
ten per cent of a core there. The bounds are on work and not on time, so that a simulation does
the same twice.)

It knows what came since the agent started, and the last `LOOK_BACK` positions before that. At
most `STREAMS_MAX` streams are kept; beyond, those heard of longest ago are forgotten, counted.

Of each stream the newest record is opened, once a second at most (`last_values`). That is 5 µs, and
no more than `ROUND_RUNS` of them in a second: one per cent of a core where each record has a stream
of its own, nothing that can be measured at a flood. So it is done whether somebody looks or not,
and who looks at last sees what was said long ago, too.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from edge_agent.errors import StoreDamaged, StoreError
from edge_agent.ops.last_values import LastValue, LastValues
from edge_agent.store import ERASED, Block, Gap, RunView
from edge_agent.values.record import NANOSECONDS

if TYPE_CHECKING:
    from edge_agent.log import Log

STREAMS_MAX = 10_000
#: How many positions before the start of the agent are looked at.
LOOK_BACK = 50_000
#: One round's work: bytes of blocks, decompressed, and heads of runs.
ROUND_BYTES = 1024 * 1024
ROUND_RUNS = 2_000
#: Keys that people give a time, the one that is understood first, and how msgpack begins them.
_TIME_KEYS = tuple(
    (name, bytes((0xA0 | len(name),)) + name.encode())
    for name in ("time", "ts", "timestamp", "datetime", "measured_at")
)
_ROUND_S = 1.0
_READ_BYTES = 64 * 1024
_AGAIN_S = 5.0
#: A rate is that of the last minute, counted in stretches of ten seconds.
_RATE_S = 60
_STRETCH_S = 10
_STRETCHES = _RATE_S // _STRETCH_S


class RecentCount:
    """How much of something there was in the last minute. Moments are Trio's."""

    __slots__ = ("_counts", "_stretch")

    def __init__(self) -> None:
        #: Of the present stretch and of those of the minute before it, by number.
        self._counts = array("I", bytes(array("I").itemsize * (_STRETCHES + 1)))
        self._stretch = 0

    def add(self, count: int, now_s: float) -> None:
        """There is more, now."""
        stretch = self._turn(now_s)
        self._counts[stretch % (_STRETCHES + 1)] += count

    def rate(self, now_s: float, known_s: float) -> float:
        """How much a second; counting began ``known_s`` ago."""
        stretch = self._turn(now_s)
        # The oldest stretch counts for as much of it as lies within the minute.
        oldest = self._counts[(stretch + 1) % (_STRETCHES + 1)]
        within = sum(self._counts) - oldest * (now_s / _STRETCH_S - stretch)
        return within / min(_RATE_S, max(known_s, 1.0))

    def _turn(self, now_s: float) -> int:
        stretch = int(now_s // _STRETCH_S)
        for passed in range(max(self._stretch + 1, stretch - _STRETCHES), stretch + 1):
            self._counts[passed % (_STRETCHES + 1)] = 0
        self._stretch = stretch
        return stretch


@dataclass(slots=True)
class Seen:
    """One stream: records looked at, and the newest one's place."""

    log: str
    records: int
    last_seq: int
    stored_ns: int
    source: str
    #: Of its newest run: a key under which its records say their time, "" where there is none.
    time_key: str = ""
    recent: RecentCount = field(default_factory=RecentCount)
    #: Records that are not in `recent` yet.
    uncounted: int = 0

    @property
    def undated(self) -> str:
        """That its records do not say when they were measured, in words; "" where they do."""
        if self.time_key == "time":
            return ""
        told = "no time key: dated on arrival"
        if self.time_key:
            told += f' ("{self.time_key}" can be named as the time by a rule)'
        return told


class Directory:
    """The list. `run` keeps it, everything else reads it."""

    def __init__(self, log: Log, *, streams_max: int = STREAMS_MAX) -> None:
        self._log = log
        self._max = streams_max
        self._seen: OrderedDict[str, Seen] = OrderedDict()
        #: Streams that fell off the end of the list.
        self.forgotten = 0
        #: About how many positions were not looked at, because there were too many at once.
        self.skipped = 0
        #: Log name to the position after which everything has been looked at so far.
        self.since: dict[str, int] = {}
        #: The numbers of newest records.
        self.last = LastValues()
        #: By stream: the newest run, whose last record is not opened yet.
        self._fresh: dict[str, tuple[Block, RunView]] = {}
        self._second = 0
        #: When counting began, and log name to what was there before.
        self._began_s = trio.current_time()
        self._old: dict[str, int] = {}
        #: By log: positions that there were, and that were looked at.
        self._passed: dict[str, RecentCount] = {}
        self._looked_at: dict[str, RecentCount] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def listing(self, readable: Callable[[str], bool]) -> list[tuple[str, Seen]]:
        """Streams that may be read, by name."""
        return sorted((name, seen) for name, seen in self._seen.items() if readable(name))

    def last_of(self, stream: str) -> LastValue | None:
        """What its newest record says."""
        self._open()
        return self.last.get(stream)

    def rate(self, seen: Seen) -> float:
        """Records a second of a stream, over the last minute: where not all are looked at, as many
        as there would be of those that are not.
        """
        now_s = trio.current_time()
        rate = seen.recent.rate(now_s, now_s - self._began_s)
        looked_at = self._looked_at.get(seen.log)
        if not rate or looked_at is None:
            return rate
        part = looked_at.rate(now_s, _RATE_S)
        return rate * self._passed[seen.log].rate(now_s, _RATE_S) / part if part else rate

    def undated(self) -> int:
        """Streams whose newest records do not say when they were measured."""
        return sum(1 for seen in self._seen.values() if seen.undated)

    async def run(self) -> None:
        """Follow all logs until cancelled."""
        async with trio.open_nursery() as nursery:
            for name in self._log.names():
                nursery.start_soon(self._follow, name)

    async def _follow(self, name: str) -> None:
        log = self._log
        at = max(log.first_seq(name) - 1, log.last_seq(name) - LOOK_BACK, 0)
        self.since[name] = at
        self._old[name] = log.last_seq(name)
        looked_at = self._looked_at[name] = RecentCount()
        passed = self._passed[name] = RecentCount()
        while True:
            last = await log.wait_past(name, at)
            try:
                reached = await self._round(name, at, last)
            except StoreError:
                # The committer reopens the store and tells about it; this list can wait.
                await trio.sleep(_AGAIN_S)
                continue
            finally:
                self._open()
            # Once more as much as a round managed may wait; beyond that only the newest matters.
            begun = at
            at = max(reached, log.last_seq(name) - 2 * (reached - at)) if reached < last else last
            self.skipped += at - reached if at > reached else 0
            looked_at.add(max(0, reached - max(begun, self._old[name])), trio.current_time())
            passed.add(max(0, at - max(begun, self._old[name])), trio.current_time())
            await trio.sleep(_ROUND_S)

    async def _round(self, name: str, at: int, last: int) -> int:
        """Look at what follows ``at``; the position up to which that went."""
        size = runs = 0
        while at < last and size < ROUND_BYTES and runs < ROUND_RUNS:
            items = await self._log.read(name, at, _READ_BYTES)
            if not items:
                break
            # The first block may begin before the position that was asked for.
            self.since[name] = min(self.since[name], items[0].first - 1)
            for item in items:
                runs += self.note(item)
                size += item.raw_len if isinstance(item, Block) else 0
                at = item.last
                if size >= ROUND_BYTES or runs >= ROUND_RUNS:
                    break
        return at

    def note(self, item: Block | Gap) -> int:
        """Take one stored block into the list; how many runs it has."""
        if isinstance(item, Gap):
            return 0
        try:
            return self._note(item)
        except StoreDamaged:
            # Its checksum was right, so it was written like this; what follows is sound.
            return 0

    def _note(self, item: Block) -> int:
        is_new = item.first > self._old.get(item.log, 0)
        second = item.when_ns // NANOSECONDS
        if not is_new and second != self._second:
            # A round reads minutes of what was there before, whose sparklines are worth having;
            # what comes is opened when its round is over.
            self._open()
            self._second = second
        runs = 0
        for run in item.runs():
            runs += 1
            if run.stream == ERASED:
                continue  # Places of records that are gone are no stream to show.
            seen = self._seen.get(run.stream)
            if seen is None:
                seen = self._seen[run.stream] = Seen(item.log, 0, 0, 0, "")
                self._forget_some()
            else:
                self._seen.move_to_end(run.stream)
            seen.log = item.log
            seen.records += run.count
            seen.last_seq = item.first + run.index + run.count - 1
            seen.stored_ns = item.when_ns
            seen.source = run.source
            seen.time_key = _time_key(bytes(run.records))
            if is_new:
                seen.uncounted += run.count
            if item.historical and (run.stream in self._fresh or self.last.get(run.stream)):
                continue  # Another agent's backlog: its newest record is older than what is shown.
            self._fresh[run.stream] = item, run
        return runs

    def _open(self) -> None:
        """Look into the newest records."""
        now_s = trio.current_time()
        for stream, (block, run) in self._fresh.items():
            seen = self._seen.get(stream)
            if seen is None:
                continue  # Forgotten in the meantime.
            if seen.uncounted:
                seen.recent.add(seen.uncounted, now_s)
                seen.uncounted = 0
            try:
                self.last.note(block.newest(run))
            except StoreDamaged:
                continue
        self._fresh.clear()

    def _forget_some(self) -> None:
        while len(self._seen) > self._max:
            stream, _ = self._seen.popitem(last=False)
            self.last.forget(stream)
            self.forgotten += 1


def _time_key(records: bytes) -> str:
    # A search for the key as msgpack has it, not a look at each record: a field of that name deeper
    # inside is taken for it, which costs a hint.
    found = (name for name, key in _TIME_KEYS if key in records)
    return next(found, "")
