"""What lies under a folder: its file system, and how much has been written to its device."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

#: File systems that a power cut empties.
IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_SECTOR_BYTES = 512  # in /sys/.../stat, whatever the device's own sectors are


@dataclass(frozen=True, slots=True)
class Written:
    """A counter of bytes written; ``source`` says whose."""

    source: str
    path: Path | None

    def bytes(self) -> int | None:
        """The counter now, None where it cannot be read."""
        try:
            if self.path is None:
                return _by_this_process()
            return int(self.path.read_text().split()[6]) * _SECTOR_BYTES
        except (OSError, ValueError, IndexError):
            return None


def written_of(folder: Path) -> Written:
    """The counter of the device under ``folder``, or else this process's own.

    The device's counts everything, the file system's journal and other programs included; the
    process's leaves the journal out.
    """
    number = folder.stat().st_dev
    path = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/stat")
    if path.exists():
        return Written("counted by the device, other programs included", path)
    return Written("counted by the kernel for this process, without the journal", None)


def file_system_of(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """Type of the file system that holds ``folder``, ``unknown`` where that cannot be told."""
    best, kind = Path("/"), "unknown"
    resolved = folder.resolve()
    for line in mounts.read_text(errors="replace").splitlines():
        _, place, found, *_ = line.split()
        # Blanks in a mount point are written \040.
        mounted = Path(place.encode().decode("unicode_escape"))
        if resolved.is_relative_to(mounted) and mounted.is_relative_to(best):
            best, kind = mounted, found
    return kind


def _by_this_process() -> int:
    for line in Path("/proc/self/io").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "write_bytes":
            return int(value)
    raise ValueError("no write_bytes in /proc/self/io")
