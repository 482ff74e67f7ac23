"""Starts that are refused: the text says what to do, the exit code says whether to try again."""

from __future__ import annotations

import re
from pathlib import Path

from tests.end_to_end.support import AgentProcess, agents, run_command
from tests.end_to_end.talking import Peer

CONFIG = '[store]\nsize = "16MiB"\n[log.main]\ncommit_interval = "20ms"\n'


async def test_listening_off_loopback_unprotected_is_refused_with_the_fix(tmp_path: Path) -> None:
    data = tmp_path / "data"
    ended = await run_command("run", "--data", str(data), "--listen", "0.0.0.0:0", "--http", "off")
    assert ended.returncode == 78
    told = ended.stderr
    assert "Traceback" not in told
    for part in ("listen.address", "0.0.0.0:0", "edge-agent tls init", "edge-agent token add"):
        assert part in told, told
    assert "insecure = true" in told
    assert not data.exists()


async def test_a_second_agent_on_the_same_store_is_told_who_has_it(tmp_path: Path) -> None:
    agent = AgentProcess(tmp_path, "agent", CONFIG)
    async with agents(agent), await Peer.open(agent) as sensor:
        await sensor.hello("pi")
        await sensor.say({"n": 1})
        await sensor.hear_ack(2)
        assert agent.process is not None
        ended = await run_command(
            "run", "--config", str(agent.write_config()), "--data", str(agent.store),
            "--listen", "127.0.0.1:0", "--http", "off",
        )  # fmt: skip
        told = ended.stderr
        assert ended.returncode == 75
        assert re.search(rf"\b{agent.process.pid}\b", told), told
        assert "Traceback" not in told
        # The first one has not noticed.
        await sensor.say({"n": 2})
        await sensor.hear_ack(3)
        assert [record["fields"]["n"] for record in await agent.records("test")] == [1, 2]
