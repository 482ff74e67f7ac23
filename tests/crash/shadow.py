"""What of a store's file is durable, as far as calls and their outcomes tell: its shadow.

A restart reads the page cache, in which everything written is found, synced or not. So a record
that was acked after a sync that failed would be found as well, until the power goes. The shadow is
the file without a cache. A write is in it once a sync of that file succeeded, or at once where it
was opened with O_DSYNC. What was written before a sync that *failed* never gets there: the kernel
takes those pages for clean afterwards, and no later sync brings them to the device.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.intercept import WRITES, Seen

SYNCS = ("fdatasync", "fsync")
_PAGE = 4096


@dataclass(slots=True)
class _File:
    pages: dict[int, bytearray] = field(default_factory=dict)
    pending: list[tuple[int, bytes]] = field(default_factory=list)

    def settle(self) -> None:
        for offset, data in self.pending:
            self.put(offset, data)
        self.pending.clear()

    def put(self, offset: int, data: bytes) -> None:
        at = 0
        while at < len(data):
            number, inside = divmod(offset + at, _PAGE)
            piece = data[at : at + _PAGE - inside]
            page = self.pages.setdefault(number, bytearray(_PAGE))
            page[inside : inside + len(piece)] = piece
            at += len(piece)


class Shadow:
    """Is told of every call on the store's files, in order, and whether it was let through."""

    def __init__(self) -> None:
        self._files: dict[tuple[int, int], _File] = {}
        # Calls are told by another thread than the one that wants an image.
        self._lock = threading.Lock()

    def passed(self, seen: Seen) -> None:
        """The kernel does it, and it succeeds."""
        with self._lock:
            file = self._file(seen)
            if seen.name in WRITES and seen.synced:
                file.put(seen.offset, seen.data)
            elif seen.name in WRITES:
                file.pending.append((seen.offset, seen.data))
            elif seen.name in SYNCS:
                file.settle()

    def failed(self, seen: Seen, done: bytes = b"") -> None:
        """It was answered with an error, or was short: only ``done`` of a write was written, which
        may be in the cache and is nowhere else.
        """
        with self._lock:
            file = self._file(seen)
            if seen.name in WRITES:
                file.pending.append((seen.offset, done))
            elif seen.name in SYNCS:
                file.pending.clear()

    def image(self, file: Path, into: Path) -> None:
        """What a power cut now would leave of ``file``, written to ``into``."""
        status = file.stat()
        with self._lock, into.open("wb") as image:
            image.truncate(status.st_size)
            for number, page in self._files[(status.st_dev, status.st_ino)].pages.items():
                os.pwrite(image.fileno(), page, number * _PAGE)

    def _file(self, seen: Seen) -> _File:
        # Calls on names, which have no open file, come to nothing here.
        return self._files.setdefault(seen.inode or (0, 0), _File())
