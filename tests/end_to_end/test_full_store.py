"""The store fills while the upstream is away, and is freed when it comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.end_to_end.relay import uplink
from tests.end_to_end.support import AgentProcess, agents, eventually, producer_to
from tests.end_to_end.talking import Closed, Peer, metric
from tests.patience import PATIENCE_S

STORE = '[store]\nsize = "16MiB"\n[log.main]\ncommit_interval = "20ms"\n'
#: Room for 1.6 MB, which is some 400 records of 4 KB.
SMALL_STORE = """
[store]
size = "16MiB"
compression_level = 0
[log.main]
commit_interval = "20ms"
share = "10%"
when_full = "{when_full}"
[[upstream]]
name = "hub"
url = "ws://127.0.0.1:{port}/forward"
batch_age = "20ms"
backoff_base = "50ms"
backoff_max = "200ms"
"""
COUNT = 800
PAD = "x" * 4000


def records(first: int, last: int) -> list[dict[str, object]]:
    return [{"n": n, "pad": PAD} for n in range(first, last + 1)]


async def numbers(agent: AgentProcess) -> list[int]:
    """What an agent holds of the sensor, in order."""
    return [record["fields"]["n"] for record in await agent.records("pi")]


class Sensor:
    """Keeps what is not acked, and tries again at once: sooner than it is asked to, for a test."""

    def __init__(self, agent: AgentProcess) -> None:
        self.acked = 0
        self.stops: list[dict[str, Any]] = []
        self._agent = agent

    async def attempt(self) -> bool:
        """One connection: send everything from where the agent stands; whether all is acked."""
        async with await Peer.open(self._agent, "/ingest/pi") as peer:
            self.acked = await peer.hello("pi") - 1
            try:
                for first in range(self.acked + 1, COUNT + 1, 20):
                    await peer.say(records(first, min(first + 19, COUNT)))
                while self.acked < COUNT:
                    said = await peer.hear()
                    if said["type"] == "ack":
                        self.acked = said["next"] - 1
                    else:
                        self.stops.append(said)
            except Closed as closed:
                assert closed.code in (1013, 1006), closed.code  # noqa: PT017 - either may come
        return self.acked == COUNT


async def test_a_full_store_refuses_goes_on_answering_and_takes_the_rest_once_it_is_freed(
    tmp_path: Path,
) -> None:
    hub = AgentProcess(tmp_path, "hub", STORE)
    async with agents(hub), uplink(hub.port) as relay:
        config = SMALL_STORE.format(when_full="refuse", port=relay.port)
        agent = AgentProcess(tmp_path, "agent", config)
        async with agents(agent):
            relay.cut()
            sensor = Sensor(agent)

            async def refused() -> bool:
                assert not await sensor.attempt()
                return bool(sensor.stops)

            await eventually(refused, describe="stop store_full")
            assert {stop["code"] for stop in sensor.stops} == {"store_full"}
            assert sensor.stops[0]["retry_after"] > 0
            assert 0 < sensor.acked < COUNT
            assert await numbers(agent) == [*range(1, sensor.acked + 1)]
            (log,) = (await agent.get("/api/status"))["logs"]
            assert log["refused"] > 0 and log["discarded"] == 0
            assert await metric(agent, "stops_total") > 0

            relay.restore()
            await eventually(sensor.attempt, describe="all sent")

            async def all_arrived() -> bool:
                return len(await numbers(hub)) >= COUNT

            await eventually(all_arrived, describe="everything at the hub")
            assert await numbers(hub) == [*range(1, COUNT + 1)]
            assert await metric(agent, "records_trimmed_total") > 0
            assert await metric(agent, "records_discarded_total") == 0


async def test_a_full_store_that_discards_the_oldest_counts_them_and_keeps_a_suffix(
    tmp_path: Path,
) -> None:
    hub = AgentProcess(tmp_path, "hub", STORE)
    async with agents(hub), uplink(hub.port) as relay:
        config = SMALL_STORE.format(when_full="discard-oldest", port=relay.port)
        agent = AgentProcess(tmp_path, "agent", config)
        async with (
            agents(agent), producer_to(f"{agent.url}/ingest/pi", source="pi") as producer
        ):  # fmt: skip
            relay.cut()
            for first in range(1, COUNT, 20):
                await producer.send(records(first, first + 19))
                await producer.flush(PATIENCE_S)
            kept = await numbers(agent)
            discarded = COUNT - len(kept)
            assert 0 < discarded < COUNT
            assert kept == [*range(discarded + 1, COUNT + 1)]
            assert await metric(agent, "records_discarded_total") == discarded
            (log,) = (await agent.get("/api/status"))["logs"]
            assert (log["discarded"], log["first_seq"]) == (discarded, discarded + 1)

            relay.restore()

            async def last_arrived() -> bool:
                return COUNT in await numbers(hub)

            await eventually(last_arrived, describe="the newest record at the hub")
            assert await numbers(hub) == kept
            assert await metric(agent, "records_discarded_total") == discarded
