"""Upstreams that come, change and go while an agent runs."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.end_to_end.keys import STORE
from tests.end_to_end.support import AgentProcess, agents, producer_to
from tests.forward.http_upstream import HttpUpstream, http_upstream
from tests.patience import eventually

UPSTREAM = '[[upstream]]\nname = "{}"\nurl = "{}"\nbatch_age = "0s"\ncompression = "none"\n'


def numbers(server: HttpUpstream) -> list[int]:
    return [record["fields"]["n"] for got in server.got for record in got.records]


async def test_sighup_takes_changed_upstreams_up_and_leaves_wrong_ones_alone(
    tmp_path: Path,
) -> None:
    async with http_upstream() as one, http_upstream() as other:
        first = UPSTREAM.format("one", one.url)
        agent = AgentProcess(tmp_path, "agent", STORE + first)

        async def change(upstreams: str, told: str) -> None:
            agent.config = STORE + upstreams
            agent.write_config()
            assert agent.process is not None
            agent.process.send_signal(signal.SIGHUP)
            await eventually(lambda: told in agent.output(), told)

        async with (
            agents(agent),
            producer_to(f"{agent.url}/ingest/a", source="pi") as producer,
        ):

            async def send(number: int) -> None:
                await producer.send({"n": number})
                await producer.flush()

            await send(1)
            await eventually(lambda: numbers(one) == [1], "the first record arrives")
            second = UPSTREAM.format("two", other.url) + 'start = "now"\n'
            await change(first + second, "upstream two is new")
            await send(2)
            await eventually(lambda: numbers(one) == [1, 2], "the first upstream goes on")
            await eventually(lambda: numbers(other) == [2], "the second begins now")
            assert one.connections == 1  # It was not interrupted.
            await change(
                first + second.replace("url", "ulr"), "the configuration stays as it was: "
            )
            await send(3)
            await eventually(lambda: numbers(other) == [2, 3], "the second goes on")
            # What it has not got by then is not its own any more.
            await eventually(lambda: numbers(one) == [1, 2, 3], "the first goes on")
            await change(second, "upstream one is not configured any more")
            await send(4)
            await eventually(lambda: numbers(other) == [2, 3, 4], "the second goes on")
            assert numbers(one) == [1, 2, 3]
