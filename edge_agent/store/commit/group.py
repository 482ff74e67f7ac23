"""A `Group` is one group of entries within its write transaction.

Entries are judged in order, their records gathered into blocks, counters and positions brought up
to date.

Nothing here touches the engine's own state: a `Group` works on copies that the engine adopts
once the transaction has been synced, and throws away otherwise.

Where the microseconds go: 3.4 for an entry of one small record in a group of 200 from 200 sources,
by timeit and cProfile on the machine of MEASUREMENTS, and 0.8 more for LMDB's own commit::

    0.3  `estimate`, one addition for each run; entries are judged by it only in a tight group
    1.2  `Group.apply` itself: is it this source's turn, what is expected next, the answer (0.1)
    0.8  `Filling.add_run`: the log (0.07), the run's head (0.17), what the block has grown to
    0.6  the source's next number: key, value and checksum (0.45), put in order of keys (0.1)
    0.1  zstd, and joining the pieces
    0.4  a group's own 70, shared by 200: clock, file's place, transaction, log header

What is left is one pass over the entries with some ten attributes and five dictionaries touched
for each. Fewer entries cost less, not faster ones: in runs of 800 a record takes 0.17, of which
zstd has 0.1, without the GIL. Reading each source's number from the file took 1.2 more, a
`StoreFull` judgement of each entry 1.5, frozen dataclasses 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import lmdb

from edge_agent.errors import StoreFull
from edge_agent.store.clock.boot_offsets import write_clocks
from edge_agent.store.clock.timekeeper import Dating
from edge_agent.store.commit.block_builder import Filling, block_log
from edge_agent.store.commit.dedup import cut_runs
from edge_agent.store.commit.positions import (
    put_position,
    put_quarantined,
    release_quarantined,
    trim_quarantine,
)
from edge_agent.store.commit.sources import AGENT_PREFIX, Lacking, forbidden, no_place, obey
from edge_agent.store.commit.state import Counts, State, add
from edge_agent.store.format import keys
from edge_agent.store.format.codec import Compressor
from edge_agent.store.format.payload import RUN_HEAD_BYTES
from edge_agent.store.format.values import LogHeader, SourceValue, decode, encode
from edge_agent.store.settings import StoreSettings
from edge_agent.store.types import Entry, Numbering, SourceOrder, Stored
from edge_agent.values.clock_note import ClockNote

#: What a group adds to a log beyond its records: a block's header and a page begun, twice.
GROUP_OVERHEAD_BYTES = 8192
#: A block's header, rounded up.
BLOCK_HEADER_BYTES = 256
#: What is known of a source that was never seen.
_UNKNOWN = SourceValue(0, 0, False)


def estimate(
    entries: Sequence[Entry],
    route: Callable[[str], str],
    logs: Mapping[str, LogHeader],
    overhead: int = GROUP_OVERHEAD_BYTES,
) -> dict[str, int]:
    """Bytes that entries may add to each log that they write in, together and with ``overhead``;
    never too few but for page rounding.
    """
    sizes: dict[str, int] = {}
    for entry in entries:
        for run in entry.runs:
            stream = run.stream
            log = route(stream)
            size = len(run.body) + len(stream) + len(run.source) + RUN_HEAD_BYTES
            sizes[log] = sizes.get(log, overhead) + size
        for block in entry.blocks:
            log = block_log(block, logs)
            # A small one lies beside others in a page, and counts double. Were it reckoned with a
            # page of its own, a message of many would never fit where all of it would.
            size = len(block.payload) + BLOCK_HEADER_BYTES + 16 * len(block.origin.path)
            sizes[log] = sizes.get(log, overhead) + min(2 * size, size + 4096)
    return sizes


def with_pages(size: int, settings: StoreSettings, page_bytes: int) -> int:
    """``size``, and what its blocks add when there are several: each has a header, and the rest of
    its last page is lost. Of two neighbours, together, more than a block's bytes are used.
    """
    return size + 2 * size // settings.block_bytes * (page_bytes + BLOCK_HEADER_BYTES)


class Group:
    """Judges and writes entries; `finish` before the transaction commits.

    ``tight``: the group as a whole might not fit under the logs' shares, so that each of its
    entries is to be judged by them.
    """

    def __init__(
        self,
        txn: lmdb.Transaction[bytes],
        state: State,
        settings: StoreSettings,
        dating: Dating,
        route: Callable[[str], str],
        compressor: Compressor,
        page_bytes: int,
        *,
        tight: bool,
    ) -> None:
        self.state = state.copy()
        self.counts = Counts()
        self._txn = txn
        self._settings = settings
        self._moment = moment = dating.stamp
        self._route = route
        self._page_bytes = page_bytes
        self._tight = tight
        self._filling = Filling(
            txn, self.state.logs, settings, moment, route, compressor, page_bytes, self.counts,
            dating.before_set,
        )  # fmt: skip
        self._notes: list[ClockNote] = [] if dating.noted is None else [dating.noted]
        self._expected = self.state.expected
        self._expected_before = state.expected
        self._openings = self.state.openings
        self._openings_before = state.openings
        self._incoming: dict[str, int] = {}
        self._released = False
        self._owners = self.state.owners
        self._owners_before = state.owners
        #: Identities that found no place for a new source.
        self.lacking: set[Lacking] = set()

    def apply(self, entry: Entry) -> Stored | StoreFull:
        """Store one entry whole, or nothing of it."""
        numbering = entry.numbering
        stored = dropped = expected = 0
        if numbering is not None:
            stored = self._stored_next(numbering.source)
        refusal = self._refusal(entry, numbering, stored)
        if refusal is not None:
            # Somebody else's restart holds nobody back, nor is anything of a new source on its way.
            if numbering is not None and numbering.restart and refusal.code == "store_full":
                self.state.stopped.add(numbering.source)
            return refusal
        if numbering is not None and not numbering.restart and numbering.first < stored:
            entry, dropped = cut_runs(entry, stored)
        last: dict[str, int] = {}
        filling = self._filling
        for run in entry.runs:
            filling.add_run(run, last)
        if entry.blocks:
            known = 0 if numbering is None or numbering.restart else stored
            dropped += filling.add_blocks(entry.blocks, known, last)
        self.counts.duplicates += dropped
        if numbering is not None:
            expected = self._number(numbering, stored)
        if entry.quarantine or entry.positions or entry.clocks or entry.released:
            self._add_riders(entry, stored)
        for order in entry.sources:
            self._obey(order)
        return Stored(last, expected, dropped)

    def finish(self) -> None:
        """Write what is still being gathered, and the counters."""
        self._filling.finish()
        self._keep_time()
        if self.counts.quarantined or self._released:
            self.state.quarantine = trim_quarantine(
                self._txn,
                self.state.quarantine,
                self._settings.quarantine_bytes,
                self._page_bytes,
            )
            self._txn.put(keys.QUARANTINE, encode(keys.QUARANTINE, self.state.quarantine))
        self._put_sources()

    def _add_riders(self, entry: Entry, stored: int) -> None:
        numbering = entry.numbering
        self._notes += entry.clocks
        for item in entry.quarantine:
            if numbering is None or numbering.restart or not 0 < item.number < stored:
                self.state.quarantine = put_quarantined(
                    self._txn,
                    self.state.quarantine,
                    item,
                    self._page_bytes,
                    self._settings.keys,
                )
                add(self.counts.quarantined, item.code, 1)
        for number in entry.released:
            self._released = True
            self.state.quarantine = release_quarantined(
                self._txn, self.state.quarantine, number, self._page_bytes
            )
        for position in entry.positions:
            log, end = self.state.logs.get(position.log), self._filling.end(position.log)
            passed = put_position(self._txn, position, log, end, self._settings.keys)
            self._filling.discard(position.log, passed)

    def _keep_time(self) -> None:
        moment = self._moment
        if moment.synced:
            self.state.newest_ns = moment.wall_ns
        if self._filling.has_unset or (self.counts.records and not moment.synced):
            self.state.unset_boots |= {moment.boot_id}
        if self._notes:
            self.state.clocks, changes = self.state.clocks.changed_by(self._notes, moment.wall_ns)
            write_clocks(self._txn, changes)

    def _put_sources(self) -> None:
        wall_ns, synced = self._moment.wall_ns, self._moment.synced
        items = []
        # In order of their keys, so that each is found on the page of the one before.
        for source, expected in sorted(self._expected.items()):
            key = keys.source_key(source)
            value = SourceValue(
                expected, wall_ns, synced, self._owners[source], self._opening(source)
            )
            items.append((key, encode(key, value)))
        if items:
            self._txn.cursor().putmulti(items)

    # Judging.

    def _stored_next(self, source: str) -> int:
        """The number expected next; `_owner` has its owner from then on."""
        expected = self._expected.get(source)
        if expected is None and source not in self.state.gone:
            expected = self._expected_before.get(source)
        if expected is None:
            key = keys.source_key(source)
            raw = self._txn.get(key)
            value = _UNKNOWN if raw is None else decode(key, raw, SourceValue)
            expected, self._owners[source] = value.next, value.owner
            if value.opening:
                self._openings[source] = value.opening
        return expected

    def _owner(self, source: str) -> str | None:
        if source in self._owners or source in self.state.gone:
            return self._owners.get(source)
        return self._owners_before.get(source)

    def _opening(self, source: str) -> str:
        opening = self._openings.get(source)
        if opening is None and source not in self.state.gone:
            opening = self._openings_before.get(source)
        return opening or ""

    def _obey(self, given: SourceOrder) -> None:
        source, state = given.source, self.state
        stored, owner = self._stored_next(source), self._owner(source)
        self._expected.pop(source, None)
        self._owners.pop(source, None)
        moment, opening = self._moment, self._opening(source)
        self._openings.pop(source, None)
        state.gone.add(source)
        held = SourceValue(stored, moment.wall_ns, moment.synced, owner, opening)
        obey(self._txn, given, held if stored else None)
        if stored:
            state.sources -= 1
            add(state.shares, owner or "", -1)
        if given.order == "move":
            state.sources += 1
            add(state.shares, given.owner or "", 1)

    def _refusal(self, entry: Entry, numbering: Numbering | None, stored: int) -> StoreFull | None:
        if numbering is not None:
            if numbering.owner is not None:
                owner, bind = self._owner(numbering.source), numbering.bind
                if owner not in (None, numbering.owner) and (bind is None or bind.over != owner):
                    return forbidden(numbering.source, owner)
                if entry.blocks and (refusal := self._not_theirs(entry, numbering.owner)):
                    return refusal
            if not numbering.restart:
                if numbering.first > (stored or 1) or numbering.source in self.state.stopped:
                    return StoreFull("an earlier record of this source was refused")
                if numbering.next <= stored and not entry.positions:
                    return None  # All of it is here already; it needs no room.
            if stored == 0 and (refusal := self._lacking_place(numbering)) is not None:
                return refusal
        return self._lacking_room(entry) if self._tight else None

    def _not_theirs(self, entry: Entry, owner: str) -> StoreFull | None:
        """Why somebody does not bring blocks of these agents: they belong to another identity."""
        agent = ""
        for block in entry.blocks:
            if block.origin.agent != agent:
                agent = block.origin.agent
                source = AGENT_PREFIX + agent
                self._stored_next(source)
                whose = self._owner(source)
                if whose not in (None, owner):
                    return forbidden(source, whose)
        return None

    def _lacking_place(self, numbering: Numbering) -> StoreFull | None:
        """Why there is no place for one more source."""
        most = self._settings.sources_max
        share = numbering.bind.share if numbering.bind is not None else 0
        lacking = Lacking(numbering.owner or "", min(share or most, most))
        refusal = no_place(lacking, self.state, most)
        if refusal is not None:
            self.lacking.add(lacking)
        return refusal

    def _lacking_room(self, entry: Entry) -> StoreFull | None:
        sizes = estimate((entry,), self._route, self.state.logs, 0)
        for log, size in sizes.items():
            if not self.state.logs[log].bytes and log not in self._incoming:
                # There is nothing left to wait for: an empty log takes any one entry, or what is
                # larger than its share would be refused, and sent again, for ever.
                continue
            size += self._incoming.get(log, 0) + GROUP_OVERHEAD_BYTES
            needed = with_pages(size, self._settings, self._page_bytes)
            if self.state.logs[log].bytes + needed > self._settings.share_bytes(log):
                return StoreFull(f"log {log} has used up its share of the store")
        for log, size in sizes.items():
            self._incoming[log] = self._incoming.get(log, 0) + size
        return None

    def _number(self, numbering: Numbering, stored: int) -> int:
        restart = numbering.restart
        if restart:
            self.state.stopped.discard(numbering.source)
            # A source that this store does not know is expected to begin at 1; if it goes on with
            # a later number, the earlier ones went to a store that has been lost, or to nobody.
            expected = max(stored, 1)
            self.counts.restarts += numbering.first != expected
            # Unless it says that it begins there on purpose: a division of a backlog is no gap.
            if not numbering.moved:
                self.counts.gaps += max(numbering.first - expected, 0)
        expected = numbering.next if restart else max(stored, numbering.next)
        source = numbering.source
        before = self._owner(source)
        owner = before if numbering.owner is None else numbering.owner
        shares = self.state.shares
        if stored == 0:
            self.state.sources += 1
            add(shares, owner or "", 1)
        elif owner != before:
            add(shares, before or "", -1)
            add(shares, owner or "", 1)
        self._expected[source] = expected
        self._owners[source] = owner
        if numbering.opening is not None:
            self._openings[source] = numbering.opening
        return expected
