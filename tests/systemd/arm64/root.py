"""An arm64 file system of a Debian release: ``python -m tests.systemd.arm64.root RELEASE FOLDER``.

Its packages are only unpacked, which runs none of their programs: a quarter of a minute, while
setting all of them up would take ten in emulation. What is there already is not made again.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.systemd.packages.roots import mirror

#: Devices of the machine that programs there get to see; plain files in the file system itself,
#: as a copy of a device is a copy of all that it ever says.
DEVICES = ("null", "zero", "random", "urandom")
#: What the package needs, and what every Debian has; dpkg and what it runs are among the latter.
INCLUDE = ("?essential", "python3,procps,libgcc-s1,init-system-helpers,systemd-standalone-sysusers")


def make(release: str, folder: Path, machine: str = "arm64", *more: str) -> None:
    """The file system of ``release`` in ``folder``, with the packages ``more``."""
    if folder.exists():
        return
    begun = folder.with_suffix(".begun")
    shutil.rmtree(begun, ignore_errors=True)
    begun.parent.mkdir(parents=True, exist_ok=True)
    command = [
        "mmdebstrap", "--quiet", "--mode=root", "--variant=extract", "--skip=check/qemu",
        f"--architectures={machine}", *(f"--include={each}" for each in (*INCLUDE, *more)),
        "--components=main", release, str(begun), *mirror(),
    ]  # fmt: skip
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    # As base-passwd's own script would.
    for name in ("passwd", "group"):
        shutil.copy(begun / f"usr/share/base-passwd/{name}.master", begun / "etc" / name)
    shutil.rmtree(begun / "dev")
    (begun / "dev").mkdir()
    for name in DEVICES:
        (begun / "dev" / name).touch()
    begun.rename(folder)


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]))
