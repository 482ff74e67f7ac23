"""What lies under a folder: the mount that holds it, and the kind of its file system."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

#: File systems that a power cut empties.
IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_MOUNTS = Path("/proc/self/mounts")
_ESCAPED = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount: type of its file system, options, and where it is."""

    kind: str
    options: frozenset[str]
    place: str = "/"


def look_at_mount(folder: Path, mounts: Path = _MOUNTS) -> Mount:
    """The mount that holds ``folder``; of the type ``unknown`` where that cannot be told."""
    best, found = Path("/"), Mount("unknown", frozenset())
    resolved = folder.resolve()
    # Names are bytes, in which the kernel writes a blank as \040, and others alike.
    for line in mounts.read_bytes().split(b"\n"):
        fields = line.split(b" ")
        if len(fields) < 4:
            continue
        place, kind, options = fields[1:4]
        mounted = Path(os.fsdecode(_ESCAPED.sub(_unescaped, place)))
        if resolved.is_relative_to(mounted) and mounted.is_relative_to(best):
            told = os.fsdecode(options).split(",")
            best, found = mounted, Mount(os.fsdecode(kind), frozenset(told), str(mounted))
    return found


def file_system_of(folder: Path, mounts: Path = _MOUNTS) -> str:
    """Type of the file system that holds ``folder``, ``unknown`` where that cannot be told."""
    return look_at_mount(folder, mounts).kind


def _unescaped(escaped: re.Match[bytes]) -> bytes:
    return bytes((int(escaped[1], 8) & 0xFF,))
