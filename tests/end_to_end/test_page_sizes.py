"""A card goes from a machine to one with pages of another size: all is there and well counted."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.store.lmdb_file.pages import PageFile
from tests.end_to_end.support import AgentProcess, agents, producer_to
from tests.pages import LARGE, large_pages
from tests.patience import PATIENCE_S
from tests.preloaded import Nest, nest

SMALL = os.sysconf("SC_PAGE_SIZE")
pytestmark = [
    pytest.mark.needs("gcc"),
    pytest.mark.skipif(SMALL >= LARGE, reason="this machine has such pages, or runs as if it had"),
]
CONFIG = """
[store]
size = "16MiB"
[log.main]
share = "70%"
[log.alarms]
streams = ["alarms/**"]
share = "10%"
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nest]:
    with Nest(large_pages(tmp_path_factory.mktemp("pages"))) as made:
        yield made


class Machine:
    """Runs things as on a machine with pages of some size."""

    def __init__(self, nest: Nest) -> None:
        self.nest = nest

    def edge_agent(self, *arguments: str) -> str:
        return self._run("edge_agent", *arguments)

    def store(self, what: str, path: Path) -> Any:
        return json.loads(self._run("tests.end_to_end.page_store", what, str(path)))

    def _run(self, *arguments: str) -> str:
        ended = self.nest.run(*arguments)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout


class Moved:
    """A store that a machine has filled, and that is now in ``machine``; ``held``: what was read
    before, where it was made.
    """

    def __init__(self, path: Path, machine: Machine, held: dict[str, Any]) -> None:
        self.path, self.machine, self.held = path, machine, held
        with PageFile(path / "store" / "data.mdb") as pages:
            self.page_bytes = pages.page_bytes

    def check(self, path: Path) -> dict[str, Any]:
        """Everybody finds in ``path`` what was made, but for what is given back."""
        self.machine.edge_agent("check", "--deep", "--data", str(path))
        found: dict[str, Any] = self.machine.store("read", path)
        assert found["fill"] <= 1
        for name in ("main", "alarms", "quarantined", "floor"):
            assert found[name] == self.held[name], name
        return found


@pytest.fixture(scope="module", params=["small to large", "large to small"])
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, large: Nest
) -> Moved:
    machines = [Machine(nest()), Machine(large)]
    if request.param == "large to small":
        machines.reverse()
    maker, machine = machines
    path = tmp_path_factory.mktemp("made") / "agent"
    maker.store("make", path)
    held = maker.store("read", path)
    assert 0.8 < held["fill"] <= 1
    maker.edge_agent("check", "--data", str(path))
    found = Moved(path, machine, held)
    assert found.page_bytes == (LARGE if request.param == "large to small" else SMALL)
    return found


@pytest.fixture
def moved(made: Moved, tmp_path: Path) -> Moved:
    shutil.copytree(made.path, tmp_path / "agent")
    return Moved(tmp_path / "agent", made.machine, made.held)


def test_it_opens_and_is_checked_and_scrubbed(moved: Moved) -> None:
    found = moved.check(moved.path)
    assert found["salvaged"] is None and "damaged" not in found["gaps"]
    scrubbed = moved.machine.store("scrub", moved.path)
    assert scrubbed["blocks"] > 50
    assert (scrubbed["damaged"], scrubbed["salvaged"]) == (0, None)


@pytest.mark.parametrize("command", ["compact", "erase"])
def test_it_is_written_anew(moved: Moved, command: str) -> None:
    more = ["nobody/has/this", "--yes"] if command == "erase" else []
    moved.machine.edge_agent(command, *more, "--data", str(moved.path))
    assert moved.check(moved.path)["salvaged"] is None


def test_a_full_log_is_backed_up_and_restored(moved: Moved, tmp_path: Path) -> None:
    backup, new = tmp_path / "backup", tmp_path / "new"
    config = tmp_path / "edge-agent.toml"
    config.write_text(CONFIG)
    data = str(moved.path)
    moved.machine.edge_agent("backup", str(backup), "--data", data)
    arguments = ["restore", str(backup), "--config", str(config), "--data", str(new)]
    moved.machine.edge_agent(*arguments, "--yes")
    assert moved.check(new)["salvaged"] is None


def test_all_of_it_comes_back_from_a_broken_root(moved: Moved) -> None:
    with (moved.path / "store" / "data.mdb").open("r+b") as file:
        for slot in (0, 1):
            file.seek(slot * moved.page_bytes + 16 + 72)
            file.write(bytes(64))
    moved.machine.store("read", moved.path)
    found = moved.check(moved.path)
    assert found["salvaged"]["complete"]
    assert (found["salvaged"]["missing"], found["salvaged"]["possible"]) == (0, 0)


async def test_an_agent_goes_on_with_it(moved: Moved, tmp_path: Path) -> None:
    agent = AgentProcess(tmp_path, "running", CONFIG)
    agent.store = moved.path
    agent.nest = lambda: moved.machine.nest
    async with agents(agent):
        before = await agent.count("a/1")
        assert before == len(moved.held["main"])
        async with producer_to(f"{agent.url}/ingest/a/1", source="new") as producer:
            for number in range(300):
                await producer.send([{"v": -number, "pad": "x" * 2000}])
            await producer.flush(PATIENCE_S)
        found = [record["fields"]["v"] for record in await agent.records("a/1")]
        assert found[-300:] == [-number for number in range(300)]
        status = await agent.get("/api/status")
        assert all(log["fill"] <= 1 for log in status["logs"]), status["logs"]
        assert await agent.stop() == 0
    moved.machine.edge_agent("check", "--data", str(moved.path))
