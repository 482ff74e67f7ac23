"""`edge-agent source` on a store that no agent runs on; test_identity.py has running ones."""

from __future__ import annotations

import json
from pathlib import Path

import trio
from click.testing import CliRunner, Result

from edge_agent.cli.source import command
from edge_agent.security.tokens import add_token
from edge_agent.store import Entry, Numbering
from tests.ops.real import agent


async def source(folder: Path, *arguments: str) -> Result:
    where = ["--data", str(folder)]
    return await trio.to_thread.run_sync(lambda: CliRunner().invoke(command, [*arguments, *where]))


async def test_sources_are_listed_moved_and_forgotten(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        for name, owner in (("oven", "a"), ("pump", None)):
            numbering = Numbering(name, 1, 51, owner=owner)
            await (await running.log.append(Entry(numbering=numbering))).wait()
    lines = (await source(tmp_path, "list")).output.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [["oven", "a", "51"], ["pump", "-", "51"]]
    found = json.loads((await source(tmp_path, "list", "--owner", "a", "--json")).stdout)
    assert [one["source"] for one in found] == ["oven"]

    done = await source(tmp_path, "move", "pump", "--to", "b", "--keep-numbers", "--json")
    (moved,) = json.loads(done.stdout)
    assert (moved["owner"], moved["next"]) == ("b", 51)
    assert (await source(tmp_path, "forget", "oven")).exit_code == 2
    assert (await source(tmp_path, "forget", "oven", "--yes")).exit_code == 0
    found = json.loads((await source(tmp_path, "list", "--json")).stdout)
    assert [one["source"] for one in found] == ["pump"]
    assert (await source(tmp_path, "forget", "oven", "--yes")).exit_code != 0


async def test_a_source_is_moved_to_no_token_that_is_not_there(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"
    add_token(tokens, "a", write=["**"])
    config = tmp_path / "a.toml"
    config.write_text(f'[listen]\ntokens = "{tokens}"\n')
    async with agent(tmp_path, serve=False) as running:
        await (await running.log.append(Entry(numbering=Numbering("oven", 1, 51)))).wait()
    done = await source(tmp_path, "move", "oven", "--to", "b", "--config", str(config))
    assert done.exit_code == 1
    assert "no token called b" in str(done.exception) and "are: a (" in str(done.exception)
    (oven,) = json.loads((await source(tmp_path, "list", "--json")).stdout)
    assert oven["owner"] is None
    done = await source(tmp_path, "move", "oven", "--to", "a", "--config", str(config))
    assert done.exit_code == 0, done.output
