"""One group within its write transaction: entries are judged in order, their records gathered
into blocks, counters and positions brought up to date.

Nothing here touches the engine's own state: a `Group` works on copies that the engine adopts
once the transaction has been synced, and throws away otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import lmdb
import msgspec

from edge_agent.errors import StoreFull
from edge_agent.record import ForeignBlock, Run
from edge_agent.store import keys
from edge_agent.store.codec import RAW, Compressor
from edge_agent.store.duplicates import cut_block, cut_runs
from edge_agent.store.entry import Entry, Numbering, Stored
from edge_agent.store.format import Packed, encode_block
from edge_agent.store.payload import RUN_HEAD_BYTES, encode_run, join_runs, split_run
from edge_agent.store.riders import put_position, put_quarantined, trim_quarantine
from edge_agent.store.settings import MAIN, Moment, StoreSettings
from edge_agent.store.state import Counts, State, add
from edge_agent.store.values import SourceValue, decode, encode

#: What a group adds to a log beyond its records: a block's header and a page begun, twice.
GROUP_OVERHEAD_BYTES = 8192


@dataclass(slots=True)
class _Gathering:
    """The block of one log that is being filled."""

    pieces: list[bytes] = field(default_factory=list)
    size: int = 0
    count: int = 0
    time_min_ns: int = 2**63 - 1
    time_max_ns: int = -(2**63)


def estimate(entry: Entry, route: Callable[[str], str], state: State) -> dict[str, int]:
    """Bytes that an entry may add to each log, never too few but for page rounding."""
    sizes: dict[str, int] = {}
    for run in entry.runs:
        log = route(run.stream)
        head = RUN_HEAD_BYTES + len(run.stream) + len(run.source)
        sizes[log] = sizes.get(log, 0) + len(run.body) + head
    for block in entry.blocks:
        log = block_log(block, state)
        sizes[log] = sizes.get(log, 0) + len(block.payload) + 4096
    return sizes


def total(sizes: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Bytes that a whole group may add to each log it writes in."""
    summed: dict[str, int] = {}
    for entry in sizes:
        for log, size in entry.items():
            summed[log] = summed.get(log, GROUP_OVERHEAD_BYTES) + size
    return summed


def block_log(block: ForeignBlock, state: State) -> str:
    """A foreign block is not opened to be routed: it goes to the log of the name it comes from,
    or to `MAIN`.
    """
    return block.origin.log if block.origin.log in state.logs else MAIN


