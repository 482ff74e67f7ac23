"""`edge-agent token`: the secret is printed once, alone on stdout, and works."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge_agent.cli.token import command
from edge_agent.security.tokens import Tokens


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def test_a_secret_is_alone_on_stdout_and_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    done = run("add", "greenhouse", "--write", "greenhouse/**", "--file", str(path))
    assert done.exit_code == 0 and done.stdout.count("\n") == 1
    token = Tokens(path).find(done.stdout.strip())
    assert token is not None and token.name == "greenhouse"
    assert token.may_write("greenhouse/1") and not token.may_write("attic/1")
    assert token.may_be("any/source") and not token.may_read("greenhouse/1")
    assert done.stdout.strip() not in path.read_text()


def test_list_shows_names_and_scopes_and_no_secret(tmp_path: Path) -> None:
    path = str(tmp_path / "tokens.json")
    secret = run("add", "me", "--read", "**", "--file", path).stdout.strip()
    run("add", "pi-7", "--forward", "--admin", "--file", path)
    shown = run("list", "--file", path).stdout
    assert "me " in shown and "read **" in shown and "forward; admin" in shown
    assert secret not in shown


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = run("list", "--file", str(tmp_path / "none"))
    assert done.exit_code == 1 and "there is no such file" in done.stderr


def test_revoked_is_gone_and_revoking_nobody_is_said(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    secret = run("add", "me", "--read", "**", "--file", str(path)).stdout.strip()
    assert run("revoke", "me", "--file", str(path)).exit_code == 0
    assert Tokens(path).find(secret) is None
    done = run("revoke", "me", "--file", str(path))
    assert done.exit_code == 1 and "no token called me" in done.output


def test_the_file_comes_from_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    config = tmp_path / "a.toml"
    config.write_text(f'[listen]\ntokens = "{path}"\n')
    assert run("add", "me", "--read", "**", "--config", str(config)).exit_code == 0
    assert path.exists()


def test_without_any_file_the_error_names_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGE_AGENT_CONFIG", raising=False)
    assert "listen.tokens" in str(run("list").exception)


def test_a_token_that_may_do_nothing_is_wrong_usage(tmp_path: Path) -> None:
    assert run("add", "idle", "--file", str(tmp_path / "t.json")).exit_code == 2


def test_a_rotated_token_keeps_all_but_its_secret(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    run = CliRunner().invoke
    where = ["--file", str(file)]
    first = run(command, ["add", "pi", "--forward", "--agent", "0123456789ab", *where])
    second = run(command, ["rotate", "pi", *where])
    assert second.exit_code == 0
    tokens = Tokens(file)
    assert tokens.find(first.stdout.strip()) is None
    found = tokens.find(second.stdout.strip())
    assert found is not None and (found.name, found.agents) == ("pi", ("0123456789ab",))
    assert "forward 0123456789ab" in run(command, ["list", *where]).output
    assert run(command, ["rotate", "nobody", *where]).exit_code == 1
    assert run(command, ["add", "x", "--write", "a", "--agent", "b", *where]).exit_code == 2


@pytest.mark.parametrize("wrong", ["zz", "0123456789AB", "agent:0123456789ab", "0123456789*", ""])
def test_an_agent_is_named_by_its_id(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "tokens.json"
    done = run("add", "pi", "--forward", "--agent", wrong, "--file", str(path))
    assert done.exit_code == 2 and "no agent's id" in done.output and not path.exists()
    for right in ("0123456789ab", "**"):
        done = run("add", right, "--forward", "--agent", right, "--file", str(path))
        assert done.exit_code == 0, done.output


def test_a_token_for_urls_may_write_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    words = ["add", "plug", "--file", str(file), "--write", "shelly/**", "--in-url"]
    done = CliRunner().invoke(command, words)
    assert done.exit_code == 0, done.output
    secret = done.stdout.strip()
    assert f"/token/{secret}/ingest/STREAM" in done.stderr
    assert "in a URL" in CliRunner().invoke(command, ["list", "--file", str(file)]).output
    wrong = CliRunner().invoke(command, [*words[:1], "two", *words[2:], "--read", "**"])
    assert wrong.exit_code == 2 and "--write alone" in wrong.output
