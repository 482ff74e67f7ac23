"""Debian's kernel with pages of 16 KiB, as Raspberry Pi OS has one: ``python -m
tests.systemd.arm64.kernel FOLDER``.

Bookworm has none, so its packages are tried with this one too. What is there already is not fetched
again.
"""

from __future__ import annotations

import lzma
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.systemd.packages.roots import mirror

#: What emulates a whole machine.
QEMU = "qemu-system-aarch64"
PACKAGE = "linux-image-arm64-16k"
#: What is not built in and has to be loaded for a disk with ext4, in this order.
MODULES = ("crc32c_generic", "crc16", "mbcache", "jbd2", "ext4", "virtio_blk")
#: The package of that name is empty and needs the one of the newest version.
_FETCH = (
    'cd "$1" && export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" && '
    f'name="$(apt-cache depends {PACKAGE} | sed -n "s/.* Depends: //p")" && '
    'apt-get -qq -o APT::Sandbox::User=root download "$name"'
)


def fetch(folder: Path) -> None:
    """The kernel as ``vmlinuz`` and its modules as ``0-NAME.ko`` and on, in ``folder``."""
    if folder.exists():
        return
    begun = folder.with_suffix(".begun")
    shutil.rmtree(begun, ignore_errors=True)
    begun.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as empty, tempfile.TemporaryDirectory() as unpacked:
        # For apt alone, which then knows of arm64 and of the release, whatever this machine is.
        command = [
            "mmdebstrap", "--quiet", "--mode=root", "--variant=custom", "--skip=check/qemu",
            "--architectures=arm64", "--components=main", f"--customize-hook={_FETCH}",
            "trixie", empty, *mirror(),
        ]  # fmt: skip
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        [package] = Path(empty).glob("*.deb")
        subprocess.run(["dpkg-deb", "--extract", str(package), unpacked], check=True)
        [image] = Path(unpacked).glob("boot/vmlinuz-*")
        shutil.copy(image, begun / "vmlinuz")
        for place, name in enumerate(MODULES):
            [module] = Path(unpacked).rglob(f"{name}.ko.xz")
            (begun / f"{place}-{name}.ko").write_bytes(lzma.decompress(module.read_bytes()))
    begun.rename(folder)


if __name__ == "__main__":
    if shutil.which(QEMU) is None:
        print(
            f"{QEMU} is missing: the machine with pages of 16 KiB is left out."
            " On Debian: apt install qemu-system-arm"
        )
    else:
        fetch(Path(sys.argv[1]))
