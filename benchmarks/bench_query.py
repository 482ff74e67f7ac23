"""Query performance Q = 1/T_q: 1,000 records by stream and time out of a filled store."""

from __future__ import annotations

import shutil
import statistics
import time
from pathlib import Path
from urllib.parse import urlencode

from benchmarks.processes import Agent, Load
from benchmarks.records import START_S
from benchmarks.section import Section
from benchmarks.table import markdown, number


def run(folder: Path, *, records: int, queries: int) -> dict[str, float]:
    """Median seconds of a query over HTTP, and Q."""
    shutil.rmtree(folder, ignore_errors=True)
    agent = Agent(folder)
    try:
        Load(agent.port, records=records, batch=100, connections=1, source="bench").run()
        samples = []
        for index in range(queries):
            start = START_S + (index * 997) % min(records, 90_000) * 0.1
            question = {"stream": "bench/*", "from": start, "to": start + 100, "limit": 1000}
            began = time.perf_counter()
            answer = agent.get("/api/query?" + urlencode(question))
            samples.append(time.perf_counter() - began)
            if not answer["records"]:
                raise SystemExit(f"a query found nothing: {question}")
    finally:
        agent.stop()
    seconds = statistics.median(samples)
    return {"seconds": seconds, "q": 1 / seconds}


def section(folder: Path, tiny: bool) -> Section:
    """T_q and Q."""
    records, queries = (5_000, 3) if tiny else (300_000, 50)
    found = run(folder / "agent", records=records, queries=queries)
    row = (number(records), queries, f"{found['seconds'] * 1000:.1f}", f"{found['q']:.1f}")
    return Section(
        "## Queries: 1,000 records by stream and time, over HTTP\n\n"
        + markdown(("records stored", "queries", "T_q median ms", "Q = 1/T_q, queries/s"), [row])
    )
