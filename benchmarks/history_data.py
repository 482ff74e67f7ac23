"""The records that history is measured on: 100 streams at 1 Hz, jitter of 20 ms, four decimals."""

from __future__ import annotations

import random
from collections.abc import Iterator

STREAMS = 100
#: 2026-11-01T00:00:00Z; all that the clocks of the benchmark say lies behind it.
START_S = 1_793_491_200
FIELDS = ("t", "h", "p", "v")
_DECIMALS = (2, 1, 2, 3)

Reading = tuple[int, int, tuple[float, ...]]
"""Number of the stream, ns since 1970, and the four values."""


def seconds(count: int) -> Iterator[list[Reading]]:
    """What arrives in each of ``count`` seconds: one reading of each stream. Always the same."""
    dice = random.Random(1)
    values = [[20 + dice.random() * 5, 50.0, 1013.0, 3.7] for _ in range(STREAMS)]
    steps = (-0.02, -0.01, 0.0, 0.01, 0.02)
    for second in range(count):
        readings: list[Reading] = []
        for stream, held in enumerate(values):
            for index in range(len(held)):
                held[index] += steps[int(dice.random() * 5)]
            time_ns = (START_S + second) * 10**9 + int(dice.random() * 20) * 10**6
            readings.append((stream, time_ns, tuple(map(round, held, _DECIMALS))))
        yield readings


def stream_name(number: int) -> str:
    """The stream's name."""
    return f"site/s{number:03}"
