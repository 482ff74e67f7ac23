"""`edge-agent consumer` on a store that no agent runs on; test_surgery.py has running ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result

from edge_agent.cli.consumer import command
from edge_agent.store import Position
from tests.ops.real import agent

CONFIG = '[[upstream]]\nname = "hub"\nurl = "ws://hub:1/forward"\n'


class Stopped:
    """A store with nine records, of which the hub has five."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "a.toml"
        self.config.write_text(CONFIG)

    async def run(self, *arguments: str, **more: Any) -> Result:
        where = ["--config", str(self.config), "--data", str(self.folder)]
        invoke = CliRunner().invoke
        return await trio.to_thread.run_sync(lambda: invoke(command, [*arguments, *where], **more))

    async def json(self, *arguments: str) -> list[dict[str, Any]]:
        done = await self.run(*arguments, "--json")
        assert done.exit_code == 0, done.output
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found


@pytest.fixture
async def stopped(tmp_path: Path) -> Stopped:
    async with agent(tmp_path, serve=False) as running:
        await running.keep("a/1", list(range(9)))
        for name, floor in (("upstream/hub", 5), ("upstream/old", 9)):
            await running.log.acknowledge(Position(name, "main", floor), durable=True)
    return Stopped(tmp_path)


async def test_list_shows_floors_backlogs_and_leftovers(stopped: Stopped) -> None:
    done = await stopped.run("list")
    lines = {line.split()[0]: line.split() for line in done.output.splitlines()}
    assert lines["upstream/hub"][1:5] == ["main", "5", "9", "4"]
    assert "not configured" in " ".join(lines["upstream/old"])


async def test_a_pause_is_kept_and_a_resume_ends_it(stopped: Stopped) -> None:
    assert "paused" in (await stopped.run("pause", "hub")).output
    (hub, _) = await stopped.json("list")
    assert (hub["consumer"], hub["paused"]) == ("upstream/hub", True)
    assert not (await stopped.json("resume", "hub"))[0]["paused"]


async def test_rewind_and_skip_ask_first(stopped: Stopped) -> None:
    refused = await stopped.run("rewind", "hub", "--to", "2", input="n\n")
    assert refused.exit_code == 1 and "twice" in refused.output
    assert (await stopped.json("list"))[0]["floor"] == 5
    assert (await stopped.run("rewind", "hub", "--to", "2", input="y\n")).exit_code == 0
    assert (await stopped.json("list"))[0]["floor"] == 1
    (hub,) = await stopped.json("skip", "hub", "--to", "end", "--yes")
    assert (hub["floor"], hub["skipped"]) == (9, 8)


async def test_a_leftover_is_forgotten_and_a_configured_one_is_not(stopped: Stopped) -> None:
    assert (await stopped.run("forget", "old", "--yes")).exit_code == 0
    assert [one["consumer"] for one in await stopped.json("list")] == ["upstream/hub"]
    done = await stopped.run("forget", "hub", "--yes")
    assert done.exit_code == 1 and "is configured" in str(done.exception)


@pytest.mark.parametrize(
    "arguments, told",
    [
        (("skip", "hub", "--to", "noon", "--yes"), "expected RFC 3339"),
        (("skip", "hub", "--to", "2", "--yes"), "nothing between"),
        (("pause", "nobody"), "no consumer upstream/nobody"),
        (("pause", "hub", "--log", "alarms"), "in alarms"),
    ],
)
async def test_what_cannot_be_done_is_said(
    stopped: Stopped, arguments: tuple[str, ...], told: str
) -> None:
    done = await stopped.run(*arguments)
    assert done.exit_code == 1 and told in str(done.exception)
