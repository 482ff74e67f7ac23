"""Small /sys and /proc trees as boards have them, for a folder whose device they describe.

Where what is in them was recorded, all of it public (numbers of single cards are made up here, in
their form):

- Pi 3, SD: github.com/project-machine/disko, pull request 97; the host gives a card an address of
  its own (``mmc0:59b4``).
- Pi 4, SD: the tests of github.com/hobbyquaker/occulited, recorded on a board of September 2026,
  with the seventeen columns of ``stat``; the files of a card as in
  github.com/hakandundar34coding/system-monitoring-center, issue 45. An SDHCI host leaves the sum in
  the last byte of ``cid`` out, which is 00 then.
- eMMC: github.com/armbian/build, pull request 246 (``cid``, ``type``, ``preferred_erase_size``),
  and for ``life_time`` and ``pre_eol_info`` tomato64/tomato64, issue 86. That ``mmcblk0boot0`` lies
  within ``mmcblk0`` is from a listing of an RK3568 board (``fe2e0000.mmc``). That of a CM4 is the
  Pi 4's host with a first card of its own: put together from these.
- USB on a Pi 4: github.com/openmediavault/openmediavault, pull request 746; on an Orange Pi PC2:
  843 there. What a disk behind a bridge says as ``wwid`` has blanks in it.
- USB on a Pi 5: kernel messages of several boards (``1f00300000.usb/xhci-hcd.1/usb4``).
- NVMe on a Pi 5: github.com/raspberrypi/rpi-eeprom, issue 535, for kernels that call its bus 0000,
  and a disk of Talos Linux for those that call it 0001. ``serial`` is filled up with blanks.
- A card with command queueing has a cache: github.com/raspberrypi/linux, pull request 6235.
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


_SD = {"device/cid": "035344534e3634478011223344017700", "device/type": "SD",
       "device/name": "SN64G", "device/manfid": "0x000003", "device/oemid": "0x5344",
       "device/date": "07/2021", "device/preferred_erase_size": "4194304",
       "queue/write_cache": "write through"}  # fmt: skip
_SD_NUMBER = _SD["device/cid"]
_PI4_USB = "devices/platform/scb/fd500000.pcie/pci0000:00/0000:00:00.0/0000:01:00.0"
_PI5_PCIE = "devices/platform/axi/1000110000.pcie"
_NVME = {"wwid": "eui.0025385a91b0c1d2", "device/serial": "S4EWNX0R123456      ",
         "queue/write_cache": "write back"}  # fmt: skip
DISKS = {
    "Pi 3, SD": Disk(
        "devices/platform/soc/3f202000.mmc/mmc_host/mmc0/mmc0:59b4/block/mmcblk0",
        "mmcblk0p2", "SD card or eMMC", _SD_NUMBER, _SD,
    ),
    "Pi 4, SD": Disk(
        "devices/platform/emmc2bus/fe340000.mmc/mmc_host/mmc0/mmc0:aaaa/block/mmcblk0",
        "mmcblk0p2", "SD card or eMMC", _SD_NUMBER, _SD,
    ),
    "Pi 5, SD": Disk(
        "devices/platform/axi/1000fff000.mmc/mmc_host/mmc0/mmc0:aaaa/block/mmcblk0",
        "mmcblk0p2", "SD card or eMMC", _SD_NUMBER, _SD | {"queue/write_cache": "write back"},
    ),
    "CM4, eMMC": Disk(
        "devices/platform/emmc2bus/fe340000.mmc/mmc_host/mmc0/mmc0:0001/block/mmcblk0",
        "mmcblk0p2", "SD card or eMMC", "150100424a544434520a1b2c3d4e5f00",
        {"device/cid": "150100424a544434520a1b2c3d4e5f00", "device/type": "MMC",
         "device/preferred_erase_size": "524288",
         "device/life_time": "0x02 0x01", "device/pre_eol_info": "0x01",
         "mmcblk0boot0/stat": "7 0 7 7 7 0 7 7", "mmcblk0boot0/queue/rotational": "0",
         "queue/write_cache": "write back"},
    ),
    "RK3568, eMMC": Disk(
        "devices/platform/fe2e0000.mmc/mmc_host/mmc0/mmc0:0001/block/mmcblk0",
        "mmcblk0p8", "SD card or eMMC", "1501004d384731474303dc0102030400",
        {"device/cid": "1501004d384731474303dc0102030400", "device/type": "MMC",
         "device/life_time": "0x0b 0x01", "device/pre_eol_info": "0x02",
         "mmcblk0boot0/stat": "7 0 7 7 7 0 7 7", "queue/write_cache": "write back"},
    ),
    "Pi 4, SSD on USB": Disk(
        f"{_PI4_USB}/usb2/2-1/2-1.2/2-1.2:1.0/host1/target1:0:0/1:0:0:0/block/sda",
        "sda2", "USB device", "naa.5001b448b1234567",
        {"device/wwid": "naa.5001b448b1234567", "queue/write_cache": "write back"},
    ),
    "Pi 5, disk on USB": Disk(
        "devices/platform/axi/1000120000.pcie/1f00300000.usb/xhci-hcd.1/usb4/4-1/4-1:1.0"
        "/host0/target0:0:0/0:0:0:0/block/sda",
        "sda1", "USB device", "t10.ST8000AS0002-1NA17Z     00A123456789        0000",
        {"device/wwid": "t10.ST8000AS0002-1NA17Z     00A123456789        0000",
         "queue/rotational": "1", "queue/write_cache": "write through"},
    ),
    "Orange Pi PC2, disk on USB": Disk(
        "devices/platform/soc/1c1b000.usb/usb3/3-1/3-1:1.0/host0/target0:0:0/0:0:0:0/block/sda",
        "sda1", "USB device", "", {"queue/write_cache": "write through"},
    ),
    "Pi 3, stick on USB": Disk(
        "devices/platform/soc/3f980000.usb/usb1/1-1/1-1.3/1-1.3:1.0/host0/target0:0:0/0:0:0:0"
        "/block/sda",
        "sda1", "USB device", "", {"queue/write_cache": "write through"},
    ),
    "Pi 5, NVMe": Disk(
        f"{_PI5_PCIE}/pci0001:00/0001:00:00.0/0001:01:00.0/nvme/nvme0/nvme0n1",
        "nvme0n1p2", "solid state disk", "eui.0025385a91b0c1d2", _NVME,
    ),
    "Pi 5, NVMe, an older kernel": Disk(
        f"{_PI5_PCIE}/pci0000:00/0000:00:00.0/0000:01:00.0/nvme/nvme0/nvme0n1",
        "nvme0n1p2", "solid state disk", "S4EWNX0R123456",
        {name: text for name, text in _NVME.items() if name != "wwid"},
    ),
    "Pi 5, disk on a SATA card": Disk(
        f"{_PI5_PCIE}/pci0000:00/0000:00:00.0/0000:01:00.0/ata1/host0/target0:0:0/0:0:0:0"
        "/block/sda",
        "sda1", "solid state disk", "naa.55cd2e404b000001",
        {"device/wwid": "naa.55cd2e404b000001", "queue/write_cache": "write back"},
    ),
}  # fmt: skip
#: Of a disk and of a partition of it, as the kernel lines them up: 100 and 40 sectors written.
_STAT = (
    "    9547     1609   615793    15642      713      649      100    13856        0    17336"
    "    33053      498      498 115872512     3506      156       47"
)
_PART_STAT = _STAT.replace("     100 ", "      40 ")


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
        place.mkdir(parents=True)
        # The card itself, NVMe's controller, or what SCSI has as a device; the disk lies below it.
        (place / "device").symlink_to("../.." if place.parent.name == "block" else "..")
        self._block(place, {"stat": _STAT, "queue/rotational": "0"})
        self._block(place, disk.files)
        self._block(part, {"stat": _PART_STAT, "partition": disk.partition[-1]})
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
