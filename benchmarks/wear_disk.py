"""A file system of our own on a loop device, whose counters tell what is really written.

ext4 with everything initialised at creation (by default the kernel goes on zeroing tables for
minutes, which would be counted as the store's). It is mounted below the benchmark's own folder. The
device is told to let go as soon as nothing holds it, so that unmounting is all there is to undo,
which is done however the block ends.

The counter is the block layer's, in sectors of 512 bytes: data, LMDB's or SQLite's own overhead,
and the file system's metadata and journal alike, as a card would see them.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

SECTOR_BYTES = 512
_TOOLS = ("losetup", "mkfs.ext4", "mount", "umount", "sync")


@dataclass(frozen=True, slots=True)
class Disk:
    """A mounted file system, and the name of the device below it, e.g. ``loop0``."""

    mount: Path
    device: str

    def written(self) -> int:
        """Bytes written to the device so far, after everything dirty has been."""
        _call("sync", "--file-system", str(self.mount))
        return sectors_written(Path(f"/sys/block/{self.device}/stat").read_text()) * SECTOR_BYTES


def sectors_written(stat: str) -> int:
    """The seventh field of ``/sys/block/DEVICE/stat`` (the kernel's Documentation/block/stat)."""
    return int(stat.split()[6])


def why_not() -> str | None:
    """Why there can be no file system of our own here; None where there can."""
    if os.geteuid() != 0:
        return "needs root, for a loop device"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"needs {', '.join(missing)}"
    if not Path("/dev/loop-control").exists():
        return "this kernel has no loop devices"
    return None


@contextmanager
def own_file_system(folder: Path, size: int) -> Iterator[Disk]:
    """Make, mount and remove one of ``size`` bytes, backed by a file in ``folder``.

    SIGTERM ends the block like an exception, so that nothing stays mounted.

    Raises:
        OSError: it cannot be made here, with what the tool said.
    """
    folder.mkdir(parents=True, exist_ok=True)
    image, mount = folder / "disk.img", folder / "mount"
    mount.mkdir(exist_ok=True)
    with image.open("wb") as file:
        file.truncate(size)
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        device = _call("losetup", "--find", "--show", str(image))
        try:
            _call(
                "mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", device
            )
            _call("mount", "-o", "noatime", device, str(mount))
        finally:
            # Mounted, the device lives on until it is unmounted; not mounted, it goes now.
            _call("losetup", "--detach", device)
        try:
            yield Disk(mount, Path(device).name)
        finally:
            _call("umount", str(mount))
    finally:
        signal.signal(signal.SIGTERM, before)
        image.unlink()


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _call(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout.strip()