class Group:
    """Judges and writes entries; `finish` before the transaction commits."""

    def __init__(
        self,
        txn: lmdb.Transaction[bytes],
        state: State,
        settings: StoreSettings,
        moment: Moment,
        route: Callable[[str], str],
        compressor: Compressor,
        page_bytes: int,
    ) -> None:
        self.state = state
        self.counts = Counts()
        self._txn = txn
        self._settings = settings
        self._moment = moment
        self._route = route
        self._compressor = compressor
        self._page_bytes = page_bytes
        self._gathering: dict[str, _Gathering] = {}
        self._expected: dict[str, int] = {}
        self._numbered: set[str] = set()
        self._incoming: dict[str, int] = {}
        self._changed: set[str] = set()

    def apply(self, entry: Entry, sizes: Mapping[str, int]) -> Stored | StoreFull:
        """Store one entry whole, or nothing of it; ``sizes`` is its `estimate`."""
        numbering = entry.numbering
        stored = self._stored_next(numbering) if numbering is not None else 0
        refusal = self._refusal(entry, sizes, stored)
        if refusal is not None:
            if numbering is not None and numbering.restart:
                self.state.stopped.add(numbering.source)
            return refusal
        if numbering is not None and not numbering.restart and numbering.first < stored:
            entry, dropped = cut_runs(entry, stored)
        else:
            dropped = 0
        last: dict[str, int] = {}
        for run in entry.runs:
            self._add_run(run, last)
        for block in entry.blocks:
            if numbering is not None and not numbering.restart and block.first < stored:
                kept = cut_block(block, stored)
                dropped += block.count - (0 if kept is None else kept.count)
                if kept is None:
                    continue
                block = kept
            self._add_block(block, last)
        self.counts.duplicates += dropped
        expected = self._number(numbering, stored) if numbering is not None else 0
        for item in entry.quarantine:
            if numbering is None or numbering.restart or not 0 < item.number < stored:
                self.state.quarantine = put_quarantined(
                    self._txn, self.state.quarantine, item, self._page_bytes
                )
                add(self.counts.quarantined, item.code, 1)
        for position in entry.positions:
            put_position(self._txn, position, self._end(position.log))
        return Stored(last, expected, dropped)

    def finish(self) -> None:
        """Write what is still being gathered, and the counters."""
        for log in list(self._gathering):
            self._flush(log)
        for log in self._changed:
            key = keys.log_key(log)
            self._txn.put(key, encode(key, self.state.logs[log]))
        if self.counts.quarantined:
            self.state.quarantine = trim_quarantine(
                self._txn,
                self.state.quarantine,
                self._settings.quarantine_bytes,
                self._page_bytes,
            )
            self._txn.put(keys.QUARANTINE, encode(keys.QUARANTINE, self.state.quarantine))
        for source in self._numbered:
            value = SourceValue(self._expected[source], self._moment.wall_ns, self._moment.synced)
            key = keys.source_key(source)
            self._txn.put(key, encode(key, value))

    # Judging.

    def _stored_next(self, numbering: Numbering) -> int:
        source = numbering.source
        if source not in self._expected:
            key = keys.source_key(source)
            raw = self._txn.get(key)
            self._expected[source] = 0 if raw is None else decode(key, raw, SourceValue).next
        return self._expected[source]

    def _refusal(self, entry: Entry, sizes: Mapping[str, int], stored: int) -> StoreFull | None:
        numbering = entry.numbering
        if numbering is not None and not numbering.restart:
            if numbering.first > max(stored, 1) or numbering.source in self.state.stopped:
                return StoreFull("an earlier record of this source was refused")
            if numbering.next <= stored and not entry.positions:
                return None  # All of it is here already; it needs no room.
        sources = self.state.sources
        if numbering is not None and stored == 0 and sources >= self._settings.sources_max:
            return StoreFull(f"{sources} sources are remembered, see limits.sources", 60.0)
        for log, size in sizes.items():
            held = self.state.logs[log].bytes + self._incoming.get(log, 0)
            if held + size + GROUP_OVERHEAD_BYTES > self._settings.share_bytes(log):
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
            self.counts.gaps += max(numbering.first - expected, 0)
        expected = numbering.next if restart else max(stored, numbering.next)
        if stored == 0:
            self.state.sources += 1
        self._expected[numbering.source] = expected
        self._numbered.add(numbering.source)
        return expected

    def _end(self, log: str) -> int:
        header = self.state.logs.get(log)
        gathering = self._gathering.get(log)
        return (0 if header is None else header.last) + (
            0 if gathering is None else gathering.count
        )

    # Records.

    def _add_run(self, run: Run, last: dict[str, int]) -> None:
        log = self._route(run.stream)
        limit = self._settings.block_bytes
        for part in (run,) if len(run.body) <= limit else split_run(run, limit):
            gathering = self._gathering.get(log)
            if gathering is None:
                gathering = self._gathering[log] = _Gathering()
            piece = encode_run(part, gathering.count)
            if gathering.pieces and gathering.size + len(piece) > limit:
                self._flush(log)
                gathering = self._gathering[log] = _Gathering()
                piece = encode_run(part, 0)
            gathering.pieces.append(piece)
            gathering.size += len(piece)
            gathering.count += part.count
            gathering.time_min_ns = min(gathering.time_min_ns, part.time_min_ns)
            gathering.time_max_ns = max(gathering.time_max_ns, part.time_max_ns)
        last[log] = self.state.logs[log].last + self._gathering[log].count
        add(self.counts.record_bytes, log, len(run.body))

    def _add_block(self, block: ForeignBlock, last: dict[str, int]) -> None:
        log = block_log(block, self.state)
        self._flush(log)
        codec, payload = block.codec, block.payload
        if codec == RAW:
            codec, payload = self._compressor.compress(payload)
        packed = Packed(
            block.count,
            codec,
            block.raw_len,
            payload,
            block.time_min_ns,
            block.time_max_ns,
            block.origin,
        )
        self._put(log, packed)
        last[log] = self.state.logs[log].last
        add(self.counts.record_bytes, log, block.raw_len)

    def _flush(self, log: str) -> None:
        gathering = self._gathering.pop(log, None)
        if gathering is None:
            return
        raw = join_runs(gathering.pieces)
        codec, payload = self._compressor.compress(raw)
        low, high = gathering.time_min_ns, gathering.time_max_ns
        self._put(log, Packed(gathering.count, codec, len(raw), payload, low, high))

    def _put(self, log: str, packed: Packed) -> None:
        header = self.state.logs[log]
        key = keys.block_key(header.id, header.last + 1)
        value = encode_block(key, packed, self._moment)
        self._txn.put(key, value, overwrite=False)
        self.state.logs[log] = msgspec.structs.replace(
            header,
            last=header.last + packed.count,
            records=header.records + packed.count,
            bytes=header.bytes + keys.stored_bytes(len(value), self._page_bytes),
        )
        self._changed.add(log)
        add(self.counts.records, log, packed.count)
        add(self.counts.block_bytes, log, len(value))
