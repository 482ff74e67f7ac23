from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from edge_agent.cli.send.options import Diary
from edge_agent.cli.sensor import broker as broker_module
from edge_agent.cli.sensor.broker import BrokerOptions
from edge_agent.cli.sensor.mqtt import Bridge
from edge_agent.client import Producer
from tests.forward.sinks.mqtt.broker import Broker, running_broker, until
from tests.preloaded import run

TOPIC = ("--topic", "t")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("tcp://h", *TOPIC), "URL: expected mqtt://HOST[:PORT]"),
        (("mqtt://u:p@h", *TOPIC), "--user and --password-file"),
        (("mqtt://h",), "Missing option '--topic'"),
        (("mqtt://h", *TOPIC, "--stream", "{x}"), "--stream: expected {topic}"),
        (("mqtt://h", "--topic", "#/a"), "--topic: expected + for a part, # for all"),
        (("mqtt://h", *TOPIC, "--source", "a b"), "'--source': 'a b'"),
    ],
)
def test_a_wrong_option_is_told_at_once(arguments: tuple[str, ...], words: str) -> None:
    done = run("sensor", "mqtt", *arguments)
    assert done.returncode != 0 and words in done.stderr


def test_a_password_file_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("")
    file = str(tmp_path / "password")
    done = run("sensor", "mqtt", "mqtt://h", *TOPIC, "--user", "u", "--password-file", file)
    assert done.returncode == 2 and f"--password-file {file}" in done.stderr


@pytest.fixture
def closed_broker(tmp_path: Path) -> Iterator[Broker]:
    """One that wants a password."""
    file = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(file), "u", "right"], check=True)
    with running_broker(tmp_path / "broker", f"allow_anonymous false\npassword_file {file}") as one:
        yield one


@pytest.mark.needs("mosquitto")
@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_wrong_password_ends_it_with_one_line_for_whoever_waits_at_a_terminal(
    closed_broker: Broker, version: str, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("wrong")
    who = ("--user", "u", "--password-file", str(tmp_path / "password"), "--version", version)
    done = run("sensor", "mqtt", closed_broker.url, *TOPIC, *who, "--to", "ws://127.0.0.1:1")
    assert done.returncode == 77
    told = [line for line in done.stderr.splitlines() if "the broker" in line]
    assert len(told) == 1 and "not authorised" in told[0] and "--password-file" in told[0]


@pytest.mark.needs("mosquitto")
async def test_a_service_says_it_once_and_tries_on_until_it_is_mended(
    closed_broker: Broker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_module, "_DELAY_MAX_S", 0.05)
    options = BrokerOptions(closed_broker.url, ["t"], "sensor", user="u", password="wrong")
    bridge = Bridge(options, "{topic}", Diary(tries_on=True))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bridge.run, Producer("ws://127.0.0.1:1/ingest/t", source="s"))
        said = ""

        def heard(text: str) -> bool:
            nonlocal said
            said += capsys.readouterr().err
            return text in said

        await until(lambda: heard("not authorised"))
        await trio.sleep(0.5)
        assert not heard("connected to the broker") and said.count("\n") == 1
        assert said.rstrip().endswith("; trying again")
        closed_broker.stop()
        closed_broker.more = ""
        closed_broker.start()
        await until(lambda: heard("connected to the broker"))
        nursery.cancel_scope.cancel()
    await bridge.stop()
