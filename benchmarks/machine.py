"""What the figures were measured on: processor, file system, and what a sync costs there."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.peers import PEERS

SYNC_SAMPLES = 50
MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs", "devtmpfs")
PACKAGES = ("trio", "trio-websocket", "lmdb", "msgpack", "msgspec", "h11")


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a run took place. ``sync_ms`` is the median of 4 KiB written and fdatasync'ed."""

    processor: str
    cores: int
    python: str
    kernel: str
    file_system: str
    sync_ms: float
    packages: str
    peers: str
    commit: str
    date: str

    def lines(self) -> list[str]:
        """As a Markdown list."""
        return [
            f"- {self.date}, commit {self.commit}",
            f"- {self.cores} cores, {self.processor}; kernel {self.kernel}; Python {self.python}",
            f"- store on {self.file_system}, median fdatasync of 4 KiB {self.sync_ms:.2f} ms",
            f"- {self.packages}",
            f"- beside it: {self.peers}",
        ]


def describe(folder: Path) -> Machine:
    """Look at the machine and at the file system under ``folder``.

    Raises:
        SystemExit: the folder lies in memory, where a sync costs nothing.
    """
    kind = file_system_of(folder)
    if kind in MEMORY_FILE_SYSTEMS:
        raise SystemExit(f"{folder} is on {kind}: a sync is free there; give --folder on a disk")
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        python=platform.python_version(),
        kernel=platform.release(),
        file_system=kind,
        sync_ms=median_sync_ms(folder),
        packages=", ".join(f"{name} {version(name)}" for name in PACKAGES),
        peers=", ".join(_peers()),
        commit=_commit(),
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def file_system_of(folder: Path) -> str:
    """Type of the file system that holds ``folder``, from the mount table."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, found, *_ = line.split()
        inside = str(folder.resolve()).startswith(place.rstrip("/") + "/") or place == "/"
        if inside and len(place) >= len(best):
            best, kind = place, found
    return kind


def median_sync_ms(folder: Path) -> float:
    """Median time of ``fdatasync`` after a fresh 4 KiB, in milliseconds."""
    path = folder / "sync-probe"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        samples = []
        for _ in range(SYNC_SAMPLES):
            os.pwrite(descriptor, os.urandom(4096), 0)
            began = time.perf_counter()
            os.fdatasync(descriptor)
            samples.append((time.perf_counter() - began) * 1000)
        return statistics.median(samples)
    finally:
        os.close(descriptor)
        path.unlink()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _peers() -> Iterator[str]:
    """Version of each peer's program, once; those that are not here are named too."""
    seen = set()
    for name, peer in PEERS.items():
        found = f"no {name}" if peer.missing() else peer.version()
        if found not in seen:
            seen.add(found)
            yield found


def _commit() -> str:
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.strip()
