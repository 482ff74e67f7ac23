from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from edge_agent.store import copy_signs
from edge_agent.store.copy_signs import medium_of, note_opening, noted_openings, nowhere
from tests.boards import DISKS, Board

STORE, OTHER = "5f" * 16, "6f" * 16
ONE, TWO = b"\1" * 8, b"\2" * 8


def test_a_file_keeps_its_birth_until_it_is_copied(tmp_path: Path) -> None:
    file, copy = tmp_path / "file", tmp_path / "copy"
    file.write_bytes(b"x")
    before = medium_of(file)
    if not before[0]:
        pytest.skip("this file system does not say when a file was born")
    file.write_bytes(b"longer")
    os.utime(file, (1, 1))
    file.chmod(0o400)
    moved = file.rename(tmp_path / "moved")
    assert medium_of(moved) == before
    shutil.copy2(moved, copy)
    assert medium_of(copy)[0] != before[0]


def test_what_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    assert medium_of(tmp_path / "missing") == ("", "")
    assert nowhere(tmp_path) == ()


@pytest.mark.parametrize("kind", ["ext4", "btrfs"])
def test_a_card_says_its_serial_on_the_device_that_the_file_is_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    board, card = Board(tmp_path), DISKS["Pi 4, SD"]
    part = board.disk(card)
    if kind == "btrfs":
        board.mount(tmp_path, kind, "/dev/mmcblk0p2")
    else:
        board.holds(part, tmp_path)
    monkeypatch.setattr(copy_signs, "_ROOTS", (board.sys, board.proc))
    one = medium_of(tmp_path)[1]
    assert len(one) == 16
    (part.parent / "device/cid").write_text("0353445342313647809999999901\n")
    assert medium_of(tmp_path)[1] not in ("", one)


def test_only_the_newest_opening_is_noted_and_only_those_of_this_store_are_found(
    tmp_path: Path,
) -> None:
    assert noted_openings(tmp_path, STORE) == ()
    note_opening(tmp_path, STORE, ONE)
    note_opening(tmp_path, STORE, ONE)
    assert noted_openings(tmp_path, STORE) == (ONE,)
    assert noted_openings(tmp_path, OTHER) == ()
    note_opening(tmp_path, STORE, TWO)
    assert noted_openings(tmp_path, STORE) == (TWO,)
    assert len(list(tmp_path.iterdir())) == 1
    (tmp_path / f"opened-{STORE[:16]}-no").touch()
    assert noted_openings(tmp_path, STORE) == (TWO,)


def test_a_folder_that_refuses_is_no_trouble(tmp_path: Path) -> None:
    note_opening(tmp_path / "missing", STORE, ONE)
    assert noted_openings(tmp_path / "missing", STORE) == ()
