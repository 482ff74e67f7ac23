"""A real agent is killed while it fills a real database, and every record is there once."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import trio

from benchmarks.ports import free_port
from benchmarks.upstreams.backlog import dated_backlog
from benchmarks.upstreams.servers import influxdb
from tests.end_to_end.support import AgentProcess, agents, eventually
from tests.forward.sinks.postgres.server import new_database
from tests.forward.sinks.postgres.side import secret_file

RECORDS = 20_000
CONFIG = """
[history]
enabled = false
[[upstream]]
name = "db"
batch_records = 500
backoff_base = "20ms"
backoff_max = "100ms"
"""


async def drained_by_an_agent_that_is_killed(folder: Path, upstream: str) -> None:
    """The agent ends twice in the midst of its backlog."""
    agent = AgentProcess(folder, "agent", CONFIG + upstream)
    await trio.to_thread.run_sync(dated_backlog, agent.store, RECORDS)

    async def is_below(records: int) -> bool:
        status = (await agent.get("/api/status"))["upstreams"][0]
        return bool(status["backlog_records"] < records)

    async with agents(agent):
        for rest in (RECORDS * 2 // 3, RECORDS // 3):
            await eventually(partial(is_below, rest), describe=f"a backlog below {rest}")
            await agent.kill()
            await agent.start()
        await eventually(partial(is_below, 1), describe="an empty backlog")


@pytest.mark.needs("influxd")
async def test_influxdb_has_every_record_of_an_agent_that_was_killed(tmp_path: Path) -> None:
    with influxdb(tmp_path / "influx", free_port(), free_port()) as server:
        url = f'url = "http://127.0.0.1:{server.port}/write?db=x"\nformat = "line"\n'
        await drained_by_an_agent_that_is_killed(tmp_path, url)
        (series,) = await trio.to_thread.run_sync(server.influx, 'SELECT temp FROM "bench/0"')
        assert len(series["values"]) == RECORDS


@pytest.mark.needs("postgresql", "psycopg")
async def test_postgresql_has_every_record_of_an_agent_that_was_killed(tmp_path: Path) -> None:
    server, database = await trio.to_thread.run_sync(new_database)
    url = f'url = "postgresql://edge@127.0.0.1:{server.port}/{database}"\n'
    password = f'password_file = "{secret_file(tmp_path)}"\n'
    await drained_by_an_agent_that_is_killed(tmp_path, url + password)
    count = "SELECT count(*), count(DISTINCT seq), max(seq) FROM records"
    found = await trio.to_thread.run_sync(partial(server.psql, count, database=database))
    assert found == f"{RECORDS}|{RECORDS}|{RECORDS}"
