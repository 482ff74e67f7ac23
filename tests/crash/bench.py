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


def make_bench() -> Path:
    """An empty folder; the caller removes it."""
    shared = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="crash-states-", dir=shared if shared.is_dir() else None))


def put(image: Image, bench: Path) -> None:
    """Make ``bench`` be the image and nothing else."""
    if set(_names(str(bench))) != set(image.files):
        for entry in bench.iterdir():
            shutil.rmtree(entry)
        for path, content in image.files.items():
            if content is None:
                (bench / path).mkdir()
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
        # What an earlier image or its survivor left behind the content must read as zeros.
        os.ftruncate(fd, len(content))
        os.pwrite(fd, content, 0)
        os.ftruncate(fd, size)
    finally:
        os.close(fd)
