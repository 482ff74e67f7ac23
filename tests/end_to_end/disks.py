"""File systems of a test's own: small enough to fill, free to refuse. Needs root and loop devices.

Everything is mounted below the test's folder and let go of in the end, whatever happened.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MIB = 1024 * 1024


class Card:
    """An ext4 image on a loop device; goes read-only when it meets an error, as Raspberry Pi OS
    mounts its card, or goes on, as most others do (``errors`` as in mount's option).
    """

    def __init__(self, folder: Path, mib: int, errors: str = "remount-ro") -> None:
        self._errors = errors
        self.place = folder / "card"
        self.place.mkdir()
        self._image = folder / "card.img"
        with self._image.open("wb") as file:
            file.truncate(mib * MIB)
        # No journal: a few mebibytes are all there is.
        _run("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", str(self._image))
        self.insert()

    def insert(self) -> None:
        """Mount it, by a device of its own: the one before may still be held, with its error."""
        device = _run("losetup", "--find", "--show", str(self._image)).strip()
        try:
            _run("mount", "-o", f"errors={self._errors}", device, str(self.place))
        finally:
            # Now, or when the last who uses it lets go.
            _run("losetup", "--detach", device)

    def remount(self, mode: str) -> None:
        """``ro`` or ``rw``, while nobody writes."""
        _run("mount", "-o", f"remount,{mode}", str(self.place))

    def meet_an_error(self) -> None:
        """The kernel finds the file system damaged, and takes no further write."""
        device = _run("findmnt", "-no", "SOURCE", str(self.place)).strip()
        Path(f"/sys/fs/ext4/{Path(device).name}/trigger_fs_error").write_text("a test")

    def repair(self) -> None:
        """Taken out of a running system, checked, and put back.

        As a copy: whoever still holds what was taken out lets go of it later, and what the kernel
        then writes back would damage the file system that was checked.
        """
        self.remove()
        taken_out, self._image = self._image, self._image.with_suffix(".checked")
        shutil.copyfile(taken_out, self._image)
        subprocess.run(["e2fsck", "-fy", str(self._image)], check=False, capture_output=True)
        self.insert()

    def forget(self, file: Path) -> None:
        """What the file system knows of ``file`` fails its checksum: the file cannot be opened."""
        number = file.stat().st_ino
        self.remove()
        told = _run("debugfs", "-R", f"imap <{number}>", str(self._image))
        place = re.search(r"located at block (\d+), offset 0x([0-9a-f]+)", told)
        size = re.search(r"Block size:\s+(\d+)", _run("dumpe2fs", "-h", str(self._image)))
        assert place and size, told
        at = int(place[1]) * int(size[1]) + int(place[2], 16)
        with self._image.open("r+b") as image:
            image.seek(at + 8)
            byte = image.read(1)[0]
            image.seek(at + 8)
            image.write(bytes((byte ^ 1,)))
        self.insert()

    def remove(self) -> None:
        """Let go of it, though somebody may still have files open."""
        subprocess.run(["umount", "-l", str(self.place)], check=False, capture_output=True)


@contextmanager
def card(folder: Path, mib: int = 48, errors: str = "remount-ro") -> Iterator[Card]:
    """A card in its slot."""
    made = Card(folder, mib, errors)
    try:
        yield made
    finally:
        made.remove()


def fill(folder: Path) -> Path:
    """Use up what is left of the file system; the file that has it."""
    path = folder / "others"
    with path.open("wb", buffering=0) as file:
        for size in (MIB, 4096, 512):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return path


def _run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout
