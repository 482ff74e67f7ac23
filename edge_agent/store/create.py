"""This module makes a store; a power cut at any moment leaves either none or a good one.

LMDB writes the first pages of a new file without an order that a crash would respect: six of
seven half-written images cannot be opened. So a store is built in a sibling folder, closed,
reserved to its full size, synced, and only then renamed into place.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import lmdb

from edge_agent.errors import StoreFailed
from edge_agent.store.commit.stamp import writing
from edge_agent.store.format import keys
from edge_agent.store.format.values import LogHeader, StoreHeader, encode
from edge_agent.store.lmdb_errors import what_helps
from edge_agent.store.lmdb_file.pages import empty_file
from edge_agent.store.settings import StoreSettings
from edge_agent.system.files import acting_as_owner, refuse_links

DATA = "data.mdb"
#: Folders within the agent's own. A name beside `STORE` is a step that a power cut interrupted.
STORE = "store"
BUILDING = "store.new"
SALVAGING = "store.salvaging"
SALVAGED = "store.salvaged"
REBUILDING = "store.rebuilding"
REBUILT = "store.rebuilt"
REPLACED = "store.replaced"
RESTORED = "store.restored"
#: Begins the name of a folder in which a backup is unpacked.
UNPACKING = ".edge-agent-restore-"
DAMAGED = "damaged-"
ASIDE = "replaced-"


def open_environment(
    folder: Path, map_size: int, *, clean: bool = False, page_bytes: int = 0
) -> lmdb.Environment:
    """LMDB with the flags that the promise rests on: data and meta page synced by each commit.

    ``clean``: pages are zeroed before they are filled. ``page_bytes``: of the pages of a file that
    is made now, 0 for as many as the kernel's have. A store that is written anew keeps its own: on
    a machine with larger pages it would not fit where it was.

    ``lib_version=0`` keeps the 0.9 file format, which every distribution's ``mdb_stat`` reads.
    Raises what lmdb raises, and OSError where root would be led elsewhere.
    """
    refuse_links(folder, folder / DATA, folder / "lock.mdb")
    if page_bytes and not (folder / DATA).exists():
        (folder / DATA).write_bytes(empty_file(map_size, page_bytes))
        (folder / DATA).chmod(0o600)
    return lmdb.open(
        str(folder),
        map_size=map_size,
        subdir=True,
        mode=0o600,
        metasync=True,
        sync=True,
        writemap=False,
        # Pages are written whole from buffers of LMDB's own; zeroing them first is for secrets.
        meminit=clean,
        # Reads are in order and rare; read-ahead would fill a small board's memory with pages.
        readahead=False,
        max_dbs=0,
        max_readers=64,
        lock=True,
        lib_version=0,
    )


def open_to_read(folder: Path, map_size: int) -> lmdb.Environment:
    """LMDB without a write, not even to its lock file: safe while nobody writes, which the store's
    own lock ensures. Raises what lmdb raises.
    """
    return lmdb.open(
        str(folder),
        map_size=map_size,
        subdir=True,
        readonly=True,
        create=False,
        readahead=False,
        max_dbs=0,
        lock=False,
        lib_version=0,
    )


def prepare_folder(path: Path) -> None:
    """Make the agent's folder where it is missing. Raises StoreFailed with what to do."""
    try:
        with acting_as_owner(path):
            _make_folder(path)
    except OSError as error:
        otherwise = "create this folder for the user that runs the agent, or set store.path"
        helps = what_helps(error, otherwise)
        raise StoreFailed(f"{path}: {error.strerror}; {helps}") from error


