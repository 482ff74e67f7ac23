"""Runs the benchmarks and writes the results: ``python -m benchmarks [--tiny] [--only NAME]``."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import (
    bench_churn,
    bench_ingest,
    bench_latency,
    bench_query,
    bench_sensors,
    bench_start,
    bench_wear,
    goals,
)
from benchmarks.machine import describe
from benchmarks.plot import bar_chart
from benchmarks.section import Section

RESULTS = Path(__file__).parent / "RESULTS.md"
PLOT = Path(__file__).parent / "results.svg"
#: In the order of the results. Each measures in a folder of its own; True: everything tiny.
SECTIONS: dict[str, Callable[[Path, bool], Section]] = {
    "ingest": bench_ingest.section,
    "sensors": bench_sensors.section,
    "latency": bench_latency.section,
    "query": bench_query.section,
    "start": bench_start.section,
    "wear": bench_wear.section,
    "churn": bench_churn.section,
}
KINDS = {
    "ours": "edge_agent",
    "same": "the same promise: synced before the acknowledgement",
    "weaker": "a weaker promise",
}


def main() -> None:
    """Parse the arguments, run, print; a whole run at full size also writes `RESULTS`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="seconds instead of minutes; no file")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="this section; no file")
    parser.add_argument("--folder", type=Path, help="where the stores are made (not a tmpfs)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="edge-agent-bench-", dir=options.folder or "/var/tmp"))
    names = options.only or list(SECTIONS)
    try:
        machine = describe(folder)
        print("\n".join(machine.lines()), flush=True)
        sections = []
        for section in run(names, folder, options.tiny):
            print(f"\n{section.text}", flush=True)
            sections.append(section)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found = {name: value for section in sections for name, value in section.figures.items()}
    print(f"\n## Goals\n\n{goals.table(found)}")
    if not options.tiny and not options.only:
        write(machine.lines(), sections, goals.table(found))


def run(names: Sequence[str], folder: Path, tiny: bool) -> Iterator[Section]:
    """Each section's result as it is there."""
    for name in names:
        place = folder / name
        place.mkdir()
        yield SECTIONS[name](place, tiny)
        shutil.rmtree(place, ignore_errors=True)


def write(machine: Sequence[str], sections: Sequence[Section], reached: str) -> None:
    """`RESULTS` and `PLOT`."""
    bars = [bar for section in sections for bar in section.bars]
    title = "Single-record messages a second that were acknowledged"
    PLOT.write_text(bar_chart(title, "messages/s, logarithmic; medians", bars, KINDS))
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    parts = [
        "# Results",
        f"`make bench` (`{command}`) wrote this file and its plot.",
        "\n".join(machine),
        f"![Bars: the figures of the first table under Ingest]({PLOT.name})",
        f"## Goals\n\n{reached}",
        *(section.text for section in sections),
    ]
    RESULTS.write_text("\n\n".join(parts) + "\n")
    print(f"\nwritten: {RESULTS} and {PLOT.name}")


if __name__ == "__main__":
    main()
