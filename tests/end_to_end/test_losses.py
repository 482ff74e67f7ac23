"""A store is deleted, the agent's or the hub's: what is sent then arrives once, the gap shows."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from edge_agent.client import Backoff, Producer
from tests.end_to_end.relay import uplink
from tests.end_to_end.support import AgentProcess, agents, eventually, producer_to
from tests.end_to_end.talking import metric
from tests.patience import PATIENCE_S

STORE = '[store]\nsize = "16MiB"\n[log.main]\ncommit_interval = "20ms"\n'
#: A log so small that what the hub has is trimmed after some hundred records of a kilobyte.
SMALL_STORE = """
[store]
size = "16MiB"
compression_level = 0
[log.main]
commit_interval = "20ms"
share = "1%"
"""
UPSTREAM = (
    '[[upstream]]\nname = "hub"\nurl = "ws://127.0.0.1:{port}/forward"\n'
    'batch_age = "20ms"\nbackoff_base = "50ms"\nbackoff_max = "200ms"\n'
)
SENSORS = ("memory", "disk")


@asynccontextmanager
async def sensor(
    agent: AgentProcess, name: str, buffer: Path | None = None
) -> AsyncIterator[Producer]:
    """A sensor of the client library that comes back quickly."""
    async with producer_to(
        f"{agent.url}/ingest/{name}", source=name, buffer_path=buffer,
        backoff=Backoff(base=0.05, maximum=0.2),
    ) as producer:  # fmt: skip
        yield producer


async def numbers(agent: AgentProcess, name: str) -> list[int]:
    """What arrived of one sensor, in order of arrival."""
    return [record["fields"]["n"] for record in await agent.records(name)]


async def lose_store(agent: AgentProcess) -> None:
    """A new card in the same board, under power."""
    await agent.kill()
    shutil.rmtree(agent.store)


async def test_after_the_agent_lost_its_store_every_record_sent_arrives_once(
    tmp_path: Path,
) -> None:
    hub = AgentProcess(tmp_path, "hub", STORE)
    async with agents(hub), uplink(hub.port) as relay:
        agent = AgentProcess(tmp_path, "agent", STORE + UPSTREAM.format(port=relay.port))
        async with (
            agents(agent),
            sensor(agent, "memory") as in_memory,
            sensor(agent, "disk", tmp_path / "buffer.sqlite3") as on_disk,
        ):

            async def send(first: int, last: int) -> None:
                for producer in (in_memory, on_disk):
                    await producer.send([{"n": n} for n in range(first, last + 1)])

            async def acked() -> None:
                await in_memory.flush(PATIENCE_S)
                await on_disk.flush(PATIENCE_S)

            async def at_the_hub(last: int) -> bool:
                return all([last in await numbers(hub, name) for name in SENSORS])

            await send(1, 40)
            await eventually(partial(at_the_hub, 40), describe="the first records at the hub")
            relay.cut()
            await send(41, 60)
            await acked()
            await lose_store(agent)
            await send(61, 80)
            await agent.start()
            await send(81, 100)
            await acked()
            # For each sensor, numbers 1 to 60 are not, and never were, in the store that now is.
            assert await metric(agent, "source_restarts_total") == 2
            assert await metric(agent, "source_gaps_total") == 2 * 60
            assert await metric(agent, "records_duplicate_total") == 0

            relay.restore()
            await eventually(partial(at_the_hub, 100), describe="the last records at the hub")
            await send(101, 110)
            await eventually(partial(at_the_hub, 110), describe="records in normal operation")
            for name in SENSORS:
                assert await numbers(hub, name) == [*range(1, 41), *range(61, 111)]
                assert await numbers(agent, name) == [*range(61, 111)]
            assert await metric(hub, "records_duplicate_total") == 0


async def test_after_the_hub_lost_its_store_what_the_agent_holds_is_sent_again_once(
    tmp_path: Path,
) -> None:
    hub = AgentProcess(tmp_path, "hub", STORE)
    agent = AgentProcess(tmp_path, "agent", SMALL_STORE + UPSTREAM.format(port=hub.port))
    async with agents(hub, agent), sensor(agent, "pi") as producer:

        async def send(first: int, last: int) -> None:
            for n in range(first, last + 1, 10):
                await producer.send([{"n": each, "pad": "x" * 1000} for each in range(n, n + 10)])
                # One by one, so that the store holds small blocks and trims a few of them.
                await producer.flush(PATIENCE_S)

        async def at_the_hub(last: int) -> bool:
            return last in await numbers(hub, "pi")

        async def first_held() -> int:
            return int((await agent.get("/api/status"))["logs"][0]["first_seq"])

        # In portions, so that room is always made by what the hub has: nothing is discarded.
        for first in range(1, 241, 40):
            await send(first, first + 39)
            await eventually(partial(at_the_hub, first + 39), describe="the records at the hub")
        assert await numbers(hub, "pi") == [*range(1, 241)]
        oldest = await first_held()
        assert 1 < oldest < 240
        assert await metric(agent, "records_discarded_total") == 0

        await lose_store(hub)
        await hub.start()
        await eventually(partial(at_the_hub, 240), describe="what the agent still held")
        assert await numbers(hub, "pi") == [*range(oldest, 241)]
        assert await metric(agent, "forward_rewinds_total") == 1
        assert await metric(hub, "source_gaps_total") == oldest - 1
        assert await metric(hub, "source_restarts_total") == 1
        assert await metric(agent, "forward_gap_records_total") == oldest - 1
        (upstream,) = (await agent.get("/api/status"))["upstreams"]
        assert (upstream["rewinds"], upstream["gap_records"]) == (1, oldest - 1)

        await send(241, 250)
        await eventually(partial(at_the_hub, 250), describe="new records")
        assert await numbers(hub, "pi") == [*range(oldest, 251)]
        assert await metric(hub, "records_duplicate_total") == 0
        assert await metric(agent, "forward_rewinds_total") == 1
