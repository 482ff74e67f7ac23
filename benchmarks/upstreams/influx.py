"""How fast a backlog reaches a real InfluxDB by line protocol, and what it costs the agent.

Beside it the same lines, rendered before, posted one after the other over one connection: what the
server alone can do.
"""

from __future__ import annotations

import gzip
import http.client
import shutil
import time
from pathlib import Path

from benchmarks.bench_drain import DIGESTED
from benchmarks.ports import free_port
from benchmarks.processes import Agent
from benchmarks.upstreams.backlog import dated_backlog, drained
from benchmarks.upstreams.servers import HttpDatabase, influxdb

RECORDS = 1_000_000
_BATCH = 10_000


def run(folder: Path, *, records: int = RECORDS) -> dict[str, float]:
    """Drain ``records`` of four fields each, all of which are counted there afterwards."""
    shutil.rmtree(folder, ignore_errors=True)
    dated_backlog(folder / "agent" / "data", records)
    with influxdb(folder / "influx", free_port(), free_port()) as server:
        config = (
            f'{DIGESTED}[[upstream]]\nname = "influx"\nformat = "line"\n'
            f'url = "http://127.0.0.1:{server.port}/write?db=x&precision=ns"\n'
        )
        figures = drained(Agent(folder / "agent", config), records)
        found = server.influx("SELECT COUNT(temp) FROM /.*/")[0]["values"][0][1]
        if found != records:
            raise SystemExit(f"InfluxDB holds {found} records, expected {records}")
        figures["peer_records_per_second"] = _posted(server, records // 4)
    return figures


def _posted(server: HttpDatabase, records: int) -> float:
    """Records a second of prebuilt lines, as a program would post them that does nothing else."""
    server.influx("CREATE DATABASE peer")
    bodies = []
    for start in range(0, records, _BATCH):
        lines = "\n".join(
            f"bench/0,agent=0123456789ab,source=bench/0 temp={20 + n % 700 / 100},"
            f"humi={50 - n % 90 / 10},pres={1013 + n % 50 / 10},batt=4.1"
            f" {1_790_000_000_000_000_000 + n * 100_000_000}"
            for n in range(start, start + _BATCH)
        )
        bodies.append(gzip.compress(lines.encode(), 1))
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    began = time.perf_counter()
    for body in bodies:
        connection.request("POST", "/write?db=peer", body, {"Content-Encoding": "gzip"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 204:
            raise SystemExit(f"InfluxDB answered {answer.status} to prebuilt lines")
    seconds = time.perf_counter() - began
    connection.close()
    return len(bodies) * _BATCH / seconds
