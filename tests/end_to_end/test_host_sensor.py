"""The host sensor, through an agent, to a hub: the hub's query shows what the sensor sent."""

from __future__ import annotations

import re
from pathlib import Path

from tests.end_to_end.support import AgentProcess, agents, eventually, run_command

COUNT = 60
CONFIG = '[store]\nsize = "16MiB"\n[log.main]\ncommit_interval = "50ms"\n'
UPSTREAM = (
    '[[upstream]]\nname = "hub"\nurl = "ws://127.0.0.1:{port}/forward"\n'
    'batch_age = "50ms"\nbackoff_base = "50ms"\n'
)


async def test_the_hub_shows_the_records_that_the_host_sensor_sent(tmp_path: Path) -> None:
    hub = AgentProcess(tmp_path, "hub", CONFIG)
    agent = AgentProcess(tmp_path, "agent", CONFIG + UPSTREAM.format(port=hub.port))
    async with agents(hub, agent):
        sensor = await run_command(
            "sensor", "host", "--url", agent.url, "--stream", "host/trial", "--source",
            "host/trial", "--interval", "0.05", "--count", str(COUNT),
        )  # fmt: skip
        assert sensor.returncode == 0, sensor.stderr
        told = [int(text) for text in re.findall(r"\d+", sensor.stderr)[:2]]

        async def arrived() -> bool:
            return await hub.count("host/trial") >= COUNT

        await eventually(arrived, describe="the sensor's records at the hub")
        at_agent = await agent.records("host/trial")
        at_hub = await hub.records("host/trial")
    acked, kept = told
    assert (acked, kept) == (COUNT, 0)
    assert len(at_hub) == COUNT
    assert [r["fields"] for r in at_hub] == [r["fields"] for r in at_agent]
    assert [r["time"] for r in at_hub] == [r["time"] for r in at_agent]
    assert {r["source"] for r in at_hub} == {"host/trial"}
    assert all(0 <= r["fields"]["cpu_percent"] <= 100 for r in at_hub)
    assert len({r["time"] for r in at_hub}) == COUNT
