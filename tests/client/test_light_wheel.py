"""The light client: its wheel, and what a sensor's machine can do with nothing else."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
import trio

from edge_agent import __version__
from tests.client.light import NEEDS, ROOT, bare, environment
from tests.end_to_end.support import AgentProcess, agents, eventually
from tests.patience import PATIENCE_S
from tests.release import build
from tests.systemd.readme import commands
from tests.test_architecture import FILES, imports

HERE = ROOT / "edge_agent/client"
#: As the README has it.
ADDRESS = "ws://127.0.0.1:8765"
CONFIG = '[store]\nsize = "16MiB"\n[log.main]\ncommit_interval = "20ms"\n'

SENDERS = """
import sys, threading, trio
from edge_agent.client import BlockingProducer, ConfigError, Producer, ProtocolError

url = sys.argv[1] + "/ingest/light/"

def blocking(name):
    with BlockingProducer(url + name, source=name, buffer_path=name + ".buffer") as producer:
        for number in range(50):
            producer.send({"n": number})
        try:
            producer.send({1: 2})
        except ProtocolError as error:
            assert error.code == "bad_record"
        producer.flush(timeout=30)
        assert (producer.acked, producer.unacked) == (50, 0)

async def with_trio():
    async with Producer(
        url + "trio", source="trio", buffer_path="trio.buffer", format="json"
    ) as producer:
        await producer.send([{"n": number} for number in range(50)])
        await producer.flush(30)
        assert (producer.acked, producer.unacked) == (50, 0)

threads = [threading.Thread(target=blocking, args=(name,)) for name in ("one", "two")]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
blocking("main")
trio.run(with_trio)
try:
    BlockingProducer("http://127.0.0.1", source="x")
except ConfigError as error:
    print(error)
print(*sys.modules)
"""

TYPED = """
from edge_agent.client import BlockingProducer, Trouble

def tell(trouble: Trouble) -> None:
    print(trouble.message)

with BlockingProducer("ws://127.0.0.1/ingest/a", source="a", on_error=tell) as producer:
    reveal_type(producer.send({"t": 21.5}))
    producer.send(object())
    BlockingProducer("ws://127.0.0.1/ingest/a", source="a", buffers=5)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    [built] = build(HERE, tmp_path_factory.mktemp("dist"), "wheel")
    return built


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    return environment(tmp_path_factory.mktemp("sensor") / "environment", wheel)


def imported_by(name: str) -> set[str]:
    """All of our files that importing ``name`` may ever run, with those of the packages above."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        name = waiting.pop()
        if name in FILES and name not in found:
            found.add(name)
            waiting += [name.rpartition(".")[0], *imports(FILES[name])]
    return {str(FILES[name]) for name in found}


def test_the_wheel_has_what_the_client_imports_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if ".dist-info/" not in name} == {
        *imported_by("edge_agent.client"), "edge_agent/py.typed"
    }  # fmt: skip
    assert any(name.endswith("/LICENSE") for name in names)


def test_its_metadata_are_those_of_the_agent_with_three_dependencies(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    [name] = [name for name in archive.namelist() if name.endswith("/METADATA")]
    metadata = Parser().parsestr(archive.read(name).decode())
    assert (metadata["Name"], metadata["Version"]) == ("trio-edge-agent-client", __version__)
    agent = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [one for one in agent["dependencies"] if one.partition(">")[0] in NEEDS]
    assert sorted(metadata.get_all("Requires-Dist", [])) == sorted(needed)
    assert len(needed) == len(NEEDS)
    assert metadata["Requires-Python"] == agent["requires-python"]
    assert str(metadata.get_payload()).strip() == (HERE / "README.md").read_text().strip()


def test_importing_the_client_loads_nothing_of_the_agent() -> None:
    command = [sys.executable, "-c", "import edge_agent.client, sys; print(*sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stdout.split())
    ours = {name for name in loaded if name.partition(".")[0] == "edge_agent"}
    assert {str(FILES[name]) for name in ours} <= imported_by("edge_agent.client")
    agent = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    libraries = {one.partition(">")[0].replace("-", "_") for one in agent["dependencies"]}
    # h11 comes with trio-websocket, which speaks HTTP until the upgrade.
    absent = libraries - {"trio", "trio_websocket", "msgpack", "h11"}
    assert {"msgspec", "lmdb", "websockets", "cryptography", "starlette"} <= absent
    assert not loaded & absent


async def test_what_it_sends_from_threads_scripts_and_trio_is_stored(
    tmp_path: Path, python: Path
) -> None:
    agent = AgentProcess(tmp_path, "agent", CONFIG)
    async with agents(agent):
        done = await trio.run_process(
            [python, "-c", SENDERS, agent.url], cwd=tmp_path, env=bare(),
            capture_stdout=True, capture_stderr=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")
        for name in ("main", "one", "two", "trio"):
            records = await agent.records(f"light/{name}")
            assert [record["fields"]["n"] for record in records] == list(range(50))
            assert {record["source"] for record in records} == {name}
    told, loaded = done.stdout.decode().splitlines()
    assert "expected a URL like ws://" in told
    assert not {"msgspec", "lmdb", "websockets"} & set(loaded.split())


async def test_the_examples_of_its_readme_run_there(tmp_path: Path, python: Path) -> None:
    agent = AgentProcess(tmp_path, "agent", CONFIG)
    blocks = [
        block.replace(ADDRESS, agent.url)
        for chapter in ("Send", "Lose nothing", "With Trio")
        for block in commands(chapter, "python", HERE / "README.md")
    ]
    endless, buffered, with_trio = blocks
    async with agents(agent):
        process = subprocess.Popen(
            [python, "-c", endless], cwd=tmp_path, env=bare(), stderr=subprocess.PIPE
        )
        try:
            await eventually(agent.count, describe="a record of the endless loop")
            process.send_signal(signal.SIGINT)
            _, errors = await trio.to_thread.run_sync(process.communicate)
        finally:
            process.kill()
        assert errors.splitlines()[-1] == b"KeyboardInterrupt"
        for block, told in ((buffered, b"on the agent's disk up to number 2\n"), (with_trio, b"")):
            with trio.fail_after(PATIENCE_S):
                done = await trio.run_process(
                    [python, "-c", block], cwd=tmp_path, env=bare(),
                    capture_stdout=True, capture_stderr=True,
                )  # fmt: skip
            assert (done.stdout, done.stderr) == (told, b"")
        records = await agent.records("greenhouse/1")
    fields = [record["fields"] for record in records if record["source"] == "pi-7/bme280"]
    assert fields[0] == {"t": 21.5, "h": 40.2}
    assert fields[-2:] == [{"t": 21.5}, {"t": 21.6}]
    outdoors = [record["fields"] for record in records if record["source"] == "pi-7/outdoors"]
    assert outdoors == [{"t": 21.5}, {"t": 21.6}, {"t": 21.4}]
    assert (tmp_path / "bme280.buffer").exists()


def test_mypy_sees_its_types(tmp_path: Path, python: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(TYPED)
    command = [
        sys.executable, "-m", "mypy", "--strict", "--python-executable", str(python),
        "--cache-dir", str(tmp_path / "cache"), "--output", "json", str(script),
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env=bare()
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["line"], one["code"]) for one in told] == [
        (8, "misc"), (9, "arg-type"), (10, "call-arg")
    ]  # fmt: skip
    assert told[0]["message"] == 'Revealed type is "int"'
