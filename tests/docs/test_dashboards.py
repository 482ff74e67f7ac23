"""What ``docs/dashboards.md`` tells others to ask, asked of a real agent."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jinja2
import pytest
import trio
import yaml  # type: ignore[import-untyped]  # comes with the documentation's tools, without types

from edge_agent.config import parse
from edge_agent.metrics import TABLE
from tests.end_to_end.support import AgentProcess, agents, eventually
from tests.end_to_end.talking import Peer
from tests.patience import PATIENCE_S

ROOT = Path(__file__).parent.parent.parent
DOCUMENT = (ROOT / "docs" / "dashboards.md").read_text(encoding="utf-8")
CONFIG = """
[log.main]
commit_interval = "0s"
[[upstream]]
name = "hub"
url = "http://127.0.0.1:9/in"
"""


class Yaml(yaml.SafeLoader):  # type: ignore[misc]  # has no types
    """YAML as Home Assistant reads it: a secret is a text from another file."""


Yaml.add_constructor("!secret", lambda loader, node: loader.construct_scalar(node))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)


def yaml_blocks(key: str) -> list[Any]:
    # A piece that belongs deeper into another one is indented as it stands there.
    found = [yaml.load(text, Yaml) for text in blocks("yaml")]
    assert all(isinstance(each, dict) for each in found)
    return [each[key] for each in found if key in each]


@pytest.fixture
async def running(tmp_path: Path) -> Any:
    """An agent as the page describes it, with two records."""
    (exposing,) = blocks("toml")
    assert parse(exposing, "toml").http.expose
    process = AgentProcess(tmp_path, "agent", f"{CONFIG}\n{exposing}")
    async with agents(process):
        async with await Peer.open(process, "/ingest/greenhouse/1") as peer:
            await peer.hello("pi-7")
            await peer.say([{"t": 21.5, "h": 40}, {"t": 21.7, "h": 41}])
            while (await peer.hear()).get("next") != 3:
                pass

        async def seen() -> bool:
            return bool((await process.get("/api/streams"))["streams"])

        await eventually(seen, describe="the streams were looked at")
        yield process


async def ask(process: AgentProcess, url: str) -> tuple[str, bytes]:
    """The answer to a URL of the page, of this agent."""
    parts = urlsplit(url)
    assert parts.netloc == "127.0.0.1:8766"
    target = parts._replace(netloc=f"127.0.0.1:{process.http_port}").geturl()

    def fetch() -> tuple[str, bytes]:
        with urllib.request.urlopen(target, timeout=PATIENCE_S) as answer:
            assert answer.status == 200
            return answer.headers["Content-Type"], answer.read()

    return await trio.to_thread.run_sync(fetch)


async def prometheus_finds_metrics_where_it_is_told_to_look(running: AgentProcess) -> None:
    (near,), (far,) = yaml_blocks("scrape_configs")
    (target,) = near["static_configs"][0]["targets"]
    kind, text = await ask(running, f"http://{target}/metrics")
    assert kind.startswith("text/plain; version=0.0.4")
    assert b'edge_agent_stream_value{field="t",stream="greenhouse/1"} 21.7' in text
    assert b'edge_agent_stream_age_seconds{stream="greenhouse/1"} ' in text
    assert far["scheme"] == "https" and far["authorization"] and far["tls_config"]


def test_every_metric_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"edge_agent_(?!greenhouse|auth|problem|backlog)\w+", DOCUMENT))
    assert len(named) >= 5 and named <= {f"edge_agent_{metric.name}" for metric in TABLE}
    (groups,) = yaml_blocks("groups")
    assert all("edge_agent_" in rule["expr"] for rule in groups[0]["rules"])


async def home_assistant_gets_what_its_templates_look_for(running: AgentProcess) -> None:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    found = {}
    for resources in yaml_blocks("rest"):
        for resource in resources:
            _, body = await ask(running, resource["resource"])
            answer = json.loads(body)
            for sensor in [*resource.get("sensor", ()), *resource.get("binary_sensor", ())]:
                templates = [sensor["value_template"], sensor.get("availability", "{{ True }}")]
                shown = [
                    environment.from_string(template).render(value_json=answer)
                    for template in templates
                ]
                assert shown[1] == "True"
                found[sensor["name"]] = shown[0]
    assert found.pop("Greenhouse sensor heard of").endswith("Z")
    # Whether it does depends on the machine: its clock may not be set.
    assert found.pop("Edge agent needs attention") in ("True", "False")
    assert found == {
        "Greenhouse temperature": "21.7",
        "Greenhouse humidity": "41",
        "Greenhouse temperature, mean of 10 minutes": "21.6",
        "Edge agent backlog": "2",
    }


async def node_red_gets_the_last_record_of_each_step(running: AgentProcess) -> None:
    (flow,) = (json.loads(text) for text in blocks("json"))
    nodes = {node["id"]: node for node in flow}
    for node in flow:
        assert all(other in nodes for wires in node.get("wires", ()) for other in wires)
    path = urlsplit(nodes["edge-agent-client"]["path"])
    assert path.netloc == "127.0.0.1:8765" and "step=10s" in path.query
    # Nobody waits for ten seconds here, nor for a record to come.
    target = f"{path.path}?{path.query.replace('10s', '100ms')}&from=main:1"
    async with await Peer.open(running, target) as peer:
        records: Any = await peer.hear()
    (record,) = records
    assert (record["fields"], record["count"]) == ({"t": 21.7, "h": 41}, 2)


async def test_every_recipe_gets_what_it_asks_a_real_agent_for(running: AgentProcess) -> None:
    await prometheus_finds_metrics_where_it_is_told_to_look(running)
    await home_assistant_gets_what_its_templates_look_for(running)
    await node_red_gets_the_last_record_of_each_step(running)
