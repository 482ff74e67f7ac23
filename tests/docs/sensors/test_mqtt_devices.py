"""Tasmota, ESPHome and Zigbee2MQTT: what each page says comes in, by its command and its rules.

A real broker and the real sensor; the devices are their topics and payloads.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from contextlib import ExitStack
from operator import itemgetter
from pathlib import Path

import pytest

from tests.docs.examples import DOCS, examples_of
from tests.docs.sensors.sensors import running, said
from tests.end_to_end.keys import STORE
from tests.end_to_end.support import AgentProcess, agents, eventually
from tests.forward.sinks.mqtt.broker import running_broker, subscribed

pytestmark = pytest.mark.needs("mosquitto")
PAGES = ("tasmota", "esphome", "zigbee2mqtt")
_LINE = re.compile(r"^([>=]) (\S+) (.+)$", re.MULTILINE)


async def test_what_devices_say_is_stored_as_their_pages_say(tmp_path: Path) -> None:
    rules = [one.code for page in PAGES for one in examples_of(f"sensors/{page}.md", "toml")]
    agent = AgentProcess(tmp_path, "agent", STORE + "".join(rules))
    lines = [
        line for page in PAGES for line in _LINE.findall((DOCS / f"sensors/{page}.md").read_text())
    ]
    wanted = [(stream, json.loads(text)) for mark, stream, text in lines if mark == "="]
    assert len(wanted) == 7
    with (
        running_broker(tmp_path / "broker") as broker,
        subscribed(broker, "mark") as other,
        ExitStack() as sensors,
    ):
        async with agents(agent):
            for page in PAGES:
                (command,) = examples_of(f"sensors/{page}.md", "sh")
                words = shlex.split(command.code.replace("mqtt://127.0.0.1", broker.url))
                assert words.pop(0) == "edge-agent"
                words += ["--to", agent.url, "--client-id", page, "--source", f"mqtt/{page}"]
                sensors.enter_context(
                    running([sys.executable, "-m", "edge_agent", *words], tmp_path)
                )

            async def all_listen() -> bool:
                return said(tmp_path).count("connected to the broker") == len(PAGES)

            await eventually(all_listen, describe="three sensors at the broker")
            for mark, topic, payload in lines:
                if mark == ">":
                    other.client.publish(topic, payload, qos=1)

            async def all_there() -> bool:
                return await agent.count() >= len(wanted)

            await eventually(all_there, describe="the records")
            found = sorted(await agent.records(), key=itemgetter("seq"))
        assert sorted(((one["stream"], one["fields"]) for one in found), key=repr) == sorted(
            wanted, key=repr
        )
        times = {one["stream"]: one["time"] for one in found}
    assert times["tele/hall/SENSOR/AM2301"] == "2026-06-01T10:00:00Z"
    assert times["zigbee2mqtt/porch"] == "2026-06-01T10:00:00Z"
