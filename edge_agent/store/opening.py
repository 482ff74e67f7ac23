"""This module opens a store: it checks the file, opens it, commits a marker and loads the state.

After every opening one marker transaction is committed before anything is told: a sync that
failed earlier can leave pages in the cache that look durable and are not, and only a sync that
succeeds afterwards makes them so.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from edge_agent.errors import StoreDamaged, StoreSealed, StoreTooNew
from edge_agent.store.clock.boot_offsets import load_clocks
from edge_agent.store.commit.sources import owner_in
from edge_agent.store.commit.stamp import writing
from edge_agent.store.commit.state import State
from edge_agent.store.copy_signs import note_opening, noted_openings, nowhere
from edge_agent.store.create import (
    DATA,
    STORE,
    create,
    first_logs,
    open_environment,
    sync_names,
    tidy,
)
from edge_agent.store.format import keys
from edge_agent.store.format.values import (
    FORMAT,
    LogHeader,
    OpeningValue,
    QuarantineHeader,
    SalvageNote,
    StoreHeader,
    decode,
    encode,
)
from edge_agent.store.identity import (
    Entropy,
    Here,
    as_a_copy,
    new_header,
    opened_header,
    tell_copied,
)
from edge_agent.store.lmdb_errors import TROUBLE, is_damage, translated
from edge_agent.store.lmdb_file.preflight import preflight, refuse_newer, refuse_sealed
from edge_agent.store.process_lock import LOCK
from edge_agent.store.read.cursor import last_dated
from edge_agent.store.repair.salvage import salvage, told_of
from edge_agent.store.settings import Moment, StoreClock, StoreSettings


class FolderCheck:
    """Remembers which files bear these names now; names without a file are not watched.

    Folders get deleted under running agents. A deleted file goes on taking writes and syncs until
    its last user closes it, and then all of it is gone. So before every transaction the names are
    looked up again: what is acked can be found.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._files = {path: which for path in files if (which := _which(path)) is not None}

    def check(self) -> None:
        """Raises OSError (ENOENT) where a name has lost its file."""
        for path, which in self._files.items():
            if _which(path) != which:
                text = "it was deleted or replaced while the agent was running"
                raise FileNotFoundError(errno.ENOENT, text, str(path))


