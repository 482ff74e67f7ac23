"""File systems of Debian's releases for containers: ``python -m tests.systemd.packages.roots DIR``.

``make deb-test`` calls this before its tests, so that they need no network. What is there already
is not made again.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from systemd.deb.targets import RELEASES

#: Beside what every Debian has: what the package needs or recommends, as nothing is fetched after.
INCLUDE = "systemd-sysv,python3,procps,libgcc-s1,ca-certificates"


def mirror() -> list[str]:
    """The mirror that this machine's apt is told to use, or none: mmdebstrap knows Debian's own."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    known = [line for line in done.stdout.split() if line.rstrip("/").endswith("/debian")]
    return known[:1]


def make(release: str, folder: Path) -> None:
    """The file system of ``release`` in ``folder``."""
    if folder.exists():
        return
    begun = folder.with_suffix(".begun")
    shutil.rmtree(begun, ignore_errors=True)
    command = [
        "mmdebstrap", "--quiet", "--variant=minbase", f"--include={INCLUDE}", "--components=main",
        release, str(begun), *mirror(),
    ]  # fmt: skip
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    begun.rename(folder)


if __name__ == "__main__":
    roots = Path(sys.argv[1])
    roots.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda release: make(release, roots / release), RELEASES))
