"""The arm64 package in its Debian, run by an emulator: an agent there between two on this machine.

    sensors ─▶ agent here ─▶ agent in emulation ─▶ hub here
    sensors ──────────────────────▲

So the one in emulation is a hub for an agent of this machine and an agent for a hub of it, takes
records of sensors too, and is killed while all three are under way.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from edge_agent.client import Producer
from tests.end_to_end.support import AgentProcess, agents, eventually, run_command
from tests.patience import PATIENCE_S
from tests.systemd.arm64.installed import ENVIRONMENT, USER, Root, facts, package

#: An agent starts in half a minute there where nothing else runs.
SLOW_S = 10 * PATIENCE_S
RECORDS = 2000
CONFIG = """
[store]
size = "64MiB"
[log.main]
commit_interval = "50ms"
"""

pytestmark = pytest.mark.needs("root", "qemu-aarch64-static")


class EmulatedAgent(AgentProcess):
    """The package's program, as its user."""

    def __init__(self, root: Root, name: str, config: str) -> None:
        super().__init__(root.folder / "srv", name, config)
        self.root = root

    def inside(self, path: Path) -> str:
        return f"/{path.relative_to(self.root.folder)}"

    async def start(self, *, wait: bool = True) -> None:
        user, group = (int(self.root.run("id", kind, USER)) for kind in ("-u", "-g"))
        os.chown(self.folder, user, group)
        command = [
            "chroot", f"--userspec={user}:{group}", str(self.root.folder), "edge-agent", "run",
            "--config", self.inside(self.write_config()), "--data", self.inside(self.store),
            "--listen", f"{self.host}:{self.port}", "--http", f"{self.host}:{self.http_port}",
        ]  # fmt: skip
        with (self.folder / "stderr.txt").open("ab") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, env=ENVIRONMENT
            )
        if wait:
            await eventually(self.is_ready, timeout=SLOW_S, describe=f"{self.name} starts")

    async def is_ready(self) -> bool:
        assert self.process is not None and self.process.poll() is None, self.output()
        await self._get("/healthz", {}, any_status=True)
        return True


@dataclass(frozen=True)
class Exchange:
    """What the hub and the agent in emulation had in the end, by stream, and their stores, both of
    them where programs in emulation see them.
    """

    held: dict[str, dict[str, list[int]]]
    exits: list[int]
    stores: dict[str, Path]


@pytest.fixture(scope="module")
def exchange(root: Root, tmp_path_factory: pytest.TempPathFactory) -> Exchange:
    """Here and not in a test, whose time is limited: it is minutes where others need seconds."""
    return trio.run(exchanged, root, tmp_path_factory.mktemp("here"))


async def exchanged(root: Root, folder: Path) -> Exchange:
    hub = AgentProcess(folder, "hub", CONFIG)
    emulated = EmulatedAgent(root, "emulated", CONFIG + upstream("hub", hub))
    here = AgentProcess(folder, "here", CONFIG + upstream("arm64", emulated))
    progress: list[int] = [0]
    async with agents(hub, emulated, here):
        with trio.fail_after(3 * SLOW_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send, here, "amd64", progress)
                nursery.start_soon(send, emulated, "arm64", [0])
                while progress[0] < RECORDS // 2 or not await hub.count("amd64/n"):
                    await trio.sleep(0.05)
                await emulated.kill()
                await emulated.start()

        async def has_all() -> bool:
            return await hub.count("**/n") >= 2 * RECORDS

        await eventually(has_all, timeout=SLOW_S, describe="the hub has all of it")
        held = {
            agent.name: {
                source: numbers(await agent.records(f"{source}/n")) for source in ("amd64", "arm64")
            }
            for agent in (hub, emulated)
        }
        exits = [await emulated.stop(), await hub.stop()]
    moved = root.folder / "srv/hub"
    shutil.copytree(hub.store, moved)
    return Exchange(held, exits, {"amd64": moved, "arm64": emulated.store})


async def send(agent: AgentProcess, source: str, received: list[int]) -> None:
    """`RECORDS` numbered ones, until all are acked; ``received`` has the number of the last ack."""
    async with Producer(f"{agent.url}/ingest/{source}/n", source=source) as producer:
        for number in range(RECORDS):
            await producer.send({"n": number})
            received[:] = [number]
            await trio.sleep(0.002)
        await producer.flush()


def numbers(records: list[dict[str, Any]]) -> list[int]:
    return [record["fields"]["n"] for record in records]


def test_the_package_is_small() -> None:
    assert package().stat().st_size <= 10_000_000


def test_its_configuration_is_good_where_it_is_installed(root: Root) -> None:
    assert root.run("uname", "-m") == "aarch64\n"
    assert root.run("edge-agent", "config", "check").endswith("edge-agent.toml: good\n")


def test_what_it_takes_while_it_is_killed_arrives_exactly_once_both_ways(
    exchange: Exchange,
) -> None:
    for name, held in exchange.held.items():
        for source, found in held.items():
            assert found == list(range(RECORDS)), (name, source)
    assert exchange.exits == [0, 0]


@pytest.mark.parametrize("made_on", ["amd64", "arm64"])
async def test_a_store_is_read_whole_on_both_machines(
    root: Root, exchange: Exchange, made_on: str
) -> None:
    store = exchange.stores[made_on]
    inside = f"/{store.relative_to(root.folder)}"
    there = root.run("edge-agent", "check", "--deep", "--data", inside)
    here = await run_command("check", "--deep", "--data", str(store))
    assert here.returncode == 0, here.stdout + here.stderr
    assert facts(there) == facts(here.stdout) != []


def upstream(name: str, agent: AgentProcess) -> str:
    return f'[[upstream]]\nname = "{name}"\nurl = "{agent.url}/forward"\n'
