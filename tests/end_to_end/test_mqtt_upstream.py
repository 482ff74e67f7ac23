"""An agent's MQTT upstream, each side a real process, and the broker killed in the middle."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.relay import uplink
from tests.end_to_end.support import AgentProcess, agents, eventually, producer_to
from tests.forward.sinks.mqtt.broker import running_broker, subscribed, until

pytestmark = pytest.mark.needs("mosquitto")

RECORDS = 2000
CONFIG = """
[store]
size = "16MiB"
[log.main]
commit_interval = "20ms"

[[upstream]]
name = "broker"
url = "mqtt://127.0.0.1:{port}"
batch_records = 100
batch_age = "10ms"
backoff_base = "50ms"
backoff_max = "200ms"
[upstream.mqtt]
topic = "site/{{stream}}"
status_topic = "site/status"
"""


async def test_a_broker_killed_during_a_drain_loses_nothing_that_it_had_not_acknowledged(
    tmp_path: Path,
) -> None:
    with running_broker(tmp_path / "broker") as broker, subscribed(broker) as subscriber:
        async with uplink(broker.port) as relay:
            relay.cut()
            agent = AgentProcess(tmp_path, "agent", CONFIG.format(port=relay.port))
            async with agents(agent):
                async with producer_to(f"{agent.url}/ingest/t/1", source="s") as producer:
                    await producer.send([{"n": n} for n in range(RECORDS)])

                def arrived() -> set[int]:
                    found = [one for one in subscriber.messages if one.topic == "site/t/1"]
                    return {json.loads(one.payload)["fields"]["n"] for one in found}

                async def upstream() -> Any:
                    (found,) = (await agent.get("/api/status"))["upstreams"]
                    return found

                async def is_cut() -> bool:
                    return not (await upstream())["connected"]

                relay.restore()
                await until(lambda: len(subscriber.messages) > RECORDS // 4)
                broker.stop(signal.SIGKILL)
                relay.cut()
                # What it has read of acknowledgements counts until it sees the end.
                await eventually(is_cut, describe="the agent sees it")
                heard, floor = arrived(), int((await upstream())["acknowledged_records"])
                assert len(heard) < RECORDS
                subscriber.subscribed.clear()
                broker.start()
                # Otherwise there would be nobody to hear what comes first.
                await until(subscriber.subscribed.is_set)
                relay.restore()

                async def drained() -> bool:
                    return int((await upstream())["acknowledged_records"]) >= RECORDS

                await eventually(drained, describe="everything acknowledged")
                await subscriber.settled()
                # Only what the broker had acknowledged and kept in memory may be gone.
                assert set(range(RECORDS)) - arrived() <= set(range(floor)) - heard
                assert await agent.stop() == 0
            await subscriber.settled()
    status = [one.payload for one in subscriber.messages if one.topic == "site/status"]
    assert status[0] == b"online" and status[-1] == b"offline"
