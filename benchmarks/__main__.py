"""Runs every benchmark and writes the results: ``python -m benchmarks [--tiny] [--folder DIR]``."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from benchmarks import (
    bench_drain,
    bench_ingest,
    bench_latency,
    bench_memory,
    bench_query,
    bench_start,
)
from benchmarks.machine import describe
from benchmarks.table import markdown, number

RESULTS = Path(__file__).parent / "RESULTS.md"
#: Shape of a message: records in it, and whether it is JSON text.
SHAPES = {
    "single records, msgpack": (1, False),
    "single records, JSON text": (1, True),
    "batches of 100, msgpack": (100, False),
    "batches of 100, JSON text": (100, True),
}


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything."""

    singles: int
    batches: int
    baseline_singles: int
    baseline_batches: int
    rounds: int
    connections: tuple[int, ...]
    shapes: tuple[str, ...]
    intervals: tuple[str, ...]
    drain: int
    latency_s: float
    start: int
    memory: int
    queries: int
    settle_s: float


FULL = Scale(
    singles=100_000,
    batches=2_000_000,
    baseline_singles=3_000,
    baseline_batches=100_000,
    rounds=3,
    connections=(1, 4),
    shapes=tuple(SHAPES),
    intervals=("1s", "20ms"),
    drain=2_000_000,
    latency_s=20,
    start=300_000,
    memory=1_000_000,
    queries=50,
    settle_s=5,
)
TINY = Scale(
    singles=1_000,
    batches=20_000,
    baseline_singles=50,
    baseline_batches=1_000,
    rounds=1,
    connections=(1,),
    shapes=("single records, JSON text", "batches of 100, msgpack"),
    intervals=("20ms",),
    drain=20_000,
    latency_s=0.5,
    start=5_000,
    memory=20_000,
    queries=3,
    settle_s=0.2,
)


def main() -> None:
    """Parse the arguments, run, print, and write `RESULTS` unless tiny."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="seconds instead of minutes; no file")
    parser.add_argument("--folder", type=Path, help="where the stores are made (not a tmpfs)")
    options = parser.parse_args()
    base = options.folder or Path("/var/tmp")
    folder = Path(tempfile.mkdtemp(prefix="edge-agent-bench-", dir=base))
    try:
        machine = describe(folder)
        parts = ["# Results", "", "`make bench` wrote this file.", "", *machine.lines(), ""]
        for part in sections(folder, TINY if options.tiny else FULL):
            print(part, flush=True)
            parts += [part, ""]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not options.tiny:
        RESULTS.write_text("\n".join(parts).rstrip() + "\n")
        print(f"written: {RESULTS}")


def sections(folder: Path, scale: Scale) -> Iterator[str]:
    """The chapters of the results, as each is measured."""
    yield ingest(folder, scale)
    yield drain(folder, scale)
    yield latency(folder, scale)
    yield rest(folder, scale)


def ingest(folder: Path, scale: Scale) -> str:
    """Durable records a second by shape of message and number of connections."""
    rows = []
    for title, connections in product(scale.shapes, scale.connections):
        batch, text = SHAPES[title]
        records, baseline_records = (
            (scale.singles, scale.baseline_singles)
            if batch == 1
            else (scale.batches, scale.baseline_batches)
        )
        ours, theirs = bench_ingest.compare(
            folder, records=records, baseline_records=baseline_records, batch=batch,
            connections=connections, text=text, rounds=scale.rounds,
        )  # fmt: skip
        rows.append(
            (
                title, connections, number(ours.rate), number(theirs.rate),
                f"{ours.rate / theirs.rate:.1f} x", number(ours.efficiency),
                number(theirs.efficiency),
            )
        )  # fmt: skip
    return (
        "## Ingest: durable and acked, R in records/s, E in records per CPU second\n\n"
        + markdown(
            ("what", "connections", "R agent", "R baseline", "ratio", "E agent", "E baseline"), rows
        )
    )


def drain(folder: Path, scale: Scale) -> str:
    """A backlog to a hub."""
    rows = [bench_drain.run(folder / "drain", records=scale.drain) for _ in range(scale.rounds)]
    row = bench_ingest.median(rows)
    table = markdown(
        ("records", "R records/s", "E (agent + hub)", "until the first arrived, s"),
        [(f"{scale.drain:,}", number(row.rate), number(row.efficiency),
          f"{row.facts['until_first_s']:.2f}")],
    )  # fmt: skip
    return "## Drain of a backlog to a hub, exactly once, read back there\n\n" + table


def latency(folder: Path, scale: Scale) -> str:
    """Ack latency at 1,000 records a second for the default interval and a short one."""
    rows = []
    for interval in scale.intervals:
        found = bench_latency.run(
            folder / "latency", interval=interval, rate=1000, seconds=scale.latency_s
        )
        rows.append(
            (
                interval, found["records"], f"{found['p50_ms']:.1f}", f"{found['p99_ms']:.1f}",
                f"{found['max_ms']:.1f}", f"{found['cpu_per_record_us']:.0f}",
            )
        )  # fmt: skip
    return "## Ack latency, open loop, 1,000 single records/s on one connection\n\n" + markdown(
        ("commit_interval", "records", "p50 ms", "p99 ms", "max ms", "agent CPU us/record"), rows
    )


def rest(folder: Path, scale: Scale) -> str:
    """Start, memory and queries."""
    start = bench_start.run(folder / "start", records=scale.start, rounds=max(1, scale.rounds // 2))
    memory = bench_memory.run(folder / "memory", records=scale.memory, settle_s=scale.settle_s)
    query = bench_query.run(folder / "query", records=scale.start, queries=scale.queries)
    rows = [
        ("start to listening, new store", f"{start['fresh_s']:.2f} s"),
        (f"start to listening after SIGKILL, {scale.start:,} records", f"{start['dirty_s']:.2f} s"),
        ("RssAnon idle, people's port on, one upstream", f"{memory['idle_mb']:.1f} MB"),
        ("VmRSS idle", f"{memory['idle_rss_mb']:.1f} MB"),
        (
            f"RssAnon peak, {scale.memory:,} records offline, then online",
            f"{memory['peak_mb']:.1f} MB",
        ),
        ("that is above idle", f"{memory['growth_mb']:.1f} MB"),
        ("VmRSS after it", f"{memory['after_rss_mb']:.1f} MB"),
        ("T_q: 1,000 records by stream and time, over HTTP", f"{query['seconds'] * 1000:.1f} ms"),
        ("Q = 1/T_q", f"{query['q']:.1f} queries/s"),
    ]
    return "## Start, memory, queries\n\n" + markdown(("what", "figure"), rows)


if __name__ == "__main__":
    main()
