"""The three figures that say how well the agent does its work, from counters and clocks alone.

R = N / T, the transfer rate: records and bytes made durable per second (in), and acknowledged by
upstreams per second (out). Q = 1 / T_q, query performance: answers per second of answering.
E = W / T_w, processing efficiency: records made durable per second of CPU, all threads, user and
system. Each over a recent window and since the agent started.

Pure: whoever asks brings a `Sample`; `Ring` keeps enough of them to look back about `WINDOW_S`.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from edge_agent.metrics import Metrics

#: How far back "now" looks, in seconds. Long enough that a commit interval of a second does not
#: show as a saw-tooth, short enough that pulling a cable shows.
WINDOW_S = 10.0
#: Samples nearer to each other than this are one: many askers must not shorten the memory.
SPACING_S = 1.0
_KEPT = 32


@dataclass(frozen=True, slots=True)
class Sample:
    """The counters at one moment; ``at_s`` is boot-clock seconds, the rest only ever grows."""

    at_s: float
    records_in: float
    bytes_in: float
    records_out: float
    bytes_out: float
    queries: float
    query_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Rate:
    """R: per second, over ``Figures.window_s`` or since the start."""

    records_per_s: float
    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class FigureWindow:
    """The figures over one stretch of time.

    Attributes:
        seconds: how long the stretch was.
        received: R in, records made durable and their encoded bytes.
        forwarded: R out, what upstreams acknowledged.
        queries: how many were answered.
        queries_per_s: Q, None where none was answered.
        cpu: CPU seconds per second; 1 is one core.
        records_per_cpu_s: E, None where no CPU was used that could be measured.
    """

    seconds: float
    received: Rate
    forwarded: Rate
    queries: int
    queries_per_s: float | None
    cpu: float
    records_per_cpu_s: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """R, Q and E, now (the last ten seconds or so) and since the start."""

    now: FigureWindow
    since_start: FigureWindow


@dataclass(slots=True)
class Ring:
    """A bounded memory of samples, oldest first, and the first one of all."""

    first: Sample
    _samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def __post_init__(self) -> None:
        self._samples.append(self.first)

    def add(self, sample: Sample) -> None:
        """Remember ``sample``, unless the last one is nearer than `SPACING_S`."""
        if sample.at_s - self._samples[-1].at_s >= SPACING_S:
            self._samples.append(sample)

    def figures(self, sample: Sample) -> Figures:
        """What happened up to ``sample``, which is not remembered by this."""
        return Figures(
            now=between(self._reference(sample.at_s - WINDOW_S), sample),
            since_start=between(self.first, sample),
        )

    def _reference(self, at_s: float) -> Sample:
        # The youngest sample that is at least a window old, so that the stretch is as short as
        # it may be; else the oldest there is.
        found = self._samples[0]
        for sample in self._samples:
            if sample.at_s > at_s:
                break
            found = sample
        return found


def take(metrics: Metrics, at_s: float, cpu_s: float) -> Sample:
    """The counters as they are."""
    return Sample(
        at_s=at_s,
        records_in=metrics.total("records_committed_total"),
        bytes_in=metrics.total("committed_bytes_total"),
        records_out=metrics.total("forwarded_records_total"),
        bytes_out=metrics.total("forwarded_bytes_total"),
        queries=metrics.total("queries_total"),
        query_s=metrics.total("query_seconds_total"),
        cpu_s=cpu_s,
    )


def between(old: Sample, new: Sample) -> FigureWindow:
    """The figures from ``old`` to ``new``; zeros where no time passed."""
    seconds = new.at_s - old.at_s
    queries = new.queries - old.queries
    query_s = new.query_s - old.query_s
    cpu_s = new.cpu_s - old.cpu_s
    records = new.records_in - old.records_in
    return FigureWindow(
        seconds=seconds,
        received=_rate(records, new.bytes_in - old.bytes_in, seconds),
        forwarded=_rate(new.records_out - old.records_out, new.bytes_out - old.bytes_out, seconds),
        queries=int(queries),
        queries_per_s=queries / query_s if queries and query_s > 0 else None,
        cpu=cpu_s / seconds if seconds > 0 else 0.0,
        records_per_cpu_s=records / cpu_s if cpu_s > 0 else None,
    )


def cpu_seconds() -> float:
    """CPU that this process has used: all threads, user and system."""
    return time.process_time()


def _rate(records: float, size: float, seconds: float) -> Rate:
    if seconds <= 0:
        return Rate(0.0, 0.0)
    return Rate(records / seconds, size / seconds)