def _which(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


logger = logging.getLogger(__name__)

#: By how much a file that has no free page is made larger, so that it can be trimmed.
SPARE_BYTES = 1024 * 1024


@dataclass(slots=True)
class OpenStore:
    """An open environment and what was loaded from it.

    ``refusal``: why it was opened for reading alone, None where it can be written; see `read_only`
    for that and for ``certain``.
    """

    env: lmdb.Environment
    header: StoreHeader
    state: State
    page_bytes: int
    place: FolderCheck
    salvaged: SalvageNote | None
    refusal: str | None = None
    certain: bool = True


def open_or_salvage(
    path: Path,
    settings: StoreSettings,
    clock: StoreClock,
    entropy: Entropy,
    known: str | None = None,
    running: bytes = b"",
) -> tuple[OpenStore, dict[str, Any] | None]:
    """Open the store, made now where there is none, and salvaged first where it is damaged:
    ``known`` tells of damage that was met while it was open. ``running`` is the opening that a
    reopening goes on with, b"" for none.

    Returns the open store, and the report of the salvage if there was one: now or, as long as the
    damaged folder is there, at an earlier start.

    Raises:
        StoreTooNew: a newer version wrote it; nothing was changed.
        StoreSealed: its key is not among the settings'; nothing was changed.
        StoreFailed: the disk refuses.
    """
    try:
        # Before anything else, so that nothing at all is changed in a newer version's folder.
        refuse_newer(path / STORE)
        refuse_sealed(path / STORE, settings.keys)
        tidy(path)
        if not (path / STORE).exists():
            make_store(path, settings, clock, entropy)
            return open_store(path, settings, entropy, clock.read(), running), None
        try:
            if known is not None:
                raise StoreDamaged(known)
            preflight(path / STORE, settings.map_size)
            opened = open_store(path, settings, entropy, clock.read(), running)
        except StoreDamaged as error:
            report = salvage(path, settings, clock, entropy, str(error))
            return open_store(path, settings, entropy, clock.read(), running), report
        return opened, told_of(opened.salvaged)
    except OSError as error:
        raise translated(error, f"opening {path}") from error


def open_store(
    path: Path,
    settings: StoreSettings,
    entropy: Entropy,
    moment: Moment | None = None,
    running: bytes = b"",
) -> OpenStore:
    """Open the store in ``path / STORE`` and commit the marker, which tells of this boot and
    opening.

    Raises:
        StoreDamaged: it cannot be opened or its headers cannot be read.
        StoreTooNew: a newer version wrote it; nothing was changed.
        StoreFailed: the disk refuses.
    """
    # A file larger than the settings say, or without a free page, must have room to be trimmed.
    room = max(settings.map_size, (path / STORE / DATA).stat().st_size)
    for spare in (0, SPARE_BYTES):
        try:
            opened = _open_store(path, settings, entropy, moment, running, room + spare)
        except lmdb.MapFullError as error:
            full = error
        else:
            leave_note(path, settings, opened.header)
            return opened
    raise translated(full, f"opening {path}")


def _open_store(
    path: Path,
    settings: StoreSettings,
    entropy: Entropy,
    moment: Moment | None,
    running: bytes,
    map_size: int,
) -> OpenStore:
    try:
        # What is not written of a page would be whatever this process had there: records, maybe.
        env = open_environment(path / STORE, map_size, clean=settings.keys.current != b"")
    except TROUBLE as error:
        if is_damage(error):
            raise StoreDamaged(f"opening {path}: {error}") from error
        raise translated(error, f"opening {path}") from error
    try:
        env.reader_check()
        # The start that gave the store its name may have failed to sync that, and then ended.
        sync_names(path)
        with writing(env) as txn:
            header, state = _mark(txn, path, settings, entropy, moment, running)
            salvaged = salvage_note(txn)
        with env.begin(buffers=True) as txn:
            state.newest_ns, state.unset_boots = last_dated(txn, state.logs.values())
        page_bytes: int = env.stat()["psize"]
        place = FolderCheck((path / STORE / DATA, path / LOCK))
    except lmdb.MapFullError:
        env.close()
        raise
    except TROUBLE as error:
        env.close()
        raise translated(error, f"opening {path}") from error
    except BaseException:
        env.close()
        raise
    return OpenStore(env, header, state, page_bytes, place, salvaged)


def make_store(path: Path, settings: StoreSettings, clock: StoreClock, entropy: Entropy) -> None:
    """A new, empty store. Raises StoreFailed."""
    create(path, settings, new_header(settings.board, clock.read().wall_ns, entropy))
    logger.info("made a store of %d MiB in %s", settings.map_size // 2**20, path)


def read_header(raw: bytes | None) -> StoreHeader:
    """The store's header, its version checked. Raises StoreDamaged, StoreTooNew."""
    if raw is None:
        raise StoreDamaged("the store has no header")
    header = decode(keys.STORE, raw, StoreHeader)
    if header.format > FORMAT:
        raise StoreTooNew(
            f"the store has format {header.format}, this version reads up to {FORMAT};"
            " install the version that wrote it"
        )
    return header


def where(
    path: Path, settings: StoreSettings, header: StoreHeader, running: bytes = b"", wall_ns: int = 0
) -> Here:
    """Where the store of the agent's folder ``path`` is."""
    return Here(
        settings.board,
        settings.machine,
        settings.medium(path / STORE / DATA),
        running,
        noted_openings(path, header.store_id),
        wall_ns,
    )


def _mark(
    txn: lmdb.Transaction[bytes],
    path: Path,
    settings: StoreSettings,
    entropy: Entropy,
    moment: Moment | None,
    running: bytes,
) -> tuple[StoreHeader, State]:
    found, state, made = load(txn, settings)
    wall_ns, boot_id = (0, b"") if moment is None else (moment.wall_ns, moment.boot_id)
    here = where(path, settings, found, running, wall_ns)
    header = opened_header(found, here, entropy, state.logs)
    if header.copied is not None and header.copied != found.copied:
        tell_copied(header)
    header = msgspec.structs.replace(header, boot=boot_id)
    if settings.keys.current:
        # Before anything is sealed with it.
        header = header.with_seals(settings.keys.also(header.seals))
    # Counting the openings really dirties a page; without that LMDB would sync nothing.
    txn.put(keys.STORE, encode(keys.STORE, header))
    for log, value in made.items():
        txn.put(keys.log_key(log), encode(keys.log_key(log), value))
    return header, state


def rename_store(
    env: lmdb.Environment,
    path: Path,
    settings: StoreSettings,
    wall_ns: int,
    entropy: Entropy,
    reason: str,
) -> StoreHeader:
    """Give the open store the identity of a copy, durably.

    Raises what lmdb raises, and StoreDamaged.
    """
    with writing(env) as txn:
        found = read_header(txn.get(keys.STORE))
        header = as_a_copy(found, wall_ns, entropy, reason)
        header = msgspec.structs.replace(header, openings=(OpeningValue(entropy(8)),))
        txn.put(keys.STORE, encode(keys.STORE, header))
    tell_copied(header)
    leave_note(path, settings, header)
    return header


def leave_note(path: Path, settings: StoreSettings, header: StoreHeader) -> None:
    """Note beside the store which opening of it runs here, where it matters where that is."""
    if settings.medium is not nowhere:
        note_opening(path, header.store_id, header.openings[-1].id)


def load(
    txn: lmdb.Transaction[bytes], settings: StoreSettings
) -> tuple[StoreHeader, State, dict[str, LogHeader]]:
    """What is kept in memory: the store's header, the state, and the headers in it of configured
    logs that the file does not have yet.
    """
    header = read_header(txn.get(keys.STORE))
    if lacking := settings.keys.lacks(header.seals):
        raise StoreSealed(f"the store: {lacking}")
    logs: dict[str, LogHeader] = {}
    shares: dict[str, int] = {}
    cursor = txn.cursor()
    cursor.set_range(keys.LOG)
    for key, value in cursor.iternext():
        if key >= keys.QUARANTINE:
            break
        if key.startswith(keys.LOG):
            logs[key[1:].decode()] = decode(key, value, LogHeader)
        elif key.startswith(keys.SOURCE):
            owner = owner_in(key, value)
            shares[owner] = shares.get(owner, 0) + 1
    made = first_logs(settings, logs)
    raw = txn.get(keys.QUARANTINE)
    quarantine = QuarantineHeader()
    if raw is not None:
        quarantine = decode(keys.QUARANTINE, raw, QuarantineHeader)
    state = State(logs | made, quarantine, sum(shares.values()), clocks=load_clocks(txn))
    state.shares = shares
    return header, state, made


def salvage_note(txn: lmdb.Transaction[bytes]) -> SalvageNote | None:
    """What the last salvage saved; None where there was none."""
    raw = txn.get(keys.SALVAGED)
    return None if raw is None else decode(keys.SALVAGED, raw, SalvageNote)
