"""This module makes blocks of a group's records; each log has one that is being filled.

It is written when it is full, when a foreign block comes in between, or when the group ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import lmdb
import msgspec

from edge_agent.store.commit.dedup import cut_block
from edge_agent.store.commit.state import Counts, add
from edge_agent.store.format import keys
from edge_agent.store.format.block import Packed, encode_block
from edge_agent.store.format.codec import RAW, Compressor
from edge_agent.store.format.payload import run_head, split_run
from edge_agent.store.format.values import LogHeader, encode
from edge_agent.store.settings import MAIN, Moment, StoreSettings
from edge_agent.values.record import ForeignBlock, Run, array_header


def block_log(block: ForeignBlock, logs: Mapping[str, LogHeader]) -> str:
    """A foreign block is not opened to be routed: it goes to the log of the name it comes from,
    or to `MAIN`.
    """
    return block.origin.log if block.origin.log in logs else MAIN


class _Open:
    """The block of one log that is being filled, ``pieces`` to be joined once."""

    __slots__ = ("before", "count", "is_set", "pieces", "size", "time_max", "time_min")

    def __init__(self, before: int, *, is_set: bool) -> None:
        #: Whether its records arrived by a clock that was set.
        self.is_set = is_set
        #: The log's last seq before this block.
        self.before = before
        #: The array's header, known in the end; then each run's head and body in turn.
        self.pieces: list[bytes] = [b""]
        self.count = self.size = 0
        self.time_min = 2**63 - 1
        self.time_max = -(2**63)


class Filling:
    """All logs' blocks of one group. Keeps ``logs`` and ``counts`` up to date.

    ``before_set``: where the clock is set, the clocks for what arrived while it was not
    (`timekeeper.py`).
    """

    def __init__(
        self,
        txn: lmdb.Transaction[bytes],
        logs: dict[str, LogHeader],
        settings: StoreSettings,
        moment: Moment,
        route: Callable[[str], str],
        compressor: Compressor,
        page_bytes: int,
        counts: Counts,
        before_set: Moment | None = None,
    ) -> None:
        self._txn = txn
        self._logs = logs
        self._limit = settings.block_bytes
        self._seals = settings.keys
        self._moment = moment
        self._before_set = before_set
        #: Whether something was stored that arrived while the clock, now set, was not.
        self.has_unset = False
        self._route = route
        self._compressor = compressor
        self._page_bytes = page_bytes
        self._counts = counts
        self._open: dict[str, _Open] = {}
        self._changed: set[str] = set()

    def end(self, log: str) -> int:
        """Seq of the last record so far; 0 where there never was one."""
        header, block = self._logs.get(log), self._open.get(log)
        return (0 if header is None else header.last) + (0 if block is None else block.count)

    def discard(self, log: str, count: int) -> None:
        """So many records were given up by a person's order: they stay, but somebody lacks them."""
        if count:
            header = self._logs[log]
            self._logs[log] = msgspec.structs.replace(header, discarded=header.discarded + count)
            self._changed.add(log)
            add(self._counts.discarded, log, count)

    def finish(self) -> None:
        """Write what is open, and the logs' counters."""
        for log in list(self._open):
            self._flush(log)
        for log in self._changed:
            key = keys.log_key(log)
            self._txn.put(key, encode(key, self._logs[log]))

    def add_run(self, run: Run, last: dict[str, int]) -> None:
        """Store a run; ``last`` gets the seq of its last record, under its log's name."""
        body = run.body
        if len(body) > self._limit and run.count > 1:
            for part in split_run(run, self._limit):
                self.add_run(part, last)
            return
        log = self._route(run.stream)
        block = self._open.get(log)
        # No block holds what arrived while the clock was set and what did while it was not.
        if block is None or block.is_set is not run.synced:
            block = self._begin(log, is_set=run.synced)
        head = run_head(run, block.count)
        size = block.size + len(head) + len(body)
        if size > self._limit and block.size:
            block = self._begin(log, is_set=run.synced)
            head = run_head(run, 0)
            size = len(head) + len(body)
        block.pieces += (head, body)
        block.size = size
        block.count += run.count
        if run.time_min_ns < block.time_min:
            block.time_min = run.time_min_ns
        if run.time_max_ns > block.time_max:
            block.time_max = run.time_max_ns
        last[log] = block.before + block.count

    def _begin(self, log: str, *, is_set: bool) -> _Open:
        self._flush(log)
        block = self._open[log] = _Open(self._logs[log].last, is_set=is_set)
        return block

    def add_blocks(self, blocks: Sequence[ForeignBlock], known: int, last: dict[str, int]) -> int:
        """Store blocks; how many of their records were left out: those numbered below ``known``."""
        dropped = 0
        for block in blocks:
            kept = block if block.first >= known else cut_block(block, known)
            dropped += block.count - (0 if kept is None else kept.count)
            if kept is not None:
                self._add_block(kept, last)
        return dropped

    def _add_block(self, block: ForeignBlock, last: dict[str, int]) -> None:
        log = block_log(block, self._logs)
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
            historical=block.historical,
        )
        self._put(log, packed)
        last[log] = self._logs[log].last
        add(self._counts.record_bytes, log, block.raw_len)

    def _flush(self, log: str) -> None:
        block = self._open.pop(log, None)
        if block is None:
            return
        pieces = block.pieces
        pieces[0] = array_header(len(pieces) // 2)
        raw = b"".join(pieces)
        codec, payload = self._compressor.compress(raw)
        packed = Packed(block.count, codec, len(raw), payload, block.time_min, block.time_max)
        moment = None if block.is_set else self._before_set
        self.has_unset = self.has_unset or moment is not None
        self._put(log, packed, moment)
        add(self._counts.record_bytes, log, sum(map(len, pieces[2::2])))

    def _put(self, log: str, packed: Packed, moment: Moment | None = None) -> None:
        header = self._logs[log]
        key = keys.block_key(header.id, header.last + 1)
        value = encode_block(key, packed, moment or self._moment, self._seals)
        self._txn.put(key, value, overwrite=False)
        self._logs[log] = msgspec.structs.replace(
            header,
            last=header.last + packed.count,
            records=header.records + packed.count,
            bytes=header.bytes + keys.stored_bytes(len(value), self._page_bytes),
        )
        self._changed.add(log)
        add(self._counts.records, log, packed.count)
        add(self._counts.block_bytes, log, len(value))
