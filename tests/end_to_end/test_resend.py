"""A real agent is killed while it sends something once more by order: all of it is there once."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from benchmarks.upstreams.backlog import dated_backlog
from tests.end_to_end.support import AgentProcess, agents, eventually, run_command
from tests.forward.sinks.postgres.server import new_database
from tests.forward.sinks.postgres.side import secret_file

RECORDS = 20_000
#: What is there already is never sent in the ordinary way.
CONFIG = """
[history]
enabled = false
[[upstream]]
name = "far"
start = "now"
backoff_base = "20ms"
backoff_max = "100ms"
"""


async def said(agent: AgentProcess, *arguments: str) -> Any:
    done = await run_command(
        "upstream", "resend", "far", "--json", "--url", f"http://127.0.0.1:{agent.http_port}",
        *arguments,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def sent_by_an_agent_that_is_killed(folder: Path, upstream: str) -> None:
    """All that it has, by order; it ends twice in the midst of that."""
    agent = AgentProcess(folder, "agent", CONFIG + upstream)
    await trio.to_thread.run_sync(dated_backlog, agent.store, RECORDS)

    async def is_below(records: int) -> bool:
        (row,) = await said(agent)
        return bool(row["left"] < records)

    async with agents(agent):

        async def has_begun() -> bool:
            return bool((await agent.get("/api/status"))["upstreams"][0]["connected"])

        await eventually(has_begun, describe="it begins where it is told")
        (row,) = await said(agent, "--from", "start", "--stream", "bench/**", "--yes")
        assert row["left"] == RECORDS
        for rest in (RECORDS * 3 // 4, RECORDS // 3):
            await eventually(partial(is_below, rest), describe=f"less than {rest} left")
            await agent.kill()
            await agent.start()
        await eventually(partial(is_below, 1), describe="nothing left")
        (row,) = await said(agent)
        assert (row["state"], row["gone"]) == ("done", 0)


async def test_a_hub_has_each_record_once(tmp_path: Path) -> None:
    hub = AgentProcess(tmp_path, "hub", '[store]\nsize = "16MiB"\n')
    async with agents(hub):
        # Slow enough to be killed in the midst of it.
        url = f'url = "ws://127.0.0.1:{hub.port}/forward"\nbytes_per_second = "100KiB"\n'
        await sent_by_an_agent_that_is_killed(tmp_path, url)
        found = await hub.records("bench/**")
        seqs = sorted(record["origin"]["seq"] for record in found)
        assert seqs == list(range(1, RECORDS + 1))


@pytest.mark.needs("postgresql", "psycopg")
async def test_postgresql_has_each_record_once(tmp_path: Path) -> None:
    server, database = await trio.to_thread.run_sync(new_database)
    url = f'url = "postgresql://edge@127.0.0.1:{server.port}/{database}"\nbatch_records = 500\n'
    password = f'password_file = "{secret_file(tmp_path)}"\n'
    await sent_by_an_agent_that_is_killed(tmp_path, url + password)
    count = "SELECT count(*), count(DISTINCT seq), max(seq) FROM records"
    found = await trio.to_thread.run_sync(partial(server.psql, count, database=database))
    assert found == f"{RECORDS}|{RECORDS}|{RECORDS}"
