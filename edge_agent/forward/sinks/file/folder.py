"""Writing whole files into a folder, on a disk that may be full, read-only or gone.

The content is written under a hidden name, synced and renamed; then the folder is synced. A reader
never sees half a file, and when `write_whole` returns the file outlasts a pulled plug. A name that
is there already is replaced: it stands for the same bytes.

Everything happens relative to the opened folder. So where a disk vanishes between two steps, what
is written goes to the disk or fails, and never below the empty mount point.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from edge_agent.errors import SinkUnavailable
from edge_agent.output.printable import why

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_GONE: Final = frozenset((errno.EIO, errno.ENODEV, errno.ENXIO, errno.EUCLEAN, errno.ESTALE))


@contextmanager
def opened_folder(folder: Path, *, mounted: bool) -> Iterator[int]:
    """The folder, to be written into by its descriptor; what fails within is told in words.

    Args:
        folder: it must be there.
        mounted: whether it has to be on another file system than the system's own.

    Raises:
        SinkUnavailable: one sentence for a person.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Of the folder that was opened: what is mounted there later changes nothing about it.
            if mounted and os.fstat(descriptor).st_dev == Path("/").stat().st_dev:
                text = f"{folder}: no disk is mounted there (mounted = true)"
                raise SinkUnavailable(text, obstacle="here")
            yield descriptor
        finally:
            os.close(descriptor)
    except OSError as error:
        raise in_words(error, folder) from error


def write_whole(descriptor: int, name: str, data: bytes) -> None:
    """The file ``name`` with ``data``, durable. Raises OSError; what fails leaves nothing."""
    hidden = f".{name}.part"
    try:
        file = os.open(hidden, _NEW, 0o666, dir_fd=descriptor)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(file, view) :]
            os.fsync(file)
        finally:
            os.close(file)
        os.rename(hidden, name, src_dir_fd=descriptor, dst_dir_fd=descriptor)
    except OSError:
        with suppress(OSError):
            os.unlink(hidden, dir_fd=descriptor)
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # A share that syncs no folders: then everything, which is slow and says as much.
        os.sync()


def remove_oldest(
    descriptor: int, keep_bytes: int, is_ours: Callable[[str], bool], newest: str
) -> int:
    """Remove our oldest files while all of them have more than ``keep_bytes``; how many. ``newest``
    stays whatever it has, and whatever time a clock that was not set gave it. Raises OSError.
    """
    found: list[tuple[int, str, int]] = []
    total = 0
    with os.scandir(descriptor) as entries:
        for entry in entries:
            if is_ours(entry.name) and entry.is_file(follow_symlinks=False):
                state = entry.stat(follow_symlinks=False)
                total += state.st_size
                if entry.name != newest:
                    found.append((state.st_mtime_ns, entry.name, state.st_size))
    removed = 0
    for _, name, size in sorted(found):
        if total <= keep_bytes:
            break
        os.unlink(name, dir_fd=descriptor)
        total, removed = total - size, removed + 1
    return removed


def in_words(error: OSError, folder: Path) -> SinkUnavailable:
    """What a person is told of a disk that refuses, and can do about it."""
    number = error.errno or 0
    if number in (errno.ENOENT, errno.ENOTDIR):
        text = "is not there, or no folder: is the disk plugged in and mounted?"
    elif number in (errno.ENOSPC, errno.EDQUOT):
        text = "the disk is full: take files away, or set keep_bytes"
    elif number == errno.EROFS:
        text = (
            "cannot be written to: the disk is mounted read-only (after an error, or by its"
            " switch), or the service may not write there (ReadWritePaths= of its unit)"
        )
    elif number in _GONE:
        text = f"the disk does not answer ({os.strerror(number)}): it was pulled out, or is broken"
    elif number in (errno.EACCES, errno.EPERM):
        text = "the agent's user may not write there"
    else:
        text = why(error)
    return SinkUnavailable(f"{folder}: {text}", obstacle="here")
