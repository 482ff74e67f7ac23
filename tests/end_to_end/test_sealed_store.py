"""A store with a key: nothing of it can be read from the card, and nothing is lost by that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.end_to_end.support import AgentProcess, agents, eventually, producer_to, run_command
from tests.patience import PATIENCE_S

#: What nobody may find on the card.
SECRET = "greenhouse-door-7"
HUB = '[store]\nsize = "16MiB"\ncompression_level = 0\n[log.main]\ncommit_interval = "20ms"\n'
REST = """
[[rule]]
name = "types"
streams = ["**"]
schema = {{ types = {{ n = "number" }} }}
[[rule]]
name = "sums"
streams = ["**"]
window = "1h"
into = "sums/{{stream}}"
[[upstream]]
name = "hub"
url = "ws://127.0.0.1:{port}/forward"
batch_age = "20ms"
backoff_base = "50ms"
backoff_max = "200ms"
"""


def sealed(config: str, file: Path) -> str:
    return config.replace("[store]\n", f'[store]\nkey_file = "{file}"\n')


def write_keys(file: Path, *secrets: str) -> None:
    file.touch(mode=0o600)
    file.write_text("".join(f"{each * 32}\n" for each in secrets))


def tell_tales(*folders: Path) -> list[Path]:
    """Files in which the secret can be read."""
    files = [each for folder in folders for each in folder.rglob("*") if each.is_file()]
    return [each for each in files if SECRET.encode() in each.read_bytes()]


async def send(agent: AgentProcess, first: int, last: int) -> None:
    async with producer_to(f"{agent.url}/ingest/{SECRET}", source="pi") as producer:
        await producer.send([{"n": n, "who": SECRET} for n in range(first, last + 1)])
        await producer.flush(PATIENCE_S)


async def numbers(agent: AgentProcess) -> list[int]:
    return [record["fields"]["n"] for record in await agent.records(SECRET)]


async def has(agent: AgentProcess, last: int) -> None:
    async def there() -> bool:
        return (await numbers(agent))[-1:] == [last]

    await eventually(there, describe=f"{agent.name} has {last}")
    assert await numbers(agent) == [*range(1, last + 1)]


async def refused(agent: AgentProcess, *parts: str) -> None:
    """A start is, with one sentence that has these parts."""
    arguments = ("--config", str(agent.write_config()), "--data", str(agent.store))
    ended = await run_command("run", *arguments, "--listen", "127.0.0.1:0", "--http", "off")
    assert ended.returncode == 78
    assert "Traceback" not in ended.stderr and len(ended.stderr.splitlines()) == 1, ended.stderr
    assert all(part in ended.stderr for part in parts), ended.stderr


async def said(agent: AgentProcess) -> str:
    """By ``edge-agent status``."""
    done = await run_command("status", "--url", f"http://127.0.0.1:{agent.http_port}")
    return done.stdout.partition("sealed with the key")[2]


async def answer_about(agent: AgentProcess) -> list[dict[str, Any]]:
    """From history, by the process that answers."""
    given = await agent.get("/api/query", stream=SECRET, fields="n", step="1h", aggregate="count")
    found: list[dict[str, Any]] = given["rows"] if "rows" in given else given["series"]
    return found


async def test_a_card_with_a_sealed_store_tells_nothing_and_loses_nothing(tmp_path: Path) -> None:
    key = tmp_path / "store.key"
    write_keys(key, "5e")
    hub = AgentProcess(tmp_path, "hub", HUB)
    async with agents(hub):
        agent = AgentProcess(tmp_path, "agent", sealed(HUB, key) + REST.format(port=hub.port))
        open_config = HUB + REST.format(port=hub.port)
        async with agents(agent):
            await send(agent, 1, 50)
            async with producer_to(f"{agent.url}/ingest/{SECRET}", source="bad") as producer:
                await producer.send({"n": SECRET})
                await producer.flush(PATIENCE_S)
            await has(hub, 50)
            assert await answer_about(agent)
            named = (await agent.get("/api/status"))["store"]["key_id"]
            assert named and named in await said(agent)
            backup = tmp_path / "backup"
            done = await run_command("backup", str(backup), "--data", str(agent.store))
            assert done.returncode == 0, done.stderr
            await agent.kill()
            assert tell_tales(agent.store, backup) == []
            assert tell_tales(hub.store)

            before = {file: file.read_bytes() for file in agent.store.rglob("data.mdb")}
            config, agent.config = agent.config, open_config
            await refused(agent, "store.key_file gives no key", "nothing was changed")
            agent.config = config
            write_keys(key, "77")
            await refused(agent, "sealed with the key", "store.key_file has", "nothing was changed")
            assert {file: file.read_bytes() for file in before} == before
            assert not list(agent.store.glob("damaged-*"))

            # With its key, and another one in front of it, it goes on.
            write_keys(key, "77", "5e")
            await agent.start()
            await send(agent, 51, 60)
            await has(hub, 60)
            assert await numbers(agent) == [*range(1, 61)]
            quarantine = (await agent.get("/api/quarantine", limit=9))["entries"]
            assert [entry["stream"] for entry in quarantine] == [SECRET]
            assert await agent.stop() == 0
            arguments = ("--config", str(agent.write_config()), "--data", str(agent.store))
            done = await run_command("compact", *arguments)
            assert done.returncode == 0, done.stderr
            write_keys(key, "77")
            done = await run_command("check", "--deep", *arguments)
            assert done.returncode == 0 and "were not looked into" not in done.stdout, done.stdout
            await agent.start()
            await send(agent, 61, 62)
            await has(hub, 62)
            await has(agent, 62)
        assert tell_tales(agent.store) == []

        # Turned on in a store that is there: what it held stays readable, compacting seals it.
        assert await hub.stop() == 0
        hub.config = sealed(HUB, key)
        arguments = ("--config", str(hub.write_config()), "--data", str(hub.store))
        await hub.start()
        await has(hub, 62)
        assert await hub.stop() == 0
        assert tell_tales(hub.store)
        done = await run_command("compact", *arguments)
        assert done.returncode == 0, done.stderr
        assert tell_tales(hub.store) == []
        await hub.start()
        await has(hub, 62)
