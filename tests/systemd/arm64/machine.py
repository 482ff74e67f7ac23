"""A whole machine in an emulator: the installed package below Debian's kernel of 16 KiB pages."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tests.systemd.arm64.installed import FOLDER
from tests.systemd.arm64.kernel import QEMU

KERNEL = FOLDER.parent / "kernel"
#: It takes four minutes, twelve where twenty others want the same two cores.
DEADLINE_S = 3600
MIB = 1024 * 1024
#: What no program needs there; a file system in memory takes it from the agents.
_LEFT_OUT = ("proc", "dev", "sys", "srv", "tmp", "var/cache", "var/lib/apt", "usr/share/doc",
             "usr/share/locale", "usr/share/man")  # fmt: skip


def run(root: Path, card: Path, work: Path) -> Path:
    """Boot it, with ``card`` as what its disk holds; the disk with the results, in ``work``."""
    memory, disk, results = (work / name for name in ("memory", "card.img", "results.img"))
    with memory.open("wb") as file:
        _write_archive(root, file)
    for image, size in ((disk, 256 * MIB), (results, 256 * MIB)):
        with image.open("wb") as file:
            file.truncate(size)
    # An ext4 without what a fresh one does in the background, whose bytes would be counted.
    options = "lazy_itable_init=0,lazy_journal_init=0"
    command = ["mkfs.ext4", "-q", "-F", "-E", options, "-d", str(card), str(disk)]
    subprocess.run(command, check=True)
    command = [
        QEMU, "-M", "virt", "-cpu", "cortex-a76", "-smp", "2", "-m", "1536", "-nic", "none",
        "-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot",
        "-kernel", str(KERNEL / "vmlinuz"), "-initrd", str(memory),
        "-append", f"console=ttyAMA0 rdinit=/init panic=1 loglevel=4 now={time.time():.0f}",
        "-drive", f"file={disk},format=raw,if=virtio",
        "-drive", f"file={results},format=raw,if=virtio",
    ]  # fmt: skip
    said = work / "console.txt"
    with said.open("wb") as console:
        subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, check=False,
            timeout=DEADLINE_S,
        )  # fmt: skip
    with results.open("rb") as file:
        assert b"ustar" in file.read(512), said.read_text(errors="replace")[-6000:]
    return results


def _write_archive(root: Path, file: BinaryIO) -> None:
    """The file system as Linux takes it at its start (cpio, "newc"): ``root``, guest.py as /init,
    and the modules.
    """
    for path in _files(root):
        name = str(path.relative_to(root))
        content = b""
        if path.is_symlink():
            content = bytes(path.readlink())
        elif path.is_file():
            content = path.read_bytes()
        _write_entry(file, name, path.lstat(), content)
    guest = Path(__file__).with_name("guest.py")
    for name in ("proc", "sys", "dev", "tmp", "modules"):
        _write_entry(file, name, root.lstat(), b"")
    added = {"init": guest} | {f"modules/{module.name}": module for module in KERNEL.glob("*.ko")}
    for name, path in added.items():
        _write_entry(file, name, guest.lstat(), path.read_bytes(), stat.S_IFREG | 0o755)
    _write_entry(file, "TRAILER!!!", root.lstat(), b"")


def _files(root: Path) -> Iterator[Path]:
    """What is below, each folder before its content."""
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        folders[:] = [name for name in sorted(folders)
                      if str((here / name).relative_to(root)) not in _LEFT_OUT]  # fmt: skip
        yield from (here / name for name in (*folders, *sorted(files)))


def _write_entry(
    file: BinaryIO, name: str, found: os.stat_result, content: bytes, mode: int = 0
) -> None:
    fields = (
        0, mode or found.st_mode, found.st_uid, found.st_gid, 1, int(found.st_mtime),
        len(content), 0, 0, 0, 0, len(name.encode()) + 1, 0,
    )  # fmt: skip
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    file.writelines(part + bytes(-len(part) % 4) for part in (head, content))
