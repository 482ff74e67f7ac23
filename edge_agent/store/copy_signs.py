"""This module says where a store's file lies, by signs that change only when it is copied.

Three things are looked at, none of which needs root:

- when the file was born (statx): a copy, a restored or a moved-by-copying file is born anew, while
  renaming, fsck, remounting and growing keep it. It is kept in the file system with a nanosecond,
  so that no two files share it;
- which card the file system is on (the CID of an SD card or eMMC, the WWID of a disk): a card that
  was copied as a whole has the same births on another card;
- which opening of this very store ran in this folder last: an empty file beside the store has its
  name, ``opened-STORE-OPENING``. Where an older file was copied *over* the store's, that neither
  gives a new birth nor takes this name away.

What cannot be read is "", and is no reason for anything.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from edge_agent.system.block_device import PROC, SYS, disk_of, first_text

logger = logging.getLogger(__name__)

#: What tells files and cards apart, in a fixed order; see the module's docstring.
Medium = tuple[str, ...]
LookAtMedium = Callable[[Path], Medium]

NOTED = "opened-"
_STATX_BTIME = 0x800
_AT_FDCWD = -100
#: Of struct statx: where ``stx_mask`` and ``stx_btime`` (seconds, nanoseconds) are, and its size.
_MASK, _BTIME, _SIZE = slice(0, 4), 80, 256
_ROOTS = (SYS, PROC)
_CARD_IDS = ("device/cid", "device/wwid", "wwid")


def medium_of(file: Path) -> Medium:
    """The birth of ``file`` and its card, as fingerprints of 16 hex characters or "" each."""
    return _fingerprint(_birth(file)), _fingerprint(_card(file))


def nowhere(file: Path) -> Medium:
    """What knows of no medium: for simulations, whose files are copies all the time."""
    return ()


def note_opening(folder: Path, store_id: str, opening: bytes) -> None:
    """Leave the name of the opening that runs here now. A disk that refuses goes without."""
    name = f"{NOTED}{store_id[:16]}-{opening.hex()}"
    try:
        old = [each for each in folder.glob(f"{NOTED}*") if each.name != name]
        # The new one first: one of the two is always there.
        with suppress(FileExistsError):
            os.close(os.open(folder / name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        for each in old:
            each.unlink()
    except OSError as error:
        logger.debug("%s: the opening is not noted: %s", folder, error)


def noted_openings(folder: Path, store_id: str) -> tuple[bytes, ...]:
    """The openings of the store that ran here last: one, or several where folders were mixed."""
    prefix = f"{NOTED}{store_id[:16]}-"
    try:
        names = [each.name.removeprefix(prefix) for each in folder.glob(f"{prefix}*")]
    except OSError:
        return ()
    return tuple(bytes.fromhex(name) for name in names if _is_hex(name))


def _is_hex(text: str) -> bool:
    return len(text) == 16 and all(letter in "0123456789abcdef" for letter in text)


def _fingerprint(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:16] if raw else ""


def _birth(file: Path) -> bytes:
    """When the file was made; b"" where the kernel, the file system or libc does not say."""
    buffer = ctypes.create_string_buffer(_SIZE)
    try:
        statx = ctypes.CDLL(None, use_errno=True).statx
    except AttributeError:
        return b""
    if statx(_AT_FDCWD, os.fsencode(file), 0, _STATX_BTIME, buffer) != 0:
        return b""
    raw = buffer.raw
    if not int.from_bytes(raw[_MASK], sys.byteorder) & _STATX_BTIME:
        return b""
    return raw[_BTIME : _BTIME + 12]


def _card(file: Path) -> bytes:
    disk = disk_of(file, *_ROOTS)
    return b"" if disk is None else first_text(disk, _CARD_IDS).encode()
