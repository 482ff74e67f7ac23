"""Debian packages in ``dist/``: ``python -m systemd.deb [--release trixie] [--version 0.0.9]``.

No compiler and no emulation: the libraries are wheels from ``requirements.lock``, which exist for
each Python and machine, so any Linux with ``dpkg-deb`` makes all packages. The same commit makes
the same bytes; times inside are SOURCE_DATE_EPOCH or else the commit's.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from edge_agent import __version__
from edge_agent.output.printable import counted
from systemd.deb.package import Maker
from systemd.deb.targets import MACHINES, RELEASES, TARGETS, Target
from systemd.deb.wheels import ROOT, Wheel, fetch

#: As hatchling's, for a tree that is no checkout.
_LONG_AGO = 1580601600


def source_date() -> int:
    """The time of everything that is made."""
    told = os.environ.get("SOURCE_DATE_EPOCH")
    if told is None:
        command = ["git", "log", "-1", "--format=%ct"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        told = done.stdout.strip()
    return int(told or _LONG_AGO)


def build_agent(folder: Path, epoch: int) -> Wheel:
    """The project's own wheel, by the hatchling of the lock."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run(
        [*command, "--directory", str(folder)], cwd=ROOT, check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch)},
    )  # fmt: skip
    [wheel] = folder.glob("*.whl")
    return Wheel(wheel)


def maintainer() -> str:
    """Who answers for the package: DEBFULLNAME and DEBEMAIL, as for Debian's own tools."""
    name = os.environ.get("DEBFULLNAME", "edge_agent maintainers")
    return f"{name} <{os.environ.get('DEBEMAIL', 'maintainers@edge-agent.invalid')}>"


@click.command()
@click.option("--dist", type=click.Path(path_type=Path), default=ROOT / "dist")
@click.option("--cache", type=click.Path(path_type=Path), default=ROOT / "build/deb/wheels")
@click.option("--release", type=click.Choice(list(RELEASES)), help="For this one alone.")
@click.option("--machine", type=click.Choice(list(MACHINES)), help="For this one alone.")
@click.option("--version", default=__version__, help="Another version, to try upgrades with.")
@click.option("--level", type=click.IntRange(0, 9), default=6, help="How hard to compress.")
def main(
    dist: Path, cache: Path, release: str | None, machine: str | None, version: str, level: int
) -> None:
    """Make the packages, and print the sum of each."""
    wanted = [
        one for one in TARGETS if release in (None, one.release) and machine in (None, one.machine)
    ]
    told = f"Making {counted(len(wanted), 'package')} in {dist}: some minutes ..."
    print(told, file=sys.stderr, flush=True)
    epoch = source_date()
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(os.cpu_count()) as pool:
        folder = Path(name)
        maker = Maker(build_agent(folder / "wheel", epoch), version, epoch, maintainer(), level)

        def make(target: Target) -> Path:
            work = folder / f"{target.release}-{target.machine}"
            wheels = fetch(target, ROOT / "requirements.lock", cache)
            return maker.make(target, wheels, work, dist)

        for path in pool.map(make, wanted):
            sum_ = hashlib.sha256(path.read_bytes()).hexdigest()
            print(f"{sum_}  {path.name}  {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
