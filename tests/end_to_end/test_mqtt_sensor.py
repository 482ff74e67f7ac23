"""Sensors that speak MQTT: a real broker, the sensor's own process, a real agent."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from tests.end_to_end.keys import STORE
from tests.end_to_end.support import AgentProcess, agents, eventually
from tests.forward.sinks.mqtt.broker import Broker, Subscriber, running_broker, subscribed
from tests.patience import PATIENCE_S
from tests.preloaded import Forked, nest

pytestmark = pytest.mark.needs("mosquitto")

RULES = """
[store]
size = "16MiB"
[log.main]
commit_interval = "20ms"

[[rule]]
name = "tasmota"
streams = ["tele/**"]
profile = "tasmota"

[[rule]]
name = "zigbee"
streams = ["zigbee2mqtt/*"]
profile = "zigbee2mqtt"
"""

SAID = {
    "tele/hall/SENSOR": """{"Time": "2026-06-01T12:00:00",
        "AM2301": {"Temperature": 21.5, "Humidity": 48.0}, "TempUnit": "C"}""",
    "zigbee2mqtt/porch": """{"temperature": 20.5, "contact": false,
        "last_seen": "2026-06-01T10:00:00Z", "update": {"state": "idle"}}""",
    "plain/Bath room": "19.5",
}


@contextmanager
def sensor(broker: Broker, agent: AgentProcess, *topics: str) -> Iterator[Forked]:
    named = [word for topic in topics for word in ("--topic", topic)]
    command = ["edge_agent", "sensor", "mqtt", broker.url, *named]
    command += ["--to", agent.url, "--client-id", "sensor", "--source", "mqtt/test"]
    with (broker.folder / "sensor.txt").open("ab") as output:
        process = nest().fork(command, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)


async def connected(broker: Broker, times: int = 1) -> None:
    async def said() -> bool:
        text = (broker.folder / "sensor.txt").read_text()
        return text.count("connected to the broker") >= times

    await eventually(said, describe="the sensor's connection")


async def test_a_tasmota_and_a_zigbee2mqtt_message_become_records(tmp_path: Path) -> None:
    agent = AgentProcess(tmp_path, "agent", RULES)
    with running_broker(tmp_path / "broker") as broker, subscribed(broker, "mark") as other:
        async with agents(agent):
            with sensor(broker, agent, "tele/#", "zigbee2mqtt/#", "plain/#") as process:
                await connected(broker)
                for topic, payload in SAID.items():
                    other.client.publish(topic, payload, qos=1)

                async def all_there() -> bool:
                    return await agent.count() == 3

                await eventually(all_there, describe="three records")
            assert process.returncode == 0
            found = {one["stream"]: one for one in await agent.records()}
        fields = {stream: one["fields"] for stream, one in found.items()}
        assert fields["tele/hall/SENSOR/AM2301"]["Temperature"] == 21.5
        assert fields["zigbee2mqtt/porch"] == {"temperature": 20.5, "contact": False}
        assert found["zigbee2mqtt/porch"]["time"] == "2026-06-01T10:00:00Z"
        assert fields["plain/Bath_room"] == {"value": 19.5}


async def publish(other: Subscriber, first: int, last: int) -> None:
    for n in range(first, last):
        other.client.publish("n", json.dumps({"n": n}), qos=1)
    await other.settled()


async def test_a_kill_of_sensor_and_agent_loses_no_message(tmp_path: Path) -> None:
    agent = AgentProcess(tmp_path, "agent", STORE)
    with running_broker(tmp_path / "broker") as broker, subscribed(broker, "mark") as other:
        async with agents(agent):
            with sensor(broker, agent, "n") as process:
                await connected(broker)
                await publish(other, 0, 300)
                process.kill()
                process.wait()
            await publish(other, 300, 400)
            with sensor(broker, agent, "n"):
                await connected(broker, 2)
                await publish(other, 400, 600)
                await agent.kill()
                await publish(other, 600, 700)
                await agent.start()

                async def everything() -> bool:
                    found = {one["fields"]["n"] for one in await agent.records()}
                    return found == set(range(700))

                with trio.fail_after(4 * PATIENCE_S):
                    await eventually(everything, describe="all 700 numbers")
