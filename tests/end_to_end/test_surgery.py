"""A person's hand on a running agent that forwards to a real hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edge_agent.security.tokens import add_token
from tests.end_to_end.support import AgentProcess, agents, eventually, producer_to, run_command
from tests.patience import PATIENCE_S

HUB = '[store]\nsize = "16MiB"\n[log.main]\ncommit_interval = "20ms"\n'
AGENT = (
    HUB
    + """
[[upstream]]
name = "hub"
url = "ws://127.0.0.1:{port}/forward"
batch_age = "20ms"
backoff_base = "50ms"
backoff_max = "200ms"
"""
)


async def consumer(agent: AgentProcess, *arguments: str) -> list[dict[str, Any]]:
    url = f"http://127.0.0.1:{agent.http_port}"
    done = await run_command("consumer", *arguments, "--json", "--url", url)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


async def numbers(agent: AgentProcess) -> list[int]:
    return [record["fields"]["n"] for record in await agent.records("pi")]


async def send(agent: AgentProcess, first: int, last: int) -> None:
    async with producer_to(f"{agent.url}/ingest/pi", source="pi") as producer:
        await producer.send([{"n": n} for n in range(first, last + 1)])
        await producer.flush(PATIENCE_S)


async def arrived(hub: AgentProcess, expected: list[int]) -> None:
    async def all_there() -> bool:
        return len(await numbers(hub)) >= len(expected)

    await eventually(all_there, describe=f"{len(expected)} records at the hub")
    assert await numbers(hub) == expected


async def test_pause_rewind_and_skip_before_the_eyes_of_a_hub_that_counts(tmp_path: Path) -> None:
    hub = AgentProcess(tmp_path, "hub", HUB)
    agent = AgentProcess(tmp_path, "agent", AGENT.format(port=hub.port))
    async with agents(hub, agent):
        await send(agent, 1, 10)
        await arrived(hub, [*range(1, 11)])

        # Paused, it says so, across a restart too.
        assert (await consumer(agent, "pause", "hub"))[0]["paused"]
        await send(agent, 11, 20)
        (upstream,) = (await agent.get("/api/status"))["upstreams"]
        assert upstream["phase"] == "paused" and upstream["backlog_records"] == 10
        await agent.stop()
        await agent.start()
        assert (await agent.get("/api/status"))["upstreams"][0]["phase"] == "paused"
        assert await numbers(hub) == [*range(1, 11)]

        # What is skipped never comes, and a hub whose numbers would call for it does not get it.
        (skipped,) = await consumer(agent, "skip", "hub", "--to", "16", "--yes")
        assert (skipped["floor"], skipped["skipped"]) == (15, 5)
        await consumer(agent, "resume", "hub")
        await arrived(hub, [*range(1, 11), *range(16, 21)])
        status = await agent.get("/api/status")
        assert status["logs"][0]["discarded"] == 5 and status["upstreams"][0]["rewinds"] == 0

        # What is sent again is there twice, and then it goes on as before, over restarts of both.
        await consumer(agent, "rewind", "hub", "--to", "18", "--yes")
        expected = [*range(1, 11), *range(16, 21), *range(18, 21)]
        await arrived(hub, expected)
        await hub.stop()
        await hub.start()
        await send(agent, 21, 25)
        await arrived(hub, [*expected, *range(21, 26)])
        assert (await agent.get("/api/status"))["upstreams"][0]["rewinds"] == 0


async def test_where_there_are_tokens_only_an_admins_order_is_obeyed(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    for name, scopes in (("reads", {"read": ("**",)}), ("rules", {"admin": True})):
        (tmp_path / name).write_text(add_token(tokens, name, **scopes))
    config = AGENT.format(port=1).replace("[store]", f'[listen]\ntokens = "{tokens}"\n[store]')
    agent = AgentProcess(tmp_path, "agent", config)
    async with agents(agent):
        url = f"http://127.0.0.1:{agent.http_port}"
        for token, code in (((), 1), (("reads",), 1), (("rules",), 0)):
            files = [text for name in token for text in ("--token-file", str(tmp_path / name))]
            done = await run_command("consumer", "pause", "hub", "--url", url, *files)
            assert done.returncode == code, done.stderr
            assert ("scope admin" in done.stderr) == (code == 1)
        (upstream,) = (await agent.get("/api/status"))["upstreams"]
        assert upstream["phase"] == "paused"
        assert any(one["code"] == "upstream_paused"
                   for one in (await agent.get("/healthz"))["warnings"])  # fmt: skip


async def test_a_store_whose_agent_runs_is_reached_through_it_without_being_told(
    tmp_path: Path,
) -> None:
    agent = AgentProcess(tmp_path, "agent", AGENT.format(port=1))
    async with agents(agent):
        await send(agent, 1, 3)
        config = agent.folder / "reach.toml"
        config.write_text(
            f'{AGENT.format(port=1)}\n[http]\naddress = "127.0.0.1:{agent.http_port}"\n'
        )
        where = ("--config", str(config), "--data", str(agent.store))
        for _ in range(2):
            done = await run_command("consumer", "list", "--json", *where)
            (found,) = json.loads(done.stdout)
            assert (found["consumer"], found["backlog"]) == ("upstream/hub", 3)
            # The second time nobody runs on it.
            await agent.stop()
