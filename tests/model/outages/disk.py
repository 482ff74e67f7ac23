"""The disk of a simulated machine: what LMDB says when it refuses.

LMDB itself is real, and so are the files. Between it and the engine stands a `Disk`: a write
transaction that should fail is aborted and an error raised, or is committed and an error raised
all the same, since after a failed sync nobody can know. What the engine then does is its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from unittest.mock import patch

import lmdb

from edge_agent.store import create, opening

_SAID: Final = {
    False: "mdb_txn_commit: No space left on device",
    True: "mdb_txn_commit: Input/output error",
}


class Disk:
    """One machine's.

    Attributes:
        refusing: faults at present by which writes fail; the newest says how: ``(written, said)``.
        unreadable, closed: how many faults at present keep it from being read, or opened.
        failed: how often it refused.
    """

    def __init__(self) -> None:
        self.refusing: list[tuple[bool, bool]] = []
        self.unreadable = self.closed = self.failed = 0

    def open(self, folder: Path, map_size: int) -> Any:
        """In place of `opening.open_environment`."""
        if self.closed:
            self.failed += 1
            raise lmdb.Error(f"{folder}: Input/output error")
        return _Environment(self, _open_environment(folder, map_size))


_open_environment = create.open_environment


class _Environment:
    """An environment, but for what it says of its transactions."""

    def __init__(self, disk: Disk, real: Any) -> None:
        self._disk, self._real = disk, real

    def begin(self, *arguments: Any, write: bool = False, **more: Any) -> Any:
        if write:
            return _Write(self._disk, self._real.begin(*arguments, write=True, **more))
        if self._disk.unreadable:
            self._disk.failed += 1
            raise lmdb.Error("mdb_txn_begin: Input/output error")
        return self._real.begin(*arguments, **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class _Write:
    """A write transaction in a ``with``."""

    def __init__(self, disk: Disk, real: Any) -> None:
        self._disk, self._real = disk, real

    def __enter__(self) -> Any:
        return self._real.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Any:
        if error is not None or not self._disk.refusing:
            return self._real.__exit__(kind, error, traceback)
        self._disk.failed += 1
        written, said = self._disk.refusing[-1]
        if written:
            self._real.__exit__(None, None, None)
        else:
            self._real.abort()
        raise lmdb.DiskError(_SAID[said]) if said else lmdb.Error(_SAID[said])


@contextmanager
def disks(by_folder: dict[Path, Disk]) -> Iterator[None]:
    """While this lasts, stores below these folders are on these disks."""

    def open_environment(folder: Path, map_size: int) -> Any:
        return by_folder[folder.parent].open(folder, map_size)

    with patch.object(opening, "open_environment", open_environment):
        yield
