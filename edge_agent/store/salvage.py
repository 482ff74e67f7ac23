"""Reading back what can be read of a store that LMDB must not open.

The damaged file is read page by page without LMDB (`pages.py`), so that nothing in it can crash
the agent. Every block whose checksum is right is copied, under its own seq; positions, numbering
and quarantine come along where they can be read. The new store has a new id and a new epoch, and
keeps the agent's id, so that upstreams go on where they were.

Seqs go on `SALVAGE_JUMP` above the highest one known: an upstream may have been given seqs whose
records are lost here, and would take new records under the same seqs for repeats. Readers see a
gap "damaged" that is longer than what was lost.

A power cut at any moment repeats the salvage or finishes it (`create.tidy`): the damaged folder
is moved aside only when its successor is complete and durable.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from edge_agent.errors import StoreDamaged, StoreFailed
from edge_agent.store import keys
from edge_agent.store.create import (
    DATA,
    SALVAGED,
    SALVAGING,
    STORE,
    damaged_folders,
    first_logs,
    next_damaged,
    open_environment,
    rename,
    reserve,
    sync_folder,
)
from edge_agent.store.format import decode_block
from edge_agent.store.identity import Entropy, new_header
from edge_agent.store.pages import Node, PageFile
from edge_agent.store.settings import MAIN, SHARES_MAX, Clock, StoreSettings
from edge_agent.store.values import (
    ClockValue,
    LogHeader,
    PositionValue,
    QuarantineHeader,
    QuarantineValue,
    SourceValue,
    StoreHeader,
    decode,
    encode,
)

logger = logging.getLogger(__name__)

#: More than a damaged file can have lost at its end.
SALVAGE_JUMP = 2**20
#: Bytes copied in one transaction.
_COPY_BYTES = 4 * 1024 * 1024
#: Descriptions of damage that a report carries at most.
_PROBLEMS_MAX = 100
#: Damaged stores that are kept for a person to look at; each may have the store's full size.
KEEP_DAMAGED = 2


def salvage(
    path: Path, settings: StoreSettings, clock: Clock, entropy: Entropy, reason: str
) -> dict[str, Any]:
    """Put a store made of what can be read in the place of the one in ``path / STORE``.

    Returns a report: ``reason``, ``moved_to``, ``when_ns``, ``blocks`` and ``records`` read
    back, ``problems`` (texts, `_PROBLEMS_MAX` at most), ``complete`` (False where the new file
    was too small for all).

    Raises:
        StoreFailed: the disk refuses; nothing was moved.
    """
    damaged = next_damaged(path)
    report: dict[str, Any] = {
        "reason": reason,
        "moved_to": str(damaged),
        "when_ns": clock.read().wall_ns,
        "blocks": 0,
        "records": 0,
        "problems": [],
        "complete": True,
    }
    folder = path / SALVAGING
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        _build(path / STORE, folder, settings, entropy, report)
        _reserve(folder, settings, report)
        sync_folder(folder)
        rename(folder, path / SALVAGED)
        rename(path / STORE, damaged)
        rename(path / SALVAGED, path / STORE)
    except (OSError, lmdb.Error) as error:
        raise StoreFailed(f"{path}: the damaged store cannot be salvaged: {error}") from error
    _drop_old(path)
    logger.error(
        "the store was damaged (%s): read back %d records in %d blocks, moved the rest to %s",
        reason,
        report["records"],
        report["blocks"],
        damaged,
    )
    return report


def _build(
    old: Path, folder: Path, settings: StoreSettings, entropy: Entropy, report: dict[str, Any]
) -> None:
    env = open_environment(folder, settings.map_size)
    try:
        copy = _Copy(env, settings, report)
        try:
            with PageFile(old / DATA) as pages:
                for node in pages.nodes(pages.meta.main_root, copy.problem):
                    copy.take(pages, node)
        except (StoreDamaged, FileNotFoundError) as error:
            copy.problem(str(error))
        copy.finish(entropy)
    finally:
        env.close()


class _Copy:
    """Takes nodes of the damaged file in the order of their keys, which is: header, logs,
    positions, sources, quarantine, clock notes, blocks.
    """

    def __init__(
        self, env: lmdb.Environment, settings: StoreSettings, report: dict[str, Any]
    ) -> None:
        self._env = env
        self._settings = settings
        self._report = report
        self._header: StoreHeader | None = None
        self._logs: dict[str, LogHeader] = {}
        self._copied: dict[int, LogHeader] = {}
        self._floors: dict[str, int] = {}
        self._quarantine = QuarantineHeader()
        self._pending: list[tuple[bytes, bytes]] = []
        self._pending_bytes = 0
        self._bytes = 0
        self._page_bytes: int = env.stat()["psize"]

    def problem(self, text: str) -> None:
        """Note what cannot be used."""
        if len(self._report["problems"]) < _PROBLEMS_MAX:
            self._report["problems"].append(text)

    def take(self, pages: PageFile, node: Node) -> None:
        """Copy one node if it is sound."""
        takers: dict[bytes, Callable[[bytes, bytes], None]] = {
            keys.STORE: self._take_header,
            keys.LOG: self._take_log,
            keys.POSITION: self._take_position,
            keys.SOURCE: self._take_source,
            keys.QUARANTINE: self._take_quarantine,
            keys.CLOCK: self._take_clock,
            keys.BLOCK: self._take_block,
        }
        try:
            taker = takers.get(node.key[:1])
            if taker is None:
                raise StoreDamaged(f"key {node.key[:20].hex()} is none of ours")
            taker(node.key, pages.value(node))
        except (StoreDamaged, ValueError) as error:
            self.problem(str(error))

    def finish(self, entropy: Entropy) -> None:
        """Write what is pending and the headers as they are now."""
        self._write()
        old = self._header
        wall_ns: int = self._report["when_ns"]
        header = new_header(
            self._settings.board if old is None else old.board,
            wall_ns,
            entropy,
            "" if old is None else old.agent_id,
        )
        by_id = {log.id: name for name, log in self._logs.items()}
        for log_id in self._copied:
            if log_id not in by_id:
                name = MAIN if log_id == 1 else f"recovered-{log_id}"
                self._logs[name] = LogHeader(log_id)
        with self._env.begin(write=True) as txn:
            txn.put(keys.STORE, encode(keys.STORE, header))
            for name, log in {**self._logs, **first_logs(self._settings, self._logs)}.items():
                key = keys.log_key(name)
                txn.put(key, encode(key, self._counted(name, log)))
            if self._quarantine.last:
                txn.put(keys.QUARANTINE, encode(keys.QUARANTINE, self._quarantine))

    def _counted(self, name: str, old: LogHeader) -> LogHeader:
        copied = self._copied.get(old.id, LogHeader(old.id))
        known = max(old.last, copied.last, self._floors.get(name, 0))
        # A log that nobody ever saw a record of starts from 1 as it would have.
        last = known + SALVAGE_JUMP if known else 0
        # What the header says was there and is not is told to readers as damaged, not trimmed.
        begin = copied.first if copied.records else last + 1
        return msgspec.structs.replace(
            old,
            first=min(begin, old.first) if old.last else begin,
            last=last,
            records=copied.records,
            bytes=copied.bytes,
        )

    def _take_header(self, key: bytes, value: bytes) -> None:
        self._header = decode(key, value, StoreHeader)

    def _take_log(self, key: bytes, value: bytes) -> None:
        self._logs[key[1:].decode()] = decode(key, value, LogHeader)

    def _take_position(self, key: bytes, value: bytes) -> None:
        floor = decode(key, value, PositionValue).floor
        log = key[1:].decode().rpartition("\x00")[2]
        self._floors[log] = max(self._floors.get(log, 0), floor)
        self._put(key, value)

    def _take_source(self, key: bytes, value: bytes) -> None:
        decode(key, value, SourceValue)
        self._put(key, value)

    def _take_quarantine(self, key: bytes, value: bytes) -> None:
        if key == keys.QUARANTINE:
            return
        decode(key, value, QuarantineValue)
        number = keys.block_first(b"\x00" + key)
        held = self._quarantine
        size = held.bytes + keys.stored_bytes(len(value), self._page_bytes)
        released = held.released + (number - held.last - 1 if held.last else 0)
        first = held.first if held.last else number
        self._quarantine = QuarantineHeader(first, number, size, 0, released)
        self._put(key, value)

    def _take_clock(self, key: bytes, value: bytes) -> None:
        decode(key, value, ClockValue)
        self._put(key, value)

    def _take_block(self, key: bytes, value: bytes) -> None:
        if len(key) != 10 or key[1] == 0:
            raise StoreDamaged(f"key {key.hex()} is no block's")
        log_id, first = key[1], keys.block_first(key)
        block = decode_block(f"#{log_id}", first, key, memoryview(value))
        held = self._copied.get(log_id) or LogHeader(log_id, first)
        if first <= held.last:
            raise StoreDamaged(f"block {first} of log #{log_id} overlaps the one before")
        size = keys.stored_bytes(len(value), self._page_bytes)
        if self._bytes + size > SHARES_MAX * self._settings.map_size:
            self._report["complete"] = False
            return
        self._bytes += size
        self._copied[log_id] = msgspec.structs.replace(
            held,
            last=block.last,
            records=held.records + block.count,
            bytes=held.bytes + size,
        )
        self._put(key, value)
        self._report["blocks"] += 1
        self._report["records"] += block.count

    def _put(self, key: bytes, value: bytes) -> None:
        self._pending.append((key, value))
        self._pending_bytes += len(value)
        if self._pending_bytes >= _COPY_BYTES:
            self._write()

    def _write(self) -> None:
        with self._env.begin(write=True) as txn:
            for key, value in self._pending:
                txn.put(key, value)
        self._pending.clear()
        self._pending_bytes = 0


def _reserve(folder: Path, settings: StoreSettings, report: dict[str, Any]) -> None:
    try:
        reserve(folder / DATA, settings.map_size)
    except StoreFailed as error:
        # Two stores may not fit. The agent starts all the same, and reserves later what it can.
        report["problems"].append(str(error))


def _drop_old(path: Path) -> None:
    for folder in damaged_folders(path)[:-KEEP_DAMAGED]:
        logger.warning("removing %s: the newest %d are kept", folder, KEEP_DAMAGED)
        shutil.rmtree(folder, ignore_errors=True)
