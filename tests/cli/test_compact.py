"""`edge-agent compact`: smaller in use, the same inside, and never under a running agent."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_agent.cli.compact import command, what_remains
from edge_agent.store.process_lock import StoreLock
from edge_agent.store.tools.check import check_store
from tests.ops.real import agent


@pytest.fixture
async def store(tmp_path: Path) -> Path:
    async with agent(tmp_path, serve=False) as running:
        for number in range(5):
            await running.keep(f"a/{number}", list(range(400)))
    return tmp_path


async def test_what_is_live_stays_and_its_size_is_told(store: Path) -> None:
    before = check_store(store)
    done = CliRunner().invoke(command, ["--data", str(store)])
    assert done.exit_code == 0, done.output
    assert "5 blocks" in done.output and "in use before" in done.output
    after = check_store(store)
    assert (after.problems, after.logs) == ([], before.logs)
    assert (store / "store" / "data.mdb").stat().st_size == 16 << 20


async def test_a_store_in_use_is_left_alone(store: Path) -> None:
    lock = StoreLock(store / "lock")
    done = CliRunner().invoke(command, ["--data", str(store)])
    lock.release()
    assert done.exit_code == 75 and "stop the agent first" in done.output


def test_no_store_is_said(tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["--data", str(tmp_path)])
    assert done.exit_code == 1 and "holds no store" in done.output


def test_older_stores_beside_it_are_named(tmp_path: Path) -> None:
    for name in ("damaged-1", "replaced-2", "store"):
        (tmp_path / name).mkdir()
    told = " ".join(what_remains(tmp_path))
    assert "damaged-1" in told and "replaced-2" in told and told.count("still there") == 2
