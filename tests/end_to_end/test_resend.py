"""A real agent is killed while it sends something once more by order: all of it is there once."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import pytest
import trio
from msgspec import structs

from benchmarks.upstreams.backlog import dated_backlog
from edge_agent.assembly.wiring import store_settings
from edge_agent.config import Config, LogConfig, Share, Size, StoreConfig
from edge_agent.digest import HistoryFile, HistoryOwner, HistoryWriter, Keep
from edge_agent.store import Engine, Entry
from edge_agent.system.clock import SystemClock
from edge_agent.values.record import Run
from tests.end_to_end.keys import STORE
from tests.end_to_end.support import AgentProcess, agents, eventually, run_command
from tests.end_to_end.talking import metric
from tests.forward.http_upstream import Got, Reply, http_upstream
from tests.forward.sinks.postgres.server import new_database
from tests.forward.sinks.postgres.side import secret_file

RECORDS = 5_000
#: What is there already is never sent in the ordinary way.
CONFIG = """
[[upstream]]
name = "far"
start = "now"
backoff_base = "20ms"
backoff_max = "100ms"
"""
NO_HISTORY = """
[history]
enabled = false
"""
#: A log that holds a part of the records alone.
TRIMMED = """
[store]
size = "16MiB"
[log.main]
share = "1%"
"""
_YEARS = Keep(*[10**17] * 3)


def digested_backlog(data: Path, records: int) -> None:
    """Records of two streams in the store of an agent; history has all, and the log the newest."""
    log = LogConfig(share=Share(0.7))
    config = Config(store=StoreConfig(size=Size(16 << 20)), log={"main": log})
    clock = SystemClock()
    engine = Engine.open(data, store_settings(config), clock=clock, entropy=os.urandom)
    now_ns = clock.read().wall_ns
    dice = random.Random(1)
    for start in range(0, records, 100):
        rows = [{"n": start + n + 1, "pad": dice.randbytes(60)} for n in range(100)]
        body = b"".join(map(msgpack.packb, rows))
        stream = f"bench/{start // 100 % 2}"
        engine.commit([Entry((Run(stream, "s", 0, now_ns, True, 100, body, now_ns, now_ns),))])
    owner = HistoryOwner(engine.identity.store_id, engine.identity.epoch)
    history, _ = HistoryFile.open(data, 16 << 20, owner)
    writer = HistoryWriter(history, _YEARS)
    while items := engine.read("main", writer.digested.get("main", 0), 1 << 20):
        for _ in writer.take(items, now_ns):
            pass
    *_, flush = writer.flush(now_ns)
    assert flush is not None
    history.write(flush)
    history.close()
    engine.close()
    small = structs.replace(config, log={"main": structs.replace(log, share=Share(0.01))})
    engine = Engine.open(data, store_settings(small), clock=clock, entropy=os.urandom)
    engine.trim()
    assert 1000 < engine.first_seq("main") < records - 1000
    engine.close()


async def said(agent: AgentProcess, *arguments: str) -> Any:
    done = await run_command(
        "upstream", "resend", "far", "--json", "--url", f"http://127.0.0.1:{agent.http_port}",
        *arguments,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def sent_by_an_agent_that_is_killed(
    folder: Path,
    config: str,
    fill: Callable[[Path, int], None],
    *,
    from_history: bool,
    again: bool = False,
) -> None:
    """All that it has, by order; it ends twice in the midst of that. ``again``: all once more."""
    agent = AgentProcess(folder, "agent", config)
    await trio.to_thread.run_sync(fill, agent.store, RECORDS)

    async def is_below(records: int) -> bool:
        (row,) = await said(agent)
        return bool(row["left"] < records)

    async def has_ended() -> bool:
        # Nothing is left before that: its end is a commit of its own, behind the last of it.
        (row,) = await said(agent)
        return bool(row["state"] != "under way")

    async with agents(agent):

        async def has_begun() -> bool:
            return bool((await agent.get("/api/status"))["upstreams"][0]["connected"])

        await eventually(has_begun, describe="it begins where it is told")
        (row,) = await said(agent, "--from", "start", "--stream", "bench/**", "--yes")
        assert row["left"] == RECORDS and row["first"] == 1
        assert (row["from_history"] != 0) == from_history
        for rest in (RECORDS * 3 // 4, RECORDS // 3):
            await eventually(partial(is_below, rest), describe=f"less than {rest} left")
            await agent.kill()
            await agent.start()
        await eventually(has_ended, describe="the order's end")
        (row,) = await said(agent)
        assert (row["state"], row["gone"]) == ("done", 0)
        if again:
            await said(agent, "--from", "start", "--stream", "bench/**", "--yes")
            await eventually(has_ended, describe="the second order's end")


async def test_a_hub_has_each_record_once_from_history_and_from_the_log(tmp_path: Path) -> None:
    hub = AgentProcess(tmp_path, "hub", STORE)
    async with agents(hub):
        # Slow enough to be killed in the midst of it.
        url = f'url = "ws://127.0.0.1:{hub.port}/forward"\nbytes_per_second = "100KiB"\n'
        await sent_by_an_agent_that_is_killed(
            tmp_path, TRIMMED + CONFIG + url, digested_backlog, from_history=True, again=True
        )
        found = await hub.records("bench/**")
        numbers = [(record["origin"]["seq"], record["fields"]["n"]) for record in found]
        assert sorted(numbers) == [(n, n) for n in range(1, RECORDS + 1)]
        # They came by another order, too.
        assert await metric(hub, "records_duplicate_total") >= RECORDS


async def test_an_http_server_has_each_record_once_from_history_and_from_the_log(
    tmp_path: Path,
) -> None:
    kept: dict[str, bytes] = {}
    found: Counter[tuple[int, int]] = Counter()

    def answer(got: Got) -> Reply:
        # As a server that knows keys: the same key is the same bytes, and done once.
        if kept.setdefault(got.key, got.body) is got.body:
            found.update((int(one["id"].split("/")[2]), one["fields"]["n"]) for one in got.records)
        assert kept[got.key] == got.body
        return Reply(204)

    async with http_upstream() as server:
        server.answer = answer
        url = f'url = "{server.url}"\nbytes_per_second = "150KiB"\nbatch_records = 300\n'
        await sent_by_an_agent_that_is_killed(
            tmp_path, TRIMMED + CONFIG + url, digested_backlog, from_history=True
        )
    assert found == Counter((n, n) for n in range(1, RECORDS + 1))


@pytest.mark.needs("postgresql", "psycopg")
async def test_postgresql_has_each_record_once(tmp_path: Path) -> None:
    server, database = await trio.to_thread.run_sync(new_database)
    url = f'url = "postgresql://edge@127.0.0.1:{server.port}/{database}"\nbatch_records = 500\n'
    password = f'password_file = "{secret_file(tmp_path)}"\n'
    await sent_by_an_agent_that_is_killed(
        tmp_path, NO_HISTORY + CONFIG + url + password, dated_backlog, from_history=False
    )
    count = "SELECT count(*), count(DISTINCT seq), max(seq) FROM records"
    rows = await trio.to_thread.run_sync(partial(server.psql, count, database=database))
    assert rows == f"{RECORDS}|{RECORDS}|{RECORDS}"
