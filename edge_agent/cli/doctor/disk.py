"""The findings of `doctor` about the disk, judged from facts; and how these are found out.

A card that lies about syncing looks like any other until the power fails: no program can see what
a card has in its memory. What can be seen is a sync that is quicker than anything that could have
been written, and data that do not come back. So suspicion is all that is claimed, never innocence.
"""

from __future__ import annotations

import mmap
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from edge_agent.cli.doctor.verdict import Finding, fail, ok, warn
from edge_agent.ops.text import duration, size
from edge_agent.system.block_device import (
    IN_MEMORY,
    MEMORY_DISKS,
    PROC,
    SYS,
    Mount,
    disk_of,
    first_text,
)

Kind = Literal[
    "SD card or eMMC", "USB device", "hard disk", "solid state disk", "virtual", "memory", ""
]  # fmt: skip

#: A sync of 4 KiB that takes less, at the median, cannot have reached a device of that kind: a
#: card programs a page in some 0.2 ms, a platter turns in 8 ms, USB 2 asks every 0.125 ms.
PLAUSIBLE_S: Final[dict[Kind, float]] = {
    "SD card or eMMC": 100e-6,
    "USB device": 100e-6,
    "hard disk": 500e-6,
}
#: Acks come this late now and then; sensors' buffers have to hold for so long.
SLOW_S = 1.0
#: A sync that takes no longer than this many plain writes has not been one.
NO_SYNC_TIMES = 1.5
_PROBES = 60
_PROBE_BYTES = 4096
_BACK_BYTES = 1024 * 1024

_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "ceph", "glusterfs")
_NO_JOURNAL = ("vfat", "exfat", "msdos", "ntfs", "ntfs3", "fuseblk")
#: What ext4 says of itself after an error (from Linux 6.15 on; there is no "ro" then from 6.12 on),
#: and a file system whose disk has gone.
_GIVEN_UP = frozenset({"emergency_ro", "shutdown"})
_GOOD = ("ext4", "xfs", "btrfs", "f2fs", "bcachefs", "zfs")


@dataclass(frozen=True, slots=True)
class Device:
    """The disk under it, as far as /sys tells; "" where it does not.

    ``life`` and ``end`` are what an eMMC says of itself, as it says it: ``0x01 0x02``, ``0x01``.
    """

    name: str = ""
    kind: Kind = ""
    write_cache: str = ""
    life: str = ""
    end: str = ""


@dataclass(frozen=True, slots=True)
class SyncSpeed:
    """4 KiB written and synced again and again: durations in seconds, at the median and at the
    slowest hundredth; ``plain_s`` of a write that is not synced, at the median.
    """

    median_s: float
    p99_s: float
    plain_s: float


def judge_mount(mount: Mount, device: Device | None = None) -> Finding:
    """Whether the file system can keep what it is given, on that ``device``."""
    found = f"{mount.kind} at {mount.place}"
    if (lost := _what_loses(mount, device)) is not None:
        return fail("file system", f"{found}{lost[0]}", lost[1])
    if (risk := _what_is_a_risk(mount)) is not None:
        return warn("file system", f"{found}{risk[0]}", risk[1])
    return ok("file system", found)


def _what_loses(mount: Mount, device: Device | None) -> tuple[str, str] | None:
    """Why what is acknowledged may be lost there, and the way out."""
    if device is not None and device.kind == "memory":
        told = f", on {device.name}, which is memory: a power cut empties it"
        return told, "put store.path on a disk"
    if mount.kind in IN_MEMORY:
        return ", in memory: a power cut empties it", "put store.path on a disk"
    if mount.kind == "overlay":
        return (
            ": what is written may lie in memory and be gone after a restart",
            "switch the overlay off (raspi-config, Performance), or put store.path on a disk",
        )
    if mount.kind in _NETWORK:
        told = ", over the network: neither locks nor syncs hold"
        return told, "put store.path on a disk of this machine"
    if "ro" in mount.options:
        return " is mounted read-only", "mount -o remount,rw; look into dmesg"
    if mount.options & _GIVEN_UP:
        told = " takes nothing any more since an error, though it is called rw"
        return told, "look into dmesg; restart the machine, which checks it, or replace the card"
    if mount.options & {"nobarrier", "barrier=0"}:
        told = " without barriers: a sync does not reach the card"
        return told, "take nobarrier out of /etc/fstab"
    return None


