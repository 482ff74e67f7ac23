"""What ``docs/upstreams.md`` and ``docs/own-sink.md`` say, held against the code."""

from __future__ import annotations

import errno
import os
import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest

from edge_agent.cli import main as edge_agent
from edge_agent.config import parse
from edge_agent.config.body_template import PLACEHOLDERS
from edge_agent.forward.sinks.file.folder import in_words
from edge_agent.forward.sinks.file.forms import COLUMNS
from edge_agent.forward.sinks.file.names import FileName
from tests.docs.examples import DOCS, Example, examples_of
from tests.own_sink.installed import HERE, MODULE, installed

PAGE = (DOCS / "upstreams.md").read_text()
EXAMPLES = examples_of("upstreams.md", "toml")
#: The sections that this file is about; others have tests of their own.
OURS = ("Files", "HTTP: CloudEvents and templates", "Your own")


@pytest.mark.parametrize(
    "example", [one for one in EXAMPLES if one.title in OURS], ids=lambda one: str(one.title)
)
def test_each_snippet_is_a_configuration(example: Example, tmp_path: Path) -> None:
    with installed(tmp_path / "site"):
        (upstream,) = parse(example.code, example.title).upstream
        assert upstream.kind


def test_every_placeholder_and_column_is_named() -> None:
    assert not [name for name in PLACEHOLDERS if f"`{{{name}}}`" not in PAGE]
    assert not [name for name in COLUMNS if f"`{name}`" not in PAGE]


def test_a_files_name_is_as_the_page_has_it() -> None:
    (shown,) = re.findall(r"^AGENT\.LOG\..*$", PAGE, re.MULTILINE)
    made = FileName("a1", "e1", "main", "usb", 1, 9, 7, packed=".gz").text()
    words = {"AGENT": "a1", "LOG": "main", "EPOCH": "e1", "UPSTREAM": "usb", "COUNT": "7"}
    for word, value in words.items():
        shown = shown.replace(word, value)
    assert shown.replace("FIRST", "1".zfill(16)).replace("LAST", "9".zfill(16)) == made


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOSPC, errno.EIO])
def test_what_is_told_of_a_disk_is_what_the_page_says(number: int) -> None:
    told = str(in_words(OSError(number, os.strerror(number)), Path("/x"))).removeprefix("/x: ")
    assert told.split(" (")[0] in PAGE


def test_the_commands_exist_with_their_options() -> None:
    context = click.Context(edge_agent)
    for line in re.findall(r"^edge-agent (.*)$", PAGE, re.MULTILINE):
        words = shlex.split(line)
        command = edge_agent.get_command(context, words.pop(0))
        if isinstance(command, click.Group):
            command = command.get_command(context, words.pop(0))
        assert command is not None
        known = {name for option in command.params for name in option.opts}
        assert not [word for word in words if word.startswith("--") and word not in known]
        for word in ("--size", "--no-send") if command.name == "test" else ():
            assert word in known and word in PAGE


def test_the_page_about_own_kinds_shows_the_package_that_the_tests_install() -> None:
    (code,) = examples_of("own-sink.md", "python")
    source = (HERE / f"{MODULE}.py").read_text()
    assert source.startswith(code.code)
    (project,) = examples_of("own-sink.md", "toml")
    shown, real = (
        tomllib.loads(text)["project"]
        for text in (project.code, (HERE / "pyproject.toml").read_text())
    )
    assert shown == real
