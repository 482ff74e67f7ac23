"""Bytes written by the kernel's counters: to a device, and by this agent, which is estimated.

Of a process the kernel has two. ``write_bytes`` counts whole folios as they become dirty, and where
a file system keeps large ones (ext4 from Linux 6.16 on) that was up to 3.9 times what the device
got, of which nobody can tell how much was true. ``wchar``, the bytes handed over by writing calls,
leaves out only what the file system adds; sockets are no part of it, because they are sent to. For
a store that writes whole pages it was within 5 % of the device's own counter, the journal's part
(``tests/wear/test_on_a_device.py``), once one thing is added: a commit ends with a write of 120
bytes, for which the device gets a whole block.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge_agent.system.block_device import MEMORY_DISKS, PROC, SYS, device_of, disk_of, first_text

_SECTOR_BYTES = 512  # in /sys/.../stat, whatever the device's own sectors are
#: Of nearly every file system on a card.
_BLOCK_BYTES = 4096
#: Where a device has its number, below its folder in /sys: an SD card or eMMC, NVMe, others.
_SERIALS = ("device/cid", "wwid", "device/serial", "device/wwid", "serial")
#: What LMDB writes of its meta page at the end of each commit.
_META_BYTES = 120


class ByteCounter(Protocol):
    """Something that counts bytes written; `Written` is one."""

    @property
    def source(self) -> str:
        """Whose they are, in words."""
        ...

    def bytes(self) -> int | None:
        """The counter now, None where it cannot be read."""
        ...


@dataclass(frozen=True, slots=True)
class Written:
    """A counter of bytes written; ``source`` says whose."""

    source: str
    path: Path | None

    def bytes(self) -> int | None:
        """The counter now, None where it cannot be read; takes some 20 µs and no disk."""
        try:
            if self.path is None:
                return _by_this_process()
            return int(self.path.read_text().split()[6]) * _SECTOR_BYTES
        except (OSError, ValueError, IndexError):
            return None


@dataclass(frozen=True, slots=True)
class ByAgent:
    """What this process writes, an agent that commits to a store below a folder.

    ``block_bytes`` is the file system's block, ``commits`` counts synced transactions.
    """

    block_bytes: int
    commits: Callable[[], float]
    source: str = "counted by the kernel for this process, without the journal"

    def bytes(self) -> int | None:
        """As `ByteCounter.bytes`."""
        handed = by_process().bytes()
        if handed is None:
            return None
        return handed + int(self.commits()) * max(0, self.block_bytes - _META_BYTES)


def by_process() -> Written:
    """This process's own, its threads included."""
    return Written("counted by the kernel for this process, without the journal", None)


def by_agent(folder: Path, commits: Callable[[], float]) -> ByAgent:
    """The counter of an agent whose store is in ``folder``."""
    try:
        block_bytes = os.statvfs(folder).f_bsize
    except OSError:
        block_bytes = _BLOCK_BYTES  # A figure is not worth an agent that does not start.
    return ByAgent(block_bytes, commits)


def written_of(folder: Path) -> Written:
    """The counter of the device under ``folder``, or else this process's own.

    The device's counts everything, the file system's journal and other programs included; the
    process's leaves the journal out.
    """
    device = device_of(folder)
    if device is not None and (device / "stat").exists():
        return Written("counted by the device, other programs included", device / "stat")
    return by_process()


def card_of(folder: Path, sys: Path = SYS, proc: Path = PROC) -> Written | None:
    """The counter of the whole card under ``folder``, all of its partitions; None where no
    single device is below (over a network, an overlay), or one that does not wear (memory).
    """
    disk = disk_of(folder, sys, proc)
    if disk is None or disk.name.startswith(MEMORY_DISKS) or not (disk / "stat").exists():
        return None
    return Written(f"counted by {disk.name}, everything on it included", disk / "stat")


def name_of(folder: Path, sys: Path = SYS, proc: Path = PROC) -> str:
    """What tells the card under ``folder`` from any other, as its maker numbered it; "" where it
    does not say.
    """
    disk = disk_of(folder, sys, proc)
    return "" if disk is None else first_text(disk, _SERIALS)[:100]


def _by_this_process() -> int:
    for line in Path("/proc/self/io").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "wchar":
            return int(value)
    raise ValueError("no wchar in /proc/self/io")
