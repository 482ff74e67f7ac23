"""How fast a backlog becomes files in a folder, and how fast these come into another agent.

The folder is not there at first, so that the agent's start is not measured; it looks for it again
every 200 to 400 ms, and the clock starts at the last look that found it empty. Each file is synced,
and then its folder.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.bench_drain import fill
from benchmarks.processes import Agent
from benchmarks.records import RECORD_BYTES

RECORDS = 500_000
BLOCK_RECORDS = 1_000
#: Format and compression.
FORMS = (("ndjson", "none"), ("ndjson", "zstd"), ("ndjson", "gzip"), ("csv", "none"))
_LOOK_S = 0.02
_TIMEOUT_S = 300.0


def run(folder: Path, records: int = RECORDS) -> dict[str, Any]:
    """Records a second, and microseconds of CPU for each, out into files and in from them."""
    found: dict[str, Any] = {"records": records, "record_bytes": RECORD_BYTES}
    for form, compression in FORMS:
        name = f"{form}, {compression}"
        found[name] = _out(folder / f"{form}-{compression}", records, form, compression)
    found["import"] = _in(folder / "home", folder / "ndjson-none" / "stick", records)
    return found


def _out(folder: Path, records: int, form: str, compression: str) -> dict[str, float]:
    stick = folder / "stick"
    fill(folder / "data", records, BLOCK_RECORDS)
    config = (
        f'[[upstream]]\nname = "stick"\nurl = "{stick.as_uri()}"\n'
        f'format = "{form}"\ncompression = "{compression}"\n'
        'backoff_base = "200ms"\nbackoff_max = "400ms"\n[upstream.file]\nage = "0s"\n'
    )
    agent = Agent(folder, config)
    try:
        # What it does after a start, whoever it sends to.
        time.sleep(3)
        cpu = agent.cpu_seconds()
        stick.mkdir()
        while not any(stick.iterdir()):
            began = time.perf_counter()
            time.sleep(_LOOK_S)
        while _behind(agent):
            if time.perf_counter() > began + _TIMEOUT_S:
                raise SystemExit("the files were not written in time")
            time.sleep(_LOOK_S)
        seconds = time.perf_counter() - began
        cpu = agent.cpu_seconds() - cpu
        peak_mb = agent.memory_mb()
    finally:
        agent.stop()
    size = sum(path.stat().st_size for path in stick.iterdir())
    row = _row(records, seconds, cpu)
    return {**row, "bytes/record": round(size / records, 1), "RssAnon MB": peak_mb}


def _in(folder: Path, stick: Path, records: int) -> dict[str, float]:
    agent = Agent(folder)
    try:
        before, cpu = resource.getrusage(resource.RUSAGE_CHILDREN), agent.cpu_seconds()
        began = time.perf_counter()
        command = [sys.executable, "-m", "edge_agent", "import", str(stick)]
        subprocess.run([*command, "--to", f"ws://127.0.0.1:{agent.port}"], check=True)
        seconds = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = agent.cpu_seconds() - cpu
        cpu += after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    finally:
        agent.stop()
    return _row(records, seconds, cpu)


def _behind(agent: Agent) -> int:
    return int(agent.get("/api/status")["upstreams"][0]["backlog_records"])


def _row(records: int, seconds: float, cpu: float) -> dict[str, float]:
    return {"records/s": round(records / seconds), "CPU us/record": round(cpu / records * 1e6, 2)}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        print(json.dumps(run(Path(place)), indent=2))
