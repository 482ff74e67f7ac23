"""This module alone puts what LMDB and the operating system raise into our own words."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import lmdb

from edge_agent.errors import StoreDamaged, StoreError, StoreFailed
from edge_agent.store.lmdb_file.pages import DAMAGED_ERRNOS

#: What may come out of an LMDB call that is not our own mistake.
TROUBLE = (lmdb.Error, OSError)

_DAMAGED = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.VersionMismatchError,
)
#: The device has gone, or its answers.
_GONE = frozenset({errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.EREMOTEIO})

#: A file system with less room than this is full: a commit may take some hundred KiB.
FULL_BYTES = 1024 * 1024


def why_refused(folder: Path, text: str) -> str:
    """``text``, what the disk said, and before it what is to blame where that is no failing disk.

    A write for which there is no room any more is often short first, which LMDB calls EIO.
    """
    try:
        room = os.statvfs(folder)
    except OSError:
        return text
    if room.f_flag & os.ST_RDONLY:
        return f"the file system of {folder} is mounted read-only: {text}"
    free = room.f_bavail * room.f_frsize
    if free < FULL_BYTES:
        return f"the file system of {folder} is full ({free // 1024} KiB left): {text}"
    return text


def what_helps(error: OSError, otherwise: str) -> str:
    """``otherwise``, unless ``error`` says that the disk or its file system needs help."""
    if error.errno in DAMAGED_ERRNOS:
        return "the file system is damaged: unmount it and let fsck repair it"
    if error.errno in _GONE:
        return "the disk does not answer: look at the card, its cable and the kernel's messages"
    return otherwise


def is_damage(error: BaseException) -> bool:
    """Whether the file system has lost what it knew of a file, also where LMDB tells it."""
    if isinstance(error, lmdb.Error):
        return any(os.strerror(number) in str(error) for number in DAMAGED_ERRNOS)
    return isinstance(error, OSError) and error.errno in DAMAGED_ERRNOS


def translated(error: BaseException, doing: str) -> StoreError:
    """The error to raise from ``error``: StoreDamaged where the file is wrong, else StoreFailed
    (the disk refused; after a failed meta page write LMDB answers everything with a panic until
    the environment is opened anew).
    """
    if isinstance(error, _DAMAGED):
        return StoreDamaged(f"{doing}: the store file is damaged: {error}")
    helps = what_helps(error, "") if isinstance(error, OSError) else ""
    return StoreFailed(f"{doing}: {error}" + (f"; {helps}" if helps else ""))
