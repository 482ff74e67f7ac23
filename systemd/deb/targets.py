"""What packages are made for: a release of Debian with its Python, and a machine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

#: Release: its number, its Python, and the minor version of its C library (2.36, 2.41).
RELEASES: Final = {"bookworm": (12, "3.11", 36), "trixie": (13, "3.13", 41)}
#: Debian's name of a machine, and that of its wheels.
MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True, slots=True)
class Target:
    """One package: ``Target("bookworm", "arm64")``."""

    release: str
    machine: str

    @property
    def python(self) -> str:
        """The minor version of the release's python3, which wheels with C belong to."""
        return RELEASES[self.release][1]

    @property
    def platforms(self) -> list[str]:
        """Tags of wheels that run there, best first: each C library runs what older ones run."""
        machine = MACHINES[self.machine]
        minors = range(RELEASES[self.release][2], 16, -1)
        return [f"manylinux_2_{minor}_{machine}" for minor in minors] + [f"manylinux2014_{machine}"]

    @property
    def environment(self) -> dict[str, str]:
        """What markers such as ``python_full_version < '3.14'`` are held against."""
        return {
            "extra": "",
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": MACHINES[self.machine],
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }

    def version(self, upstream: str, epoch: int) -> str:
        """The package's version, with its commit's time: apt installs what a later commit made, and
        nothing where the version is that of before. Newer releases of Debian sort higher, so that
        its upgrade takes the package along: 0.1.0-20261129.231500+deb12 < …+deb13.
        """
        revision = f"{datetime.fromtimestamp(epoch, UTC):%Y%m%d.%H%M%S}"
        return f"{upstream}-{revision}+deb{RELEASES[self.release][0]}"


TARGETS: Final = [Target(release, machine) for release in RELEASES for machine in MACHINES]
