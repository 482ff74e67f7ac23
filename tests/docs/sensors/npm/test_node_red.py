"""The flows of docs/sensors/node-red.md in the real Node-RED, beside a real agent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from benchmarks.ports import free_port
from tests.docs.examples import examples_of
from tests.docs.sensors.npm import FOLDER, needs_npm
from tests.docs.sensors.sensors import filled_in, more_than, running, said, values
from tests.end_to_end.keys import STORE, Keys
from tests.end_to_end.relay import uplink
from tests.end_to_end.support import AgentProcess, agents, eventually
from tests.patience import PATIENCE_S

pytestmark = [needs_npm, pytest.mark.needs("node")]
PAGE = "sensors/node-red.md"
FLOWS = {example.title: example.code for example in examples_of(PAGE, "json")}


def nodes_of(title: str, port: int, keys: Keys, token: str = "sensor") -> list[dict[str, Any]]:
    """The nodes of a flow: quick, counting, and what a person would look at goes into a file."""
    code = FLOWS[title].replace("PUT-THE-READER-HERE", keys.secrets["reader"])
    code = code.replace("20 + Math.random()", "context.n = (context.n ?? -1) + 1")
    nodes: list[dict[str, Any]] = json.loads(filled_in(code, port, keys, token))
    ids = {node["id"] for node in nodes}
    for node in nodes:
        assert all(other in ids for wires in node.get("wires", ()) for other in wires)
        if node["type"] == "inject":
            node["repeat"] = "0.05"
        if node["type"] == "debug":
            node |= {"type": "file", "filename": f"{node['id']}.txt", "filenameType": "str"}
            node |= {"appendNewline": True, "overwriteFile": "false"}
        if "func" in node:
            node["func"] = node["func"].replace("5000", "100")
        if "x" in node:
            node["z"] = "tab"
    return nodes


def node_red(folder: Path, port: int, nodes: list[dict[str, Any]]) -> list[str]:
    """Its command, in a folder of its own, on loopback."""
    once = {node["id"]: node for node in nodes}  # the flows share the node for TLS
    flows = [{"id": "tab", "type": "tab", "label": "edge agent"}, *once.values()]
    (folder / "flows.json").write_text(json.dumps(flows))
    program = FOLDER / "node_modules" / "node-red" / "red.js"
    settings = ["-D", "uiHost=127.0.0.1", "-D", f"uiPort={port}", "-D", "telemetry.enabled=false"]
    return ["node", str(program), "--userDir", str(folder), *settings, "flows.json"]


def read(folder: Path, name: str) -> list[dict[str, Any]]:
    try:
        lines = (folder / f"{name}.txt").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines if line.endswith("}")]


async def test_records_go_in_and_come_out_by_every_flow(tmp_path: Path, keys: Keys) -> None:
    (example,) = examples_of(PAGE, "toml")
    red, port = tmp_path / "red", free_port()
    red.mkdir()
    (red / "ca.pem").write_bytes(keys.ca.read_bytes())
    upstream = example.code.replace("1880", str(port)) + 'backoff_base = "50ms"\n'
    agent = AgentProcess(tmp_path, "agent", STORE + keys.listen + upstream)
    async with agents(agent), uplink(agent.port) as relay:
        nodes = [node for title in FLOWS for node in nodes_of(title, relay.port, keys)]
        with running(node_red(red, port, nodes), red):
            await more_than(agent, 5, red)
            for _ in range(2):
                relay.cut()
                await trio.sleep(0.3)
                relay.restore()
                await more_than(agent, await agent.count("greenhouse/1") + 5, red)
            await agent.kill()
            await agent.start()
            await more_than(agent, await agent.count("greenhouse/1") + 10, red)
            counted = await agent.count("greenhouse/2")

            async def everything_is_back() -> bool:
                # Node-RED's own line comes back after three seconds.
                if await agent.count("greenhouse/2") < counted + 5:
                    return False
                seen = {one["stream"] for one in read(red, "ea-seen")[-20:]}
                return seen == {"greenhouse/1", "greenhouse/2"}

            await eventually(everything_is_back, describe=f"all flows; {said(red)[-2000:]}")
            stored = len(await values(agent))

            async def forwarded() -> bool:
                taken = read(red, "ea-taken")
                kept = {one["id"] for one in taken if one["stream"] == "greenhouse/1"}
                return len(kept) >= stored

            await eventually(forwarded, describe=f"forwarded records; {said(red)[-2000:]}")
        found = await values(agent)
        assert found == list(range(len(found)))
        counts = [one["fields"]["t"] for one in await agent.records("greenhouse/2")]
        assert counts == sorted(set(counts))


async def test_a_refusal_is_shown(tmp_path: Path, keys: Keys) -> None:
    (tmp_path / "ca.pem").write_bytes(keys.ca.read_bytes())
    agent = AgentProcess(tmp_path, "agent", STORE + keys.listen)
    async with agents(agent):
        nodes = nodes_of("Into the agent, by POST", agent.port, keys, token="reader")
        with running(node_red(tmp_path, free_port(), nodes), tmp_path):
            with trio.fail_after(2 * PATIENCE_S):
                while "not sent: 403" not in said(tmp_path):
                    await trio.sleep(0.1)
