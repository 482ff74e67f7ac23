"""From a folder to its disk, on boards and file systems as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.cli.doctor.disk import look_at_device
from edge_agent.system.block_device import device_of, disk_of, first_text, look_at_mount
from edge_agent.wear.device import card_of, name_of
from tests.boards import DISKS, Board

SD, USB = DISKS["Pi 4, SD"], DISKS["Pi 4, SSD on USB"]


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path / "board")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.mark.parametrize("name", DISKS)
@pytest.mark.parametrize("kind", ["ext4", "f2fs", "btrfs"])
def test_a_boards_disk_is_found_under_a_partition_of_it(
    board: Board, data: Path, name: str, kind: str
) -> None:
    wanted = DISKS[name]
    part = board.disk(wanted)
    board.mount(data, kind, f"/dev/{wanted.partition}")
    if kind == "btrfs":
        board.btrfs([part])  # and no number that leads anywhere
    else:
        board.holds(part, data)
    assert device_of(data, board.sys, board.proc) == part
    card = card_of(data, board.sys, board.proc)
    assert card is not None and card.bytes() == 100 * 512 and wanted.name in card.source
    assert name_of(data, board.sys, board.proc) == wanted.number
    found = look_at_device(data, board.sys, board.proc)
    assert (found.name, found.kind) == (wanted.name, wanted.kind)
    assert found.write_cache == wanted.files["queue/write_cache"]
    assert found.life == wanted.files.get("device/life_time", "")


@pytest.mark.parametrize("kind", ["ext4", "btrfs"])
def test_under_an_encrypted_logical_volume_is_the_card(board: Board, data: Path, kind: str) -> None:
    crypt = board.volume("dm-0", board.disk(SD), label="cryptroot")
    volume = board.volume("dm-1", crypt, label="vg-data")
    board.mount(data, kind, "/dev/mapper/vg-data")
    if kind == "ext4":
        board.holds(volume, data)
    assert device_of(data, board.sys, board.proc) == volume
    card = card_of(data, board.sys, board.proc)
    assert card is not None and card.bytes() == 100 * 512
    assert name_of(data, board.sys, board.proc) == SD.number
    found = look_at_device(data, board.sys, board.proc)
    assert (found.name, found.kind) == ("mmcblk0", "SD card or eMMC")


def test_two_parts_of_a_thin_pool_on_one_disk_are_one_disk(board: Board, data: Path) -> None:
    part = board.disk(SD)
    parts = [board.volume("dm-0", part), board.volume("dm-1", part)]
    board.holds(board.volume("dm-2", *parts), data)
    found = disk_of(data, board.sys, board.proc)
    assert found is not None and found.name == "mmcblk0"


def test_a_volume_on_two_disks_stands_for_both(board: Board, data: Path) -> None:
    board.holds(board.volume("md0", board.disk(SD), board.disk(USB)), data)
    card = card_of(data, board.sys, board.proc)
    assert card is not None and "md0" in card.source and card.bytes() == 30 * 512
    assert name_of(data, board.sys, board.proc) == ""
    assert look_at_device(data, board.sys, board.proc).kind == "virtual"


def test_a_btrfs_of_two_devices_has_no_one_card(board: Board, data: Path) -> None:
    board.btrfs([board.disk(SD), board.disk(USB)])
    board.mount(data, "btrfs", "/dev/mmcblk0p2")
    assert card_of(data, board.sys, board.proc) is None
    assert name_of(data, board.sys, board.proc) == ""


@pytest.mark.parametrize(
    "kind, source",
    [("overlay", "overlayroot"), ("tmpfs", "mmcblk0p2"), ("nfs4", "nas:/mmcblk0p2"),
     ("btrfs", "/dev/root"), ("btrfs", "")],
)  # fmt: skip
def test_what_is_on_no_device_has_none(board: Board, data: Path, kind: str, source: str) -> None:
    board.disk(SD)
    board.mount(data, kind, source)
    assert disk_of(data, board.sys, board.proc) is None
    assert look_at_device(data, board.sys, board.proc).name == ""
    assert look_at_mount(data, board.proc / "self/mounts").kind == kind


def test_compressed_memory_is_no_card_whatever_is_mounted_from_it(board: Board, data: Path) -> None:
    board.holds(board.volume("zram1"), data)
    assert card_of(data, board.sys, board.proc) is None
    assert look_at_device(data, board.sys, board.proc).kind == "memory"


def test_a_disk_without_partitions_is_itself(board: Board, data: Path) -> None:
    board.holds(board.disk(SD).parent, data)
    found = disk_of(data, board.sys, board.proc)
    assert found is not None and found.name == "mmcblk0"


def test_a_folder_that_is_not_there_is_on_no_device(board: Board, tmp_path: Path) -> None:
    assert disk_of(tmp_path / "nowhere", board.sys, board.proc) is None


def test_the_first_file_that_says_something_counts(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(" \n")
    (tmp_path / "b").write_bytes(b"\xff1\n")
    assert first_text(tmp_path, ("none", "a", "b")) == "\ufffd1"
