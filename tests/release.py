"""A release in ``dist/``, built and tried, never uploaded: ``python -m tests.release``.

In turn: the changelog names the version and nothing is left under Unreleased, no file differs from
the commit, wheel and sdist are built, and the wheel of the client alone; the sdist makes the same
wheels byte by byte, and each says its version in a fresh environment that holds what the lock
names, for the client only what it asks for. Printed are the sums.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

from edge_agent import __version__
from tests.client.light import NEEDS, closure

ROOT = Path(__file__).parent.parent
#: Where the client alone is described, below the tree.
CLIENT = "edge_agent/client"
SAY = "import edge_agent.client; print(edge_agent.__version__)"


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


def build(source: Path, dist: Path, *targets: str) -> list[Path]:
    """What of ``targets`` (``wheel``, ``sdist``) ``source`` makes in ``dist``, or both."""
    before = set(dist.iterdir()) if dist.exists() else set()
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(dist)]
    for target in targets:
        command += ["--target", target]
    subprocess.run(command, cwd=source, check=True, stdout=sys.stderr)
    return sorted(set(dist.iterdir()) - before)


def check_sdist(sdist: Path, wheels: list[Path], folder: Path) -> None:
    """Raise `NotReady` unless ``sdist`` makes the very bytes of ``wheels``."""
    folder.mkdir()
    subprocess.run(["tar", "--extract", f"--file={sdist}", f"--directory={folder}"], check=True)
    source = folder / sdist.name.removesuffix(".tar.gz")
    built = build(source, folder / "dist") + build(source / CLIENT, folder / "dist", "wheel")
    again = [path.read_bytes() for path in built]
    for wheel in wheels:
        if wheel.read_bytes() not in again:
            raise NotReady(f"{sdist.name} makes another wheel than {wheel.name}")


def check_wheel(wheel: Path, folder: Path, lock: str, *say_version: str) -> None:
    """Raise `NotReady` unless ``wheel`` says its version where only ``lock`` is beside it.

    ``say_version``: a program of the environment, and its arguments.
    """
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    install = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet"]
    install.append("--disable-pip-version-check")
    needed = folder / "requirements.lock"
    needed.write_text(lock)
    subprocess.run([*install, "--require-hashes", "--requirement", str(needed)], check=True)
    subprocess.run([*install, "--no-deps", "--no-index", str(wheel)], check=True)
    subprocess.run([install[0], "-m", "pip", "check"], check=True, stdout=sys.stderr)
    program, *arguments = say_version
    said = _output(str(folder / "bin" / program), *arguments, cwd=folder)
    if __version__ not in said.split():
        raise NotReady(f"{wheel.name} said {said!r} and not {__version__}")


def part_of(lock: str, names: Collection[str]) -> str:
    """The entries of a lock, each with its hashes, that are about ``names``."""
    entries = re.findall(r"^(([\w.-]+)==.*\n(?:    .*\n)*)", lock, re.MULTILINE)
    return "".join(text for text, name in entries if name in names)


def _output(*command: str, cwd: Path = ROOT) -> str:
    return subprocess.run(
        command, cwd=cwd, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


def main() -> int:
    """Build and try; 1 where something forbids it."""
    dist = ROOT / "dist"
    lock = (ROOT / "requirements.lock").read_text()
    try:
        check_changelog((ROOT / "CHANGELOG.md").read_text(), __version__)
        check_clean()
        shutil.rmtree(dist, ignore_errors=True)
        wheel, sdist = build(ROOT, dist)
        [client] = build(ROOT / CLIENT, dist, "wheel")
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            check_sdist(sdist, [wheel, client], folder / "sdist")
            check_wheel(wheel, folder / "agent", lock, "edge-agent", "--version")
            check_wheel(
                client, folder / "client", part_of(lock, closure(*NEEDS)), "python", "-c", SAY
            )
    except NotReady as reason:
        print(f"No release: {reason}", file=sys.stderr)
        return 1
    for path in (sdist, wheel, client):
        print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
