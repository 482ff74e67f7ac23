"""The mount and the disk under a folder, by what /proc and /sys say; nothing needs root.

From a folder to its disk are several steps, and boards have all of them:

- A file's device number leads to ``/sys/dev/block``; not on btrfs, whose numbers stand for a
  subvolume. There the mount names its device.
- An encrypted or logical volume (dm-crypt, LVM) and a RAID lie on others, which are its ``slaves``.
- A partition is part of a disk: ``mmcblk0p2`` of ``mmcblk0``, ``nvme0n1p2`` of ``nvme0n1``.

No device is found over a network, in memory, for an overlay, and on a btrfs of several devices.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

#: File systems that a power cut empties.
IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
#: How disks are called that are memory, with or without a file system that would keep things.
MEMORY_DISKS = ("zram", "ram")
SYS, PROC = Path("/sys"), Path("/proc")
#: File systems whose files have device numbers of no device.
_ANONYMOUS = frozenset({"btrfs", "bcachefs"})
_ESCAPED = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount: type of its file system, options, where it is, and what is mounted."""

    kind: str
    options: frozenset[str]
    place: str = "/"
    source: str = ""


def look_at_mount(folder: Path, mounts: Path = PROC / "self/mounts") -> Mount:
    """The mount that holds ``folder``; of the type ``unknown`` where that cannot be told."""
    best, found = Path("/"), Mount("unknown", frozenset())
    resolved = Path(os.path.realpath(folder))
    # Names are bytes, in which the kernel writes a blank as \040, and others alike.
    for line in mounts.read_bytes().split(b"\n"):
        fields = line.split(b" ")
        if len(fields) < 4:
            continue
        source, place, kind, options = map(_text, fields[:4])
        mounted = Path(place)
        if resolved.is_relative_to(mounted) and mounted.is_relative_to(best):
            best, found = mounted, Mount(kind, frozenset(options.split(",")), place, source)
    return found


def file_system_of(folder: Path, mounts: Path = PROC / "self/mounts") -> str:
    """Type of the file system that holds ``folder``, ``unknown`` where that cannot be told."""
    return look_at_mount(folder, mounts).kind


def device_of(folder: Path, sys: Path = SYS, proc: Path = PROC) -> Path | None:
    """The device that ``folder`` is on, a partition or volume, as its folder in ``sys``; None
    where there is no single one.
    """
    try:
        number = folder.stat().st_dev
        link = sys / "dev/block" / f"{os.major(number)}:{os.minor(number)}"
        if link.exists():
            return link.resolve()
        mount = look_at_mount(folder, proc / "self/mounts")
        return _by_name(Path(mount.source).name, sys) if mount.kind in _ANONYMOUS else None
    except OSError:
        return None


def disk_of(folder: Path, sys: Path = SYS, proc: Path = PROC) -> Path | None:
    """The whole disk under ``folder``; where that is on several, the volume that joins them."""
    device = device_of(folder, sys, proc)
    if device is None:
        return None
    disks = _disks(device)
    return disks.pop() if len(disks) == 1 else device


def first_text(disk: Path, names: tuple[str, ...]) -> str:
    """The first of these files below ``disk`` that says something, "" where none does."""
    for name in names:
        try:
            text = (disk / name).read_text(errors="replace").strip()
        except OSError:
            continue
        if text:
            return text
    return ""


def _disks(device: Path) -> set[Path]:
    try:
        below = [link.resolve() for link in (device / "slaves").iterdir()]
    except OSError:
        below = []  # A partition has no such folder.
    if below:
        return {disk for each in below for disk in _disks(each)}
    return {device.parent if (device / "partition").exists() else device}


def _by_name(name: str, sys: Path) -> Path | None:
    """A device by the name that a mount has for it: ``mmcblk0p2``, or a volume's in /dev/mapper,
    which a service may not see.
    """
    block = sys / "class/block"
    found = block / name
    if not name or not found.exists():
        named = [each for each in block.glob("dm-*") if first_text(each, ("dm/name",)) == name]
        if not name or not named:
            return None
        [found] = named
    # A btrfs of several devices names one of them.
    for devices in sys.glob("fs/btrfs/*/devices"):
        names = [each.name for each in devices.iterdir()]
        if found.resolve().name in names and len(names) > 1:
            return None
    return found.resolve()


def _text(escaped: bytes) -> str:
    return os.fsdecode(_ESCAPED.sub(lambda one: bytes((int(one[1], 8) & 0xFF,)), escaped))
