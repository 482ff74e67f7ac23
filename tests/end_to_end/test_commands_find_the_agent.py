"""Commands on the agent's own machine reach it without being told where; a wrong port says so."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from edge_agent.cli import main
from edge_agent.security.tls import make_ca
from edge_agent.security.tokens import add_token
from tests.end_to_end.support import AgentProcess, agents

TLS = """\
[listen]
tls_certificate = "{tls}/server.pem"
tls_key = "{tls}/server-key.pem"
tokens = "{tls}/tokens"
[store]
path = "{data}"
size = "16MiB"
[log.main]
commit_interval = "20ms"
"""


class Place:
    def __init__(self, folder: Path) -> None:
        tls = folder / "tls"
        make_ca(tls, ["localhost", "127.0.0.1"])
        self.token = folder / "token"
        secret = add_token(
            tls / "tokens", "me", write=["**"], sources=["**"], read=["**"], admin=True
        )
        self.token.write_text(secret)
        self.agent = AgentProcess(folder, "agent")
        text = TLS.format(tls=tls, data=self.agent.store)
        addresses = f'address = "127.0.0.1:{self.agent.port}"'
        text = text.replace("[listen]\n", f"[listen]\n{addresses}\n")
        text += f'[http]\naddress = "127.0.0.1:{self.agent.http_port}"\n'
        self.agent.config = text
        self.config = self.agent.write_config()
        self.records = folder / "records.jsonl"
        self.records.write_text('{"t": 21.5}\n')

    async def run(self, *arguments: str) -> Result:
        environment = {
            "EDGE_AGENT_CONFIG": str(self.config),
            "EDGE_AGENT_TOKEN_FILE": str(self.token),
        }
        return await trio.to_thread.run_sync(
            lambda: CliRunner().invoke(main, arguments, env=environment)
        )


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    made = Place(tmp_path)
    async with agents(made.agent):
        yield made


async def test_with_its_configuration_and_a_token_all_of_them_reach_it(place: Place) -> None:
    sent = await place.run("send", str(place.records), "--stream", "a/b", "--timeout", "30")
    assert sent.exit_code == 0, sent.output
    for arguments in (("status",), ("query",), ("tail",), ("consumer", "list"),
                      ("quarantine", "list"), ("export", "-")):  # fmt: skip
        done = await place.run(*arguments)
        assert done.exit_code == 0, (arguments, done.output)
    assert "21.5" in (await place.run("query")).output


async def test_a_wrong_scheme_or_port_is_told_as_that(place: Place) -> None:
    sensors, people = f"127.0.0.1:{place.agent.port}", f"127.0.0.1:{place.agent.http_port}"
    send = ("send", str(place.records), "--stream", "a", "--url")
    told = {
        (*send, f"ws://{sensors}"): f"this port speaks TLS: wss://{sensors}",
        (*send, f"wss://{people}"): f"this port speaks no TLS: ws://{people}",
        (*send, f"ws://{people}"): "is it the people's?",
        ("status", "--url", f"http://{sensors}"): f"this port speaks TLS: try https://{sensors}",
        ("status", "--url", f"https://{sensors}"): "is the sensors' port",
        ("status", "--url", f"https://{people}"): f"speaks no TLS (WRONG_VERSION_NUMBER): try http://{people}",
        ("status", "--url", f"ws://{sensors}"): "ws:// is for sensors",
    }  # fmt: skip
    for arguments, words in told.items():
        # It tries until its time is over. A slow machine needs more of it for one attempt.
        for patience in ("1", "5", "30") if arguments[0] == "send" else ("",):
            given = ("--timeout", patience) if patience else ()
            done = await place.run(*arguments, *given)
            assert done.exit_code != 0
            if words in done.output:
                break
        assert words in done.output, (arguments, done.output)


@pytest.mark.needs("root", "unshare")
async def test_the_configuration_of_this_machine_is_found_without_a_word(
    place: Place, tmp_path: Path
) -> None:
    etc = tmp_path / "etc"
    shutil.copytree("/etc", etc, symlinks=True, ignore_dangling_symlinks=True)
    (etc / "edge-agent").mkdir(exist_ok=True)
    shutil.copy(place.config, etc / "edge-agent" / "edge-agent.toml")
    command = [
        "unshare", "--mount", "sh", "-c", f'mount --bind {etc} /etc && exec "$@"', "sh",
        sys.executable, "-m", "edge_agent",
    ]  # fmt: skip
    environment = {**os.environ, "EDGE_AGENT_TOKEN": place.token.read_text()}
    for arguments in (
        ("send", str(place.records), "--stream", "a/b"),
        ("query",),
        ("config", "check"),
    ):
        done = await trio.run_process(
            [*command, *arguments], capture_stdout=True, capture_stderr=True, env=environment,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, (arguments, done.stderr)


def test_help_shows_no_escapes() -> None:
    told = CliRunner().invoke(main, ["token", "add", "--help"]).output
    assert "\\b" not in told and "\b" not in told
    assert "  edge-agent token add me --read '**'\n" in told
