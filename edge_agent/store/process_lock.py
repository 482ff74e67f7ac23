"""The lock lets one agent use a store; it is a file of its own that holds the owner's pid.

LMDB itself lets two processes open a store. The lock lives in the file description, so the
kernel drops it when the process ends, however it ends, and a second opening within one process
is refused too.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from pathlib import Path

from edge_agent.errors import StoreFailed, StoreLocked
from edge_agent.store.lmdb_errors import what_helps
from edge_agent.system.files import open_plain

logger = logging.getLogger(__name__)

#: The lock's name in the agent's folder.
LOCK = "lock"


class StoreLock:
    """Held from creation to `release`."""

    def __init__(self, path: Path) -> None:
        """Raises StoreLocked with the pid of whoever holds it, StoreFailed where the file
        cannot be written.
        """
        self._path = path
        self._fd = -1
        self._is_named = False
        self._take()

    def renew(self) -> None:
        """Take it again where its file was deleted, which would let a second agent in.

        Raises StoreFailed where that cannot be: another agent has it by now, or the folder is
        gone too. A folder is not made again while running: a card that fell off its mount comes
        back, and the store with it.
        """
        if self._is_ours():
            # While the disk refuses, this comes by often; it was said the first time.
            self._name(quietly=True)
            return
        self.release()
        try:
            self._take()
        except StoreLocked as error:
            raise StoreFailed(f"the lock was deleted, and now {error}") from error

    def _is_ours(self) -> bool:
        try:
            return self._fd >= 0 and os.path.samestat(os.fstat(self._fd), self._path.stat())
        except OSError:
            return False

    def _take(self) -> None:
        path = self._path
        try:
            self._fd = _open(path)
        except OSError as error:
            plain = error.errno not in (errno.ELOOP, errno.EINVAL)
            helps = f"; {what_helps(error, 'the store must be writable')}" if plain else ""
            raise StoreFailed(f"{path}: {error.strerror}{helps}") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            pid = _read_pid(self._fd)
            self.release()
            if not isinstance(error, BlockingIOError):
                raise StoreFailed(f"{path}: {error.strerror}") from error
            who = f"process {pid}" if pid else "another process"
            raise StoreLocked(f"{path.parent} is in use by {who}", pid) from error
        self._is_named = False
        self._hand_over()
        self._name()

    def _hand_over(self) -> None:
        """A tool that root runs must not lock the agent's own user out of its folder."""
        try:
            owner = self._path.parent.stat()
            if os.geteuid() == 0 and os.fstat(self._fd).st_uid != owner.st_uid:
                os.fchown(self._fd, owner.st_uid, owner.st_gid)
        except OSError as error:
            logger.warning("%s: it stays root's: %s", self._path, error.strerror)

    def _name(self, *, quietly: bool = False) -> None:
        """Write our pid into the file, once it can be written."""
        if self._is_named:
            return
        pid = b"%d\n" % os.getpid()
        try:
            fd = open_plain(self._path, os.O_RDWR)
            try:
                os.ftruncate(fd, 0)
                self._is_named = os.pwrite(fd, pid, 0) == len(pid)
            finally:
                os.close(fd)
            problem = "" if self._is_named else "only a part of it was written"
        except OSError as error:
            problem = error.strerror or str(error)
        if problem and not quietly:
            # A full disk, say: the lock holds all the same, only its owner cannot be told.
            logger.warning("%s: the pid of its owner is missing: %s", self._path, problem)

    def release(self) -> None:
        """Let the next one in. The file stays: removing it could remove the next one's."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock ``path``. Nothing is made or changed."""
    try:
        fd = open_plain(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _open(path: Path) -> int:
    try:
        return open_plain(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        # A read-only file system: flock asks for no more than an open file.
        if error.errno != errno.EROFS:
            raise
        return open_plain(path, os.O_RDONLY)


def _read_pid(fd: int) -> int:
    try:
        text = os.pread(fd, 32, 0)
    except OSError:
        return 0
    # Without its end, a part of a number is another process's.
    return int(text) if text.endswith(b"\n") and text.strip().isdigit() else 0
