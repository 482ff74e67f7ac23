"""This module runs a salvage: it reads back what it can of a store that LMDB must not open.

The damaged file is read page by page without LMDB (`node_scan.py`), so that nothing in it can crash
the agent. Every block whose checksum is right is copied, under its own seq; positions, numbering
and quarantine come along where they can be read (`recover.py`). The new store has a new id and a
new epoch, and keeps the agent's id, so that upstreams go on where they were.

Seqs go on `SALVAGE_JUMP` above the highest one known: an upstream may have been given seqs whose
records are lost here, and would take new records under the same seqs for repeats. Readers see a
gap "damaged" that is longer than what was lost.

A note of it stays in the new store (`keys.SALVAGED`), and is told at every start for as long as the
damaged folder is there: a second restart must not hide that data was lost.

A power cut at any moment repeats the salvage or finishes it (`create.tidy`): the damaged folder
is moved aside only when its successor is complete and durable.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from edge_agent.errors import StoreDamaged, StoreFailed
from edge_agent.output.printable import grouped
from edge_agent.store.close_marker import closed_at
from edge_agent.store.commit.positions import trim_quarantine
from edge_agent.store.commit.stamp import writing
from edge_agent.store.copy_signs import noted_openings
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
from edge_agent.store.format import keys
from edge_agent.store.format.values import LogHeader, SalvageNote, encode
from edge_agent.store.identity import Entropy, Here, new_header, salvaged_header
from edge_agent.store.lmdb_file.pages import PageFile
from edge_agent.store.repair.node_scan import Finder
from edge_agent.store.repair.recover import Copy, is_sound
from edge_agent.store.settings import MAIN, StoreClock, StoreSettings

logger = logging.getLogger(__name__)

#: More than a damaged file can have lost at its end.
SALVAGE_JUMP = 2**20
#: Descriptions of damage that a report carries at most.
_PROBLEMS_MAX = 100
#: Damaged stores that are kept for a person to look at; each may have the store's full size.
KEEP_DAMAGED = 2


def salvage(
    path: Path, settings: StoreSettings, clock: StoreClock, entropy: Entropy, reason: str
) -> dict[str, Any]:
    """Put a store made of what can be read in the place of the one in ``path / STORE``.

    Returns a report: what is in the `SalvageNote`, and ``problems`` (texts, `_PROBLEMS_MAX` at
    most).

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
        "missing": 0,
        "complete": True,
        "possible": 0,
        "all_known": True,
        "problems": [],
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
        # A disk that is full must not be kept full by half of a store.
        shutil.rmtree(folder, ignore_errors=True)
        raise StoreFailed(f"{path}: the damaged store cannot be salvaged: {error}") from error
    _drop_old(path)
    logger.error(
        "the store was damaged (%s): read back %d records in %d blocks, %s; moved the rest to %s",
        reason,
        report["records"],
        report["blocks"],
        loss_in_words(report["missing"], report["possible"], all_known=report["all_known"]),
        damaged,
    )
    return report


def loss_in_words(missing: int, possible: int, *, all_known: bool) -> str:
    """What a salvage did not find: see `SalvageNote`."""
    told = f"{grouped(missing)} records are" if missing else "no record is"
    told += " known to be lost"
    if possible:
        told += f"; {grouped(possible)} more may be lost, or were never acked or long trimmed"
    if not all_known:
        told += "; there may be others, of which nothing in the file tells"
    return told


def told_of(note: SalvageNote | None) -> dict[str, Any] | None:
    """The report of an earlier salvage, for as long as the damaged folder is there to look at."""
    if note is None or not Path(note.moved_to).exists():
        return None
    return {**msgspec.structs.asdict(note), "problems": []}


def _build(
    old: Path, folder: Path, settings: StoreSettings, entropy: Entropy, report: dict[str, Any]
) -> None:
    def problem(text: str) -> None:
        if len(report["problems"]) < _PROBLEMS_MAX:
            report["problems"].append(text)

    clean = settings.keys.current != b""
    page_bytes = _page_bytes(old / DATA)
    env = open_environment(folder, settings.map_size, clean=clean, page_bytes=page_bytes)
    try:
        copy = Copy(env, settings.map_size)
        try:
            with PageFile(old / DATA) as pages:
                known = _copy(pages, copy, problem, closed_at(old))
                report["all_known"] = known and bool(copy.logs)
        except (StoreDamaged, FileNotFoundError) as error:
            report["all_known"] = False
            problem(str(error))
        copy.write()
        _finish(env, copy, settings, entropy, report, old / DATA)
    finally:
        env.close()


