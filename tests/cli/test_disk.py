"""What lies under a folder."""

from __future__ import annotations

import os
from pathlib import Path

from edge_agent.cli.disk import Written, file_system_of, written_of


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


def test_what_is_written_and_synced_is_counted(tmp_path: Path) -> None:
    counter = written_of(tmp_path)
    before = counter.bytes()
    with (tmp_path / "data").open("wb") as stream:
        stream.write(os.urandom(1 << 20))
        stream.flush()
        os.fsync(stream.fileno())
    after = counter.bytes()
    assert before is not None and after is not None and after - before >= 1 << 20


def test_a_device_that_cannot_be_asked_is_not_an_error(tmp_path: Path) -> None:
    assert Written("nobody", tmp_path / "nowhere").bytes() is None
    (tmp_path / "stat").write_text("1 2 3")
    assert Written("short", tmp_path / "stat").bytes() is None
    assert isinstance(Written("this process", None).bytes(), int)
