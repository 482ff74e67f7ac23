from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from msgspec import NODEFAULT

from edge_agent.cli import main as edge_agent
from edge_agent.config import Config, load_config, parse
from edge_agent.config.reference import keys_of, reference
from edge_agent.config.reference_tables import TABLES, TablePart

ROOT = Path(__file__).parent.parent.parent


def test_the_committed_document_is_what_the_declarations_make() -> None:
    committed = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert committed == reference(), "docs/configuration.md is stale: make docs"


def test_its_examples_load_each_alone_and_all_together() -> None:
    examples = re.findall(r"```toml\n(.*?)```", reference(), re.DOTALL)
    assert len(examples) == len(TABLES)
    for example in (*examples, "\n".join(examples)):
        assert parse(example, "the example") != Config()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name or "outside")
def test_a_key_whose_default_does_not_show_how_it_is_written_stands_in_the_example(
    table: TablePart,
) -> None:
    silent = [
        key.name
        for key in keys_of(table)
        if key.required or key.default in (None, ()) or key.default_factory is not NODEFAULT
    ]
    shown = re.findall(r"^(\w+) = ", table.example, re.MULTILINE)
    assert not set(silent) - set(shown)


def test_its_variables_are_taken() -> None:
    block = re.search(r"```sh\n(.*?)```", reference(), re.DOTALL)
    assert block is not None
    variables = dict(word.split("=", 1) for word in shlex.split(block[1]))
    config = load_config(None, env=variables, overrides={})
    assert config.drain_timeout == 5
    assert config.store.size == 2 << 30
    assert config.log["main"].keep == 7 * 86_400
    assert config.upstream[0].streams == ("greenhouse/**", "cellar/*")
    assert config.rule[0].rename == {"temp": "t", "hum": "h"}


def test_every_option_of_run_and_every_variable_of_a_command_is_told() -> None:
    context = click.Context(edge_agent)
    run = edge_agent.get_command(context, "run")
    assert run is not None
    words = {word for option in run.params for word in option.opts}
    for command in _commands(edge_agent, context):
        words |= {one.envvar for one in command.params if isinstance(one.envvar, str)}
    assert {"--config", "--data", "EDGE_AGENT_CONFIG", "EDGE_AGENT_URL"} < words
    assert not words - set(re.findall(r"--[a-z-]+|EDGE_AGENT_[A-Z_]+", reference()))


def _commands(command: click.Command, context: click.Context) -> list[click.Command]:
    if not isinstance(command, click.Group):
        return [command]
    inner = [command.get_command(context, name) for name in command.list_commands(context)]
    return [one for each in inner if each is not None for one in _commands(each, context)]


def test_no_agent_and_no_command_imports_it() -> None:
    script = "import edge_agent.agent, edge_agent.cli.config, sys; print(*sys.modules)"
    command = [sys.executable, "-c", script]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert "edge_agent.config.load" in loaded.stdout.split()
    assert "edge_agent.config.reference" not in loaded.stdout.split()
