"""This module puts a store that was written anew in the place of another.

Compact, erase and restore do so.

The new one is written beside the old one, synced and renamed; only then does the old one go. A
power cut before leaves the old one and a folder that the next start removes; after, the next start
finishes (`create.put_in_place`). Both lie on the card at one time, but the new one takes only what
it holds until the old one is gone, and the file's full size then.

Callers hold the agent's lock (`process_lock.StoreLock`).
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import lmdb

from edge_agent.errors import StoreFailed
from edge_agent.seal import OPEN, KeyRing
from edge_agent.store.copy_signs import medium_of
from edge_agent.store.create import (
    DATA,
    REBUILDING,
    REBUILT,
    RESTORED,
    STORE,
    open_environment,
    put_in_place,
    rename,
    reserve,
    sync_folder,
    tidy,
)
from edge_agent.store.format.codec import Compressor
from edge_agent.store.format.values import StoreHeader
from edge_agent.store.lmdb_errors import TROUBLE, translated
from edge_agent.store.lmdb_file.preflight import preflight, refuse_sealed
from edge_agent.store.process_lock import LOCK, StoreLock
from edge_agent.store.tools.changes import Change, Erasing, Renewing, Resealing
from edge_agent.store.tools.rewrite import Progress, Rewritten, rewrite, used_bytes
from edge_agent.system.files import acting_as_owner, give_to_owner, refuse_links

logger = logging.getLogger(__name__)

#: Beside what the new file holds: for its branch pages, and for the file system.
_SLACK = 1.05
_SLACK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What came of it; bytes in use before and after."""

    before_bytes: int
    after_bytes: int
    blocks: int


def compact_store(path: Path, progress: Progress, seals: KeyRing = OPEN) -> Rebuilt:
    """Write the store of the agent's folder ``path`` anew, without what was deleted, and sealed by
    the key of ``seals`` that seals; open where none does.

    Raises:
        StoreFailed: too little room, with how much is needed; or the disk refuses.
        StoreDamaged, StoreTooNew: LMDB may not open it.
        StoreSealed: a key is missing; nothing was changed.
    """
    return _replace(path, lambda page_bytes: Resealing(seals=seals), seals, progress)


def erase_streams(
    path: Path,
    matches: Callable[[str], bool],
    literal: str,
    level: int,
    progress: Progress,
    *,
    seals: KeyRing = OPEN,
    forget: Callable[[str, bytes], bytes] | None = None,
    restate: Callable[[str, bytes], bytes] | None = None,
) -> tuple[Rebuilt, Erasing]:
    """Write the store anew without the streams that match.

    Args:
        path: the agent's folder.
        matches: says which streams.
        literal: the stream's name, where it is one and no pattern; else "".
        level: of compression.
        progress: told how far it is.
        seals: as for `compact_store`.
        forget: see `Erasing`; None leaves states as they are.
        restate: likewise.

    Raises as `compact_store`.
    """
    made: list[Erasing] = []

    def change(page_bytes: int) -> Erasing:
        erasing = Erasing(matches, Compressor(level), page_bytes, literal.encode(), seals=seals)
        erasing.forget = forget or erasing.forget
        erasing.restate = restate or erasing.restate
        made.append(erasing)
        return erasing

    rebuilt = _replace(path, change, seals, progress)
    return rebuilt, made[0]


def restore_store(
    path: Path, data: Path, header: StoreHeader, map_size: int, progress: Progress
) -> Rewritten:
    """Make the store of ``path`` from a backup's file ``data``; one that is there stays in its
    place until the new one is complete, and is moved aside then.

    ``header`` says who it is from now on. Raises as `compact_store`.
    """
    with opened(data.parent, data.stat().st_size, "alone") as source, acting_as_owner(path):
        require_room(path, used_bytes(source))
        made = _build(path, source, map_size, Renewing(header), progress, RESTORED)
    with acting_as_owner(path):
        put_in_place(path)
        _reserve(path, map_size)
    return made


@contextmanager
def opened(
    folder: Path, map_size: int, how: Literal["write", "beside", "alone"]
) -> Iterator[lmdb.Environment]:
    """The LMDB environment in ``folder``: to be written; to be read beside an agent that writes; or
    to be read where surely nobody writes, which leaves no trace there.

    Raises StoreFailed, StoreDamaged.
    """
    try:
        if how != "write":
            refuse_links(folder, folder / DATA, folder / "lock.mdb")
            env = lmdb.open(
                str(folder),
                map_size=map_size,
                readonly=True,
                lock=how == "beside",
                readahead=False,
                max_dbs=0,
                lib_version=0,
            )
        else:
            env = open_environment(folder, map_size)
    except TROUBLE as error:
        raise translated(error, f"opening {folder}") from error
    try:
        yield env
    finally:
        env.close()


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """The agent's folder for ourselves, tidied, its store found fit to be opened; its file's size.

    Raises:
        StoreLocked: an agent runs on it.
        StoreFailed, StoreDamaged, StoreTooNew: it cannot be opened.
    """
    lock = StoreLock(path / LOCK)
    try:
        tidy(path)
        try:
            size = (path / STORE / DATA).stat().st_size
            preflight(path / STORE, size)
        except OSError as error:
            raise StoreFailed(f"{path} holds no store: {error.strerror}") from error
        yield size
    finally:
        lock.release()


def _replace(
    path: Path, change: Callable[[int], Change], seals: KeyRing, progress: Progress
) -> Rebuilt:
    with locked(path) as map_size:
        refuse_sealed(path / STORE, seals)
        with opened(path / STORE, map_size, "write") as source:
            before = used_bytes(source)
            require_room(path, before)
            made = change(source.stat()["psize"])
            made.medium = medium_of(path / STORE / DATA)
            rewritten = _build(path, source, map_size, made, progress)
        put_in_place(path)
        _reserve(path, map_size)
        with opened(path / STORE, map_size, "write") as after:
            return Rebuilt(before, used_bytes(after), rewritten.blocks)


def _build(
    path: Path,
    source: lmdb.Environment,
    map_size: int,
    change: Change,
    progress: Progress,
    name: str = REBUILT,
) -> Rewritten:
    building = path / REBUILDING
    shutil.rmtree(building, ignore_errors=True)
    try:
        building.mkdir(mode=0o700)
        rewritten = rewrite(source, building, map_size, change, progress)
        give_to_owner(path, building)
        sync_folder(building)
        rename(building, path / name)
    except OSError as error:
        raise translated(error, f"writing {building}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return rewritten


def require_room(
    path: Path, used: int, what: str = "writing the store anew beside the old one"
) -> None:
    """Raises StoreFailed where ``path`` has no room for a copy of ``used`` bytes. To be asked
    first: LMDB maps its lock file, and the kernel ends whoever writes to a page without a place.
    """
    needed = int(used * _SLACK) + _SLACK_BYTES
    free = shutil.disk_usage(path).free
    if free < needed:
        raise StoreFailed(
            f"{path} has {free // 2**20} MiB free; {what} needs {-(-needed // 2**20)} MiB"
        )


def _reserve(path: Path, map_size: int) -> None:
    try:
        reserve(path / STORE / DATA, map_size)
    except StoreFailed as error:
        # The store is whole; its next opening tries again.
        logger.warning("%s", error)
