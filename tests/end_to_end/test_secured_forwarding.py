"""A forwarder that its hub does not let in, or that does not trust its hub, keeps everything."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import trio

from tests.end_to_end.keys import (
    STORE,
    Keys,
    ask_people,
    first_trouble,
    holds,
    numbers,
    upstream,
    upstream_status,
    wss,
)
from tests.end_to_end.support import AgentProcess, agents, eventually, producer_to, run_command


async def test_a_forwarder_without_the_scope_keeps_everything_until_its_token_is_mended(
    tmp_path: Path, keys: Keys
) -> None:
    token = tmp_path / "forward.token"
    token.write_text(keys.secrets["sensor"])
    hub = AgentProcess(tmp_path, "hub", STORE + keys.listen)
    agent = AgentProcess(tmp_path, "agent", STORE + upstream(hub, keys.ca, token))
    async with agents(hub, agent):
        async with producer_to(f"{agent.url}/ingest/greenhouse/1", source="pi") as producer:
            await producer.send([{"n": n} for n in range(20)])

        async def refused() -> dict[str, Any] | None:
            shown = await upstream_status(agent)
            return shown if shown["retry_in_s"] and shown["failures"] > 1 else None

        shown = await eventually(refused, describe="the refusal in status")
        assert shown["error"] == (
            "HTTP 403 instead of a WebSocket: The token has no scope 'forward'."
        )
        assert (shown["connected"], shown["backlog_records"]) == (False, 20)
        # Every failure was one for a person to mend, and so for the slow pace.
        _, text = await trio.to_thread.run_sync(ask_people, agent.http_port, "/metrics")
        assert set(re.findall(r"forward_failures_total\{.*kind=\"(\w+)\"", text)) == {"slow"}
        told = await run_command("status", "--url", f"http://127.0.0.1:{agent.http_port}")
        assert "The token has no scope 'forward'." in told.stdout
        assert await hub.count() == 0

        token.unlink()

        async def unreadable() -> bool:
            return "token_file" in (await upstream_status(agent))["error"]

        await eventually(unreadable, describe="the missing file in status")
        token.write_text(keys.secrets["agent"] + "\n")
        await eventually(partial(holds, hub, 20), describe="everything at the hub")
        assert await numbers(hub) == [*range(20)]
        shown = await upstream_status(agent)
        assert (shown["connected"], shown["error"]) == (True, None)


async def test_who_trusts_another_authority_does_not_connect(tmp_path: Path, keys: Keys) -> None:
    other = Keys.make(tmp_path / "other")
    ca = tmp_path / "upstream-ca.pem"
    ca.write_bytes(other.ca.read_bytes())
    hub = AgentProcess(tmp_path, "hub", STORE + keys.listen)
    agent = AgentProcess(tmp_path, "agent", STORE + upstream(hub, ca, keys.secret_file("agent")))
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"n": 1}\n')
    async with agents(hub, agent):
        trouble = await first_trouble(wss(hub), other.ca, keys.secrets["sensor"])
        assert trouble.kind == "unreachable"
        assert "certificate verify failed" in trouble.message
        sent = await run_command(
            "send", str(lines), "--url", wss(hub), "--ca-file", str(other.ca),
            "--token-file", str(keys.secret_file("sensor")),
        )  # fmt: skip
        # No waiting mends it.
        assert sent.returncode == 77
        assert "certificate verify failed" in sent.stderr

        async with producer_to(f"{agent.url}/ingest/greenhouse/1", source="pi") as producer:
            await producer.send({"n": 1})

        async def refused() -> str | None:
            error: str | None = (await upstream_status(agent))["error"]
            return error

        assert "certificate verify failed" in await eventually(refused)
        assert await hub.count() == 0
        ca.write_bytes(keys.ca.read_bytes())
        await eventually(partial(holds, hub, 1), describe="the record at the hub")
