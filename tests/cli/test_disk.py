"""What lies under a folder."""

from __future__ import annotations

from pathlib import Path

from edge_agent.cli.disk import file_system_of


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
