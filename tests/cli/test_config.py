"""`edge-agent config`: what it writes can be used, and what it says is true."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_agent.cli.config import command
from edge_agent.config import Config, parse


def test_init_writes_a_file_that_loads_as_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "edge-agent.toml"
    assert CliRunner().invoke(command, ["init", str(path)]).exit_code == 0
    assert parse(path.read_text(), "test") == Config()


def test_init_does_not_replace_what_somebody_wrote(tmp_path: Path) -> None:
    path = tmp_path / "edge-agent.toml"
    path.write_text("# mine\n")
    done = CliRunner().invoke(command, ["init", str(path)])
    assert done.exit_code == 1 and "--force" in done.output
    assert path.read_text() == "# mine\n"
    assert CliRunner().invoke(command, ["init", "--force", str(path)]).exit_code == 0
    assert path.read_text() != "# mine\n"


def test_init_to_stdout_and_into_a_missing_folder(tmp_path: Path) -> None:
    assert "[listen]" in CliRunner().invoke(command, ["init", "-"]).stdout
    done = CliRunner().invoke(command, ["init", str(tmp_path / "no" / "x.toml")])
    assert done.exit_code == 1 and "No such file" in done.output


def test_check_says_good_and_warns_of_what_is_odd(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(
        '[listen]\naddress = "0.0.0.0:0"\ninsecure = true\n[http]\naddress = "127.0.0.1:0"\n'
        '[[upstream]]\nname = "hub"\nurl = "wss://hub:8765/forward"\ntoken_file = "/nowhere"\n'
    )
    done = CliRunner().invoke(command, ["check", str(path), "--data", str(tmp_path / "data")])
    assert done.exit_code == 0 and done.stdout == f"{path}: good\n"
    assert "anybody" in done.stderr and "upstream.hub.token_file: /nowhere" in done.stderr


def test_check_names_the_mistake(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('[store]\nsize = "a lot"\n')
    done = CliRunner().invoke(command, ["check", str(path)])
    assert done.exit_code == 78 and "store.size" in done.output


def test_check_says_that_logs_have_too_large_a_share_together(tmp_path: Path) -> None:
    # A second log without a share of its own has 70 %, too.
    path = tmp_path / "a.toml"
    path.write_text("[log.main]\n[log.alarms]\n")
    done = CliRunner().invoke(command, ["check", str(path), "--data", str(tmp_path / "data")])
    assert done.exit_code == 78
    assert "log.alarms.share: expected all logs together at most 80%" in done.output


def test_check_tells_all_mistakes_that_can_be_known_in_one_run(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    (tmp_path / "tokens").write_text(
        '{"version": 1, "tokens": [{"name": "a", "hash": "x"}, {"name": "b", "hash": "y"}]}'
    )
    path.write_text(
        f"""
[listen]
tokens = "{tmp_path}/tokens"
tls_certificate = "{tmp_path}/no.pem"
tls_key = "{tmp_path}/no-key.pem"
[store]
size = "a lot"
[[upstream]]
name = "hub"
batch_records = 0
backoff_base = "2s"
backoff_max = "1s"
headers = {{ Host = "x" }}
accept = "maybe"
[[upstream]]
name = "other"
url = "nowhere"
proxy = "nothing"
[[upstream]]
name = "third"
url = "wss://h/forward"
token_file = "{tmp_path}/no-token"
[[rule]]
name = "all"
streams = ["a//b"]
drop = ["x"]
redact = ["y"]
[[rule]]
name = "when"
streams = ["a"]
time = {{ key = "t", format = "never", zone = "Nowhere/At" }}
[[rule]]
name = "one"
streams = ["a"]
drop = ["time"]
[[rule]]
name = "two"
streams = ["a"]
drop = ["stream"]
"""
    )
    done = CliRunner().invoke(command, ["check", str(path)])
    told = done.output
    assert done.exit_code == 78
    for words in (
        "store.size", "upstream.hub.url", "upstream.hub.batch_records",
        "upstream.hub.backoff_base", "upstream.hub.headers.Host", "upstream.hub.accept",
        "upstream.other.url", "upstream.other.proxy", "upstream.third.token_file",
        "rule.all.streams", "rule.all.redact", "rule.when.time.format", "rule.when.time.zone",
        "rule.one.drop", "rule.two.drop", "tokens: a: hash", "tokens: b: hash",
        "listen.tls_certificate", "listen.tls_key",
    ):  # fmt: skip
        assert words in told, words
    # What stands in for what is wrong is nobody's mistake.
    assert "store.path" not in told and "no upstream" not in told and "https://x" not in told


def test_show_prints_what_is_in_force(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('[store]\nsize = "64MiB"\n')
    arguments = ["show", "--config", str(path), "--data", "/elsewhere"]
    done = CliRunner().invoke(command, arguments, env={"EDGE_AGENT__LOG__MAIN__KEEP": "7d"})
    shown = parse(done.stdout, "test")
    assert shown.store.size == 64 << 20 and shown.store.path == "/elsewhere"
    assert shown.log["main"].keep == 7 * 86_400


@pytest.mark.parametrize(
    "text",
    [
        '[listen]\ntokens = "PIPE"\n',
        '[listen]\ntls_certificate = "PIPE"\ntls_key = "PIPE"\n',
        '[[upstream]]\nname = "h"\nurl = "wss://h/forward"\ntoken_file = "PIPE"\n',
        '[[upstream]]\nname = "h"\nurl = "wss://h/forward"\nca_file = "PIPE"\n',
        '[[upstream]]\nname = "h"\nurl = "https://h"\ntls_certificate = "PIPE"\ntls_key = "PIPE"\n',
    ],
)
def test_check_waits_for_no_pipe(tmp_path: Path, text: str) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    path = tmp_path / "a.toml"
    path.write_text(text.replace("PIPE", str(pipe)))
    done = CliRunner().invoke(command, ["check", str(path), "--data", str(tmp_path / "data")])
    assert "no plain file" in done.output
    done = CliRunner().invoke(command, ["check", str(pipe)])
    assert done.exit_code != 0 and "no plain file" in str(done.exception)
