"""From agent to agent on a stick, and a kind of upstream of somebody else's: real processes."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import trio

from edge_agent.security.tokens import add_token
from tests.end_to_end.keys import STORE
from tests.end_to_end.support import AgentProcess, agents, eventually, producer_to, run_command
from tests.own_sink.installed import installed
from tests.preloaded import nest

CONFIG = (
    STORE
    + """
[[upstream]]
name = "stick"
url = "{url}"
batch_records = 200
backoff_base = "20ms"
backoff_max = "40ms"
{more}
"""
)


async def send(agent: AgentProcess, values: Sequence[int]) -> None:
    """Records in messages of 50; when this returns they are on the agent's disk."""
    async with producer_to(f"{agent.url}/ingest/greenhouse/1", source="pi") as producer:
        for start in range(0, len(values), 50):
            await producer.send([{"n": n} for n in values[start : start + 50]])
        await producer.flush()


async def until_nothing_is_owed(agent: AgentProcess) -> None:
    async def done() -> bool:
        (one,) = (await agent.get("/api/status"))["upstreams"]
        return bool(one["backlog_records"] == 0)

    await eventually(done, describe="an empty backlog")


async def read(agent: AgentProcess) -> list[tuple[Any, ...]]:
    return [
        (one["fields"]["n"], one["time"], one["source"])
        for one in await agent.records("greenhouse/*")
    ]


async def test_a_stick_brings_every_record_once_whatever_is_killed_on_either_side(
    tmp_path: Path,
) -> None:
    stick, tokens = tmp_path / "stick", tmp_path / "tokens"
    stick.mkdir()
    (tmp_path / "secret").write_text(add_token(tokens, "carrier", forward=True))
    more = '[upstream.file]\nage = "50ms"'
    field = AgentProcess(tmp_path, "field", CONFIG.format(url=stick.as_uri(), more=more))
    home = AgentProcess(tmp_path, "home", f'{STORE}[listen]\ntokens = "{tokens}"\n')
    async with agents(field, home):
        await send(field, range(1500))
        # Somewhere in the middle of writing files.
        await eventually(lambda: _some(stick), describe="a file")
        await field.kill()
        await field.start()
        await send(field, range(1500, 3000))
        await until_nothing_is_owed(field)
        told = await run_command(
            "upstream", "list", "--json", "--url", f"http://127.0.0.1:{field.http_port}"
        )
        (row,) = json.loads(told.stdout)
        assert row["name"] == "stick" and row["backlog"] == 0 and "acknowledged" in row["said"]
        tried = await run_command(
            "upstream", "test", "stick",
            "--config", str(field.write_config()), "--data", str(field.store),
        )  # fmt: skip
        assert tried.returncode == 0, tried.stdout + tried.stderr
        assert not list(stick.glob("*.part")) and not (stick / "edge-agent-probe").exists()

        arguments = [
            "import", str(stick), "--to", home.url, "--token-file", str(tmp_path / "secret"),
        ]  # fmt: skip
        await _begin_and_kill(arguments, home)
        done = await run_command(*arguments)
        assert done.returncode == 0, done.stderr
        again = await run_command(*arguments)
        assert "0 records brought in, 3,000 were there already" in again.stderr, again.stderr
        got = await read(home)
        assert [one[0] for one in got] == list(range(3000))
        assert got == await read(field)
        denied = await run_command("import", str(stick), "--to", home.url)
        assert denied.returncode == 69 and "401" in denied.stderr


async def _some(folder: Path) -> bool:
    await trio.lowlevel.checkpoint()
    return bool(list(folder.glob("*.ndjson.gz")))


async def _begin_and_kill(arguments: Sequence[str], home: AgentProcess) -> None:
    """An import that is killed as soon as something of it has arrived, or a little before."""
    process = await trio.to_thread.run_sync(nest().fork, ["edge_agent", *arguments])
    try:

        async def has_begun() -> bool:
            return process.poll() is not None or await home.count("greenhouse/*") > 0

        await eventually(has_begun, describe="a first record")
    finally:
        process.kill()
        await process.ended()


async def test_a_package_of_somebody_elses_takes_the_records_and_its_absence_is_told(
    tmp_path: Path,
) -> None:
    database, site = tmp_path / "spool.db", tmp_path / "site"
    config = CONFIG.format(url=f"spool://{database}", more='options = { source = "pi" }')
    with installed(site):
        # A new interpreter, which finds what is installed.
        agent = AgentProcess(tmp_path, "agent", config, wrapper=("env",))
        agent.environment = {"PYTHONPATH": f"{site}:{os.environ.get('PYTHONPATH', '')}"}
        async with agents(agent):
            await send(agent, range(300))
            await until_nothing_is_owed(agent)
    with closing(sqlite3.connect(database)) as opened:
        rows = opened.execute("SELECT fields FROM records ORDER BY rowid").fetchall()
    assert [json.loads(fields)["n"] for (fields,) in rows] == list(range(300))
    done = await run_command("config", "check", str(agent.write_config()))
    assert done.returncode == 78 and "url: expected" in done.stderr
