"""A folder in which images of a disk are put, one after another, for something to be started on.

It lies in memory where there is a place for that (``/dev/shm``): what is tried here is what the
product does with an image, and the image is not cut a second time by this machine.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.crash.images import LOCK_FILE, Image

#: What is left in LMDB's lock file is anybody's guess: it was mapped, never synced, never written.
_NOISE = bytes(range(256)) * 17
#: A file of this size is a store's own, reserved when it was made.
_RESERVED = 1024 * 1024
#: Where, in each of LMDB's first two pages, the number of the last page in use is.
_LAST_PAGE = 136


def make_bench(within: Path | None = None) -> Path:
    """An empty folder, in memory or ``within`` another; the caller removes it."""
    shared = Path("/dev/shm")
    if within is None and shared.is_dir():
        within = shared
    return Path(tempfile.mkdtemp(prefix="crash-states-", dir=within))


def put(image: Image, bench: Path) -> None:
    """Make ``bench`` be the image and nothing else."""
    # What the last survivor made beside it goes. A store's file stays, with its room reserved.
    for path in sorted(set(_names(str(bench))) - set(image.files), reverse=True):
        left = bench / path
        left.rmdir() if left.is_dir() and not left.is_symlink() else left.unlink()
    for path, content in image.files.items():
        # A folder stands before what is in it; one in a file's place, or the reverse, goes first.
        here = bench / path
        if here.exists() and here.is_dir() != (content is None):
            shutil.rmtree(here) if here.is_dir() else here.unlink()
        if content is None:
            here.mkdir(exist_ok=True)
    for path, content in image.files.items():
        if content is not None:
            _put_file(f"{bench}/{path}", *content, noise=image.hash[0] % 2 == 1)


def _names(folder: str, prefix: str = "") -> Iterator[str]:
    for entry in os.scandir(folder):
        yield prefix + entry.name
        if entry.is_dir():
            yield from _names(entry.path, f"{prefix}{entry.name}/")


def _put_file(path: str, content: bytes, size: int, *, noise: bool) -> None:
    if noise and path.endswith(LOCK_FILE):
        content = _NOISE[:size]
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if size >= _RESERVED:
            _reserve(fd, len(content), size)
            os.pwrite(fd, content, 0)
        else:
            # What an earlier image left behind the content must read as zeros.
            os.ftruncate(fd, len(content))
            os.pwrite(fd, content, 0)
            os.ftruncate(fd, size)
    finally:
        os.close(fd)


def _reserve(fd: int, content: int, size: int) -> None:
    """A store's file is reserved to its full size before it has its name. Reserving it anew would
    take longer than all the rest, so only what the last survivor wrote behind the new content is
    made zeros: LMDB's roots say how far it came.
    """
    status = os.fstat(fd)
    extent = max(
        (int.from_bytes(os.pread(fd, 8, at + _LAST_PAGE), "little") + 1) * 4096 for at in (0, 4096)
    )
    if status.st_size != size or status.st_blocks * 512 < size or extent > size:
        os.ftruncate(fd, 0)
        os.posix_fallocate(fd, 0, size)
    elif extent > content:
        os.pwrite(fd, bytes(extent - content), content)
