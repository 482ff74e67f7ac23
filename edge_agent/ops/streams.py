"""Which streams there are, and when each was last heard of: a bounded reader of the log's tail.

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
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from edge_agent.errors import StoreDamaged, StoreError
from edge_agent.store import ERASED, Block, Gap

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

    def __len__(self) -> int:
        return len(self._seen)

    def listing(self, readable: Callable[[str], bool]) -> list[tuple[str, Seen]]:
        """Streams that may be read, by name."""
        return sorted((name, seen) for name, seen in self._seen.items() if readable(name))

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
        while True:
            last = await log.wait_past(name, at)
            try:
                reached = await self._round(name, at, last)
            except StoreError:
                # The committer reopens the store and tells about it; this list can wait.
                await trio.sleep(_AGAIN_S)
                continue
            # Once more as much as a round managed may wait; beyond that only the newest matters.
            at = max(reached, log.last_seq(name) - 2 * (reached - at)) if reached < last else last
            self.skipped += at - reached if at > reached else 0
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
            runs = item.runs()
        except StoreDamaged:
            # Its checksum was right, so it was written like this; what follows is sound.
            return 0
        for run in runs:
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
        return len(runs)

    def _forget_some(self) -> None:
        while len(self._seen) > self._max:
            self._seen.popitem(last=False)
            self.forgotten += 1


def _time_key(records: bytes) -> str:
    # A search for the key as msgpack has it, not a look at each record: a field of that name deeper
    # inside is taken for it, which costs a hint.
    found = (name for name, key in _TIME_KEYS if key in records)
    return next(found, "")
