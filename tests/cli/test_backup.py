"""`edge-agent backup`, as a folder and as a file."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge_agent.cli.backup import command
from edge_agent.store.tools.backup import read_manifest
from tests.ops.real import agent


@pytest.fixture
async def store(tmp_path: Path) -> Path:
    async with agent(tmp_path / "agent", serve=False) as running:
        await running.keep("a/1", list(range(400)))
    return tmp_path / "agent"


def run(store: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, [*arguments, "--data", str(store)])


async def test_a_folder_with_a_manifest(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup"
    done = run(store, str(target))
    assert done.exit_code == 0, done.output
    assert "main up to 400" in done.output
    assert read_manifest(target).last == {"main": 400}
    again = run(store, str(target))
    assert again.exit_code == 1 and "exists" in str(again.exception)


async def test_a_tar_file_holds_the_same_and_leaves_nothing_beside_it(
    store: Path, tmp_path: Path
) -> None:
    target = tmp_path / "backup.tar"
    done = run(store, str(target), "--json")
    assert json.loads(done.stdout)["last"] == {"main": 400}
    with tarfile.open(target) as tar:
        assert tar.getnames() == ["manifest.json", "data.mdb"]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["agent", "backup.tar"]
    assert "exists" in run(store, str(target)).output


def test_no_store_is_said(tmp_path: Path) -> None:
    done = run(tmp_path, str(tmp_path / "backup"))
    assert done.exit_code == 1 and "holds no store" in done.output
