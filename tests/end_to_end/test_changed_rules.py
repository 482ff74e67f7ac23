"""Rules that are changed while an agent runs."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from tests.end_to_end.keys import STORE
from tests.end_to_end.support import AgentProcess, agents, producer_to
from tests.patience import eventually

RENAME = '[[rule]]\nname = "tidy"\nstreams = ["**"]\nrename = {{ temp = "{name}" }}\n'
HOOK = '[[rule]]\nname = "h"\nstreams = ["**"]\nhook = "no_such_module_here:f"\n'
UPSTREAM = '[[upstream]]\nname = "hub"\nurl = "ws://127.0.0.1:1/forward"\n'


async def upstreams(agent: AgentProcess) -> list[str]:
    return [one["name"] for one in (await agent.get("/api/status"))["upstreams"]]


async def test_sighup_takes_changed_rules_up_and_leaves_wrong_ones_alone(tmp_path: Path) -> None:
    agent = AgentProcess(tmp_path, "agent", STORE + RENAME.format(name="t"))

    async def change(rules: str, told: str) -> None:
        agent.config = STORE + rules
        agent.write_config()
        assert agent.process is not None
        agent.process.send_signal(signal.SIGHUP)
        await eventually(lambda: told in agent.output(), told)

    async with agents(agent), producer_to(f"{agent.url}/ingest/a", source="pi") as producer:

        async def stored(number: int) -> list[dict[str, Any]]:
            await producer.send({"temp": number})
            await producer.flush()
            return [record["fields"] for record in await agent.records()]

        assert {"t": 1} in await stored(1)
        await change(RENAME.format(name="celsius"), "the rules were read again: 1 act")
        assert {"celsius": 2} in await stored(2)
        await change(RENAME.format(name="time"), "the configuration stays as it was: ")
        assert "expected a field other than time and stream" in agent.output()
        assert {"celsius": 3} in await stored(3)
        await change("", "the rules were read again: 0 act")
        assert {"temp": 4} in await stored(4)
        # A hook that cannot be imported leaves the upstreams of the same file alone, too.
        await change(HOOK + UPSTREAM, "as it was, all of it: rule.h.hook: expected a function")
        assert await upstreams(agent) == []
        await change(UPSTREAM, "upstream hub is new")
        assert await upstreams(agent) == ["hub"]
        # A full disk leaves a file without anything in it; that removes no upstream.
        (agent.folder / "edge-agent.toml").write_text("")
        assert agent.process is not None
        agent.process.send_signal(signal.SIGHUP)
        await eventually(lambda: "found an empty file" in agent.output(), "it is told")
        assert await upstreams(agent) == ["hub"]
        # What cannot be taken up is named.
        await change("[wear]\nbytes_per_day_max = '1GiB'\n", "alone (systemctl restart edge-agent)")
        assert "wear.bytes_per_day_max\n" in agent.output()
