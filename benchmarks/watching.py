"""What a process under measurement uses, seen from outside, and whether it uses more and more."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def process_seconds(pid: int) -> float:
    """CPU of all threads of a process so far, user and system, to the nanosecond.

    Linux makes the clock's number out of the process id; clock_getcpuclockid(3) does the same.
    ``/proc/PID/stat`` holds the same figure in hundredths of a second, too coarse for an idle one.
    """
    return time.clock_gettime((~pid << 3) | 2)


def rss_anon_mb(pid: int) -> float:
    """Memory of its own, in MB of 10^6 bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"process {pid} has no memory")


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Least squares: by how much y grows for each x.

    Raises:
        ValueError: fewer than two different x.
    """
    mean_x = sum(x for x, _ in points) / max(1, len(points))
    mean_y = sum(y for _, y in points) / max(1, len(points))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if not spread:
        raise ValueError("a slope needs points at two different places")
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread


@contextmanager
def memory_samples(pid: int, every_s: float) -> Iterator[list[tuple[float, float]]]:
    """While the block runs, (seconds since it began, RssAnon in MB) at even intervals."""
    samples: list[tuple[float, float]] = []
    done = threading.Event()
    began = time.perf_counter()

    def watch() -> None:
        while not done.wait(every_s):
            samples.append((time.perf_counter() - began, rss_anon_mb(pid)))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()
