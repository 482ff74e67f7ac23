"""This module writes a store anew, value by value, for compact, erase, backup and restore.

The new file holds what is live and nothing else: pages that LMDB has freed, in which deleted
records stay readable, are not copied. Its pages have the size that the old file's have, and what
logs and quarantine hold is counted anew. One read transaction sees the store as of one commit, also
while an agent goes on writing; no page of that commit is used again meanwhile, so reading stops
when the agent may need the room.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lmdb
from msgspec.structs import replace

from edge_agent.errors import StoreFailed
from edge_agent.store.commit.stamp import writing
from edge_agent.store.create import open_environment
from edge_agent.store.format import keys
from edge_agent.store.format.values import LogHeader, QuarantineHeader, decode, encode
from edge_agent.store.lmdb_errors import TROUBLE, translated
from edge_agent.store.tools.changes import Change

Progress = Callable[[int, int], None]
"""Told how many bytes are done, and of how many."""

#: Bytes copied in one transaction, and between two words of progress.
_COPY_BYTES = 4 * 1024 * 1024
#: What may be written to the store while it is read, as a part of it: half of what logs leave free.
_ROOM_PART = 0.1
#: What a commit writes, however little it holds.
_COMMIT_BYTES = 26 * 1024


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What was copied; ``bytes`` of values."""

    values: int
    blocks: int
    bytes: int


def used_bytes(env: lmdb.Environment) -> int:
    """Bytes in pages that hold something, as of the last commit."""
    found = env.stat()
    pages: int = found["branch_pages"] + found["leaf_pages"] + found["overflow_pages"] + 2
    size: int = found["psize"]
    return pages * size


def rewrite(
    source: lmdb.Environment, folder: Path, map_size: int, change: Change, progress: Progress
) -> Rewritten:
    """Write what ``source`` holds to a new file in ``folder``, as ``change`` says.

    Raises:
        StoreFailed: the disk refuses, or the agent that writes to ``source`` needs its room.
        StoreDamaged: a value that has to be understood cannot be.
    """
    try:
        # What this process has read must not get into the file as the rest of some page.
        page_bytes: int = source.stat()["psize"]
        target = open_environment(folder, map_size, clean=True, page_bytes=page_bytes)
    except TROUBLE as error:
        raise translated(error, f"writing {folder}") from error
    try:
        with source.begin(buffers=True) as reading:
            return _Copy(source, reading, target, change, progress).run()
    except TROUBLE as error:
        raise translated(error, f"writing {folder}") from error
    finally:
        target.close()


class _Copy:
    def __init__(
        self,
        source: lmdb.Environment,
        reading: lmdb.Transaction[memoryview],
        target: lmdb.Environment,
        change: Change,
        progress: Progress,
    ) -> None:
        self._source, self._reading, self._target = source, reading, target
        self._change, self._progress = change, progress
        self._total = used_bytes(source)
        self._began: int = source.info()["last_txnid"]
        self._logs = _logs(reading)
        self._pending: list[tuple[bytes, bytes]] = []
        self._pending_bytes = 0
        self._done = 0
        self._values = self._blocks = 0
        self._page_bytes: int = target.stat()["psize"]
        #: By a log's id, 0 for quarantine: what is held, and of that up to what thinning looked at.
        self._held: dict[int, list[int]] = {}
        self._looked = {log.id: log.looked for log in self._logs.values()}

    def run(self) -> Rewritten:
        for view, stored in self._reading.cursor():
            key = bytes(view)
            if key == keys.STAMP:
                continue  # The new file has transactions of its own.
            value = self._change.value(key, bytes(stored))
            self._done += len(stored)
            if value is None:
                continue
            self._values += 1
            self._blocks += key[:1] == keys.BLOCK
            self._count(key, value)
            self._pending.append((key, value))
            self._pending_bytes += len(value)
            if self._pending_bytes >= _COPY_BYTES:
                self._write()
        self._write()
        self._pending = list(self._change.end().items())
        self._write()
        self._note_counts()
        self._progress(self._total, self._total)
        return Rewritten(self._values, self._blocks, self._done)

    def _count(self, key: bytes, value: bytes) -> None:
        is_block = key[:1] == keys.BLOCK
        if is_block or (key[:1] == keys.QUARANTINE and key != keys.QUARANTINE):
            size = keys.stored_bytes(len(value), self._page_bytes)
            held = self._held.setdefault(key[1] if is_block else 0, [0, 0])
            held[0] += size
            if is_block and keys.block_first(key) <= self._looked.get(key[1], 0):
                held[1] += size

    def _note_counts(self) -> None:
        """What headers say of bytes, where it is not so: a former version copied it from a file
        with pages of another size.
        """
        with writing(self._target) as txn:
            for key, log in _logs(txn).items():
                size, looked = self._held.get(log.id, [0, 0])
                counted = replace(log, bytes=size, looked_bytes=looked if log.looked else 0)
                if counted != log:
                    txn.put(key, encode(key, counted))
            raw = txn.get(keys.QUARANTINE)
            if raw is not None:
                header = decode(keys.QUARANTINE, raw, QuarantineHeader)
                header = replace(header, bytes=self._held.get(0, [0])[0])
                txn.put(keys.QUARANTINE, encode(keys.QUARANTINE, header))

    def _write(self) -> None:
        with writing(self._target) as txn:
            for key, value in self._pending:
                txn.put(key, value)
        self._pending = []
        self._pending_bytes = 0
        self._progress(min(self._done, self._total), self._total)
        self._look_at_room()

    def _look_at_room(self) -> None:
        """Pages that were freed since reading began are kept for it. How many those are cannot be
        asked, so what was written since stands for them.
        """
        written = (self._source.info()["last_txnid"] - self._began) * _COMMIT_BYTES
        with self._source.begin(buffers=True) as txn:
            for log, now in _logs(txn).items():
                appended = now.last - self._logs.get(log, now).last
                written += appended * now.bytes // max(now.records, 1)
        if written > _ROOM_PART * self._source.info()["map_size"]:
            raise StoreFailed(
                f"{written // 2**20} MiB were written while the store was being read, and the agent"
                " needs the room that reading keeps; try again when less comes in"
            )


def _logs(txn: lmdb.Transaction[memoryview] | lmdb.Transaction[bytes]) -> dict[bytes, LogHeader]:
    found: dict[bytes, LogHeader] = {}
    cursor = txn.cursor()
    cursor.set_range(keys.LOG)
    for view, value in cursor.iternext():
        key = bytes(view)
        if not key.startswith(keys.LOG):
            break
        found[key] = decode(key, value, LogHeader)
    return found
