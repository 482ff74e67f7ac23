"""Who answers: the agent that runs, or the store itself."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner

from edge_agent.cli.agent_http import AgentAddress
from edge_agent.cli.common import Failure
from edge_agent.cli.consumer import command as consumer
from edge_agent.cli.run import settings_of
from edge_agent.cli.store_access import Local, Remote, agreed, as_it_is, reach
from edge_agent.store.process_lock import StoreLock
from edge_agent.store.tools.backup import look_inside
from tests.ops.real import agent


@pytest.fixture
async def store(tmp_path: Path) -> Path:
    async with agent(tmp_path, serve=False) as running:
        await running.keep("a/1", [1, 2, 3])
    return tmp_path


async def test_a_url_is_asked_whatever_there_is(store: Path) -> None:
    found = reach(None, str(store), "http://pi:1", None, None)
    assert found == Remote(AgentAddress("http://pi:1"))


async def test_a_store_that_nobody_holds_is_opened_and_one_in_use_is_asked_for(
    store: Path,
) -> None:
    assert isinstance(reach(None, str(store), None, None, None), Local)
    lock = StoreLock(store / "lock")
    found = reach(None, str(store), None, None, None)
    owner = look_inside(store).header.agent_id
    assert found == Remote(AgentAddress("http://127.0.0.1:8766"), owner)
    config = store / "a.toml"
    config.write_text('[http]\naddress = "off"\n')
    with pytest.raises(Failure, match="people's port is off") as told:
        reach(config, str(store), None, None, None)
    assert vars(told.value)["exit_code"] == 75
    lock.release()


def test_no_store_is_said(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="holds no store"):
        reach(None, str(tmp_path), None, None, None)


async def test_a_tool_does_not_make_the_store_larger(store: Path) -> None:
    size = (store / "store" / "data.mdb").stat().st_size
    assert as_it_is(settings_of(None, str(store))).store.size == size
    done = await trio.to_thread.run_sync(
        CliRunner().invoke, consumer, ["list", "--data", str(store)]
    )
    assert done.exit_code == 0, done.output
    assert (store / "store" / "data.mdb").stat().st_size == size == 16 << 20


async def test_a_running_agent_is_asked_over_its_port(tmp_path: Path) -> None:
    async with agent(tmp_path) as running:
        await running.keep("a/1", [1, 2, 3])
        url = f"http://127.0.0.1:{running.address[1]}"
        for arguments, expected in (
            (["pause", "nobody"], "no consumer upstream/nobody"),
            (["list"], "no consumers"),
        ):
            done = await trio.to_thread.run_sync(
                CliRunner().invoke, consumer, [*arguments, "--url", url]
            )
            assert expected in done.output, done.output
        shown = await trio.to_thread.run_sync(
            CliRunner().invoke, consumer, ["list", "--json", "--url", url]
        )
        assert json.loads(shown.stdout) == []


def test_yes_is_yes_and_nobody_is_no(monkeypatch: pytest.MonkeyPatch) -> None:
    agreed("Really?", yes=True)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(Failure, match="--yes"):
        agreed("Really?", yes=False)


async def test_the_agent_of_another_store_is_not_given_its_orders(
    store: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lock = StoreLock(store / "lock")
    async with agent(tmp_path_factory.mktemp("other")) as running:
        config = store / "a.toml"
        config.write_text(f'[http]\naddress = "127.0.0.1:{running.address[1]}"\n')
        for arguments, expected in (
            (["list"], "--url names its port"),
            (["pause", "hub"], "the order is for agent"),
        ):
            done = await trio.to_thread.run_sync(
                CliRunner().invoke,
                consumer,
                [*arguments, "--data", str(store), "--config", str(config)],
            )
            assert done.exit_code == 1 and expected in done.output, done.output
    lock.release()
