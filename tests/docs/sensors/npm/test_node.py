"""The programs of docs/sensors/node.md, run by Node.js against a real agent."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import trio

from tests.docs.examples import examples_of
from tests.docs.sensors.npm import FOLDER, needs_npm
from tests.docs.sensors.sensors import behind_a_relay, filled_in, more_than, running, said, values
from tests.end_to_end.keys import Keys
from tests.patience import PATIENCE_S

pytestmark = [needs_npm, pytest.mark.needs("node")]
PROGRAMS = {example.title: example.code for example in examples_of("sensors/node.md", "js")}


def program(title: str, port: int, keys: Keys, folder: Path, token: str = "sensor") -> list[str]:
    """One of the page's programs, counting and a hundred times as fast; how to run it."""
    code = filled_in(PROGRAMS[title], port, keys, token)
    for slow, quick in {
        "EVERY_MS = 1000": "EVERY_MS = 20",
        "AGAIN_MS = 5000": "AGAIN_MS = 50",
        "{ t: 20 + Math.random() }": "{ t: globalThis.n = (globalThis.n ?? -1) + 1 }",
    }.items():
        assert slow in code
        code = code.replace(slow, quick)
    (folder / "sensor.mjs").write_text(code)
    (folder / "ca.pem").write_bytes(keys.ca.read_bytes())
    if not (folder / "node_modules").exists():
        (folder / "node_modules").symlink_to(FOLDER / "node_modules")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    is_old = int(version.stdout.lstrip("v").split(".")[0]) < 22
    return ["node", *(["--experimental-websocket"] if is_old else []), "sensor.mjs"]


@pytest.mark.parametrize("title", PROGRAMS)
async def test_everything_arrives_over_cuts_and_a_kill_of_the_agent(
    title: str, tmp_path: Path, keys: Keys
) -> None:
    async with behind_a_relay(tmp_path, keys) as (agent, relay):
        command = program(title, relay.port, keys, tmp_path)
        with running(command, tmp_path, NODE_EXTRA_CA_CERTS="ca.pem"):
            for _ in range(2):
                await more_than(agent, await agent.count() + 5, tmp_path)
                relay.cut()
                await trio.sleep(0.1)
                relay.restore()
            await agent.kill()
            await agent.start()
            await more_than(agent, await agent.count() + 20, tmp_path)
        found = await values(agent)
    # At least once: in order but for what came again, and without a hole.
    assert sorted(set(found)) == list(range(len(set(found))))


async def test_a_refusal_says_why(tmp_path: Path, keys: Keys) -> None:
    async with behind_a_relay(tmp_path, keys) as (_, relay):
        for title, told in {
            "With the package ws": "not connected: Unexpected server response: 403",
            "Without a package": "not connected: Received network error or non-101",
        }.items():
            command = program(title, relay.port, keys, tmp_path, token="reader")
            with running(command, tmp_path, NODE_EXTRA_CA_CERTS="ca.pem"):
                with trio.fail_after(PATIENCE_S):
                    while told not in said(tmp_path):
                        await trio.sleep(0.05)
