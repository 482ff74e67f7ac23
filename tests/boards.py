"""Small /sys and /proc trees as real boards have them, for a folder whose device they describe.

Paths and files are those of the kernel's documentation and of boards: a Raspberry Pi 3, 4 and 5
with an SD card, a Compute Module 4 with eMMC, a stick or SSD on USB, NVMe on a Pi 5, a PC's disk.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Disk:
    """A disk: its folder below /sys, its partition, what its files say, and what is expected."""

    place: str
    partition: str
    kind: str
    number: str
    files: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.place.rpartition("/")[2]


_SD = {"device/cid": "035344534c3332478011223344556677", "device/type": "SD",
       "device/preferred_erase_size": "4194304", "queue/write_cache": "write through"}  # fmt: skip
_SD_NUMBER = _SD["device/cid"]
DISKS = {
    "Pi 3, SD": Disk(
        "devices/platform/soc/3f202000.mmc/mmc_host/mmc0/mmc0:aaaa/block/mmcblk0",
        "mmcblk0p2", "SD card or eMMC", _SD_NUMBER, _SD,
    ),
    "Pi 4, SD": Disk(
        "devices/platform/emmc2bus/fe340000.mmc/mmc_host/mmc0/mmc0:aaaa/block/mmcblk0",
        "mmcblk0p2", "SD card or eMMC", _SD_NUMBER, _SD,
    ),
    "Pi 5, SD": Disk(
        "devices/platform/axi/1000fff000.mmc/mmc_host/mmc0/mmc0:aaaa/block/mmcblk0",
        "mmcblk0p2", "SD card or eMMC", _SD_NUMBER, _SD,
    ),
    "CM4, eMMC": Disk(
        "devices/platform/emmc2bus/fe340000.mmc/mmc_host/mmc0/mmc0:0001/block/mmcblk0",
        "mmcblk0p2", "SD card or eMMC", "150100424a544434520a1b2c3d4e5f60",
        {"device/cid": "150100424a544434520a1b2c3d4e5f60", "device/type": "MMC",
         "device/life_time": "0x02 0x01", "device/pre_eol_info": "0x01",
         "mmcblk0boot0/stat": "7 0 7 7 7 0 7 7", "mmcblk0boot0/queue/rotational": "0",
         "queue/write_cache": "write back"},
    ),
    "Pi 4, SSD on USB": Disk(
        "devices/platform/scb/fd500000.pcie/pci0000:00/0000:00:00.0/0000:01:00.0/usb2/2-1/2-1:1.0"
        "/host0/target0:0:0/0:0:0:0/block/sda",
        "sda2", "USB device", "naa.5001b448b1234567",
        {"device/wwid": "naa.5001b448b1234567", "queue/write_cache": "write back"},
    ),
    "Pi 3, stick on USB": Disk(
        "devices/platform/soc/3f980000.usb/usb1/1-1/1-1.3/1-1.3:1.0/host0/target0:0:0/0:0:0:0"
        "/block/sda",
        "sda1", "USB device", "", {"queue/write_cache": "write through"},
    ),
    "Pi 5, NVMe": Disk(
        "devices/platform/axi/1000110000.pcie/pci0001:00/0001:00:00.0/0001:01:00.0/nvme/nvme0"
        "/nvme0n1",
        "nvme0n1p2", "solid state disk", "eui.0025385a91b0c1d2",
        {"wwid": "eui.0025385a91b0c1d2", "device/serial": "S4EWNX0R123456",
         "queue/write_cache": "write back"},
    ),
}  # fmt: skip


class Board:
    """A made-up /sys and /proc below ``folder``, in which folders of the test may be on a disk."""

    def __init__(self, folder: Path) -> None:
        self.sys, self.proc = folder / "sys", folder / "proc"
        (self.sys / "dev/block").mkdir(parents=True)
        (self.sys / "class/block").mkdir(parents=True)
        (self.proc / "self").mkdir(parents=True)
        self.mount(Path("/"), "ext4", "/dev/root")

    def disk(self, disk: Disk) -> Path:
        """Put it in; the folder of its partition."""
        place = self.sys / disk.place
        part = place / disk.partition
        self._block(place, {"stat": "1 0 2 3 4 0 100 5 0 0 0", "queue/rotational": "0"})
        self._block(place, disk.files)
        self._block(part, {"stat": "1 0 2 3 4 0 40 5 0 0 0", "partition": disk.partition[-1]})
        return part

    def volume(self, name: str, *below: Path, label: str = "") -> Path:
        """A volume on others: dm-0 on partitions, or on another volume."""
        place = self.sys / "devices/virtual/block" / name
        self._block(place, {"stat": "1 0 2 3 4 0 30 5 0 0 0", "queue/rotational": "0"})
        self._block(place, {"dm/name": label} if label else {})
        (place / "slaves").mkdir()
        for each in below:
            (place / "slaves" / each.name).symlink_to(each)
        return place

    def holds(self, device: Path, folder: Path) -> None:
        """The files in ``folder`` have the number of ``device``."""
        number = folder.stat().st_dev
        link = self.sys / "dev/block" / f"{os.major(number)}:{os.minor(number)}"
        link.symlink_to(device)

    def mount(self, folder: Path, kind: str, source: str) -> None:
        """A line of /proc/self/mounts."""
        with (self.proc / "self/mounts").open("a") as file:
            file.write(f"{source} {folder} {kind} rw,noatime 0 0\n")

    def btrfs(self, devices: Sequence[Path]) -> None:
        """A btrfs on ``devices``."""
        for each in devices:
            self._block(self.sys / "fs/btrfs/1b2c/devices", {each.name: ""})

    def _block(self, place: Path, files: dict[str, str]) -> None:
        for name, text in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(text + "\n")
        if "block" in place.parts or "nvme" in place.parts:
            link = self.sys / "class/block" / place.name
            if not link.is_symlink():
                link.symlink_to(place)
