"""What ``docs/rules.md`` says: each example runs on an agent of its configuration."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edge_agent.client import Producer
from edge_agent.config import parse
from edge_agent.filter import FILTER_DEPTH_MAX, FILTER_LENGTH_MAX
from tests.docs.examples import DOCS, Example, examples_of, table_of
from tests.end_to_end.keys import STORE
from tests.end_to_end.support import AgentProcess, agents, eventually, run_command

PAGE = "rules.md"
EXAMPLES = examples_of(PAGE, "toml")
MISTAKES = "Mistakes"
#: ``> STREAM FIELDS`` is sent, ``= STREAM [TIME] FIELDS`` stored.
_LINE = re.compile(r"^([>=]) (\S+) (?:(\d\S+) )?(\{.*\})$", re.MULTILINE)


def running() -> list[Example]:
    return [example for example in EXAMPLES if example.title != MISTAKES]


async def send(agent: AgentProcess, shown: str) -> None:
    """Send what the page shows as sent, in order."""
    async with Producer(f"{agent.url}/ingest/other", source="pi") as producer:
        for mark, stream, _, fields in _LINE.findall(shown):
            if mark == ">":
                await producer.send(json.loads(fields), stream=stream)
        await producer.flush()


def stored(shown: str) -> list[tuple[str, str, Any]]:
    return [
        (stream, time, json.loads(fields))
        for mark, stream, time, fields in _LINE.findall(shown)
        if mark == "="
    ]


async def is_stored(agent: AgentProcess, shown: str) -> bool:
    """Whether just that is stored which the page shows; the time only where it shows one."""
    wanted = stored(shown)
    records = sorted(await agent.records(), key=lambda record: int(record["seq"]))
    if len(records) < len(wanted):
        return False
    times = [time for _, time, _ in wanted]
    found = [
        (record["stream"], record["time"] if time else "", record["fields"])
        for record, time in zip(records, times, strict=True)
    ]
    assert found == wanted
    return True


@pytest.mark.parametrize("example", running(), ids=lambda each: each.title)
async def test_an_example_stores_what_the_page_says(tmp_path: Path, example: Example) -> None:
    assert stored(example.printed)
    agent = AgentProcess(tmp_path, "agent", STORE + example.code)
    async with agents(agent):
        await send(agent, example.printed)
        await eventually(partial(is_stored, agent, example.printed), describe=example.printed)


async def test_a_window_rule_that_is_new_begins_with_the_oldest_record(tmp_path: Path) -> None:
    example = next(each for each in EXAMPLES if each.title == "Windows")
    agent = AgentProcess(tmp_path, "agent", STORE)
    async with agents(agent):
        await send(agent, example.printed)
        await agent.stop()
        agent.config = STORE + example.code
        await agent.start()
        await eventually(partial(is_stored, agent, example.printed), describe=example.printed)


async def test_the_mistakes_are_told_as_the_page_says(tmp_path: Path) -> None:
    (example,) = [each for each in EXAMPLES if each.title == MISTAKES]
    file = tmp_path / "edge-agent.toml"
    file.write_text(example.code)
    told = await run_command("config", "check", str(file))
    assert told.returncode == 78
    assert (told.stdout + told.stderr).replace(f"{file}", "FILE") == example.printed


async def test_every_filter_finds_what_the_page_says(tmp_path: Path) -> None:
    shown = (DOCS / PAGE).read_text().partition("\n## Filters\n")[2]
    agent = AgentProcess(tmp_path, "agent", STORE)
    rows = table_of(PAGE, "Filter")
    assert len(rows) >= 10
    async with agents(agent):
        await send(agent, shown)
        for code, numbers, *_ in rows:
            found = await agent.records(filter=code.strip("`").strip())
            assert sorted(record["seq"] for record in found) == [
                int(number) for number in numbers.split(", ")
            ], code
    assert f"at most {FILTER_LENGTH_MAX} characters and {FILTER_DEPTH_MAX} levels" in shown


def test_every_action_that_a_rule_may_have_has_an_example() -> None:
    actions = {row[0].split("`")[1] for row in table_of(PAGE, "Action")}
    shown = [rule for each in running() for rule in parse(each.code, "").rule]
    assert actions == {"time", "rename", "drop", "redact", "window"}
    assert all(any(getattr(rule, name) is not None for rule in shown) for name in actions)
