"""Thinning puts aggregates (`aggregate.py`) in the place of a full log's oldest records.

One step reads and sums up at most `STEP_RAW_BYTES` and `STEP_BLOCKS`, in a read transaction, and
then replaces what gains by it in one write transaction: a power cut leaves all of it or nothing.
The work is some 60 ms for each MiB of records (four numbers each; on the machine of MEASUREMENTS),
so that it is done ahead of need, step by step between two commits, as soon as a log has reached
`CROWDED` of its share; a commit does it itself only where records come in faster than that.

Left alone:

- the newest quarter of the share (`FRESH_PART`): what happened lately is worth the detail;
- what everybody has acknowledged: it is trimmed instead;
- what some consumer may have in part (`consumer_guard.py`);
- what cannot be read, what is thinned already, and what would not shrink by a quarter: very many
  streams, or records as rare as the aggregates would be.

What was looked at is remembered with the log (``looked``) and not looked at again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import lmdb
import msgspec

from edge_agent.errors import StoreDamaged
from edge_agent.store.commit.stamp import writing
from edge_agent.store.commit.state import Counts, add
from edge_agent.store.format import keys
from edge_agent.store.format.block import FLAG_THINNED, Block, Packed, decode_block, encode_block
from edge_agent.store.format.codec import Compressor
from edge_agent.store.format.values import LogHeader, encode
from edge_agent.store.lmdb_file.recheck import check_before_removal
from edge_agent.store.read.cursor import BlockCursor
from edge_agent.store.settings import StoreSettings
from edge_agent.store.thinning.aggregate import aggregate, continues
from edge_agent.store.thinning.consumer_guard import HandedOut, guard_of
from edge_agent.values.record import NANOSECONDS

#: From this part of its share on a log is thinned ahead of need, down to that part.
CROWDED = 0.9
THIN_TO = 0.85
#: The newest part of a share is never thinned; and what has grown old enough behind it waits until
#: it is such a part, or a log full of aggregates would thin each block by itself as it grows old.
FRESH_PART = 0.25
CHUNK_PART = 0.1
#: One step: records before compression, and blocks.
STEP_RAW_BYTES = 512 * 1024
STEP_BLOCKS = 512
#: Steps for one commit, at most.
STEPS_MAX = 64
#: Blocks become one within such a stretch of the clock, so that little is lost where a consumer
#: turns out to have a part of it, and minutes are seldom cut.
STRETCH_NS = 600 * NANOSECONDS
#: What is worth it: so much of the bytes becomes free.
GAIN_PART = 0.25


@dataclass(frozen=True, slots=True)
class _Clocks:
    """A block's clocks, for the one that takes its place."""

    boot_id: bytes
    boot_ns: int
    wall_ns: int
    synced: bool


@dataclass(frozen=True, slots=True)
class _Replacement:
    """One new block in the place of several: ``value`` under the first key of ``old``. It has so
    many ``fewer`` records, and so many bytes are ``freed``.
    """

    old: list[bytes]
    value: bytes
    fewer: int
    freed: int
    thinned: int
    aggregates: int


@dataclass(slots=True)
class _ThinStep:
    """What one step did: it looked at all up to ``looked``, where ``looked_bytes`` will be held.
    ``is_last``: there is nothing behind it that may be thinned.
    """

    looked: int
    looked_bytes: int
    is_last: bool = False
    replacements: list[_Replacement] = field(default_factory=list)


