"""A backup of a running agent becomes a second agent, and both forward to one hub."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.end_to_end.relay import uplink
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


async def send(agent: AgentProcess, stream: str, first: int, last: int) -> None:
    async with producer_to(f"{agent.url}/ingest/{stream}", source=stream) as producer:
        await producer.send([{"n": n} for n in range(first, last + 1)])
        await producer.flush(PATIENCE_S)


async def numbers(agent: AgentProcess, stream: str) -> list[int]:
    return [record["fields"]["n"] for record in await agent.records(stream)]


async def arrived(hub: AgentProcess, stream: str, last: int) -> None:
    async def there() -> bool:
        return last in await numbers(hub, stream)

    await eventually(there, describe=f"{stream} up to {last} at the hub")


async def test_nothing_is_lost_or_overwritten_and_duplicates_are_what_the_backup_had_open(
    tmp_path: Path,
) -> None:
    hub = AgentProcess(tmp_path, "hub", HUB)
    async with agents(hub), uplink(hub.port) as relay:
        old = AgentProcess(tmp_path, "old", AGENT.format(port=relay.port))
        new = AgentProcess(tmp_path, "new", AGENT.format(port=hub.port))
        async with agents(old):
            await send(old, "a", 1, 50)
            await arrived(hub, "a", 50)
            # What the hub has acknowledged is known to the store with the next commit after it.
            await send(old, "a", 51, 51)
            await arrived(hub, "a", 51)
            relay.cut()
            await send(old, "a", 52, 80)
            target = tmp_path / "backup"
            done = await run_command("backup", str(target), "--data", str(old.store))
            assert done.returncode == 0, done.stderr
            # The original goes on; what it gets now the backup does not have.
            relay.restore()
            await send(old, "a", 81, 100)
            await arrived(hub, "a", 100)

            config = str(new.write_config())
            done = await run_command(
                "restore", str(target), "--config", config, "--data", str(new.store)
            )
            assert done.returncode == 0, done.stderr
            async with agents(new):
                ids = [(await each.get("/api/status"))["agent"]["id"] for each in (old, new)]
                assert ids[0] != ids[1]
                await send(new, "b", 1, 30)
                await send(old, "a", 101, 110)
                await arrived(hub, "b", 30)
                await arrived(hub, "a", 110)

            # Nothing lost, nothing overwritten, each agent in order.
            assert await numbers(hub, "b") == [*range(1, 31)]
            counted = Counter(await numbers(hub, "a"))
            assert set(counted) == set(range(1, 111))
            # Twice is exactly what the backup held and had not seen acknowledged.
            twice = sorted(n for n, times in counted.items() if times > 1)
            assert max(counted.values()) == 2
            assert twice[-1] == 80 and twice == [*range(twice[0], 81)] and twice[0] in (51, 52)
            status = await hub.get("/api/status")
            assert status["logs"][0]["damaged"] == 0
