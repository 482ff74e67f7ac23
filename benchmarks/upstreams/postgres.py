"""How fast a backlog reaches a real PostgreSQL, each record once, and what it costs the agent.

Beside it the same rows by a plain ``COPY`` of psycopg into a table with the same key, in the same
transactions: quicker, and an error where anything comes twice.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

from benchmarks.bench_drain import DIGESTED
from benchmarks.ports import free_port
from benchmarks.processes import Agent
from benchmarks.upstreams.backlog import dated_backlog, drained
from benchmarks.upstreams.servers import Postgres, postgresql
from edge_agent.forward.sinks.postgres.rows import COLUMNS

RECORDS = 500_000
_BATCH = 10_000


def run(folder: Path, *, records: int = RECORDS) -> dict[str, float]:
    """Drain ``records`` of four fields each; all of them are counted in the table afterwards."""
    shutil.rmtree(folder, ignore_errors=True)
    dated_backlog(folder / "agent" / "data", records)
    with postgresql(free_port(), sync=True) as server:
        secret = folder / "password"
        secret.write_text("secret\n")
        secret.chmod(0o600)
        config = (
            f'{DIGESTED}[[upstream]]\nname = "pg"\n'
            f'url = "{server.url}"\npassword_file = "{secret}"\n'
        )
        figures = drained(Agent(folder / "agent", config), records)
        found = int(server.psql("SELECT count(*) FROM records"))
        if found != records:
            raise SystemExit(f"PostgreSQL holds {found} records, expected {records}")
        figures["peer_records_per_second"] = _copied(server, records // 2)
    return figures


def _copied(server: Postgres, records: int) -> float:
    """Records a second by ``COPY``, of rows that are there already but for their key."""
    server.psql("CREATE TABLE peer (LIKE records INCLUDING ALL)")
    statement = f"COPY peer ({', '.join(COLUMNS)}) FROM STDIN"
    with psycopg.connect(server.url, password="secret") as connection:
        batches = [list(_rows(start)) for start in range(0, records, _BATCH)]
        began = time.perf_counter()
        for rows in batches:
            with connection.cursor() as cursor, cursor.copy(statement) as copy:
                copy.write("".join(rows))
            connection.commit()
        return len(batches) * _BATCH / (time.perf_counter() - began)


def _rows(start: int) -> Iterator[str]:
    for n in range(start, start + _BATCH):
        fields = (
            f'{{"temp":{20 + n % 700 / 100},"humi":{50 - n % 90 / 10},"pres":1013.2,"batt":4.1}}'
        )
        yield (
            "0123456789ab\t0123456789abcdef\tmain\t\tbench/0\tbench/0\tsensor"
            f"\t{n}\t2026-09-21 14:13:20.25Z\t{1_790_000_000_000_000_000 + n}\t{fields}\n"
        )
