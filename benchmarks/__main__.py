"""Runs the benchmarks and writes the results: ``python -m benchmarks [--tiny] [--only NAME]``."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import goals
from benchmarks.machine import describe
from benchmarks.plot import bar_chart
from benchmarks.section import Section
from benchmarks.sections import SECTIONS, run

RESULTS = Path(__file__).parent / "RESULTS.md"
PLOT = "results.svg"
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
    parser.add_argument(
        "--keep", action="store_true", help="with --only: into the file, beside those of other runs"
    )
    parser.add_argument("--folder", type=Path, help="where the stores are made (not a tmpfs)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="edge-agent-bench-", dir=options.folder or "/var/tmp"))
    began = time.perf_counter()
    sections = []
    try:
        machine = describe(folder).lines()
        print("\n".join(machine), flush=True)
        for section in run(options.only or list(SECTIONS), folder, options.tiny):
            print(f"\n{section.text}", flush=True)
            sections.append(section)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    table = reached(sections)
    if not options.tiny:
        print(f"\n{table}")
    if not options.tiny and not options.only:
        machine.append(f"- took {(time.perf_counter() - began) / 60:.0f} minutes")
        write(RESULTS, machine, sections)
        print(f"\nwritten: {RESULTS} and {PLOT} beside it")
    elif options.keep and not options.tiny:
        text = with_sections(RESULTS.read_text(), machine, sections, table)
        RESULTS.write_text(text)
        print(f"\nkept in {RESULTS}")


def with_sections(
    text: str, machine: Sequence[str], sections: Sequence[Section], table: str
) -> str:
    """The results ``text`` with these sections in it, new ones last, each with its own machine, and
    with the goals that they reached.
    """
    head, *parts = text.split("\n\n## ")
    kept = {part.partition("\n")[0]: part.strip() for part in parts}
    goals_before = kept.pop("Goals", "").splitlines()
    for section in sections:
        told = section.text.removeprefix("## ").strip()
        heading = told.partition("\n")[0]
        kept[heading] = (
            f"{told}\n\nThis section is of another run than the others:\n\n" + "\n".join(machine)
        )
    known = {line.split(" | ")[0]: line for line in goals_before if line.startswith("| ")}
    rows = [
        known.get(row.split(" | ")[0], row) if "| not measured |" in row else row
        for row in table.removeprefix("## ").splitlines()
    ]
    return "\n\n## ".join([head.rstrip(), "\n".join(rows), *kept.values()]) + "\n"


def reached(sections: Sequence[Section]) -> str:
    """The table of goals, out of what all sections found."""
    found = {name: value for section in sections for name, value in section.figures.items()}
    return f"## Goals\n\n{goals.table(found)}"


def write(path: Path, machine: Sequence[str], sections: Sequence[Section]) -> None:
    """The results, and the plot beside them."""
    groups = [group for section in sections for group in section.bars]
    title = "Single-record messages a second that were acknowledged"
    chart = bar_chart(title, "messages/s, logarithmic; medians", groups, KINDS)
    path.with_name(PLOT).write_text(chart)
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    parts = [
        "# Results",
        f"`make bench` (`{command}`) wrote this file and its plot.",
        "\n".join(machine),
        f"![Bars: the figures of the first table under Ingest]({PLOT})",
        reached(sections),
        *(section.text for section in sections),
    ]
    path.write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
