"""A file system of our own is counted rightly and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.wear_disk import own_file_system, sectors_written, why_not

MIB = 1024 * 1024
needs_device = pytest.mark.needs("root", "losetup", "mkfs.ext4", "mount", "umount", "sync")


def left_behind(folder: Path) -> str:
    """Mounts and loop devices that have to do with ``folder``."""
    loops = subprocess.run(["losetup", "--list"], capture_output=True, text=True, check=True)
    lines = Path("/proc/mounts").read_text().splitlines() + loops.stdout.splitlines()
    return "\n".join(line for line in lines if str(folder) in line)


def test_sectors_written_are_the_seventh_figure() -> None:
    stat = "     150        0     2874       10       74       77    68468        8        0  12 20"

    assert sectors_written(stat) == 68468


@needs_device
def test_what_is_written_is_counted_whole_and_nothing_else(tmp_path: Path) -> None:
    with own_file_system(tmp_path, 32 * MIB) as disk:
        at_rest = disk.written()
        assert disk.written() == at_rest
        (disk.mount / "file").write_bytes(os.urandom(4 * MIB))
        written = disk.written() - at_rest

    assert 4 * MIB <= written < 4 * MIB + 256 * 1024
    assert not left_behind(tmp_path)


@needs_device
def test_nothing_stays_mounted_when_the_block_fails(tmp_path: Path) -> None:
    def fail() -> None:
        with own_file_system(tmp_path, 16 * MIB):
            assert left_behind(tmp_path)
            raise KeyError("the run failed")

    with pytest.raises(KeyError):
        fail()

    assert not left_behind(tmp_path)
    assert not (tmp_path / "disk.img").exists()


@needs_device
def test_nothing_stays_mounted_when_the_file_system_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="mkfs"), own_file_system(tmp_path, 4096):
        pass

    assert not left_behind(tmp_path)


@needs_device
def test_nothing_stays_mounted_when_the_run_is_terminated(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\n"
        "from benchmarks.wear_disk import own_file_system\n"
        "with own_file_system(Path(sys.argv[1]), 16 * 1024 * 1024):\n"
        "    print('mounted', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        assert child.stdout.readline() == "mounted\n"
        assert left_behind(tmp_path)
        child.terminate()

    assert child.returncode == 128 + signal.SIGTERM
    assert not left_behind(tmp_path)


def test_who_may_not_make_one_is_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert why_not() == "needs root, for a loop device"

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool == "losetup" else tool)
    assert why_not() == "needs losetup"