def _what_is_a_risk(mount: Mount) -> tuple[str, str] | None:
    """What else is not as it should be, and the way out."""
    if mount.kind in _NO_JOURNAL:
        told = " has no journal: a power cut may take the whole folder"
        return told, "format the disk with ext4"
    if "sync" in mount.options:
        told = " is mounted with sync: every write waits, the card wears"
        return told, "take sync out of /etc/fstab; the agent syncs what has to be"
    if "strictatime" in mount.options:
        return " with strictatime: reading writes, too", "use relatime"
    if mount.kind not in _GOOD:
        return f" is not among those tried ({', '.join(_GOOD)})", "ext4 is the safe choice"
    return None


def judge_space(free: int, inodes: int, wanted: int, reserved: int) -> Finding:
    """``wanted`` bytes are to be reserved, ``reserved`` are; ``inodes`` -1 if none are counted."""
    name = "space"
    if inodes == 0:
        return fail(name, "no inodes are free: no file can be made", "remove files there")
    missing = max(wanted - reserved, 0)
    if missing > free:
        return fail(
            name,
            f"{size(free)} free, {size(missing)} more are needed for store.size = {size(wanted)}",
            "free space, or make store.size smaller",
        )
    if free - missing < 64 * 2**20:
        return warn(
            name, f"only {size(free - missing)} are left beside the store", "free some space"
        )
    return ok(name, f"{size(reserved)} of {size(wanted)} reserved, {size(free)} free")


def judge_syncs(syncs: SyncSpeed, device: Device) -> Finding:
    """Whether a sync takes as long as one must."""
    name = "sync latency"
    found = (
        f"a sync of 4 KiB takes {duration(syncs.median_s)} (slowest hundredth"
        f" {duration(syncs.p99_s)}) on {_told(device)}"
    )
    least = PLAUSIBLE_S.get(device.kind)
    distrust = "do not trust it with what matters: try another card, or another reader, and pull"
    distrust += " the plug while it writes (docs/reading-doctor.md)"
    if least is not None and syncs.median_s < least:
        return fail(name, f"{found}: quicker than it could have been written. It may lie", distrust)
    if least is not None and syncs.median_s < NO_SYNC_TIMES * syncs.plain_s:
        return fail(name, f"{found}: no longer than a write without a sync. It may lie", distrust)
    if syncs.p99_s > SLOW_S:
        return warn(
            name,
            f"{found}: acks come that late",
            "a better card; or a longer log.NAME.commit_interval, so that it is asked less often",
        )
    if least is None:
        return ok(name, f"{found}: whether it keeps what it says cannot be told from here")
    return ok(name, f"{found}: plausible; only a pulled plug shows whether it keeps what it says")


def judge_cache(device: Device) -> Finding:
    """Whether flushes are sent to a device that has something to flush."""
    name = "write cache"
    if not device.write_cache:
        return ok(name, "cannot be told: no block device shows in /sys")
    if device.write_cache == "write back":
        return ok(name, f"{_told(device)} has one, and is told to flush it at each sync")
    if device.kind in ("hard disk", "solid state disk"):
        return warn(
            name,
            f"{_told(device)} says that it has none; if that is not so, no sync reaches it",
            "hdparm -W shows the disk's own word; echo 'write back' into queue/write_cache",
        )
    return ok(name, f"{_told(device)} says that it has none")


def judge_reading_back(same: bool | None) -> Finding:
    """Whether what was synced came back from the device; None where that cannot be tried."""
    name = "reading back"
    if same is None:
        return ok(name, "cannot be told: the file system does not read past the kernel's memory")
    if not same:
        return fail(name, "1 MiB came back changed from the card", "replace the card")
    return ok(name, "1 MiB came back from the card as it was written")


