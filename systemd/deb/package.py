"""One package: its tree, its control files, and ``dpkg-deb`` on them.

The tree is an environment as ``python3 -m venv`` makes them, in /usr/lib/edge-agent: whatever the
agent starts finds the libraries beside it, and nothing of the system's own Python packages.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Final

from edge_agent.config import Config, render_toml
from systemd.deb import licences, manual, sbom
from systemd.deb.targets import Target
from systemd.deb.wheels import ROOT, Wheel, needed_by

SOURCES: Final = Path(__file__).parent / "debian"
HOME: Final = "usr/lib/edge-agent"
CONFIG: Final = "etc/edge-agent/edge-agent.toml"
DOC: Final = "usr/share/doc/edge-agent"

_PROGRAM = f"""\
#!/{HOME}/bin/python
from edge_agent.cli import main

main(prog_name="edge-agent")
"""
_CONTROL = """\
Package: edge-agent
Version: {version}
Architecture: {machine}
Maintainer: {maintainer}
Installed-Size: {size}
Depends: python{python}, libc6 (>= 2.{libc}), libgcc-s1, procps, init-system-helpers (>= 1.54~), \
systemd | systemd-standalone-sysusers | systemd-sysusers
Recommends: ca-certificates, dbus, systemd
Section: net
Priority: optional
Description: keeps what sensors send, durably, and brings it upstream
 A service that takes records from sensors over WebSocket, and acknowledges
 them when they are on the disk; keeps them while the uplink is away; brings
 them to another agent exactly once, or to an HTTP API at least once; and
 answers questions about them meanwhile, on a page and over HTTP.
 .
 All Python libraries that it needs are included.
