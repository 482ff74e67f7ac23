"""The canary's process, for whoever wants one beside what it does."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio


@dataclass
class Song:
    """What a canary met: when it sent each record (as `time.monotonic`), and how long its ack took,
    in seconds. It is whole once the canary has ended.
    """

    sung: list[tuple[float, float]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def parted(self, bursts: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
        """How long acks took outside of ``bursts``, and within or across them."""
        usual: list[float] = []
        within: list[float] = []
        for begun, took in self.sung:
            is_within = any(low - took <= begun <= high for low, high in bursts)
            (within if is_within else usual).append(took)
        return usual, within


@asynccontextmanager
async def singing(url: str, *options: str) -> AsyncIterator[Song]:
    """A canary that sings until the end of the block, see `tests.fuzz.canary`."""
    song = Song()
    canary = subprocess.Popen(
        [sys.executable, "-m", "tests.fuzz.canary", url, *options],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert canary.stdin is not None and canary.stdout is not None
    try:
        first = await trio.to_thread.run_sync(canary.stdout.readline)
        assert first == "singing\n", first
        yield song
        canary.stdin.close()
        told = json.loads(await trio.to_thread.run_sync(canary.stdout.read))
    finally:
        canary.kill()
        canary.wait()
        canary.stdin.close()
        canary.stdout.close()
    song.sung += [(begun, took) for begun, took in told["sung"]]
    song.errors += told["errors"]


def now() -> float:
    """The clock by which a canary sings."""
    return time.monotonic()


def p99(latencies: list[float]) -> float:
    """The 99th percentile."""
    return statistics.quantiles(latencies, n=100)[98]
