"""A release in ``dist/``, built and tried, never uploaded: ``python -m tests.release``.

In turn: the changelog names the version and nothing is left under Unreleased, no file differs from
the commit, wheel and sdist are built, the sdist makes the same wheel byte by byte, and the wheel
says its version in a fresh environment that holds what the lock names. Printed are the sums.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from edge_agent import __version__

ROOT = Path(__file__).parent.parent


class NotReady(Exception):
    """Why this checkout cannot be released."""


def check_changelog(text: str, version: str) -> None:
    """Raise `NotReady` unless the newest section is that of ``version``, with its date."""
    sections = re.findall(r"^## \[(.+?)\](.*)\n((?:(?!## ).*\n?)*)", text, re.MULTILINE)
    if sections and sections[0][0] == "Unreleased":
        if sections[0][2].strip():
            raise NotReady(f"CHANGELOG.md has changes under Unreleased: name them {version}")
        del sections[0]
    if not sections or sections[0][0] != version:
        raise NotReady(f"the newest section of CHANGELOG.md is not [{version}]")
    if not re.fullmatch(r" - \d{4}-\d{2}-\d{2}", sections[0][1]):
        raise NotReady(f"CHANGELOG.md has no date behind [{version}]: ' - 2026-11-29'")


def check_clean() -> None:
    """Raise `NotReady` where a file differs from the commit."""
    changed = _output("git", "status", "--porcelain")
    if changed:
        raise NotReady(f"not committed:\n{changed}")


def build(source: Path, dist: Path) -> list[Path]:
    """Wheel and sdist of the tree ``source``."""
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(dist)]
    subprocess.run(command, cwd=source, check=True, stdout=sys.stderr)
    return sorted(dist.iterdir())


def check_sdist(sdist: Path, wheel: Path, folder: Path) -> None:
    """Raise `NotReady` unless ``sdist`` makes the very bytes of ``wheel``."""
    folder.mkdir()
    subprocess.run(["tar", "--extract", f"--file={sdist}", f"--directory={folder}"], check=True)
    again = build(folder / sdist.name.removesuffix(".tar.gz"), folder / "dist")
    if wheel.read_bytes() not in [path.read_bytes() for path in again]:
        raise NotReady(f"{sdist.name} makes another wheel than {wheel.name}")


def check_wheel(wheel: Path, folder: Path) -> None:
    """Raise `NotReady` unless ``wheel`` runs where only the lock is installed beside it."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    install = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet"]
    install.append("--disable-pip-version-check")
    lock = str(ROOT / "requirements.lock")
    subprocess.run([*install, "--require-hashes", "--requirement", lock], check=True)
    subprocess.run([*install, "--no-deps", "--no-index", str(wheel)], check=True)
    subprocess.run([install[0], "-m", "pip", "check"], check=True, stdout=sys.stderr)
    said = _output(str(folder / "bin/edge-agent"), "--version")
    if __version__ not in said.split():
        raise NotReady(f"edge-agent --version said {said!r} and not {__version__}")


def _output(*command: str) -> str:
    return subprocess.run(
        command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


def main() -> int:
    """Build and try; 1 where something forbids it."""
    dist = ROOT / "dist"
    try:
        check_changelog((ROOT / "CHANGELOG.md").read_text(), __version__)
        check_clean()
        shutil.rmtree(dist, ignore_errors=True)
        wheel, sdist = build(ROOT, dist)
        with tempfile.TemporaryDirectory() as folder:
            check_sdist(sdist, wheel, Path(folder) / "sdist")
            check_wheel(wheel, Path(folder) / "environment")
    except NotReady as reason:
        print(f"No release: {reason}", file=sys.stderr)
        return 1
    for path in (sdist, wheel):
        print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
