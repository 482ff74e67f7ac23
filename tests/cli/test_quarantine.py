"""`edge-agent quarantine` on a store that no agent runs on, and on one that does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result

from edge_agent.cli.quarantine import command
from edge_agent.store import Entry, Quarantined
from tests.ops.real import Agent, agent

BODIES = (b'{"t": 1}', b'{"t": 2, "time": "noon"}', b"\x81\xa1t\x03", b'{"t": "' + b"x" * 4089)


async def spoil(running: Agent) -> None:
    items = [Quarantined("bad_time", "say \x1b[2J", "a/1", "pi", 3, 10**18, b) for b in BODIES]
    await (await running.log.append(Entry(quarantine=tuple(items)))).wait()


@pytest.fixture
async def store(tmp_path: Path) -> Path:
    async with agent(tmp_path, serve=False) as running:
        await spoil(running)
    return tmp_path


async def run(*arguments: str, **more: Any) -> Result:
    invoke = CliRunner().invoke
    return await trio.to_thread.run_sync(lambda: invoke(command, arguments, **more))


async def numbers(store: Path) -> list[int]:
    done = await run("list", "--json", "--data", str(store))
    return [one["number"] for one in json.loads(done.stdout)]


async def test_list_and_show_tell_what_and_why_and_move_no_cursor(store: Path) -> None:
    done = await run("list", "--data", str(store))
    assert done.exit_code == 0 and done.output.count("bad_time") == 4
    assert "\x1b" not in done.output
    one = await run("show", "2", "--data", str(store))
    assert '"time": "noon"' in one.output and "\x1b" not in one.output
    missing = await run("show", "9", "--data", str(store))
    assert missing.exit_code == 1 and "no entry 9" in missing.output


async def test_replay_stores_what_can_be_used_and_says_what_cannot(store: Path) -> None:
    done = await run("replay", "--all", "--data", str(store))
    assert done.exit_code == 1
    assert "2 read again: 2 records stored" in done.output
    assert "2: still there: time: expected" in done.output
    assert "4: still there: only its first 4096 bytes were kept" in done.output
    assert await numbers(store) == [2, 4]


async def test_drop_asks_and_names_what(store: Path) -> None:
    assert (await run("drop", "1", "--data", str(store), input="n\n")).exit_code == 1
    assert await numbers(store) == [1, 2, 3, 4]
    assert (await run("drop", "1", "--data", str(store), input="y\n")).exit_code == 0
    assert (await run("drop", "--before", "4", "--yes", "--data", str(store))).exit_code == 0
    assert await numbers(store) == [4]
    assert "1 dropped" in (await run("drop", "--all", "--yes", "--data", str(store))).output
    assert "empty" in (await run("list", "--data", str(store))).output


async def test_neither_numbers_nor_all_is_wrong_usage(store: Path) -> None:
    assert (await run("replay", "--data", str(store))).exit_code == 2
    assert (await run("replay", "1", "--all", "--data", str(store))).exit_code == 2
    for given in ([], ["--all", "7"], ["--all", "--before", "7"]):
        nothing_named = await run("drop", *given, "--data", str(store), input="y\n")
        assert nothing_named.exit_code == 2 and "Drop" not in nothing_named.output


async def test_a_running_agent_does_it_too(tmp_path: Path) -> None:
    async with agent(tmp_path) as running:
        await spoil(running)
        url = f"http://127.0.0.1:{running.address[1]}"
        done = await run("replay", "1", "3", "--url", url, "--json")
        assert [one["records"] for one in json.loads(done.stdout)] == [1, 1]
        assert running.log.last_seq("main") == 2
        assert (await run("drop", "--all", "--yes", "--url", url)).exit_code == 0
        assert await running.log.quarantine(0, 9) == []
