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

#: A canary's p99 may be this many times its usual one, that of the same run.
RATIO_MAX = 2.0
#: Less than this is never held against anybody: what is tried, the canary and whatever else runs
#: share the machine's cores with the agent, and a pause of the machine's own is as long. What is to
#: be found, one peer that holds the event loop up, takes longer; smaller figures are printed.
FLOOR_S = 0.5


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


def is_slow(tried: list[float], usual: list[float]) -> bool:
    """Whether a canary had to wait: how long its acks took meanwhile, and usually."""
    return p99(tried) > max(FLOOR_S, RATIO_MAX * p99(usual))


def p99(latencies: list[float]) -> float:
    """The 99th percentile."""
    return statistics.quantiles(latencies, n=100)[98]