class Thinner:
    """Thins logs of one environment, for one call of the engine. ``logs`` and ``counts`` as for
    the `Trimmer`; ``handed``: what consumers were handed.
    """

    def __init__(
        self,
        env: lmdb.Environment,
        logs: dict[str, LogHeader],
        settings: StoreSettings,
        page_bytes: int,
        counts: Counts,
        compressor: Compressor,
        handed: HandedOut,
    ) -> None:
        self._env = env
        self._logs = logs
        self._settings = settings
        self._page_bytes = page_bytes
        self._counts = counts
        self._compressor = compressor
        self._handed = handed

    def thins(self, log: str) -> bool:
        """Whether a log is thinned at all."""
        return self._settings.log(log).when_full == "thin-oldest"

    def goal(self, log: str) -> int:
        """Bytes that a crowded log should come down to."""
        return int(self._settings.share_bytes(log) * THIN_TO)

    def crowded(self, log: str) -> bool:
        """Whether a log should be thinned ahead of need, and has something to be looked at."""
        if not self.thins(log):
            return False
        crowded = self._logs[log].bytes > CROWDED * self._settings.share_bytes(log)
        return crowded and self._is_worth_it(log)

    def free(self, log: str, need: int, *, ahead: bool = False) -> None:
        """Free ``need`` bytes, or what can be; ``ahead`` of need in one step, and without cutting
        the newest stretch short.
        """
        goal = self._logs[log].bytes - need
        if not self._is_worth_it(log):
            return
        for _ in range(1 if ahead else STEPS_MAX):
            header = self._logs[log]
            if header.bytes <= goal:
                break
            step = self._look(log, header, ahead=ahead)
            try:
                self._replace(log, header, step)
            except lmdb.MapFullError:
                # No room for the new beside the old, in a file with hardly any headroom: what is
                # needed will be discarded, and then there is.
                break
            if step.is_last:
                break

    def _is_worth_it(self, log: str) -> bool:
        header, share = self._logs[log], self._settings.share_bytes(log)
        return header.bytes - header.looked_bytes > (FRESH_PART + CHUNK_PART) * share

    def _look(self, log: str, header: LogHeader, *, ahead: bool) -> _ThinStep:
        step = _ThinStep(header.looked, header.looked_bytes)
        # Bytes that may be looked at, this much and no more.
        old = header.bytes - header.looked_bytes
        old -= int(FRESH_PART * self._settings.share_bytes(log))
        stretch: list[_Found] = []
        raw = blocks = 0
        with self._env.begin(buffers=True) as txn:
            guard = guard_of(txn, header, log, self._settings, self._handed, self._page_bytes)
            cursor = BlockCursor(txn, header)
            cursor.seek(max(header.looked + 1, header.first))
            while True:
                found = self._found(log, cursor) if cursor.first else None
                if found is None or found.bytes > old:
                    step.is_last = True
                    break
                block = found.block
                if block is None or guard.covers(block):
                    self._close(step, stretch)
                    cursor.step()
                    step.looked = (cursor.first or header.last + 1) - 1
                    step.looked_bytes += found.bytes
                    blocks += 1
                    if blocks > STEP_BLOCKS:
                        # After a salvage all that was thinned before is looked at once more.
                        break
                else:
                    if stretch and not _is_one_stretch(stretch[-1].block, block):
                        self._close(step, stretch)
                    raw, blocks = raw + block.raw_len, blocks + 1
                    if blocks > 1 and (raw > STEP_RAW_BYTES or blocks > STEP_BLOCKS):
                        break
                    stretch.append(found)
                    cursor.step()
                old -= found.bytes
        # A stretch that is not at its end is worth waiting for, if anything else was found.
        if step.looked == header.looked or (step.is_last and not ahead):
            self._close(step, stretch)
        return step

    def _found(self, log: str, cursor: BlockCursor) -> _Found:
        key, value = cursor.value()
        size = keys.stored_bytes(len(value), self._page_bytes)
        if len(value) > 2 and value[2] & FLAG_THINNED:
            return _Found(key, size, None)  # Only its first page has been read.
        try:
            block = decode_block(log, cursor.first, key, value, self._settings.keys)
        except StoreDamaged:
            block = None
        return _Found(key, size, block)

    def _close(self, step: _ThinStep, stretch: list[_Found]) -> None:
        """The stretch is complete: sum it up, and note what that gains."""
        if not stretch:
            return
        blocks = [found.block for found in stretch if found.block is not None]
        size = sum(found.bytes for found in stretch)
        step.looked = blocks[-1].last
        made = self._made(blocks, [found.key for found in stretch], size)
        if made is not None:
            step.replacements.append(made)
            size -= made.freed
        step.looked_bytes += size
        stretch.clear()

    def _made(self, blocks: list[Block], old: list[bytes], size: int) -> _Replacement | None:
        new = aggregate(blocks, self._settings.block_bytes)
        if new is None:
            return None
        codec, payload = self._compressor.compress(new.raw)
        packed = Packed(
            new.count,
            codec,
            len(new.raw),
            payload,
            new.time_min_ns,
            new.time_max_ns,
            new.origin,
            new.covers,
            blocks[-1].historical,
        )
        newest = blocks[-1]
        clocks = _Clocks(newest.boot_id, newest.boot_ns, newest.stored_ns, newest.synced)
        value = encode_block(old[0], packed, clocks, self._settings.keys)
        freed = size - keys.stored_bytes(len(value), self._page_bytes)
        if freed < size * GAIN_PART:
            return None
        fewer = new.covers - new.count
        return _Replacement(old, value, fewer, freed, new.thinned, new.aggregates)

    def _replace(self, log: str, header: LogHeader, step: _ThinStep) -> None:
        replacements = step.replacements
        header = msgspec.structs.replace(
            header,
            records=header.records - sum(one.fewer for one in replacements),
            bytes=header.bytes - sum(one.freed for one in replacements),
            looked=step.looked,
            looked_bytes=step.looked_bytes,
            thinned=header.thinned + sum(one.thinned for one in replacements),
            aggregates=header.aggregates + sum(one.aggregates for one in replacements),
        )
        if replacements:
            check_before_removal(self._env, [key for one in replacements for key in one.old])
            with writing(self._env) as txn:
                for one in replacements:
                    for key in one.old[1:]:
                        txn.delete(key)
                    txn.put(one.old[0], one.value)
                txn.put(keys.log_key(log), encode(keys.log_key(log), header))
        # Where nothing was replaced, what was looked at is written with the next commit.
        self._logs[log] = header
        for one in replacements:
            add(self._counts.thinned, log, one.thinned)
            add(self._counts.aggregates, log, one.aggregates)


class _Found(NamedTuple):
    """A block where it lies; None for one that is thinned already or cannot be read."""

    key: bytes
    bytes: int
    block: Block | None


def _is_one_stretch(before: Block | None, block: Block) -> bool:
    return (
        before is not None
        and continues(before, block)
        and before.stored_ns // STRETCH_NS == block.stored_ns // STRETCH_NS
        and before.historical == block.historical
    )
