"""``edge-agent restore BACKUP``: a store made from a backup, under a new identity.

A backup is a copy of a card, and what it was copied from may be alive. So the store that is made
of it is another one: with an id and an epoch of its own, in which seqs mean something else, with
logs that count on far above what the original may have given out since, and with another agent id,
under which upstreams keep its numbers apart from the original's. Upstreams get again what the
backup holds and they had not acknowledged when it was made; nothing of theirs is overwritten.
``--keep-agent-id`` is for the board whose card has died: it goes on as the same agent, which must
then not run twice.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

import click

from edge_agent.cli.backup import describe
from edge_agent.cli.common import Failure, config_options, holds_store
from edge_agent.cli.compact import not_in_use, progress_bar
from edge_agent.cli.run import settings_of
from edge_agent.cli.store_access import agreed
from edge_agent.cli.user import agent_user
from edge_agent.config import Config
from edge_agent.digest import BACKUP, restore_history
from edge_agent.history import FOLDER
from edge_agent.ops.text import size
from edge_agent.security.audit import audited
from edge_agent.store import (
    DATA,
    LOCK,
    SHARES_MAX,
    STORE,
    UNPACKING,
    StoreLock,
    board_fingerprint,
    new_header,
    next_aside,
    prepare_folder,
    tidy,
)
from edge_agent.store.tools import (
    MANIFEST,
    Manifest,
    Report,
    read_manifest,
    require_room,
    restore_store,
    verify,
)
from edge_agent.system.files import acting_as_owner, refuse_pipes

_MANIFEST_BYTES_MAX = 1024 * 1024
#: A .tar with more in front of the two files that are looked for is no backup.
_MEMBERS_MAX = 16


@click.command()
@click.argument("backup", type=click.Path(exists=True, path_type=Path))
@config_options
@click.option("--replace", is_flag=True, help="Move a store that is there aside.")
@click.option(
    "--keep-agent-id", is_flag=True, help="Go on as the agent that was backed up, now dead."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(
    backup: Path,
    config: Path | None,
    data: str | None,
    *,
    replace: bool,
    keep_agent_id: bool,
    yes: bool,
) -> None:
    """Make a store from BACKUP, a folder or a .tar that `edge-agent backup` wrote.

    BACKUP is checked first. The agent must not be running there. Seqs go on a million higher, so
    that none is given twice; `edge-agent check` tells that as records that are not there.

    Agents that forward to it send again all that they still hold; what the backup has of that is
    there twice then.
    """
    settings = settings_of(config, data)
    path = Path(settings.store.path)
    if holds_store(path) and not replace:
        raise Failure(f"{path} holds a store; --replace moves it aside")
    noted = audited("restore", f"{backup} to {path}")
    with noted, _prepared(path, settings), _unpacked(backup, path, settings) as (folder, manifest):
        map_size = _map_size(settings, manifest)
        with progress_bar("checking the backup") as progress:
            report = verify(folder, manifest, progress)
        _judge(backup, report)
        if keep_agent_id:
            told = f"The agent {manifest.agent_id} must never run again elsewhere. Is it gone?"
            agreed(told, yes=yes)
        with not_in_use(), _ours(path):
            aside = next_aside(path) if (path / STORE).exists() else None
            header = new_header(
                board_fingerprint(),
                time.time_ns(),
                os.urandom,
                manifest.agent_id if keep_agent_id else "",
            )
            with progress_bar("restoring") as progress:
                restore_store(path, folder / DATA, header, map_size, progress)
            if aside is not None and (path / FOLDER).exists():
                (path / FOLDER).rename(aside / FOLDER)
            restore_history(folder, path, header.store_id, header.epoch)
            if aside is not None:
                click.echo(f"moved the store that was there to {aside}")
    click.echo(f"{path}: restored from {describe(manifest)}")
    click.echo(f"it is the store {header.store_id}, agent {header.agent_id}, from now on")


def _judge(backup: Path, report: Report) -> None:
    """Blocks that were damaged on the card already are in the backup as they were, and readers are
    told of them. That must keep nobody from having all the others back; nor must bytes that were
    miscounted, as by a former version on a machine with other pages: they are counted anew.
    """
    damaged = sum(log.damaged for log in report.logs.values())
    if len(report.problems) > damaged + report.miscounted:
        raise Failure(f"{backup} is damaged: {report.problems[-1]}")
    if damaged:
        click.echo(f"damaged before the backup was made, and so they stay: {damaged} blocks")


def _map_size(settings: Config, manifest: Manifest) -> int:
    wanted = int(settings.store.size)
    if manifest.bytes > SHARES_MAX * wanted:
        raise Failure(
            f"the backup holds {size(manifest.bytes)}; store.size = {size(wanted)} is too little:"
            f" set it to {size(manifest.size)}, as the original had",
            78,
        )
    return -(-wanted // 65_536) * 65_536


@contextmanager
def _prepared(path: Path, settings: Config) -> Iterator[None]:
    """The agent's folder; where it is made now, for the agent's user, and gone again where nothing
    came into it.
    """
    is_new = not path.exists()
    user = agent_user(settings) if is_new else None
    prepare_folder(path)
    if user is not None and path.stat().st_uid == 0:
        os.chown(path, user.pw_uid, user.pw_gid)
    try:
        yield
    finally:
        if is_new:
            with suppress(OSError):  # not empty: a store, as it should be
                path.rmdir()


@contextmanager
def _ours(path: Path) -> Iterator[None]:
    with acting_as_owner(path):
        lock = StoreLock(path / LOCK)
    try:
        with acting_as_owner(path):
            tidy(path, unpacked=False)
        yield
    finally:
        lock.release()


@contextmanager
def _unpacked(backup: Path, path: Path, settings: Config) -> Iterator[tuple[Path, Manifest]]:
    """The backup as a folder; a tar file is unpacked beside the store for as long as it takes."""
    if backup.is_dir():
        yield backup, read_manifest(backup)
        return
    try:
        refuse_pipes(backup)
    except OSError as error:
        raise Failure(f"{backup} {error.strerror}: a backup is a folder or a .tar") from error
    with backup.open("rb") as packed, ExitStack() as cleaning:
        with acting_as_owner(path):
            folder = Path(tempfile.mkdtemp(prefix=UNPACKING, dir=path))
            cleaning.callback(_remove, path, folder)
            manifest = _unpack(backup, packed, folder, settings)
        yield folder, manifest


def _remove(path: Path, folder: Path) -> None:
    with acting_as_owner(path):
        shutil.rmtree(folder, ignore_errors=True)


def _unpack(backup: Path, packed: IO[bytes], folder: Path, settings: Config) -> Manifest:
    try:
        # "r:" takes no compressed one: what is unpacked is then no larger than the file itself.
        with tarfile.open(fileobj=packed, mode="r:") as tar:
            members = _members(tar)
            _extract(tar, members[MANIFEST], folder, _MANIFEST_BYTES_MAX)
            manifest = read_manifest(folder)
            # Before anything of that size is written.
            _map_size(settings, manifest)
            require_room(folder, manifest.bytes, "unpacking the backup")
            if members[DATA].size != manifest.bytes:
                raise Failure(f"{backup} is damaged: {DATA} has another size than {MANIFEST} says")
            _extract(tar, members[DATA], folder, manifest.bytes)
            for name in manifest.files:
                require_room(folder, members[name].size, "unpacking the backup")
                _extract(tar, members[name], folder, members[name].size)
    except KeyError as error:
        raise Failure(f"{backup} is no backup: it holds no {error}") from error
    except tarfile.TarError as error:
        # Python tells what every kind of compression made of it, on a line each.
        raise Failure(
            f"{backup} is no backup: it cannot be read as a .tar (a compressed one has to be"
            " unpacked first)"
        ) from error
    except OSError as error:
        raise Failure(
            f"unpacking {backup} to {folder.parent}: {error.strerror or error}"
        ) from error
    return manifest


def _members(tar: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    """Those that belong to a backup. Whatever else is in there, and whatever it is called, stays
    out; and so does one of them that is a link, or a sparse file, which grows on unpacking.
    """
    found: dict[str, tarfile.TarInfo] = {}
    for member, _ in zip(tar, range(_MEMBERS_MAX), strict=False):
        if member.name in (MANIFEST, DATA, BACKUP) and member.name not in found:
            if not member.isreg() or member.issparse():
                raise tarfile.ReadError(f"{member.name} is no plain file")
            found[member.name] = member
    return found


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, most: int) -> None:
    if member.size > most:
        raise tarfile.ReadError(f"{member.name} is larger than {most} bytes")
    source = tar.extractfile(member)
    assert source is not None, "a plain file"
    with source, (folder / member.name).open("xb") as out:
        shutil.copyfileobj(source, out, 1024 * 1024)