def _make_folder(path: Path) -> None:
    if path.is_dir():
        return
    _make_folder(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    sync_folder(path.parent)


def tidy(path: Path, *, unpacked: bool = True) -> None:
    """Remove or finish what an interrupted creation, salvage or rebuilding left behind; and with
    ``unpacked`` a backup that was being restored.
    """
    for leftover in (
        *(path / name for name in (BUILDING, SALVAGING, REBUILDING)),
        *(path.glob(f"{UNPACKING}*") if unpacked else ()),
    ):
        shutil.rmtree(leftover, ignore_errors=True)
    if (path / SALVAGED).exists():
        if (path / STORE).exists():
            # The damaged store was not moved aside yet: salvage it again.
            shutil.rmtree(path / SALVAGED)
        else:
            rename(path / SALVAGED, path / STORE)
    put_in_place(path)


def put_in_place(path: Path) -> None:
    """Let a rebuilt store take the place of the one that it was made of, which is removed; and a
    restored one the place of whatever was there, which a person may still want.
    """
    if (path / RESTORED).exists():
        if (path / STORE).exists():
            rename(path / STORE, next_aside(path))
        rename(path / RESTORED, path / STORE)
    if (path / REBUILT).exists():
        # Nothing opens a store without coming here first, so the old one is as it was read.
        if (path / STORE).exists():
            shutil.rmtree(path / REPLACED, ignore_errors=True)
            rename(path / STORE, path / REPLACED)
        rename(path / REBUILT, path / STORE)
    if (path / STORE).exists():
        shutil.rmtree(path / REPLACED, ignore_errors=True)


def create(path: Path, settings: StoreSettings, header: StoreHeader) -> None:
    """A new, empty store in ``path / STORE``.

    Raises:
        StoreFailed: not enough space, with the size that would fit; or the disk refuses.
    """
    building = path / BUILDING
    try:
        building.mkdir(mode=0o700)
        build(building, settings, header)
        reserve(building / DATA, settings.map_size)
        sync_folder(building)
        rename(building, path / STORE)
    except (OSError, lmdb.Error) as error:
        shutil.rmtree(building, ignore_errors=True)
        raise StoreFailed(f"{path}: the store cannot be created: {error}") from error
    except StoreFailed:
        shutil.rmtree(building, ignore_errors=True)
        raise


def build(folder: Path, settings: StoreSettings, header: StoreHeader) -> None:
    """The first transaction of a store: its header and its logs', `MAIN` with id 1."""
    env = open_environment(folder, settings.map_size, clean=settings.keys.current != b"")
    try:
        with writing(env) as txn:
            txn.put(keys.STORE, encode(keys.STORE, header))
    finally:
        env.close()


def reserve(data: Path, size: int) -> None:
    """Give the file its disk space now, so that no commit ever meets a full disk.

    The new part reads as zeros. Raises StoreFailed with the size that would fit.
    """
    fd = os.open(data, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.posix_fallocate(fd, 0, size)
        os.fsync(fd)
    except OSError as error:
        raise StoreFailed(_no_space(data, size, error)) from error
    finally:
        os.close(fd)


def is_reserved(data: Path) -> bool:
    """Whether every page of the file has its place on the disk: a copy may have left out zeros."""
    status = data.stat()
    return status.st_blocks * 512 >= status.st_size


def rename(old: Path, new: Path) -> None:
    """Rename, and let the name survive a power cut."""
    old.rename(new)
    sync_folder(new.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_names(path: Path) -> None:
    """Make durable what the store and the agent's own folder are called: whoever made that folder,
    an agent that was killed before it could or an installer, may have left it to chance.
    """
    sync_folder(path)
    try:
        sync_folder(path.parent)
    except PermissionError:
        # Somebody else's, who lets nobody look in; then its name is theirs to keep.
        pass


def next_damaged(path: Path) -> Path:
    """The ``damaged-N`` after the newest."""
    newest = damaged_folders(path)[-1:]
    number = int(newest[0].name.removeprefix(DAMAGED)) + 1 if newest else 1
    return path / f"{DAMAGED}{number}"


def next_aside(path: Path) -> Path:
    """The first ``replaced-N`` that there is not."""
    number = 1
    while (path / f"{ASIDE}{number}").exists():
        number += 1
    return path / f"{ASIDE}{number}"


def damaged_folders(path: Path) -> list[Path]:
    """Every ``damaged-N``, the oldest first."""
    found = [entry for entry in path.glob(f"{DAMAGED}*") if entry.name[len(DAMAGED) :].isdigit()]
    return sorted(found, key=lambda entry: int(entry.name[len(DAMAGED) :]))


def _no_space(data: Path, size: int, error: OSError) -> str:
    room = os.statvfs(data)
    free = room.f_bavail * room.f_frsize + data.stat().st_blocks * 512
    # A tenth stays for others, and whole mebibytes read better.
    fits = max(int(free * 0.9) // 2**20, 0)
    return (
        f"{data.parent.parent}: cannot reserve {size // 2**20} MiB for the store"
        f' ({error.strerror}); {fits} MiB would fit: set store.size = "{fits}MiB" or free space'
    )


def first_logs(settings: StoreSettings, known: dict[str, LogHeader]) -> dict[str, LogHeader]:
    """Headers of configured logs that the store does not have yet, with ids of their own.

    `MAIN` always has id 1, by which salvage knows its blocks without its header.
    """
    used = {header.id for header in known.values()} | {0, 1}
    made: dict[str, LogHeader] = {}
    for log in settings.logs:
        if log.name in known:
            continue
        number = 1 if log.name == "main" else min(set(range(256)) - used)
        used.add(number)
        made[log.name] = LogHeader(number)
    return made
