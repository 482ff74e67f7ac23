"""What the commands share: the lazy table, errors as one line, logging, HTTP to an agent."""

from __future__ import annotations

import errno
import importlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edge_agent.cli import COMMANDS, main, module_of
from edge_agent.cli.common import (
    LOCAL_TOKEN,
    TOKEN_VARIABLE,
    Failure,
    JournalFormatter,
    holds_store,
    local_token,
    set_up_logging,
    sudo_advice,
)
from edge_agent.cli.doctor.store import look_at_store, store_findings
from edge_agent.errors import ConfigError, StoreLocked
from edge_agent.system.files import acting_as
from tests.other_user import UID, open_folder


def commands(
    command: click.Command = main, name: str = "edge-agent"
) -> Iterator[tuple[str, click.Command]]:
    """Every command with its whole name."""
    yield name, command
    if isinstance(command, click.Group):
        for inner in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), inner)
            assert found is not None
            yield from commands(found, f"{name} {inner}")


@pytest.mark.parametrize("name, command", [pytest.param(*one, id=one[0]) for one in commands()])
def test_help_explains_every_option_and_cuts_no_line_off(name: str, command: click.Command) -> None:
    options = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
    assert [one.opts for one in options if not one.help or one.help.startswith("[")] == []
    text = command.get_help(click.Context(command, info_name=name))
    assert [line for line in text.partition("\n")[2].splitlines() if line.endswith("...")] == []


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_help_names_every_command_and_imports_none() -> None:
    script = (
        "import sys\nfrom edge_agent.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted(set(sys.modules) & {'trio', 'lmdb', 'rich', 'msgpack', 'starlette'}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    *text, loaded = done.stdout.splitlines()
    for name in COMMANDS:
        assert any(line.split()[:1] == [name] for line in text), name
    assert loaded == "[]"


def test_every_command_in_the_table_exists_and_has_help() -> None:
    for name in COMMANDS:
        command: click.Command = importlib.import_module(module_of(name)).command
        assert command.help, name


def test_an_unknown_command_is_wrong_usage() -> None:
    assert CliRunner().invoke(main, ["runn"]).exit_code == 2


@pytest.mark.parametrize(
    "error,code",
    [
        (ConfigError("file: key", "a size", "nothing"), 78),
        (StoreLocked("in use by process 7", 7), 75),
        (ExceptionGroup("", [ExceptionGroup("", [StoreLocked("in use", 7)])]), 75),
    ],
)
def test_an_error_of_ours_is_one_line_and_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    def fail(*_: object) -> None:
        raise error

    module = importlib.import_module("edge_agent.cli.config")
    monkeypatch.setattr(module, "command", click.Command("config", callback=fail))
    done = CliRunner().invoke(main, ["config"])
    assert done.exit_code == code
    assert done.output.startswith("Error: ") and len(done.output.splitlines()) == 1


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ExceptionGroup("", [ValueError("a mistake"), ConfigError("a", "b", "c")])

    module = importlib.import_module("edge_agent.cli.config")
    monkeypatch.setattr(module, "command", click.Command("config", callback=fail))
    assert isinstance(CliRunner().invoke(main, ["config"]).exception, ExceptionGroup)


def _logged(message: str, error: Exception | None = None) -> str:
    told = None if error is None else (type(error), error, None)
    record = logging.LogRecord("a.b", logging.WARNING, "", 0, message, None, told)
    return JournalFormatter().format(record)


def test_the_journal_gets_priorities_on_every_line() -> None:
    assert _logged("one", ValueError("two\nthree")) == (
        "<4>a.b: one\n<4>    ValueError: two\n<4>    three"
    )


@pytest.mark.parametrize("end", ["\n", "\r", "\x85", "\u2028", "\x0b", "\x1c"])
def test_what_a_peer_says_begins_no_line_of_the_log(end: str) -> None:
    assert len(_logged(f"it said: gone{end}<0>edge_agent.server: all is lost").splitlines()) == 1


def test_what_a_peer_says_reaches_no_terminal_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    Failure("it said: \x1b[2J\u202e\x9b31m and left\nsecond").show()
    told = capsys.readouterr().err
    assert all(one == "\n" or one.isprintable() for one in told)
    assert told.count("\n") == 2


def test_a_command_is_quiet_and_run_is_not() -> None:
    set_up_logging(0)
    assert logging.getLogger().level == logging.WARNING
    set_up_logging(1)
    assert logging.getLogger().level == logging.INFO
    set_up_logging(2)
    assert logging.getLogger("trio-websocket").level == logging.WARNING


def test_it_is_python_m_edge_agent_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edge_agent", "--version"],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
    )
    assert done.stdout.startswith("edge-agent, version ")
    assert json.dumps(done.stderr) == '""'


