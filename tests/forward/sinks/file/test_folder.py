from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from edge_agent.errors import SinkUnavailable
from edge_agent.forward.sinks.file.folder import (
    in_words,
    opened_folder,
    remove_oldest,
    write_whole,
)


def test_a_file_appears_whole_and_replaces_the_one_of_its_name(tmp_path: Path) -> None:
    with opened_folder(tmp_path, mounted=False) as folder:
        write_whole(folder, "a", b"1" * 100_000)
        write_whole(folder, "a", b"2")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"2"}


def test_file_and_folder_are_synced_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noted_sync(descriptor: int) -> None:
        done.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def noted_rename(*names: Any, **more: Any) -> None:
        done.append("rename")
        rename(*names, **more)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "rename", noted_rename)
    with opened_folder(tmp_path, mounted=False) as folder:
        write_whole(folder, "a", b"x")
    assert done == [".a.part", "rename", tmp_path.name]


def test_what_fails_leaves_nothing_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(SinkUnavailable, match="the disk is full"),
        opened_folder(tmp_path, mounted=False) as folder,
    ):
        write_whole(folder, "a", b"x")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_below_a_mount_point_where_no_disk_is(tmp_path: Path) -> None:
    root = Path("/").stat().st_dev
    if tmp_path.stat().st_dev != root:
        tmp_path = Path("/")
    with (
        pytest.raises(SinkUnavailable, match="no disk is mounted there"),
        opened_folder(tmp_path, mounted=True),
    ):
        pytest.fail("it was opened")
    other = Path("/dev/shm")  # a file system of its own on every Linux
    assert other.stat().st_dev != root
    with opened_folder(other, mounted=True):
        pass


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "no", tmp_path / "file"):
        with (
            pytest.raises(SinkUnavailable, match="is the disk plugged in and mounted"),
            opened_folder(folder, mounted=False),
        ):
            pytest.fail("it was opened")


def test_a_disk_that_vanishes_while_it_is_written_to_gets_nothing_below_its_place(
    tmp_path: Path,
) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    with opened_folder(stick, mounted=False) as folder:
        stick.rename(tmp_path / "away")
        stick.mkdir()
        write_whole(folder, "a", b"x")
    assert list(stick.iterdir()) == []
    assert (tmp_path / "away" / "a").exists()


@pytest.mark.parametrize(
    "number, said",
    [
        (errno.EROFS, "read-only .*ReadWritePaths="),
        (errno.EIO, "does not answer .* pulled out"),
        (errno.EACCES, "the agent's user may not write there"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EMFILE, "Too many open files"),
    ],
)
def test_each_reason_has_its_sentence(number: int, said: str) -> None:
    error = in_words(OSError(number, os.strerror(number)), Path("/mnt/usb"))
    with pytest.raises(SinkUnavailable, match=f"^/mnt/usb: .*{said}"):
        raise error
    assert error.obstacle == "here"


def test_the_oldest_of_ours_go_and_the_newest_stays_whatever_its_time_says(tmp_path: Path) -> None:
    for age, name in enumerate(("ours-4", "ours-3", "ours-2", "theirs", "ours-1")):
        (tmp_path / name).write_bytes(b"x" * 100)
        os.utime(tmp_path / name, ns=(0, 10**9 * age))

    def ours(name: str) -> bool:
        return name.startswith("ours")

    with opened_folder(tmp_path, mounted=False) as folder:
        # Written by a clock that was not set.
        assert remove_oldest(folder, 300, ours, "ours-4") == 1
        assert remove_oldest(folder, 300, ours, "ours-4") == 0
        assert remove_oldest(folder, 1, ours, "ours-4") == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours-4", "theirs"]


def test_where_folders_cannot_be_synced_everything_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def only_files(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    monkeypatch.setattr(os, "sync", lambda: synced.append("all"))
    with opened_folder(tmp_path, mounted=False) as folder:
        write_whole(folder, "a", b"x")
    assert synced == ["all"]
