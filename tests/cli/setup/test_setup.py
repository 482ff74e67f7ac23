"""``edge-agent setup`` in a folder of its own, and an agent that starts with what it leaves."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from edge_agent.cli import main
from edge_agent.config import parse
from edge_agent.security.tls import make_ca, server_context
from edge_agent.security.tokens import list_tokens
from tests.end_to_end.support import AgentProcess, agents
from tests.other_user import as_other_user, open_folder
from tests.patience import PATIENCE_S


def setup(config: Path, *words: str, answers: str = "") -> Result:
    return CliRunner().invoke(
        main, ["setup", "--config", str(config), "--no-restart", *words], input=answers
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "etc"
    folder.mkdir()
    file = folder / "edge-agent.toml"
    file.write_text(f'[store]\npath = "{tmp_path / "data"}"  # a comment\nsize = "64MiB"\n')
    return file


@pytest.mark.needs("curl")
async def test_the_line_that_it_prints_sends_the_first_record(config: Path, tmp_path: Path) -> None:
    done = setup(config, "--yes", "--name", "barn.example")
    assert done.exit_code == 0, done.output
    assert "# a comment" in config.read_text()
    lines = re.search(r"^    (curl .*?)\n\n", done.output, re.MULTILINE | re.DOTALL)
    assert lines is not None
    agent = AgentProcess(tmp_path, "agent", config.read_text() + '[log.main]\ncommit_interval="0s"')
    async with agents(agent):
        command = shlex.split(lines[1].replace("\\\n", " "))
        command = [
            re.sub(r"https://.*:\d+/", f"https://127.0.0.1:{agent.port}/", word) for word in command
        ]
        sent = await trio.to_thread.run_sync(
            lambda: subprocess.run(
                command, capture_output=True, text=True, timeout=PATIENCE_S, check=False
            )
        )
        assert json.loads(sent.stdout) == {"stored": 1, "refused": []}, sent.stderr


def called(monkeypatch: pytest.MonkeyPatch, host: str, *addresses: str) -> None:
    """The machine's name and addresses."""
    monkeypatch.setattr("socket.gethostname", lambda: host)
    for module in ("edge_agent.cli.tls", "edge_agent.cli.setup.setup"):
        monkeypatch.setattr(f"{module}.own_addresses", lambda: iter(addresses))


@pytest.mark.parametrize(
    "addresses, listens, url",
    [
        (("fd00::7",), ":8765", "wss://[fd00::7]:8765/"),
        (("fd00::7", "10.0.0.1"), "0.0.0.0:8765", "wss://10.0.0.1:8765/"),
        (("10.0.0.1", "10.0.2.1"), "0.0.0.0:8765", "wss://10.0.0.1:8765/"),
        ((), "0.0.0.0:8765", "wss://pi:8765/"),
    ],
)
def test_what_it_prints_is_where_it_listens(
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    addresses: tuple[str, ...],
    listens: str,
    url: str,
) -> None:
    called(monkeypatch, "pi", *addresses)
    done = setup(config, "--yes")
    assert done.exit_code == 0, done.output
    assert parse(config.read_text(), "it").listen.address == listens
    assert url in done.output
    assert ("no network is up" in done.output) is (not addresses)


