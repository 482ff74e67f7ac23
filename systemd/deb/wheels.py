"""Wheels out of ``requirements.lock``: fetched by hash for any machine, chosen, and unpacked."""

from __future__ import annotations

import email.parser
import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from systemd.deb.targets import Target

ROOT: Final = Path(__file__).parent.parent.parent
#: What a wheel brings along and no agent opens: tests, sources, types. A fifth of what is unpacked.
_UNUSED = re.compile(r"(^|/)(_?tests)/|\.(pyi|pyx|pxd|c|h)$|/py\.typed$|\.data/data/share/man/")
#: Of a wheel's papers stay what `importlib.metadata` reads, and lists of what is compiled into it;
#: licences go into the copyright file.
_PAPERS = re.compile(r"^[^/]+\.dist-info/(?!METADATA$|sboms/)")


@dataclass(frozen=True)
class Wheel:
    """A wheel and what it says of itself."""

    path: Path

    @property
    def metadata(self) -> Message:
        """METADATA: name, version, licence, what it needs."""
        return email.parser.Parser().parsestr(self.text("METADATA"))

    @property
    def name(self) -> str:
        """Its name as the index writes it: trio-websocket."""
        return str(canonicalize_name(self.metadata["Name"]))

    @property
    def version(self) -> str:
        """Its version."""
        return str(self.metadata["Version"])

    @property
    def sha256(self) -> str:
        """Its hash, one of those in the lock."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    @property
    def licence(self) -> str:
        """An SPDX expression where it has one, else what its author calls it."""
        told = self.metadata["License-Expression"] or self.metadata["License"]
        if told and len(told) < 40:
            return str(told)
        classifiers = self.metadata.get_all("Classifier", [])
        names = [one.rpartition(" :: ")[2] for one in classifiers if one.startswith("License ::")]
        return " or ".join(names) or "see the text"

    def papers(self) -> list[str]:
        """Names of all files of its dist-info folder."""
        with zipfile.ZipFile(self.path) as archive:
            return [name for name in archive.namelist() if ".dist-info/" in name]

    def text(self, name: str) -> str:
        """One file of its dist-info folder."""
        [full] = [one for one in self.papers() if one.partition(".dist-info/")[2] == name]
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(full).decode()

    def needs(self, target: Target) -> list[str]:
        """Names of what it asks for on ``target``."""
        asked = map(Requirement, self.metadata.get_all("Requires-Dist", []))
        return [
            str(canonicalize_name(one.name))
            for one in asked
            if one.marker is None or one.marker.evaluate(target.environment)
        ]

    def unpack(self, folder: Path) -> None:
        """Put its files, less what nobody opens, into ``folder``. Raises ValueError."""
        with zipfile.ZipFile(self.path) as archive:
            for name in archive.namelist():
                if _UNUSED.search(name) or _PAPERS.search(name) or name.endswith("/"):
                    continue
                if ".data/" in name.partition("/")[0] + "/":
                    raise ValueError(f"{self.path.name}: {name} would go beside site-packages")
                archive.extract(name, folder)


def locked_for(lock: str, target: Target) -> str:
    """The entries of a lock that ``target`` needs, each with its hashes and without its marker.

    pip holds markers against the Python that runs it, and not against the one it fetches for.
    """
    kept = []
    for first, hashes in re.findall(
        r"^([\w.-]+==[^\\\n]*) \\\n((?:    .*\n)+)", lock, re.MULTILINE
    ):
        asked = Requirement(first)
        if asked.marker is None or asked.marker.evaluate(target.environment):
            kept.append(f"{asked.name}{asked.specifier} \\\n{hashes}")
    return "".join(kept)


def fetch(target: Target, lock: Path, cache: Path) -> list[Wheel]:
    """The wheels of ``lock`` for ``target``, from ``cache`` where they are there already.

    Raises:
        CalledProcessError: one has no wheel for it, another hash, or cannot be fetched.
    """
    text = locked_for(lock.read_text(), target)
    key = hashlib.sha256("\n".join([text, target.python, *target.platforms]).encode()).hexdigest()
    folder = cache / f"{target.release}-{target.machine}-{key[:12]}"
    if not folder.exists():
        begun = folder.with_suffix(".begun")
        shutil.rmtree(begun, ignore_errors=True)
        begun.mkdir(parents=True)
        wanted = begun / "requirements.lock"
        wanted.write_text(text)
        command = [
            sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet",
            "--dest", str(begun), "--require-hashes", "--no-deps", "--only-binary", ":all:",
            "--implementation", "cp", "--python-version", target.python,
            "--abi", f"cp{target.python.replace('.', '')}", "--abi", "abi3", "--abi", "none",
            *(f"--platform={platform}" for platform in target.platforms),
            "--requirement", str(wanted),
        ]  # fmt: skip
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        begun.rename(folder)
    return [Wheel(path) for path in sorted(folder.glob("*.whl"))]


def needed_by(wheel: Wheel, others: Iterable[Wheel], target: Target) -> list[Wheel]:
    """Of ``others`` what ``wheel`` needs to run on ``target``, in the order of their names.

    The lock also has what the project is built with. Raises KeyError where it lacks something.
    """
    known = {other.name: other for other in others}
    found: dict[str, Wheel] = {}
    waiting = wheel.needs(target)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = known[name]
            waiting += known[name].needs(target)
    return [found[name] for name in sorted(found)]
