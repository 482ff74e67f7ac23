"""The disk: verdicts by tables, and what a made-up /sys and /proc say."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from edge_agent.cli.doctor.disk import (
    Device,
    Kind,
    SyncSpeed,
    judge_cache,
    judge_life,
    judge_mount,
    judge_reading_back,
    judge_space,
    judge_syncs,
    look_at_device,
    read_back,
    time_syncs,
)
from edge_agent.system.block_device import IN_MEMORY, Mount, file_system_of, look_at_mount

GIB = 2**30


@pytest.mark.parametrize(
    "kind, options, verdict, told",
    [
        ("ext4", "rw,relatime", "ok", "ext4"),
        ("ext4", "rw,noatime,errors=remount-ro", "ok", "ext4"),
        ("ext4", "ro,noatime", "fail", "read-only"),
        # Recorded after a card fell off its bus, and an NVMe disk: prometheus/node_exporter, pull
        # request 3717, and longhorn/longhorn, issue 13452, have the kernel's commits.
        ("ext4", "rw,noatime,emergency_ro", "fail", "since an error"),
        ("ext4", "rw,noatime,emergency_ro,shutdown", "fail", "since an error"),
        ("ext4", "rw,nobarrier", "fail", "barriers"),
        ("ext4", "rw,barrier=0", "fail", "barriers"),
        ("ext4", "rw,sync", "warn", "sync"),
        ("ext4", "rw,strictatime", "warn", "strictatime"),
        ("tmpfs", "rw", "fail", "memory"),
        ("overlay", "rw", "fail", "restart"),
        ("nfs4", "rw", "fail", "network"),
        ("vfat", "rw", "warn", "journal"),
        ("squirrelfs", "rw", "warn", "tried"),
    ],
)
def test_the_file_system(kind: str, options: str, verdict: str, told: str) -> None:
    found = judge_mount(Mount(kind, frozenset(options.split(",")), "/data"))
    assert (found.verdict, told in found.found) == (verdict, True)
    assert bool(found.fix) == (verdict != "ok")


@pytest.mark.parametrize(
    "free, inodes, wanted, reserved, verdict",
    [
        (10 * GIB, 9, GIB, 0, "ok"),
        (10 * GIB, -1, GIB, 0, "ok"),
        (GIB // 2, 9, GIB, 0, "fail"),
        (GIB // 2, 9, GIB, GIB, "ok"),
        (2**20, 9, GIB, GIB, "warn"),
        (10 * GIB, 0, GIB, GIB, "fail"),
    ],
)
def test_the_space(free: int, inodes: int, wanted: int, reserved: int, verdict: str) -> None:
    assert judge_space(free, inodes, wanted, reserved).verdict == verdict


@pytest.mark.parametrize(
    "kind, median_s, p99_s, plain_s, verdict, told",
    [
        ("SD card or eMMC", 0.004, 0.09, 5e-6, "ok", "pulled plug"),
        ("SD card or eMMC", 40e-6, 0.01, 5e-6, "fail", "may lie"),
        ("USB device", 90e-6, 0.01, 5e-6, "fail", "may lie"),
        ("hard disk", 300e-6, 0.02, 5e-6, "fail", "may lie"),
        ("hard disk", 0.008, 0.02, 5e-6, "ok", "plausible"),
        ("SD card or eMMC", 0.002, 0.01, 0.0018, "fail", "without a sync"),
        ("SD card or eMMC", 0.004, 2.5, 5e-6, "warn", "late"),
        ("solid state disk", 30e-6, 0.001, 5e-6, "ok", "cannot be told"),
        ("virtual", 20e-6, 0.001, 5e-6, "ok", "cannot be told"),
        ("", 20e-6, 0.001, 5e-6, "ok", "cannot be told"),
        ("virtual", 0.01, 3.0, 5e-6, "warn", "late"),
    ],
)
def test_a_sync_that_is_too_quick_is_suspected_and_one_that_is_not_is_not_acquitted(
    kind: Kind, median_s: float, p99_s: float, plain_s: float, verdict: str, told: str
) -> None:
    found = judge_syncs(SyncSpeed(median_s, p99_s, plain_s), Device("mmcblk0", kind))
    assert (found.verdict, told in found.found) == (verdict, True), found


@pytest.mark.parametrize(
    "kind, cache, verdict",
    [
        ("hard disk", "write back", "ok"),
        ("hard disk", "write through", "warn"),
        ("SD card or eMMC", "write through", "ok"),
        ("", "", "ok"),
    ],
)
def test_the_write_cache(kind: Kind, cache: str, verdict: str) -> None:
    assert judge_cache(Device("sda", kind, cache)).verdict == verdict


def test_what_comes_back_changed_is_a_failure_and_what_cannot_be_tried_is_said() -> None:
    assert [judge_reading_back(same).verdict for same in (True, False, None)] == [
        "ok", "fail", "ok"
    ]  # fmt: skip
    assert "cannot be told" in judge_reading_back(None).found


def test_the_mount_of_a_folder_is_the_nearest_one(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    blank = str(tmp_path / "my card").replace(" ", "\\040")
    mounts.write_text(f"/dev/a / ext4 rw,relatime 0 0\n/dev/b {blank} vfat ro,sync 0 0\n")
    (tmp_path / "my card" / "x").mkdir(parents=True)
    found = look_at_mount(tmp_path / "my card" / "x", mounts)
    assert (found.kind, found.options) == ("vfat", {"ro", "sync"})
    assert look_at_mount(tmp_path, mounts).kind == "ext4"


@pytest.mark.parametrize(
    "place, rotational, kind",
    [
        ("devices/platform/emmc2bus/fe340000.mmc/mmc_host/mmc0/mmc0:1/block/mmcblk0", "0",
         "SD card or eMMC"),
        ("devices/pci0/usb1/1-1/1-1:1.0/host0/target0/0:0:0:0/block/sda", "1", "USB device"),
        ("devices/pci0/virtio1/block/vda", "1", "virtual"),
        ("devices/pci0/nvme/nvme0/nvme0n1", "0", "solid state disk"),
        ("devices/pci0/ata1/host0/block/sda", "1", "hard disk"),
        ("devices/pci0/ata1/host0/block/sda", "0", "solid state disk"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("partition", [False, True])
def test_the_device_is_known_by_its_place(
    tmp_path: Path, place: str, rotational: str, kind: str, partition: bool
) -> None:
    disk = tmp_path / place
    (disk / "queue").mkdir(parents=True)
    (disk / "queue" / "rotational").write_text(rotational + "\n")
    (disk / "queue" / "write_cache").write_text("write back\n")
    part = disk / f"{disk.name}p2"
    part.mkdir()
    (part / "partition").write_text("2\n")
    number = tmp_path.stat().st_dev
    link = tmp_path / "dev" / "block" / f"{os.major(number)}:{os.minor(number)}"
    link.parent.mkdir(parents=True)
    link.symlink_to(part if partition else disk)
    assert look_at_device(tmp_path, tmp_path) == Device(disk.name, kind, "write back")  # type: ignore[arg-type]  # the table's words


@pytest.mark.parametrize(
    "life, end, verdict, told",
    [
        ("0x02 0x01", "0x01", "ok", "at most 20 %"),
        ("0x00 0x03", "0x01", "ok", "at most 30 %"),
        ("0x09 0x01", "0x01", "warn", "at most 90 %"),
        ("0x01 0x01", "0x02", "warn", "four fifths of its spare blocks"),
        ("0x00 0x00", "0x03", "fail", "spare blocks are nearly used"),
        ("0x0b 0x02", "0x01", "fail", "all of it is used"),
        ("0x00 0x00", "0x01", "", ""),
        ("", "", "", ""),
        ("0xff nonsense", "0x01", "", ""),
    ],
)
def test_an_emmc_says_what_is_used_of_its_life(
    life: str, end: str, verdict: str, told: str
) -> None:
    found = judge_life(Device("mmcblk0", "SD card or eMMC", "", life, end))
    assert ("" if found is None else found.verdict) == verdict
    assert found is None or told in found.found


def test_an_ext4_in_compressed_memory_is_emptied_by_a_power_cut() -> None:
    found = judge_mount(Mount("ext4", frozenset({"rw"})), Device("zram1", "memory"))
    assert (found.verdict, "zram1" in found.found) == ("fail", True)


def test_no_device_is_no_guess(tmp_path: Path) -> None:
    assert look_at_device(tmp_path, tmp_path) == Device()


def test_syncs_are_really_timed_and_nothing_is_left(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    syncs = time_syncs(tmp_path, lambda done, total: told.append((done, total)))
    assert 0 < syncs.plain_s <= syncs.median_s <= syncs.p99_s
    assert told[-1][0] == told[-1][1] and read_back(tmp_path) in (True, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "Größe",
        "温度",
        "back\\slash",
        "new\nline",
        "tab\there",
        "a\xa0blank",
        "line\u2028",
        "\udcff",
    ],
)
def test_a_mount_of_any_name_is_found(tmp_path: Path, name: str) -> None:
    """As the kernel writes them: bytes, and four of them as octal numbers."""
    mounts = tmp_path / "mounts"
    place = os.fsencode(tmp_path / name)
    for byte in b"\\ \t\n":
        place = place.replace(bytes((byte,)), b"\\%03o" % byte)
    mounts.write_bytes(b"/dev/a / ext4 rw 0 0\ntmpfs %s tmpfs rw,nosuid 0 0\n" % place)
    assert file_system_of(tmp_path / name / "below", mounts) == "tmpfs"
    assert file_system_of(tmp_path, mounts) == "ext4"


@pytest.mark.needs("root", "mount")
def test_a_real_tmpfs_under_umlauts_is_none_that_lasts(tmp_path: Path) -> None:
    place = tmp_path / "Größe der Welt"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(place)], check=True)
    try:
        assert file_system_of(place / "data") in IN_MEMORY
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_the_innermost_mount_decides(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    blank = str(tmp_path / "a card").replace(" ", "\\040")
    mounts.write_text(
        f"/dev/a / ext4 rw 0 0\ntmpfs {tmp_path} tmpfs rw 0 0\n/dev/b {blank} vfat rw 0 0\n"
    )
    (tmp_path / "a card" / "below").mkdir(parents=True)
    (tmp_path / "a cardigan").mkdir()
    assert file_system_of(Path("/usr"), mounts) == "ext4"
    assert file_system_of(tmp_path, mounts) == "tmpfs"
    assert file_system_of(tmp_path / "a card" / "below", mounts) == "vfat"
    assert file_system_of(tmp_path / "a cardigan", mounts) == "tmpfs"
