"""Several whole runs, side by side: what one run found by chance is no figure to print.

``python -m benchmarks.ranges RESULTS.md …`` reads the tables of goals of as many results files and
prints lowest, median and highest of each figure. ``python -m benchmarks.ranges --runs 3`` makes the
runs itself, one after the other, and keeps their files in ``--folder``.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.goals import GOALS
from benchmarks.processes import ROOT
from benchmarks.table import markdown

RESULTS = ROOT / "benchmarks" / "RESULTS.md"
_ROW = re.compile(
    r"^\| (?P<what>[^|]+?) \| [≤≥][^|]*\| (?P<number>[\d.,e+-]+)[^|]*\|", re.MULTILINE
)


def figures(text: str) -> dict[str, float]:
    """What the table of goals in a results file says was measured, by the goals' names."""
    names = {goal.what: name for name, goal in GOALS.items()}
    return {
        names[row["what"]]: float(row["number"].replace(",", ""))
        for row in _ROW.finditer(text)
        if row["what"] in names
    }


def table(runs: Sequence[Mapping[str, float]]) -> str:
    """Lowest, median and highest of each figure, and whether every run met its goal."""
    rows = []
    for name, goal in GOALS.items():
        values = [run[name] for run in runs if name in run]
        if not values:
            continue
        bound = f"{'≤' if goal.at_most else '≥'} {goal.shown(goal.goal)}"
        missed = sum(goal.verdict(value) != "met" for value in values)
        verdict = "met" if not missed else f"**{missed} of {len(values)} runs fall short**"
        shown = (goal.shown(each) for each in (min(values), statistics.median(values), max(values)))
        rows.append((goal.what, bound, *shown, len(values), verdict))
    return markdown(("what", "goal", "lowest", "median", "highest", "runs", ""), rows)


def run(count: int, folder: Path) -> list[Path]:
    """Make ``count`` whole runs; where the results of each are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    before = RESULTS.read_bytes() if RESULTS.exists() else None
    kept = []
    try:
        for number in range(1, count + 1):
            subprocess.run([sys.executable, "-m", "benchmarks"], cwd=ROOT, check=True)
            kept.append(folder / f"RESULTS-{number}.md")
            kept[-1].write_bytes(RESULTS.read_bytes())
    except BaseException:
        # What is in the tree is what somebody chose to print, not half of this.
        if before is not None:
            RESULTS.write_bytes(before)
        raise
    return kept


def main() -> None:
    """Parse, run or read, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ranges", description=__doc__)
    parser.add_argument("results", nargs="*", type=Path, help="files of earlier whole runs")
    parser.add_argument("--runs", type=int, default=0, help="make so many now")
    parser.add_argument("--folder", type=Path, default=Path("bench-runs"), help="for their files")
    options = parser.parse_args()
    paths = [*options.results, *(run(options.runs, options.folder) if options.runs else ())]
    if not paths:
        parser.error("name results files, or ask for --runs")
    print(table([figures(path.read_text()) for path in paths]))


if __name__ == "__main__":
    main()
