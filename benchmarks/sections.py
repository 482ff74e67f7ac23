"""All sections of the results, in their order, and how one or all of them are measured."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks import (
    bench_beside,
    bench_churn,
    bench_drain,
    bench_floods,
    bench_history,
    bench_history_long,
    bench_ingest,
    bench_kinds,
    bench_latency,
    bench_memory,
    bench_post,
    bench_query,
    bench_sealing,
    bench_sensors,
    bench_start,
    bench_upstreams,
    bench_wear,
    bench_windows,
)
from benchmarks.ingest_runs import median
from benchmarks.section import Section
from benchmarks.table import Row, markdown, number

#: Tiny figures mean nothing, so these may disturb one another.
AT_ONCE = 3


def drain(folder: Path, tiny: bool) -> Section:
    """`bench_drain`: a backlog as a load makes it, and one of small commits."""
    ways = (
        {"as a load of batches of 100 made it": (20_000, 0, 1)}
        if tiny
        else {
            "as a load of batches of 100 made it": (bench_drain.RECORDS, 0, 3),
            "1,000 records a block": (1_000_000, 1_000, 1),
        }
    )
    rows, rates = [], []
    for what, (records, block_records, rounds) in ways.items():
        found: list[Row] = [
            bench_drain.run(folder / "drain", records=records, block_records=block_records)
            for _ in range(rounds)
        ]
        row = median(found)
        rates.append(statistics.median(one.rate for one in found))
        rows.append(
            (
                what, f"{records:,}", number(row.rate), number(row.efficiency),
                f"{row.facts['until_first_s']:.2f}", f"{row.facts['agent_peak_mb']:.0f} MB",
                f"{row.facts['hub_peak_mb']:.0f} MB",
            )
        )  # fmt: skip
    head = (
        "backlog", "records", "R records/s", "E (agent + hub)", "until the first arrived, s",
        "agent RssAnon peak", "hub RssAnon peak",
    )  # fmt: skip
    return Section(
        "## Drain of a backlog to a hub, exactly once, read back there\n\n" + markdown(head, rows),
        {"drain": rates[0]},
    )


#: Each measures in a folder of its own; True: everything tiny.
SECTIONS: dict[str, Callable[[Path, bool], Section]] = {
    "ingest": bench_ingest.section,
    "post": bench_post.section,
    "tls": bench_post.tls_section,
    "sensors": bench_sensors.section,
    "drain": drain,
    "wear": bench_wear.section,
    "memory": bench_memory.section,
    "latency": bench_latency.section,
    "query": bench_query.section,
    "history": bench_history.section,
    "history-long": bench_history_long.section,
    "start": bench_start.section,
    "churn": bench_churn.section,
    "floods": bench_floods.section,
    "kinds": bench_kinds.section,
    "windows": bench_windows.section,
    "sealing": bench_sealing.section,
    "upstreams": bench_upstreams.section,
    "beside": bench_beside.section,
}


def run(names: Sequence[str], folder: Path, tiny: bool) -> Iterator[Section]:
    """Each section's result as it is there: one after the other, or tiny ones side by side."""
    if not tiny:
        yield from (measure(name, folder, tiny) for name in names)
        return
    with ProcessPoolExecutor(AT_ONCE) as pool:
        waiting = [pool.submit(measure, name, folder, tiny) for name in names]
        yield from (one.result() for one in waiting)


def measure(name: str, folder: Path, tiny: bool) -> Section:
    """One section, in a folder that is gone afterwards."""
    place = folder / name
    place.mkdir()
    try:
        return SECTIONS[name](place, tiny)
    finally:
        shutil.rmtree(place, ignore_errors=True)