#: What a byte of an eMMC's life means (JEDEC 84-B51, EXT_CSD 267 to 269): tenths, and "exceeded".
_LIFE_MAX, _LIFE_OLD = 0x0B, 0x09
_END = {0x02: "four fifths of its spare blocks are used", 0x03: "its spare blocks are nearly used"}


def judge_life(device: Device) -> Finding | None:
    """What an eMMC says of its own wear; None where the device says nothing."""
    tenths = max((_number(each) for each in device.life.split()), default=0)
    end = _number(device.end)
    if not 0 < tenths <= _LIFE_MAX and end not in _END:
        return None
    name = "card's life"
    told = [] if tenths == 0 else [f"at most {tenths * 10} % of it is used, by its own word"]
    if tenths == _LIFE_MAX:
        told = ["all of it is used, by its own word"]
    found = f"{_told(device)}: {'; '.join([*told, *([_END[end]] if end in _END else [])])}"
    fix = "make a backup now (edge-agent backup) and replace the board or the module"
    if end == 0x03 or tenths == _LIFE_MAX:
        return fail(name, found, fix)
    if end == 0x02 or tenths >= _LIFE_OLD:
        return warn(name, found, f"soon: {fix}")
    return ok(name, found)


def look_at_device(folder: Path, sys: Path = SYS, proc: Path = PROC) -> Device:
    """The disk under ``folder``, by what its place in /sys says."""
    disk = disk_of(folder, sys, proc)
    if disk is None:
        return Device()
    told = [
        first_text(disk, (name,))
        for name in ("queue/rotational", "queue/write_cache", "device/life_time",
                     "device/pre_eol_info")
    ]  # fmt: skip
    return Device(disk.name, _kind_of(str(disk), told[0]), *told[1:])


def time_syncs(folder: Path, tell: Callable[[int, int], None]) -> SyncSpeed:
    """Write and sync in a file of ours below ``folder``, which is removed. Raises OSError."""
    path = folder / f".edge-agent-doctor-{os.getpid()}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        plain, synced = [], []
        for probe in range(_PROBES):
            piece = os.urandom(_PROBE_BYTES)
            begun = time.perf_counter()
            os.pwrite(descriptor, piece, probe * _PROBE_BYTES)
            written = time.perf_counter()
            os.fdatasync(descriptor)
            plain.append(written - begun)
            synced.append(time.perf_counter() - begun)
            tell(probe + 1, _PROBES)
        # The first ones find nothing prepared.
        ordered = sorted(synced[5:])
        p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
        return SyncSpeed(statistics.median(ordered), p99, statistics.median(plain[5:]))
    finally:
        os.close(descriptor)
        path.unlink()


def read_back(folder: Path) -> bool | None:
    """Write 1 MiB, sync, read it past the page cache. Raises OSError."""
    path = folder / f".edge-agent-doctor-{os.getpid()}"
    wanted = os.urandom(_BACK_BYTES)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(wanted)
            file.flush()
            os.fdatasync(file.fileno())
        try:
            direct = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            # O_DIRECT wants memory that begins with a page, which a mapping does.
            with mmap.mmap(-1, _BACK_BYTES) as buffer:
                if os.preadv(direct, [buffer], 0) != _BACK_BYTES:
                    return None
                return bytes(buffer) == wanted
        except OSError:
            return None
        finally:
            os.close(direct)
    finally:
        path.unlink()


def _kind_of(place: str, rotational: str) -> Kind:
    disk = place.rpartition("/")[2]
    if "/mmc" in place:
        return "SD card or eMMC"
    if "/usb" in place:
        return "USB device"
    if "/virtio" in place or disk.startswith(("vd", "xvd", "loop", "dm-", "md", "nbd")):
        return "virtual"
    if disk.startswith(MEMORY_DISKS):
        return "memory"
    if disk.startswith("nvme"):
        return "solid state disk"
    return {"1": "hard disk", "0": "solid state disk"}.get(rotational, "")  # type: ignore[return-value]  # mypy takes the values for any text


def _number(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return 0


def _told(device: Device) -> str:
    kinds = {"": "a device of unknown kind", "virtual": "a virtual disk"}
    kind = kinds.get(device.kind, f"a {device.kind}")
    return f"{kind} ({device.name})" if device.name else kind