def _page_bytes(data: Path) -> int:
    """Of the damaged file's pages, as the new one's are to have, too; 0 where there is none."""
    try:
        with PageFile(data) as pages:
            return pages.page_bytes
    except (FileNotFoundError, StoreDamaged):
        return 0


def _copy(pages: PageFile, copy: Copy, problem: Callable[[str], None], closed: int) -> bool:
    """Take what can be found; whether what is missing can be known from that. ``closed``: the last
    commit when the store was closed.
    """
    finder = Finder(pages, problem, lambda node: is_sound(pages, node), closed)
    copy.roots = finder.roots
    missed = False
    for node in finder.newest():
        try:
            copy.take(pages, node, finder.commit)
        except (StoreDamaged, ValueError) as error:
            problem(str(error))
            # Of a value that is rewritten there is an older version elsewhere; of a page that leads
            # to a block there may be one too.
            missed = True
    finder.sweep()
    copy.newest_read(newest_known=finder.newest_known, latest=finder.latest)
    # A page that leads to an old version of the right page shows only by what is missing then; and
    # a commit that was cut short, or whose root was lost, by its pages alone.
    beyond = finder.latest > max(finder.roots, default=0)
    if finder.incomplete or missed or beyond or copy.any_missing():
        copy.look_elsewhere()
        for node in finder.elsewhere(copy.bound):
            # What is old, or half of a commit, fails here as a matter of course: it is not told.
            with suppress(StoreDamaged, ValueError):
                copy.take(pages, node, finder.commit)
    # A commit may be newer than all that was seen, where not all could be seen.
    return finder.newest_known or (not finder.unread and finder.latest >= closed)


def _finish(
    env: lmdb.Environment,
    copy: Copy,
    settings: StoreSettings,
    entropy: Entropy,
    report: dict[str, Any],
    data: Path,
) -> None:
    """The headers as they are now, and a note of what happened."""
    old = copy.header
    header = new_header(
        settings.board if old is None else old.board,
        report["when_ns"],
        entropy,
        "" if old is None else old.agent_id,
        "" if old is None else old.lane,
    )
    if old is not None:
        ran = noted_openings(data.parent.parent, old.store_id)
        here = Here(settings.board, settings.machine, settings.medium(data), ran=ran)
        header = salvaged_header(old, header, here)
    needed = (() if old is None else old.seals, sorted(copy.seals))
    header = header.with_seals(dict.fromkeys(chain.from_iterable(needed)))
    known = {log.id for log in copy.logs.values()}
    for log_id in copy.copied.keys() - known:
        name = MAIN if log_id == 1 else f"recovered-{log_id}"
        copy.logs[name] = LogHeader(log_id)
    if MAIN in copy.floors and MAIN not in copy.logs:
        copy.logs[MAIN] = LogHeader(1)
    report["blocks"], report["records"] = copy.blocks, copy.records
    report["complete"] = copy.complete
    for name, log in copy.logs.items():
        lost = copy.lost(name, log)
        report["missing"] += lost.missing
        report["possible"] += lost.possible
    note = SalvageNote(*(report[name] for name in SalvageNote.__struct_fields__))
    with writing(env) as txn:
        txn.put(keys.STORE, encode(keys.STORE, header))
        txn.put(keys.SALVAGED, encode(keys.SALVAGED, note))
        for name, log in {**copy.logs, **first_logs(settings, copy.logs)}.items():
            key = keys.log_key(name)
            txn.put(key, encode(key, _counted(copy, name, log)))
        if copy.quarantine.last:
            # An older page may have brought back what the newest commit dropped for want of room.
            page_bytes: int = env.stat()["psize"]
            kept = trim_quarantine(txn, copy.quarantine, settings.quarantine_bytes, page_bytes)
            txn.put(keys.QUARANTINE, encode(keys.QUARANTINE, kept))


def _counted(copy: Copy, name: str, old: LogHeader) -> LogHeader:
    copied, lost = copy.copied.get(old.id, LogHeader(old.id)), copy.lost(name, old)
    # A log that nobody ever saw a record of starts from 1 as it would have.
    last = lost.last + SALVAGE_JUMP if lost.last else 0
    begin = copied.first if copied.records else last + 1
    new = msgspec.structs.replace(
        old.rewritten(copied.records, copied.bytes),
        # What was there and is not, or may have been, is told to readers as damaged, not trimmed.
        first=min(begin, lost.first),
        last=last,
    )
    return new.counting_on(lost.last, SALVAGE_JUMP) if lost.last else new


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
