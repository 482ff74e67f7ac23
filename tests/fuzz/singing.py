"""The canary's process, for whoever wants one beside what it does."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from tests.patience import PATIENCE_S

#: A canary's p99 may be this many times its usual one, that of the same run.
RATIO_MAX = 2.0
#: Less than this is never held against anybody: what is tried, the canary and whatever else runs
#: share the machine's cores with the agent, and a pause of the machine's own is as long. What is to
#: be found, one peer that holds the event loop up, takes longer; smaller figures are printed.
FLOOR_S = 0.5


#: Less than this says nothing of what is usual. It is what a slow machine comes to in a rest.
LEAST = 20


@dataclass
class Song:
    """What a canary met so far: when it sent each record (as `time.monotonic`), and how long its
    ack took, in seconds.
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

    async def rest(self, seconds: float) -> None:
        """Let it sing undisturbed: so long, and until there is enough to tell what is usual."""
        enough = len(self.sung) + LEAST
        await trio.sleep(seconds)
        with trio.fail_after(LEAST * PATIENCE_S):
            while len(self.sung) < enough and not self.errors:
                await trio.sleep(0.02)


@asynccontextmanager
async def singing(url: str, *options: str) -> AsyncIterator[Song]:
    """A canary that sings until the end of the block, see `tests.fuzz.canary`."""
    song = Song()
    canary = subprocess.Popen(
        [sys.executable, "-m", "tests.fuzz.canary", url, *options],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert canary.stdin is not None and canary.stdout is not None
    lines: Iterator[str] = iter(canary.stdout)

    def listen() -> None:
        for told in map(json.loads, lines):
            if isinstance(told, str):
                song.errors.append(told)
            else:
                song.sung.append((told[0], told[1]))

    listener = threading.Thread(target=listen, name="canary", daemon=True)
    try:
        first = await trio.to_thread.run_sync(next, lines, "")
        assert first == "singing\n", first
        listener.start()
        yield song
        canary.stdin.close()
        await trio.to_thread.run_sync(listener.join)
    finally:
        canary.kill()
        canary.wait()
        if listener.ident is not None:
            listener.join()
        canary.stdin.close()
        canary.stdout.close()


def now() -> float:
    """The clock by which a canary sings."""
    return time.monotonic()


def is_slow(tried: list[float], usual: list[float]) -> bool:
    """Whether a canary had to wait: how long its acks took meanwhile, and usually."""
    return p99(tried) > max(FLOOR_S, RATIO_MAX * p99(usual))


def p99(latencies: list[float]) -> float:
    """The 99th percentile; of one, that one."""
    if len(latencies) < 2:
        return max(latencies, default=0.0)
    return statistics.quantiles(latencies, n=100)[98]