def test_an_address_that_others_reach_already_gets_what_it_lacks(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called(monkeypatch, "pi", "10.0.1.1")
    config.write_text(config.read_text() + '[listen]\naddress = "0.0.0.0:8765"\n')
    done = setup(config, "--yes")
    assert done.exit_code == 0, done.output
    assert parse(config.read_text(), "it").listen.tls_certificate is not None
    assert "wss://10.0.1.1:8765/" in done.output


def test_another_mistake_is_still_told_as_it_is(config: Path) -> None:
    config.write_text(config.read_text() + '[listen]\naddress = "0.0.0.0:8765"\nhost = 1\n')
    done = setup(config, "--yes")
    assert done.exit_code == 78 and "without TLS and tokens" in done.output
    assert "listen.host" in done.output and not (config.parent / "tls").exists()


def test_a_name_that_no_certificate_can_have_is_told(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called(monkeypatch, "a\x1b b", "10.0.0.1")
    done = setup(config, "--yes")
    assert done.exit_code == 0 and "\x1b" not in done.output
    assert "b' cannot stand in it: --name NAME adds one that can" in done.output
    assert "cannot stand in it" not in setup(config, "--yes", "--name", "barn.example").output


def test_where_nobody_answers_nothing_is_changed_and_the_option_is_named(config: Path) -> None:
    before = config.read_text()
    done = setup(config)
    assert done.exit_code == 2 and "--yes takes what is proposed" in done.output
    assert config.read_text() == before and not (config.parent / "tls").exists()


def test_wherever_it_is_interrupted_the_next_run_completes_it(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, folder, whole = config.read_text(), config.parent, os.rename
    cut = left = 0

    def interrupted(before: str, after: str, **folders: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise SystemExit(143)  # As SIGTERM ends it.
        whole(before, after, **folders)

    while True:
        for one in folder.iterdir():
            shutil.rmtree(one) if one.is_dir() else one.unlink()
        config.write_text(text)
        left = cut
        with monkeypatch.context() as patched:
            patched.setattr(os, "rename", interrupted)
            done = setup(config, "--yes")
        if done.exit_code == 0:
            break
        assert done.exit_code == 143, done.output
        # What has another name for a while is gone; the configuration is the old one or the new.
        assert not list(folder.rglob(".*")), cut
        parse(config.read_text(), "it")
        done = setup(config, "--yes")
        assert done.exit_code == 0, (cut, done.output)
        listen = parse(config.read_text(), "it").listen
        assert server_context(listen) is not None and listen.tokens is not None
        assert {one.name for one in list_tokens(listen.tokens)} == {"sensors", "page", "local"}
        cut += 1
    assert cut >= 9, "keys, authority, certificate, three tokens, root's own, trial, configuration"


@pytest.mark.needs("root", "unshare", "setpriv")
@pytest.mark.parametrize("is_again", [False, True])
def test_who_may_not_write_there_is_told_who_may_and_nothing_is_changed(*, is_again: bool) -> None:
    with open_folder() as folder:
        config = folder / "edge-agent.toml"
        config.write_text(f'[store]\npath = "{folder}/data"\nsize = "64MiB"\n')
        words = ["setup", "--yes", "--no-restart", "--config", str(config)]
        if is_again:
            assert setup(config, "--yes").exit_code == 0
        before = {one: one.stat().st_mtime_ns for one in folder.rglob("*")}
        command = [*as_other_user(), sys.executable, "-m", "edge_agent", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2 and "denied: sudo edge-agent setup" in done.stderr, done
        assert {one: one.stat().st_mtime_ns for one in folder.rglob("*")} == before


def test_a_file_with_a_byte_order_mark_is_read_and_written_without(config: Path) -> None:
    config.write_text("\ufeff" + config.read_text())
    assert setup(config, "--yes").exit_code == 0
    assert config.read_bytes().startswith(b"[store]")


def test_again_it_keeps_tokens_and_authority(config: Path) -> None:
    first = setup(config, "--yes")
    text, authority = config.read_text(), (config.parent / "tls" / "ca.pem").read_bytes()
    tokens = (config.parent / "tokens").read_text()
    second = setup(config, "--yes", "--name", "new.example")
    assert second.exit_code == 0 and "new.example" in second.output
    assert "nothing to change" in second.output and "token rotate sensors" in second.output
    assert config.read_text() == text and (config.parent / "tokens").read_text() == tokens
    assert (config.parent / "tls" / "ca.pem").read_bytes() == authority
    secret = re.search(r"token sensors +(\S+)", first.output)
    assert secret is not None and secret[1] not in second.output


async def test_commands_on_this_machine_need_no_token_then(config: Path, tmp_path: Path) -> None:
    """For who may read the file that holds it, and to this agent alone."""
    assert setup(config, "--yes").exit_code == 0
    token = config.parent / "local-token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert "local" in (config.parent / "tokens").read_text()
    agent = AgentProcess(tmp_path, "agent", config.read_text() + '[log.main]\ncommit_interval="0s"')
    async with agents(agent):
        text = config.read_text().replace("0.0.0.0:8765", f"127.0.0.1:{agent.port}")
        config.write_text(text)

        async def send(*words: str) -> Result:
            words = ("send", "--stream", "a", "--config", str(config), *words)
            return await trio.to_thread.run_sync(
                lambda: CliRunner().invoke(main, words, input='{"t": 1}\n')
            )

        assert (await send()).exit_code == 0
        # An address that somebody gives may be anybody's.
        assert (
            "(try --token-file FILE"
            in (await send("--url", f"wss://127.0.0.1:{agent.port}")).output
        )
        token.unlink()
        assert "(try --token-file FILE" in (await send()).output
    assert setup(config, "--yes").exit_code == 0 and token.exists()


def test_tokens_are_kept_where_the_configuration_says(config: Path) -> None:
    elsewhere = config.parent / "mine"
    config.write_text(f'{config.read_text()}[listen]\ntokens = "{elsewhere}"\n')
    assert setup(config, "--yes").exit_code == 0
    assert "sensors" in elsewhere.read_text() and not (config.parent / "tokens").exists()


def with_foreign(config: Path, folder: Path, *names: str) -> Path:
    """A certificate of another authority, which the configuration names."""
    files = make_ca(folder, list(names))
    foreign = files.certificate.rename(folder / "fullchain.pem")
    files.ca.unlink()
    text = f'[listen]\ntls_certificate = "{foreign}"\ntls_key = "{files.key}"\n'
    config.write_text(config.read_text() + text)
    return foreign


@pytest.mark.parametrize(
    "host, url",
    [
        ("pi.lan.example", "https://pi.lan.example:876"),
        ("pi", "https://THIS-MACHINE.lan.example:876"),
    ],
)
def test_of_a_certificate_for_any_name_below_a_domain_one_is_told_for_which_it_is_good(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, url: str
) -> None:
    called(monkeypatch, host, "10.0.0.1")
    with_foreign(config, tmp_path / "acme", "*.lan.example")
    done = setup(config, "--yes", "--name", "shed.lan")
    assert done.exit_code == 0 and "--name shed.lan is not used" in done.output, done.output
    assert f"{url}5/ingest" in done.output and f"{url}6/" in done.output
    assert ("leaves a name open" in done.output) is ("THIS" in url)
    assert "*" not in done.output and "https://10." not in done.output


def test_a_certificate_of_another_authority_stays_and_its_name_is_told(
    config: Path, tmp_path: Path
) -> None:
    foreign = with_foreign(config, tmp_path / "acme", "pi.example")
    before = foreign.read_bytes()
    done = setup(config, answers="\n\n")  # Of names it is not asked.
    assert done.exit_code == 0 and not (config.parent / "tls").exists(), done.output
    assert foreign.read_bytes() == before and f"leave the certificate {foreign}" in done.output
    assert "curl https://pi.example:8765/" in done.output and "--cacert" not in done.output
    assert "https://pi.example:8766/" in done.output


def test_an_authority_that_lies_elsewhere_is_gone_on_with(config: Path, tmp_path: Path) -> None:
    files = make_ca(tmp_path / "mine", ["pi.example"])
    text = f'[listen]\ntls_certificate = "{files.certificate}"\ntls_key = "{files.key}"\n'
    config.write_text(config.read_text() + text)
    done = setup(config, "--yes")
    assert done.exit_code == 0 and f"--cacert {files.ca} " in done.output, done.output
    assert not (config.parent / "tls").exists()


def test_tokens_that_cannot_be_read_are_told_before_anything_is_written(config: Path) -> None:
    (config.parent / "tokens").write_text("")
    done = setup(config, "--yes")
    assert done.exit_code == 78 and "found an empty file" in done.output
    assert "move it away" in done.output and not (config.parent / "tls").exists()


def test_an_emptied_token_for_this_machine_is_made_anew(config: Path) -> None:
    assert setup(config, "--yes").exit_code == 0
    token = config.parent / "local-token"
    before = token.read_text()
    token.write_text("")
    assert setup(config, "--yes").exit_code == 0
    assert token.read_text().startswith("ea1_") and token.read_text() != before


#: The command where systemd runs; the words behind it are this folder, and the command's own.
WITH_SYSTEMD = """
import sys, pathlib
from edge_agent.cli import main
from edge_agent.cli.setup import setup
setup._SYSTEMD = pathlib.Path(sys.argv.pop(1))
main()
"""


@pytest.mark.parametrize(
    "restart, told",
    [
        ("false", "all is written, but it does not start"),
        ("kill -INT $PPID; exec sleep 60", "Aborted!"),
    ],
    ids=["it does not start", "Ctrl-C meanwhile"],
)
def test_whatever_comes_of_the_restart_secrets_are_told_once(
    config: Path, tmp_path: Path, restart: str, told: str
) -> None:
    systemctl = tmp_path / "bin" / "systemctl"
    systemctl.parent.mkdir()
    systemctl.write_text(f'#!/bin/sh\n[ "$1" != restart ] || {{ {restart}; }}\n')
    systemctl.chmod(0o755)
    words = [str(tmp_path), "setup", "--config", str(config), "--yes"]
    done = subprocess.run(
        [sys.executable, "-c", WITH_SYSTEMD, *words], capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": f"{systemctl.parent}:{os.environ['PATH']}"}, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 1 and told in done.stderr, done.stderr
    # They would be lost.
    assert len(re.findall(r"token sensors +ea1_\S+", done.stdout)) == 1


def test_who_says_no_changes_nothing(config: Path) -> None:
    text = config.read_text()
    done = setup(config, answers="\ny\nn\n")
    assert done.exit_code == 1 and "nothing was changed" in done.output
    assert config.read_text() == text and list(config.parent.iterdir()) == [config]


def test_questions_are_asked_and_answered(config: Path) -> None:
    done = setup(config, answers="barn.example, shed.example\nn\ny\n")
    assert done.exit_code == 0, done.output
    settings = parse(config.read_text(), "file")
    assert settings.http.address.startswith("127.0.0.1") and settings.listen.tokens is not None
    assert "shed.example" in done.output and "token page" not in done.output


def test_a_name_that_is_none_is_asked_for_again(config: Path) -> None:
    done = setup(config, answers="a_!\nshed.lan\nn\nn\n")
    assert done.exit_code == 1 and "expected a DNS name" in done.output
    assert "good for" in done.output and "shed.lan" in done.output.partition("good for")[2]
    assert "a_!" not in done.output.partition("good for")[2]


@pytest.mark.parametrize("again", [("--yes",), ()])
def test_a_page_that_was_left_on_loopback_stays_there(config: Path, again: tuple[str, ...]) -> None:
    assert setup(config, "--yes", "--no-page").exit_code == 0
    assert "[http]" not in config.read_text()
    done = setup(config, "--name", "pi.lan", *again, answers="\n\n\n")
    assert done.exit_code == 0, done.output
    assert parse(config.read_text(), "file").http.address == "127.0.0.1:8766"
    assert ("stays on loopback" in done.output) == bool(again)


@pytest.mark.parametrize("again, answers", [(("--yes", "--no-page"), ""), ((), "\nn\n\n")])
def test_a_page_that_was_open_is_closed_and_that_is_said(
    config: Path, again: tuple[str, ...], answers: str
) -> None:
    assert setup(config, "--yes").exit_code == 0
    assert parse(config.read_text(), "file").http.address == "0.0.0.0:8766"
    done = setup(config, *again, answers=answers)
    assert done.exit_code == 0, done.output
    assert parse(config.read_text(), "file").http.address == "127.0.0.1:8766"
    assert 'http.address = "127.0.0.1:8766"  # was 0.0.0.0:8766' in done.output
    assert "http://127.0.0.1:8766, on this machine alone" in done.output


@pytest.mark.parametrize("umask", [0o077, 0])
def test_whatever_the_umask_the_agent_may_read_the_configuration_and_nobody_write_it(
    tmp_path: Path, umask: int
) -> None:
    config = tmp_path / "edge-agent.toml"
    before = os.umask(umask)
    try:
        done = setup(config, "--yes")
    finally:
        os.umask(before)
    assert done.exit_code == 0, done.output
    assert config.stat().st_mode & 0o777 == 0o644
    assert not [one for one in tmp_path.rglob("*") if one.stat().st_mode & 0o002]


def test_with_what_no_agent_could_start_the_file_stays_as_it_was(config: Path) -> None:
    config.write_text(f'[store]\npath = "{config}"\n')
    text = config.read_text()
    done = setup(config, "--yes")
    assert done.exit_code == 78 and "was not changed" in done.output
    assert config.read_text() == text
    # The tokens are there, and told: they are told once.
    assert len(re.findall(r"^token \w+ +ea1_\S+$", done.output, re.MULTILINE)) == 2
    assert not list(config.parent.glob(".*"))


def test_an_address_that_is_none_is_told_as_config_check_tells_it(tmp_path: Path) -> None:
    (config := tmp_path / "config.toml").write_text('[listen]\naddress = "x"\n')
    refused = setup(config, "--yes")
    assert refused.exit_code == 78 and "listen.address" in refused.output
