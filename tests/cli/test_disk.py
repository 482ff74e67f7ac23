"""What lies under a folder."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from edge_agent.cli.disk import IN_MEMORY, file_system_of


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
