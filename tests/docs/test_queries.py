"""What ``docs/queries.md`` says, held against a real agent."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import trio

from edge_agent.history import PARAMETERS
from edge_agent.history.question import AGGREGATES
from tests.docs.examples import examples_of, table_of
from tests.docs.test_http_api import ask
from tests.end_to_end.support import AgentProcess, agents
from tests.end_to_end.talking import Peer

DOCUMENT = (Path(__file__).parent.parent.parent / "docs" / "queries.md").read_text("utf-8")
CONFIG = '[log.main]\ncommit_interval = "0s"\n'
RECORDS: list[dict[str, Any]] = [
    {"time": "2026-11-28T10:00:00Z", "t": 20.0},
    {"time": "2026-11-28T10:15:00Z", "t": 21.0},
    {"time": "2026-11-28T10:30:00Z", "t": 22.0},
    {"time": "2026-11-28T10:45:00Z", "t": 23.0},
    {"time": "2026-11-28T11:00:00Z", "t": 24.0},
    {"time": "2026-11-28T11:30:00Z", "t": 26.0, "fan": {"rpm": 900}, "state": "on"},
]


@pytest.fixture
async def running(tmp_path: Path) -> Any:
    process = AgentProcess(tmp_path, "agent", CONFIG)
    async with agents(process):
        async with await Peer.open(process, "/ingest/greenhouse/1") as peer:
            await peer.hello("pi-7")
            await peer.say(RECORDS)
            while (await peer.hear()).get("next") != len(RECORDS) + 1:
                pass
        yield process


def test_every_parameter_and_every_aggregate_is_described() -> None:
    parameters = table_of("queries.md", "Parameter | Default | Meaning")
    told = [name for row in parameters for name in re.findall(r"`(\w+)`", row[0])]
    assert told == [*PARAMETERS[:2], *[p for p in told if p not in PARAMETERS[:2]]]
    assert set(told) == {*PARAMETERS, "format"}
    aggregates = table_of("queries.md", "Name | What it is")
    assert {name for row in aggregates for name in re.findall(r"`(\w+)`", row[0])} == {*AGGREGATES}


async def test_every_example_is_answered_as_it_is_written(running: AgentProcess) -> None:
    found = re.findall(
        r"```sh\n(.+?)\n```\n\nAnswers (\d+), `(.+?)`[^\n]*\n\n```(\w+)\n(.+?)\n```",
        DOCUMENT,
        re.DOTALL,
    )
    assert len(found) == DOCUMENT.count("```sh\n") == 4
    for command, status, content_type, kind, answer in found:
        real = await trio.to_thread.run_sync(ask, command, running.http_port)
        assert real[:2] == (int(status), content_type), command
        if kind == "json":
            told = json.loads(real[2])
            for record in told.get("records", []):
                # Whether this machine's clock was set.
                record.pop("synced", None)
            assert told == json.loads(answer), command
        else:
            lines = real[2].decode().splitlines()
            assert lines[: len(answer.splitlines())] == answer.splitlines()


async def test_the_line_for_pandas_makes_a_frame(running: AgentProcess) -> None:
    (example,) = examples_of("queries.md", "python")
    code = example.code.replace("from=-1d", "from=2026-11-28&to=2026-11-29")
    names: dict[str, Any] = {"AGENT": f"http://127.0.0.1:{running.http_port}"}
    await trio.to_thread.run_sync(exec, code, names)
    frame = names["t"]
    assert list(frame.columns) == ["time", "stream", "t_mean"]
    assert frame["t_mean"].tolist() == [record["t"] for record in RECORDS]
    assert str(frame["time"].dt.tz) == "UTC"
