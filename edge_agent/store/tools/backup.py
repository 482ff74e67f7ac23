"""A backup is a store's file as of one commit, without what was deleted, and a file about it.

::

    TARGET/data.mdb         LMDB 0.9 format, only as large as what it holds
    TARGET/manifest.json    who the store was, up to which seqs, each file's SHA-256
    TARGET/history.mdb      where there is a history (`edge_agent.digest`)

Taken while the agent runs or not: reading is one LMDB transaction, which sees one commit. Written
beside its place, synced, then renamed: a folder of that name is a whole backup.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import lmdb
import msgspec

from edge_agent.errors import StoreDamaged, StoreFailed, StoreLocked, StoreTooNew
from edge_agent.output.printable import why
from edge_agent.store.create import DATA, STORE, rename, sync_folder
from edge_agent.store.format import keys
from edge_agent.store.format.values import (
    FORMAT,
    LogHeader,
    QuarantineHeader,
    SalvageNote,
    StoreHeader,
    decode,
)
from edge_agent.store.lmdb_errors import translated
from edge_agent.store.tools.changes import Change
from edge_agent.store.tools.check import Report, check_file
from edge_agent.store.tools.replace import locked, opened, require_room
from edge_agent.store.tools.rewrite import Progress, rewrite, used_bytes
from edge_agent.system.files import acting_as_owner, refuse_links

MANIFEST = "manifest.json"
_PART = ".part"
_PIECE = 1024 * 1024


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """What a backup says about itself.

    Attributes:
        version: of the software that made it. format: of the store.
        store_id, epoch, agent_id: who the store was.
        created_ns: wall clock when it was made.
        size: bytes that the store reserves. bytes: of the backup's file.
        last: log name to its last seq.
        sha256: of the file, hex.
        files: the same of others that belong to it, by name.
    """

    version: str
    format: int
    store_id: str
    epoch: str
    agent_id: str
    created_ns: int
    size: int
    bytes: int
    last: dict[str, int]
    sha256: str
    files: dict[str, str] = {}


def take_backup(
    path: Path,
    target: Path,
    version: str,
    now_ns: int,
    progress: Progress,
    *,
    more: Callable[[Path], dict[str, str]] = lambda part: {},
) -> Manifest:
    """Back the store of the agent's folder ``path`` up to the folder ``target``. ``more`` puts
    further files there before the store is read, and tells their SHA-256.

    Raises:
        StoreFailed: ``target`` exists, the disk refuses, or a running agent needs the room that
            reading keeps.
        StoreDamaged: what must be understood cannot be read.
    """
    if target.exists():
        raise StoreFailed(f"{target} exists; a backup is not written over another")
    part = target.with_name(target.name + _PART)
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(mode=0o700, parents=True)
        # What is made of the store is never ahead of it.
        files = more(part)
        manifest = _write(path, part, version, now_ns, files, progress)
        sync_folder(part)
        rename(part, target)
    except OSError as error:
        raise translated(error, f"writing {part}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return manifest


def read_manifest(backup: Path) -> Manifest:
    """What the backup in ``backup`` says about itself.

    Raises:
        StoreFailed: there is none.
        StoreTooNew: a newer version made it.
    """
    try:
        refuse_links(backup / MANIFEST)
        manifest = msgspec.json.decode((backup / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError) as error:
        raise StoreFailed(f"{backup} is no backup: {MANIFEST}: {why(error)}") from error
    if manifest.format > FORMAT:
        raise StoreTooNew(
            f"{backup} holds a store of format {manifest.format}, this version reads up to {FORMAT}"
        )
    return manifest


def verify(backup: Path, manifest: Manifest, progress: Progress) -> Report:
    """Whether the backup is what its manifest says, bit by bit; and what the checker finds in it.

    Raises:
        StoreDamaged: it is not.
        StoreFailed: it cannot be read.
    """
    data = backup / DATA
    try:
        refuse_links(data)
        size = data.stat().st_size
        found = _sha256(data, lambda done: progress(done, max(size, 1)))
    except OSError as error:
        raise translated(error, f"reading {data}") from error
    if (size, found) != (manifest.bytes, manifest.sha256):
        raise StoreDamaged(f"{data} is not what was backed up: its SHA-256 is another")
    for name, wanted in manifest.files.items():
        if Path(name).name != name:
            raise StoreDamaged(f"{backup} names a file elsewhere: {name[:60]!r}")
        try:
            refuse_links(backup / name)
            found = _sha256(backup / name, lambda done: None)
        except OSError as error:
            raise translated(error, f"reading {backup / name}") from error
        if found != wanted:
            raise StoreDamaged(f"{backup / name} is not what was backed up: its SHA-256 is another")
    return check_file(data)


@dataclass(frozen=True, slots=True)
class Inside:
    """Who a store is, where its logs end, how much is in quarantine, and what a salvage found."""

    header: StoreHeader
    last: dict[str, int]
    entries: int
    salvaged: SalvageNote | None


def look_inside(path: Path) -> Inside:
    """A few values of the store below ``path``, read beside an agent that may be writing.

    Raises StoreFailed, StoreDamaged.
    """
    data = path / STORE / DATA
    try:
        size = data.stat().st_size
    except OSError as error:
        raise translated(error, f"reading {data}") from error
    with opened(path / STORE, size, "beside") as env:
        return _inside(env)


def _inside(env: lmdb.Environment) -> Inside:
    with env.begin() as txn:
        header = decode(keys.STORE, txn.get(keys.STORE, b""), StoreHeader)
        raw = txn.get(keys.QUARANTINE)
        held = QuarantineHeader()
        if raw is not None:
            held = decode(keys.QUARANTINE, raw, QuarantineHeader)
        note = txn.get(keys.SALVAGED)
        salvaged = None if note is None else decode(keys.SALVAGED, note, SalvageNote)
        cursor, last = txn.cursor(), {}
        cursor.set_range(keys.LOG)
        for key, value in cursor.iternext():
            if not key.startswith(keys.LOG):
                break
            last[key[1:].decode()] = decode(key, value, LogHeader).last
    return Inside(header, last, held.entries, salvaged)


def _write(
    path: Path,
    part: Path,
    version: str,
    now_ns: int,
    files: dict[str, str],
    progress: Progress,
) -> Manifest:
    with _source(path) as (size, env):
        require_room(part, used_bytes(env), "a backup")
        rewrite(env, part, size, Change(), progress)
    (part / "lock.mdb").unlink(missing_ok=True)
    data = part / DATA
    with opened(part, size, "alone") as env:
        inside = _inside(env)
    header = inside.header
    manifest = Manifest(
        version,
        header.format,
        header.store_id,
        header.epoch,
        header.agent_id,
        now_ns,
        size,
        data.stat().st_size,
        inside.last,
        _sha256(data, lambda done: None),
        files,
    )
    raw = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    for file, content in ((part / MANIFEST, raw), (data, b"")):
        with file.open("ab") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
    return manifest


@contextmanager
def _source(path: Path) -> Iterator[tuple[int, lmdb.Environment]]:
    """The store's size and its environment; its folder is ours meanwhile, or else an agent's that
    looks after it. It is opened as its owner, and read as whoever may write the backup.
    """
    with ExitStack() as held:
        with acting_as_owner(path):
            try:
                size = held.enter_context(locked(path))
            except StoreLocked:
                size = (path / STORE / DATA).stat().st_size
            env = held.enter_context(opened(path / STORE, size, "beside"))
        yield size, env


def _sha256(data: Path, progress: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    done = 0
    with data.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
            done += len(piece)
            progress(done)
    return digest.hexdigest()