def test_a_folder_that_may_not_be_looked_into_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not holds_store(tmp_path) and not holds_store(tmp_path / "none")
    (tmp_path / "store").mkdir()
    assert holds_store(tmp_path)

    # The tests may run as root, who may look everywhere.
    def refuses(path: Path, **options: bool) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuses)
    with pytest.raises(Failure, match="as the agent's user"):
        holds_store(tmp_path)
    assert "agent's user" in look_at_store(tmp_path).problem
    assert [one.name for one in store_findings(tmp_path, "http://127.0.0.1:1")[0]] == [
        "folder",
        "store",
    ]


def test_the_token_of_this_machine_is_for_its_agent_over_tls_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "edge-agent.toml"
    assert local_token(config, "https://a:1") is None
    (tmp_path / LOCAL_TOKEN).write_text("secret\n")
    assert local_token(config, "https://a:1") == local_token(config, "wss://a:1") is not None
    assert local_token(config, "http://127.0.0.1:1") is None
    assert local_token(None, "https://a:1") is None
    # Beside another configuration: a link to it, and a file of somebody who is neither root nor us.
    other = tmp_path / "other"
    other.mkdir()
    (other / LOCAL_TOKEN).symlink_to(tmp_path / LOCAL_TOKEN)
    assert local_token(other / "a.toml", "https://a:1") is None
    with monkeypatch.context() as changed:
        changed.setattr(os, "geteuid", lambda: os.getuid() + 1)
        found = local_token(config, "https://a:1")
        assert (found is None) == (os.getuid() != 0)
    monkeypatch.setenv(TOKEN_VARIABLE, "another")
    assert local_token(config, "https://a:1") is None


@pytest.mark.needs("root")
def test_who_may_not_read_roots_token_is_told_to_try_sudo() -> None:
    with open_folder() as top:
        config = top / "edge-agent.toml"
        (top / LOCAL_TOKEN).write_text("secret")
        (top / LOCAL_TOKEN).chmod(0o600)
        assert sudo_advice(config) == ""
        with acting_as(UID, UID):
            assert sudo_advice(config) == "sudo, "
            assert sudo_advice(top / "none" / "edge-agent.toml") == ""
        top.chmod(0o700)
        with acting_as(UID, UID):
            assert sudo_advice(config) == ""


@pytest.mark.parametrize(
    "words, told",
    [
        ("send --stream a//b", "'--stream': 'a//b'"),
        ("send --stream a --source $x", "'--source': '$x'"),
        ("send --stream a --url http://127.0.0.1:1", "--url: expected"),
        ("send --stream a --url ws://127.0.0.1:99999", "--url: expected"),
        ("send --stream a --url wss://h --ca-file /etc/hostname", "--ca-file: expected"),
        ("send --stream a --tz Mars/X", "--tz: expected"),
        ("sensor host --stream a//b", "'--stream': 'a//b'"),
        ("sensor mqtt mqtt://h --topic t --to http://h", "--to: expected"),
        ("query --stream a//b", "'--stream': 'a//b'"),
        ("export - --stream a//b", "'--stream': 'a//b'"),
        ("tail a//b", "'[PATTERN]': 'a//b'"),
        ("top a//b", "'[PATTERN]': 'a//b'"),
        ("upstream resend hub --stream a//b", "'--stream': 'a//b'"),
        ("rules test f --stream a//b", "'--stream': 'a//b'"),
        ("token add x --write a//b", "'--write': 'a//b'"),
        ("token add x --read a//b", "'--read': 'a//b'"),
        ("token add x --write a --source a//b", "'--source': 'a//b'"),
        ("token add \x1b --write a", "'NAME': '\\x1b'"),
        ("tls init d --name a_!", "'--name': expected a DNS name"),
        ("setup --name a_!", "'--name': expected a DNS name"),
    ],
)
def test_an_argument_that_cannot_be_is_wrong_usage_and_named(words: str, told: str) -> None:
    done = CliRunner().invoke(main, words.split(" "), input='{"t": 1}\n')
    assert done.exit_code == 2 and told in done.output, (done.exit_code, done.output)
