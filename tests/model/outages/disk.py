"""The disk of a simulated machine: what LMDB says when it refuses.

LMDB itself is real, and so are the files. Between it and the engine stands a `Disk`: a write
transaction that should fail is aborted and an error raised, or is committed and an error raised
all the same, since after a failed sync nobody can know. What the engine then does is its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(slots=True)
class Fuse:
    """At the write transaction after ``left`` others the disk refuses, or, where there is a
    ``burn``, the process is killed; it is ``written`` before or it is not.
    """

    left: int
    written: bool
    burn: Callable[[], None] | None = None

    def burnt(self) -> tuple[bool, BaseException]:
        """The kill."""
        assert self.burn is not None
        self.burn()
        return self.written, PulledPlug()


class PulledPlug(BaseException):
    """The process is killed within a call of the store."""


class Disk:
    """One machine's.

    Attributes:
        refusing: faults at present by which writes fail; the newest says how: ``(written, said)``.
        unreadable, closed: how many faults at present keep it from being read, or opened.
        failed: how often it refused.
        fuses: write transactions left until something happens at one of them, once, and what:
            called with whether it was written before.
    """

    def __init__(self) -> None:
        self.refusing: list[tuple[bool, bool]] = []
        self.unreadable = self.closed = self.failed = 0
        self.fuses: list[Fuse] = []

    def trouble(self) -> tuple[bool, BaseException] | None:
        """What the write transaction that is about to be committed meets: whether it is written
        all the same, and what is raised.
        """
        for fuse in list(self.fuses):
            fuse.left -= 1
            if fuse.left <= 0:
                self.fuses.remove(fuse)
                return self._refused(fuse.written) if fuse.burn is None else fuse.burnt()
        return self._refused(*self.refusing[-1]) if self.refusing else None

    def _refused(self, written: bool, said: bool = True) -> tuple[bool, BaseException]:
        self.failed += 1
        return written, (lmdb.DiskError if said else lmdb.Error)(_SAID[said])

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
        if error is not None:
            return self._real.__exit__(kind, error, traceback)
        trouble = self._disk.trouble()
        if trouble is None:
            return self._real.__exit__(None, None, None)
        written, raised = trouble
        if written:
            self._real.__exit__(None, None, None)
        else:
            self._real.abort()
        raise raised


@contextmanager
def disks(by_folder: dict[Path, Disk]) -> Iterator[None]:
    """While this lasts, stores below these folders are on these disks."""

    def open_environment(folder: Path, map_size: int, *, clean: bool = False) -> Any:
        return by_folder[folder.parent].open(folder, map_size)

    with patch.object(opening, "open_environment", open_environment):
        yield
