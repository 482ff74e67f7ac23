"""What lies under a folder: the kind of its file system."""

from __future__ import annotations

from pathlib import Path

#: File systems that a power cut empties.
IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})


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
