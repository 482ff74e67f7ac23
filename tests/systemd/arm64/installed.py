"""The arm64 package in its Debian, as ``make arm64`` prepared both."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.systemd.arm64.root import DEVICES

#: Where make put the package, the file system without it, and the kernel.
FOLDER = Path(os.environ.get("EDGE_AGENT_ARM64", "build/arm64")).absolute()
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"}
#: Who the package's agent runs as.
USER = "edge-agent"


class Root:
    """A file system whose programs are run by an emulator."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *command: str) -> str:
        done = subprocess.run(
            ["chroot", str(self.folder), *command], env=ENVIRONMENT, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout


@contextmanager
def installed(folder: Path) -> Iterator[Root]:
    """A copy of the file system with the package installed in it, in ``folder``."""
    made = Root(folder)
    assert not [path for path in (FOLDER / "root/dev").iterdir() if not path.is_file()]
    shutil.copytree(FOLDER / "root", made.folder, symlinks=True)
    mounts = ["proc", *(f"dev/{name}" for name in DEVICES)]
    for name in mounts:
        subprocess.run(["mount", "--rbind", f"/{name}", str(made.folder / name)], check=True)
    try:
        shutil.copy(package(), made.folder / "tmp/edge-agent.deb")
        # Its needs are unpacked, but nothing was set up, so dpkg knows of none.
        made.run("dpkg", "--force-depends", "--install", "/tmp/edge-agent.deb")
        yield made
    finally:
        for name in mounts:
            # Not one by one: what came along with /proc is held together by the namespace.
            subprocess.run(["umount", "--lazy", str(made.folder / name)], check=True)


def package() -> Path:
    [found] = (FOLDER / "debs").glob("*_arm64.deb")
    return found


def facts(said: str) -> list[str]:
    """What `check` says of a store, without where that is."""
    return [line for line in said.splitlines() if "/" not in line]