"""


@dataclass(frozen=True)
class Maker:
    """What all packages of one run have in common.

    Args:
        upstream: the version, as ``edge_agent.__version__``.
        epoch: the time of everything inside, SOURCE_DATE_EPOCH.
        maintainer: ``Name <address>``.
        level: how hard to compress, 0 to 9.
    """

    agent: Wheel
    upstream: str
    epoch: int
    maintainer: str
    level: int = 6

    def make(self, target: Target, wheels: Iterable[Wheel], work: Path, dist: Path) -> Path:
        """The package in ``dist``; ``work`` is a folder that it makes, and nobody needs after."""
        others = needed_by(self.agent, wheels, target)
        version = target.version(self.upstream, self.epoch)
        shutil.rmtree(work, ignore_errors=True)
        self._put_program(work, target, others)
        self._put_system_files(work)
        self._put_documents(work, target, others, version)
        self._put_control(work, target, version)
        self._settle(work)
        dist.mkdir(parents=True, exist_ok=True)
        made = dist / f"edge-agent_{version}_{target.machine}.deb"
        # Whoever copies it meanwhile, or ends this, never has half a package.
        half = made.with_suffix(".part")
        # One thread: what several make of the same bytes depends on their number.
        command = ["dpkg-deb", "--root-owner-group", "-Zxz", f"-z{self.level}", "--threads-max=1"]
        subprocess.run(
            [*command, "--build", str(work), str(half)], check=True, stdout=subprocess.DEVNULL,
            env={**os.environ, "SOURCE_DATE_EPOCH": str(self.epoch)},
        )  # fmt: skip
        half.replace(made)
        # One for each target: `apt-get install ./edge-agent_*…` names them all.
        for older in dist.glob(f"edge-agent_*+{version.partition('+')[2]}_{target.machine}.deb"):
            if older != made:
                older.unlink()
        return made

    def _put_program(self, work: Path, target: Target, others: list[Wheel]) -> None:
        packages = work / HOME / f"lib/python{target.python}/site-packages"
        for wheel in (self.agent, *others):
            wheel.unpack(packages)
        config = "home = /usr/bin\ninclude-system-site-packages = false\nversion = {}\n"
        _write(work / HOME / "pyvenv.cfg", config.format(target.python))
        _write(work / HOME / "bin/edge-agent", _PROGRAM)
        (work / HOME / "bin/python").symlink_to(f"../../../bin/python{target.python}")
        (work / "usr/bin").mkdir(parents=True)
        (work / "usr/bin/edge-agent").symlink_to("../lib/edge-agent/bin/edge-agent")

    def _put_system_files(self, work: Path) -> None:
        systemd = work / "usr/lib/systemd/system"
        for name in (
            "edge-agent.service", "edge-agent-renew.service", "edge-agent-renew.timer",
            "edge-agent-sensor@.service",
        ):  # fmt: skip
            _write(systemd / name, unit((ROOT / "systemd" / name).read_text()))
        for name in ("sysusers", "tmpfiles"):
            text = (SOURCES / f"{name}.conf").read_text()
            _write(work / f"usr/lib/{name}.d/edge-agent.conf", text)
        # The short one and not all of `config init`, which any release may word anew: dpkg would
        # ask everybody who changed a line, and unattended upgrades would leave the package out.
        _write(work / CONFIG, (ROOT / "systemd/edge-agent.toml").read_text())
        for shell, path in manual.COMPLETIONS.items():
            _write(work / path, manual.completion(shell))

    def _put_documents(self, work: Path, target: Target, others: list[Wheel], version: str) -> None:
        for name, text in manual.pages(self.epoch, self.upstream).items():
            _write(work / f"usr/share/man/man{name[-1]}/{name}.gz", text)
        doc = work / DOC
        date = format_datetime(datetime.fromtimestamp(self.epoch, UTC))
        _write(
            doc / "changelog.Debian.gz",
            f"edge-agent ({version}) {target.release}; urgency=medium\n\n"
            f"  * edge_agent {self.upstream}. What has changed: changelog.gz\n\n"
            f" -- {self.maintainer}  {date}\n",
        )
        _write(doc / "changelog.gz", (ROOT / "CHANGELOG.md").read_text())
        _write(doc / "copyright", licences.copyright_of(others))
        _write(doc / "examples/edge-agent.toml", render_toml(Config()))
        socket = ROOT / "systemd/edge-agent.socket"
        _write(doc / "examples" / socket.name, socket.read_text())
        _write(
            doc / "edge-agent.cdx.json",
            sbom.bill(self.agent, others, target, version, self.epoch),
        )
        for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
            _write(doc / path.relative_to(ROOT), path.read_text())
        lintian = work / "usr/share/lintian/overrides/edge-agent"
        _write(lintian, (SOURCES / "lintian-overrides").read_text())

    def _put_control(self, work: Path, target: Target, version: str) -> None:
        files = sorted(path for path in work.rglob("*") if path.is_file() and not path.is_symlink())
        control = _CONTROL.format(
            version=version, machine=target.machine, maintainer=self.maintainer,
            python=target.python, libc=libc_needed(files), size=installed_size(work),
        )  # fmt: skip
        _write(work / "DEBIAN/control", control)
        _write(work / "DEBIAN/conffiles", f"/{CONFIG}\n")
        sums = [(hashlib.md5(path.read_bytes()), path.relative_to(work)) for path in files]
        lines = [f"{one.hexdigest()}  {path}\n" for one, path in sums if path != Path(CONFIG)]
        _write(work / "DEBIAN/md5sums", "".join(lines))
        for name in ("postinst", "prerm", "postrm"):
            _write(work / "DEBIAN" / name, (SOURCES / name).read_text())

    def _settle(self, work: Path) -> None:
        """Rights and times that do not depend on who makes it, where and when."""
        programs = {work / HOME / "bin/edge-agent"}
        programs |= {work / "DEBIAN" / name for name in ("postinst", "prerm", "postrm")}
        for path in [*sorted(work.rglob("*"), reverse=True), work]:
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path in programs else 0o644)
            os.utime(path, (self.epoch, self.epoch), follow_symlinks=False)


def unit(text: str) -> str:
    """A unit of a checkout, for what the package has installed. Raises ValueError."""
    for before, after in (
        ("ExecStart=/opt/edge-agent/bin/edge-agent", "ExecStart=/usr/bin/edge-agent"),
        (
            "Documentation=file:/opt/edge-agent",
            f"Documentation=man:edge-agent(1) file:///{DOC}/docs/index.md",
        ),
    ):
        if text.count(before) != 1 and not ("[Timer]" in text and before.startswith("Exec")):
            raise ValueError(f"the unit has no line {before}")
        text = text.replace(before, after)
    return text


def installed_size(work: Path) -> int:
    """KiB as Debian counts them: each file rounded up, each folder and link as one."""
    paths = [path for path in work.rglob("*") if "DEBIAN" not in path.parts]
    plain = [path for path in paths if path.is_file() and not path.is_symlink()]
    return sum(-(-path.stat().st_size // 1024) for path in plain) + len(paths) - len(plain)


def libc_needed(files: Iterable[Path]) -> int:
    """The minor version of the C library whose symbols the newest of ``files`` asks for."""
    found = {17}
    for path in files:
        if ".so" in path.name:
            found |= {int(minor) for minor in re.findall(rb"GLIBC_2\.(\d+)", path.read_bytes())}
    return max(found)


def _write(path: Path, text: str) -> None:
    """``text``, compressed where the name says so: without a name or a time inside."""
    path.parent.mkdir(parents=True, exist_ok=True)
    body = text.encode()
    path.write_bytes(gzip.compress(body, 9, mtime=0) if path.suffix == ".gz" else body)
