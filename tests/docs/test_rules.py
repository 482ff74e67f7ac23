"""What ``docs/rules.md`` says: each example runs under its configuration, those that need a store
on an agent, all others on the rules alone.
"""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest

from edge_agent.client import Producer
from edge_agent.config import RULE_ACTIONS as ACTIONS
from edge_agent.config import Limits, Profile, parse
from edge_agent.metrics import Metrics
from edge_agent.rules import Trial, compile_rules
from edge_agent.values.filter import FILTER_DEPTH_MAX, FILTER_LENGTH_MAX
from edge_agent.values.measures import UNITS
from edge_agent.wire import Arrival, WireLimits
from tests.docs.examples import DOCS, Example, examples_of, table_of
from tests.end_to_end.keys import STORE
from tests.end_to_end.support import AgentProcess, agents, eventually, run_command
from tests.waist import NOW_NS

PAGE = "rules.md"
EXAMPLES = examples_of(PAGE, "toml")
MISTAKES = "Mistakes"
#: What comes of it depends on when.
ABSENCE = "No data"
#: ``> STREAM FIELDS`` is sent, ``= STREAM [TIME] FIELDS`` stored.
_LINE = re.compile(r"^([>=]) (\S+) (?:(\d\S+) )?([{[].*[\]}])$", re.MULTILINE)
#: ``! CODE: REASON`` is set aside.
_SET_ASIDE = re.compile(r"^! (\w+): (.+)$", re.MULTILINE)
#: What the pages' files hold: a key, and the hooks.
KEY = "00112233445566778899aabbccddeeff"
SHELLY = "A Shelly plug becomes fields such as apower"


def running() -> list[Example]:
    return [example for example in EXAMPLES if example.title not in (MISTAKES, ABSENCE)]


def acts_after(example: Example) -> bool:
    return any(rule.acts_after for rule in parse(example.code, "").rule)


def needs_an_agent(example: Example) -> bool:
    # One of the others goes the whole way, too.
    return acts_after(example) or example.title == SHELLY


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
    # What is derived may be stored before what is sent last.
    records = sorted(
        await agent.records(), key=lambda one: (one["source"].startswith("$rule/"), one["seq"])
    )
    if len(records) < len(wanted):
        return False
    times = [time for _, time, _ in wanted]
    found = [
        (record["stream"], record["time"] if time else "", record["fields"])
        for record, time in zip(records, times, strict=True)
    ]
    assert found == wanted
    return True


@pytest.mark.parametrize(
    "example", [*filter(needs_an_agent, running())], ids=lambda each: each.title
)
async def test_an_example_stores_what_the_page_says(tmp_path: Path, example: Example) -> None:
    assert stored(example.printed)
    agent = AgentProcess(tmp_path, "agent", STORE + example.code)
    async with agents(agent):
        await send(agent, example.printed)
        await eventually(partial(is_stored, agent, example.printed), describe=example.printed)


@pytest.mark.parametrize(
    "example", [one for one in running() if not acts_after(one)], ids=lambda each: each.title
)
def test_the_rules_of_an_example_make_what_the_page_says(
    tmp_path: Path, example: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text(KEY)
    for hooks in examples_of(PAGE, "python"):
        (tmp_path / "my_rules.py").write_text(hooks.code)
    monkeypatch.syspath_prepend(tmp_path)
    code = example.code.replace("/etc/edge-agent/pseudonyms", str(tmp_path / "key"))
    rules = compile_rules(parse(code, "").rule, Metrics(), limits=Limits(), timer=lambda: 0.0)
    trial, found = Trial(rules, WireLimits()), []
    set_aside: list[tuple[str, str]] = []
    for mark, stream, _, data in _LINE.findall(example.printed):
        if mark == ">":
            arrival = Arrival(stream, "pi", NOW_NS, synced=True, time_key=rules.time_key)
            for tried in trial.try_message(data, arrival):
                found += [(one.stream, one.time, one.fields) for one in tried.stored]
                set_aside += tried.set_aside
    wanted = stored(example.printed)
    assert len(found) == len(wanted)
    for (stream, time, fields), told in zip(found, wanted, strict=True):
        assert (stream, time if told[1] else "", fields) == told
    assert set_aside == _SET_ASIDE.findall(example.printed)


async def test_a_window_rule_that_is_new_begins_with_the_oldest_record(tmp_path: Path) -> None:
    example = next(each for each in EXAMPLES if each.title == "Windows")
    agent = AgentProcess(tmp_path, "agent", STORE)
    async with agents(agent):
        await send(agent, example.printed)
        await agent.stop()
        agent.config = STORE + example.code
        await agent.start()
        await eventually(partial(is_stored, agent, example.printed), describe=example.printed)


async def test_no_data_is_told_as_the_page_says(tmp_path: Path) -> None:
    (example,) = [each for each in EXAMPLES if each.title == ABSENCE]
    agent = AgentProcess(tmp_path, "agent", STORE + example.code.replace("5m", "1s"))

    async def told() -> list[tuple[str, str, float]]:
        found = [record["fields"] for record in await agent.records("alarm/greenhouse/1")]
        return [(one["state"], one["of"], one["value"]) for one in reversed(found)]

    async def alarms() -> list[Any]:
        found: list[Any] = (await agent.get("/api/status"))["alarms"]
        return found

    async with agents(agent):
        await send(agent, '> greenhouse/1 {"t": 1}')
        await eventually(told, describe="absence")
        assert await told() == [("on", "greenhouse/1", 1.0)]
        (alarm,) = await alarms()
        assert (alarm["rule"], alarm["stream"]) == ("lost", "greenhouse/1")
        assert alarm["meaning"] == "no data for 1s"
        health = await agent.get("/healthz")
        assert [one["code"] for one in health["warnings"] if one["code"] == "alarm"] == ["alarm"]
        await send(agent, '> greenhouse/1 {"t": 1}')

        async def is_back() -> bool:
            return [state for state, _, _ in (await told())[:2]] == ["on", "off"]

        await eventually(is_back, describe="the stream is back")
        assert (await told())[1][2] > 1


async def test_the_mistakes_are_told_as_the_page_says(tmp_path: Path) -> None:
    (example,) = [each for each in EXAMPLES if each.title == MISTAKES]
    file = tmp_path / "edge-agent.toml"
    # Whatever listens at the default ports of this machine is no mistake of the page's.
    ports = "".join(f'[{table}]\naddress = "127.0.0.1:0"\n' for table in ("listen", "http"))
    file.write_text(f"{example.code}\n{ports}")
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
    assert actions == set(ACTIONS)
    assert all(any(getattr(rule, name) is not None for rule in shown) for name in actions)
    assert {rule.profile for rule in shown} - {None} == set(get_args(Profile))


def test_there_are_ten_recipes() -> None:
    text = (DOCS / PAGE).read_text().partition("\n## Recipes\n")[2].partition("\n## ")[0]
    assert text.count("\n### ") == text.count("```toml") == 10


def test_the_page_names_every_unit() -> None:
    units = {unit for row in table_of(PAGE, "Kind") for unit in row[1].split(", ")}
    assert units == set(UNITS)
