"""Every benchmark runs on tiny input, so that none rots; its figures mean nothing here.

It takes minutes, so ``make bench-smoke`` runs it, which CI calls, and not ``make test``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from benchmarks import bench_kinds
from benchmarks.peers import PEERS
from benchmarks.sections import SECTIONS
from tests.conftest import REQUIRE_ALL

ROOT = Path(__file__).parents[2]
HEADINGS = (
    "Ingest", "HTTP POST", "TLS", "Many slow sensors", "Drain", "Wear", "Memory", "Ack latency",
    "Queries", "History", "History that grows old", "Start", "Churn", "Floods", "Kinds of records",
    "Rules after storing", "Sealing", "Upstreams", "Upstreams beside",
)  # fmt: skip
#: 20 sensors of the agent, five of a plain library's server, and a connection that is silent.
SENSORS_ROWS = (
    r"^\| agent, .*\| 20 \| 400 \|",
    r"^\| trio-websocket [^|]+ \| 5 \| 50 \|",
    r"^\| 20 \| \d\.\d\d s \| \d+\.\d MB \|",
)


def test_all_benchmarks_run_and_print_their_tables(tmp_path: Path) -> None:
    written = [ROOT / "benchmarks" / name for name in ("RESULTS.md", "results.svg")]
    before = [path.read_bytes() if path.exists() else None for path in written]

    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.preloaded", "--tiny", "--folder", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    found = [line for line in done.stdout.splitlines() if line.startswith("## ")]
    assert len(found) == len(HEADINGS) == len(SECTIONS)
    for line, heading in zip(found, HEADINGS, strict=True):
        assert line.startswith(f"## {heading}")
    rates = re.findall(r"^\| (?:single|batches).*? \| 1 \| ([\d,.]+) \|", done.stdout, re.MULTILINE)
    assert len(rates) == 3 and all(float(rate.replace(",", "")) > 0 for rate in rates)
    for peer in PEERS.values():
        assert f"\n| {peer.title} |" in done.stdout
    assert not (REQUIRE_ALL and "not installed" in done.stdout)
    for row in SENSORS_ROWS:
        assert re.search(row, done.stdout, re.MULTILINE)
    assert "## Memory of our own" in done.stdout
    kinds = done.stdout.partition("## Kinds of records")[2].splitlines()
    batches = sum(batch <= 200 for batch in bench_kinds.BATCHES)
    assert sum("| msgpack |" in line for line in kinds) == len(bench_kinds.KINDS) + batches
    assert any(line.startswith("| text with escapes | JSON |") for line in kinds)
    assert [path.read_bytes() if path.exists() else None for path in written] == before
    assert not list(tmp_path.iterdir()), "it cleans up after itself"
