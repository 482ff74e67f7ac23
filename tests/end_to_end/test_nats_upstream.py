"""A real agent in front of a real nats-server; both are killed while records pass."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import trio

from tests.end_to_end.support import AgentProcess, agents, eventually, producer_to
from tests.forward.sinks.nats.server import NatsServer, Reader

CONFIG = """
[store]
size = "16MiB"
[log.main]
commit_interval = "20ms"
[[upstream]]
name = "jetstream"
url = "{url}"
batch_age = "20ms"
batch_records = 200
backoff_base = "20ms"
backoff_max = "200ms"
"""
ROUND = 1500


async def test_kills_of_agent_and_server_leave_every_acked_record_in_the_stream_once(
    tmp_path: Path,
) -> None:
    server = NatsServer(tmp_path / "nats")
    agent = AgentProcess(tmp_path, "agent", CONFIG.format(url=server.url))

    def stored() -> list[int]:
        with Reader(server.port) as reader:
            return [one["fields"]["n"] for one in reader.records()]

    async def has(count: int) -> bool:
        return len(await trio.to_thread.run_sync(stored)) >= count

    try:
        server.start()
        async with agents(agent):
            for turn in range(3):
                async with producer_to(f"{agent.url}/ingest/t/1", source="pi") as producer:
                    await producer.send([{"n": turn * ROUND + n} for n in range(ROUND)])
                # Somewhere in the middle of what it sends on.
                await eventually(partial(has, turn * ROUND + 1), describe="some")
                await agent.kill()
                if turn == 1:
                    await trio.to_thread.run_sync(server.kill)
                    await trio.to_thread.run_sync(server.start)
                await agent.start()
            await eventually(partial(has, 3 * ROUND), describe="all")
            assert await trio.to_thread.run_sync(stored) == list(range(3 * ROUND))
    finally:
        server.kill()
