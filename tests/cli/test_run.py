"""`edge-agent run`: a real process, its signals and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from edge_agent.agent import Running
from edge_agent.cli.process import EarlyHangup
from edge_agent.cli.run import refuse_emptied, run_until_signal, settings_of
from edge_agent.config import Config
from edge_agent.errors import ConfigError
from tests import preloaded
from tests.patience import PATIENCE_S
from tests.preloaded import Forked, nest

ENVIRONMENT = {**os.environ, "EDGE_AGENT__STORE__SIZE": "16MiB"}


@contextmanager
def running(folder: Path) -> Iterator[tuple[Forked, str]]:
    """An agent on free ports: the process and the people's port."""
    command = ["edge_agent", "run", "--data", str(folder)]
    command += ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    read, write = os.pipe()
    with os.fdopen(read) as errors:
        with os.fdopen(write, "wb") as theirs:
            process = nest().fork(command, stderr=theirs, env=ENVIRONMENT)
        try:
            said = ""
            for line in errors:
                said += line
                if "people: " in line:
                    break
            assert "people: " in said, said
            yield process, said.rpartition("people: ")[2].strip()
        finally:
            process.kill()
            process.wait(PATIENCE_S)


run = partial(preloaded.run, "run", env=ENVIRONMENT)


def test_signals_others_on_its_store_and_others_on_its_port(tmp_path: Path) -> None:
    # One test, because each agent takes a second to start on a busy machine.
    with running(tmp_path / "a") as (process, address):
        process.send_signal(signal.SIGHUP)  # a closed terminal does not end it
        second = run("--data", str(tmp_path / "a"), "--listen", "127.0.0.1:0", "--http", "off")
        assert second.returncode == 75 and "Traceback" not in second.stderr
        assert str(process.pid) in second.stderr
        third = run("--data", str(tmp_path / "b"), "--listen", "127.0.0.1:0", "--http", address)
        assert third.returncode == 1 and "Traceback" not in third.stderr
        assert f"cannot run: http.address = {address}: Address already in use" in third.stderr
        assert "by an agent that runs already" in third.stderr
        with urllib.request.urlopen(f"http://{address}/healthz", timeout=PATIENCE_S) as answer:
            assert json.load(answer)["status"] == "ok"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE_S) == 0


def test_ctrl_c_drains_and_ends_well(tmp_path: Path) -> None:
    with running(tmp_path) as (process, _):
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=PATIENCE_S) == 0


async def test_a_second_signal_ends_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stubborn(
        settings: object,
        *,
        stop: trio.Event,
        hangups: object,
        reread: object,
        kept: object,
        task_status: trio.TaskStatus[Running],
    ) -> None:
        task_status.started(Running(("127.0.0.1:1",), None))
        signal.raise_signal(signal.SIGTERM)
        await stop.wait()
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep_forever()

    monkeypatch.setattr("edge_agent.agent.run", stubborn)
    with trio.fail_after(PATIENCE_S):
        assert await run_until_signal(Config()) is False


def agent_that(
    does: Callable[[trio.MemoryReceiveChannel[None]], Awaitable[None]],
) -> Callable[..., Awaitable[None]]:
    """In the place of `edge_agent.agent.run`: it listens, and does that with what it is told."""

    async def told(
        settings: object,
        *,
        stop: trio.Event,
        hangups: trio.MemoryReceiveChannel[None],
        reread: object,
        kept: object,
        task_status: trio.TaskStatus[Running],
    ) -> None:
        task_status.started(Running(("127.0.0.1:1",), None))
        await does(hangups)

    return told


async def test_a_hangup_is_handed_on_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def renewing(hangups: trio.MemoryReceiveChannel[None]) -> None:
        for _ in range(3):
            signal.raise_signal(signal.SIGHUP)
            await hangups.receive()

    monkeypatch.setattr("edge_agent.agent.run", agent_that(renewing))
    with trio.fail_after(PATIENCE_S):
        assert await run_until_signal(Config()) is True


async def test_a_hangup_from_before_anybody_obeys_it_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    early = EarlyHangup()
    monkeypatch.setattr("edge_agent.cli.process.EARLY_HANGUP", early)
    before = signal.getsignal(signal.SIGHUP)
    heard = trio.Event()

    async def renewing(hangups: trio.MemoryReceiveChannel[None]) -> None:
        await hangups.receive()
        heard.set()

    monkeypatch.setattr("edge_agent.agent.run", agent_that(renewing))
    try:
        early.watch()
        signal.raise_signal(signal.SIGHUP)
        with trio.fail_after(PATIENCE_S):
            assert await run_until_signal(Config()) is True
        # At the end, when nobody obeys any more, neither.
        signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert heard.is_set()


def test_a_hangup_while_it_is_imported_does_not_end_it(tmp_path: Path) -> None:
    # The command line as `edge-agent run` begins it: SIGHUP comes before the module is there.
    probe = (
        "import importlib, signal, sys\n"
        "from edge_agent import cli\n"
        "whole = importlib.import_module\n"
        "def hung_up(name):\n"
        "    signal.raise_signal(signal.SIGHUP)\n"
        "    return whole(name)\n"
        "cli.importlib.import_module = hung_up\n"
        "cli.main(['run', '--config', sys.argv[1]])\n"
    )
    command = [sys.executable, "-c", probe, str(tmp_path / "none.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 78 and "No such file" in done.stderr, done


def test_a_file_that_was_emptied_is_no_configuration_to_take_up(tmp_path: Path) -> None:
    file = tmp_path / "edge-agent.toml"
    refuse_emptied(file)  # Gone altogether: whoever reads it says so.
    file.write_text("# nothing but a comment\n")
    refuse_emptied(file)
    refuse_emptied(None)
    file.write_text(" \n")
    with pytest.raises(ConfigError, match="as at the start, found an empty file"):
        refuse_emptied(file)


def test_a_configuration_that_cannot_be_used_ends_with_78() -> None:
    done = run("--listen", "0.0.0.0:0")
    assert done.returncode == 78 and "tls init" in done.stderr


def test_options_win_over_environment_and_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.toml"
    path.write_text('[store]\npath = "/file"\n[http]\naddress = "127.0.0.1:1"\n')
    monkeypatch.setenv("EDGE_AGENT__STORE__PATH", "/environment")
    assert settings_of(path).store.path == "/environment"
    settings = settings_of(path, "/data", "127.0.0.1:9", "off", ("hub=ws://hub:1/forward",))
    assert (settings.store.path, settings.listen.address) == ("/data", "127.0.0.1:9")
    assert settings.http.address == "off"
    assert [one.name for one in settings.upstream] == ["hub"]


@pytest.mark.parametrize("given", ["hub", "=ws://hub:1/forward", "hub=", "a.b=ws://hub:1/forward"])
def test_an_upstream_that_is_not_name_and_url_is_explained(given: str) -> None:
    with pytest.raises(ConfigError, match="NAME=URL"):
        settings_of(None, upstreams=(given,))
