"""A store is copied, and the copy put back or run beside the original: nothing is lost, and no id
stands for two contents.
"""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest
import trio

from edge_agent.client import Producer
from tests.end_to_end.relay import uplink
from tests.end_to_end.support import AgentProcess, agents, eventually, run_command
from tests.end_to_end.test_http_upstream import decoded
from tests.end_to_end.test_restored import AGENT, HUB, arrived, numbers, send
from tests.forward.http_upstream import HttpUpstream, http_upstream
from tests.forward.sinks.nats.server import NatsServer, Reader
from tests.forward.sinks.postgres.server import new_database
from tests.forward.sinks.postgres.side import secret_file
from tests.patience import PATIENCE_S

CLOUD = AGENT.replace("ws://127.0.0.1:{port}/forward", "{url}")

PutBack = Callable[[Path, Path], None]


def anew(copy: Path, store: Path) -> None:
    """As ``rm -rf`` and ``cp -a`` do, or a restored tar."""
    shutil.rmtree(store)
    shutil.copytree(copy, store)


def over(copy: Path, store: Path) -> None:
    """As ``cp -a copy/. store/`` does: the files that are there keep their inodes."""
    shutil.copytree(copy, store, dirs_exist_ok=True)


def file_alone(copy: Path, store: Path) -> None:
    """Only the store's own file, into the one that is there."""
    shutil.copyfile(copy / "store" / "data.mdb", store / "store" / "data.mdb")


def image(copy: Path, store: Path) -> None:
    """As an image of the whole card does: everything is as it was, the births of files included."""
    names = {path.relative_to(copy) for path in copy.rglob("*")}
    for path in sorted(store.rglob("*"), reverse=True):
        if path.relative_to(store) not in names:
            path.unlink()
    over(copy, store)


async def warnings(agent: AgentProcess) -> dict[str, str]:
    status = await agent.get("/api/status")
    return {one["code"]: one["message"] for one in status["health"]["warnings"]}


async def settled(agent: AgentProcess) -> None:
    """Wait until the upstream has everything, and the agent knows."""

    async def nothing_left() -> bool:
        upstreams = (await agent.get("/api/status"))["upstreams"]
        return all(one["connected"] and one["backlog_records"] == 0 for one in upstreams)

    await eventually(nothing_left, timeout=PATIENCE_S, describe="an empty backlog")


@pytest.mark.parametrize("put_back", [anew, over, file_alone, image])
async def test_an_older_copy_put_back_loses_nothing_at_a_hub(
    tmp_path: Path, put_back: PutBack
) -> None:
    hub, copy = AgentProcess(tmp_path, "hub", HUB), tmp_path / "copy"
    async with agents(hub), uplink(hub.port) as relay:
        agent = AgentProcess(tmp_path, "agent", AGENT.format(port=relay.port))
        async with agents(agent):
            await send(agent, "before", 1, 20)
            await arrived(hub, "before", 20)
            await agent.stop()
            shutil.copytree(agent.store, copy)
            await agent.start()
            await send(agent, "lost", 1, 30)
            await arrived(hub, "lost", 30)
            await agent.stop()
            put_back(copy, agent.store)
            relay.cut()
            await agent.start()
            await send(agent, "new", 1, 60)
            relay.restore()
            await arrived(hub, "new", 60)
            await settled(agent)
            for stream, last in (("before", 20), ("lost", 30), ("new", 60)):
                assert await numbers(hub, stream) == [*range(1, last + 1)]
            # Told on both sides.
            assert "store_copied" in await warnings(agent)
            assert "source_copied" in await warnings(hub)
            copies = (await agent.get("/api/status"))["copies"]
            assert (copies["times"], bool(copies["reason"])) == (1, True)
            assert (await hub.get("/api/status"))["copies"]["sources"] == 1
            assert "is a copy" in agent.output() and "copy of its store" in hub.output()
            # From here on it is a store like any other: a restart changes nothing.
            told = (await agent.get("/api/status"))["agent"]
            await agent.stop()
            await agent.start()
            await send(agent, "later", 1, 5)
            await arrived(hub, "later", 5)
            again = await agent.get("/api/status")
            assert (again["agent"]["epoch"], again["copies"]["times"]) == (told["epoch"], 1)
            assert again["agent"]["id"] == told["id"]
            assert len(await hub.records()) == 115


class FarThere(Protocol):
    """An upstream that is no agent, and what it has: by stream and number."""

    config: str

    def away(self) -> None: ...
    def back(self) -> None: ...
    def has(self) -> list[tuple[str, int]]: ...


class StreamThere:
    """A JetStream stream."""

    def __init__(self, folder: Path) -> None:
        self.server = NatsServer(folder / "nats")
        self.server.start()
        self.config = f'url = "{self.server.url}"\n'

    def away(self) -> None:
        self.server.kill()

    def back(self) -> None:
        self.server.start()

    def has(self) -> list[tuple[str, int]]:
        with Reader(self.server.port) as reader:
            return [(one["stream"], one["fields"]["n"]) for one in reader.records()]


class TableThere:
    """A table of PostgreSQL. Its rows show a copy whenever they are met: it need not be away."""

    def __init__(self, folder: Path) -> None:
        self.server, self.database = new_database()
        url = f"postgresql://edge@127.0.0.1:{self.server.port}/{self.database}"
        self.config = f'url = "{url}"\npassword_file = "{secret_file(folder)}"\n'

    def away(self) -> None:
        pass

    back = away

    def has(self) -> list[tuple[str, int]]:
        question = "SELECT stream, fields->>'n' FROM records ORDER BY epoch, seq"
        try:
            lines = self.server.psql(question, database=self.database).splitlines()
        except RuntimeError:
            return []  # The agent has not made it yet.
        return [(stream, int(n)) for stream, n in (line.split("|") for line in lines)]


@pytest.mark.parametrize("kind", [
    StreamThere, pytest.param(TableThere, marks=pytest.mark.needs("postgresql", "psycopg")),
])  # fmt: skip
async def test_an_image_put_back_loses_nothing_in_a_stream_or_a_table(
    tmp_path: Path, kind: Callable[[Path], FarThere]
) -> None:
    copy, far = tmp_path / "copy", await trio.to_thread.run_sync(kind, tmp_path)
    start, rest = AGENT.split("url = ")
    agent = AgentProcess(tmp_path, "agent", start + far.config + rest.split("\n", 1)[1])

    async def told(stream: str, last: int) -> None:
        async with Producer(f"{agent.url}/ingest/{stream}", source=stream) as producer:
            dated = [{"n": n, "time": 1_790_000_000 + 60 * last + n} for n in range(1, last + 1)]
            await producer.send(dated)
            await producer.flush(PATIENCE_S)

    async def there(*said: tuple[str, int]) -> None:
        wanted = {(stream, n) for stream, last in said for n in range(1, last + 1)}

        async def all_of_it() -> bool:
            return wanted == {*await trio.to_thread.run_sync(far.has)}

        await eventually(all_of_it, describe=f"exactly {said}")

    try:
        async with agents(agent):
            await told("before", 20)
            await there(("before", 20))
            await agent.stop()
            shutil.copytree(agent.store, copy)
            await agent.start()
            await told("lost", 30)
            await there(("before", 20), ("lost", 30))
            await agent.stop()
            far.away()
            image(copy, agent.store)
            await agent.start()
            await told("new", 60)  # More than there were: none of them has a new number only.
            far.back()
            await there(("before", 20), ("lost", 30), ("new", 60))
            await settled(agent)
            assert "store_copied" in await warnings(agent)
            for turn in (1, 2):
                await (agent.kill() if turn == 1 else agent.stop())
                await agent.start()
                await told(f"later{turn}", 5)
            await settled(agent)
            assert (await agent.get("/api/status"))["copies"]["times"] == 1
            has = await trio.to_thread.run_sync(far.has)
            assert len({one for one in has if one[0].startswith("later")}) == 10
    finally:
        far.away()


async def test_a_copy_of_what_nothing_happened_to_goes_on_without_a_new_epoch(
    tmp_path: Path,
) -> None:
    hub, copy = AgentProcess(tmp_path, "hub", HUB), tmp_path / "copy"
    async with agents(hub):
        agent = AgentProcess(tmp_path, "agent", AGENT.format(port=hub.port))
        async with agents(agent):
            await send(agent, "before", 1, 20)
            await arrived(hub, "before", 20)
            epoch = (await agent.get("/api/status"))["agent"]["epoch"]
            await agent.stop()
            shutil.copytree(agent.store, copy)
            image(copy, agent.store)
            await agent.start()
            await send(agent, "after", 1, 20)
            await arrived(hub, "after", 20)
            assert (await agent.get("/api/status"))["agent"]["epoch"] == epoch
            assert not {"store_copied", "source_copied"} & {
                *await warnings(agent), *await warnings(hub)
            }  # fmt: skip
            assert len(await hub.records()) == 40


async def test_restarts_kills_renames_and_new_dates_make_no_copy(tmp_path: Path) -> None:
    hub = AgentProcess(tmp_path, "hub", HUB)
    async with agents(hub):
        agent = AgentProcess(tmp_path, "agent", AGENT.format(port=hub.port))
        async with agents(agent):
            epoch = (await agent.get("/api/status"))["agent"]["epoch"]
            for turn in range(1, 5):
                await send(agent, "s", 10 * turn - 9, 10 * turn)
                await (agent.kill() if turn % 2 else agent.stop())
                moved = tmp_path / f"moved-{turn}"
                agent.store.rename(moved)
                for path in moved.rglob("*"):
                    os.utime(path, (1, 1))
                    path.chmod(0o600 if path.is_file() else 0o700)
                agent.store = moved
                await agent.start()
            await arrived(hub, "s", 40)
            assert (await agent.get("/api/status"))["agent"]["epoch"] == epoch
            assert await numbers(hub, "s") == [*range(1, 41)]


@pytest.mark.parametrize("command", ["compact", "erase"])
async def test_a_store_that_is_written_anew_in_its_place_is_no_copy_and_a_copy_stays_one(
    tmp_path: Path, command: str
) -> None:
    order = ["erase", "gone", "--yes"] if command == "erase" else [command]
    agent = AgentProcess(tmp_path, "agent", HUB)
    async with agents(agent):
        await send(agent, "kept", 1, 10)
        await send(agent, "gone", 1, 10)
        epoch = (await agent.get("/api/status"))["agent"]["epoch"]
        for put_back, times in ((None, 0), (anew, 1), (None, 1)):
            await agent.stop()
            if put_back is not None:
                shutil.copytree(agent.store, tmp_path / "copy")
                put_back(tmp_path / "copy", agent.store)
            done = await run_command(*order, "--data", str(agent.store))
            assert done.returncode == 0, done.stderr
            await agent.start()
            status = await agent.get("/api/status")
            assert status["copies"]["times"] == times
            assert (status["agent"]["epoch"] == epoch) == (times == 0)
            assert await numbers(agent, "kept") == [*range(1, 11)]


@pytest.mark.parametrize("put_back", [anew, over, image])
async def test_a_hub_that_is_set_back_is_sent_what_it_lacks_and_nothing_twice(
    tmp_path: Path, put_back: PutBack
) -> None:
    hub, copy = AgentProcess(tmp_path, "hub", HUB), tmp_path / "copy"
    agent = AgentProcess(tmp_path, "agent", AGENT.format(port=hub.port))
    async with agents(hub, agent):
        await send(agent, "s", 1, 20)
        await arrived(hub, "s", 20)
        await hub.stop()
        shutil.copytree(hub.store, copy)
        await hub.start()
        await send(agent, "s", 21, 50)
        await arrived(hub, "s", 50)
        await hub.stop()
        put_back(copy, hub.store)
        await send(agent, "s", 51, 60)
        await hub.start()
        await arrived(hub, "s", 60)
        assert await numbers(hub, "s") == [*range(1, 61)]
        assert (await agent.get("/api/status"))["copies"]["times"] == 0


def contents_of(server: HttpUpstream) -> dict[str, set[str]]:
    """What each record id and each key stood for."""
    stood: dict[str, set[str]] = defaultdict(set)
    for got in server.got:
        records = decoded(got)
        for record in records:
            stood[record["id"]].add(f"{record['stream']} {record['fields']['n']}")
        stood[got.key].add(repr([(each["stream"], each["fields"]["n"]) for each in records]))
    return stood


def received(server: HttpUpstream, stream: str) -> set[int]:
    records = [record for got in server.got for record in decoded(got)]
    return {record["fields"]["n"] for record in records if record["stream"] == stream}


async def until_received(server: HttpUpstream, stream: str, last: int) -> None:
    async def there() -> Any:
        return received(server, stream) >= {*range(1, last + 1)}

    await eventually(there, timeout=PATIENCE_S, describe=f"{stream} up to {last}")


@pytest.mark.parametrize("put_back", [anew, over, file_alone])
async def test_an_older_copy_put_back_uses_no_id_twice(tmp_path: Path, put_back: PutBack) -> None:
    copy = tmp_path / "copy"
    async with http_upstream() as server:
        agent = AgentProcess(tmp_path, "agent", CLOUD.format(url=server.url))
        async with agents(agent):
            await send(agent, "before", 1, 20)
            await until_received(server, "before", 20)
            await settled(agent)
            await agent.stop()
            shutil.copytree(agent.store, copy)
            await agent.start()
            await send(agent, "lost", 1, 30)
            await until_received(server, "lost", 30)
            await settled(agent)
            await agent.stop()
            put_back(copy, agent.store)
            await agent.start()
            await send(agent, "new", 1, 60)
            await until_received(server, "new", 60)
    assert not [name for name, found in contents_of(server).items() if len(found) > 1]
    assert received(server, "lost") == {*range(1, 31)}


async def test_two_clones_at_once_deliver_everything_of_both_and_share_no_id(
    tmp_path: Path,
) -> None:
    hub = AgentProcess(tmp_path, "hub", HUB)
    async with http_upstream() as server, agents(hub):
        config = AGENT.format(port=hub.port)
        config += CLOUD.format(url=server.url)[len(HUB) :].replace('"hub"', '"cloud"')
        one, two, three = (AgentProcess(tmp_path, name, config) for name in ("a", "b", "c"))
        async with agents(one):
            await send(one, "before", 1, 10)
            await arrived(hub, "before", 10)
            # While it runs, as `cp -a` by somebody in a hurry.
            shutil.copytree(one.store, two.store)
            await one.stop()
            shutil.copytree(two.store, three.store)
            await one.start()
            async with agents(two, three):
                for turn in range(3):
                    for each in (one, two, three):
                        await send(each, each.name, 10 * turn + 1, 10 * turn + 10)
                for each in (one, two, three):
                    await arrived(hub, each.name, 30)
                    await until_received(server, each.name, 30)
                    await settled(each)
                epochs = [(await each.get("/api/status"))["agent"] for each in (one, two, three)]
                assert len({each["epoch"] for each in epochs}) == 3
                for each in (one, two, three):
                    assert set(await numbers(hub, each.name)) == {*range(1, 31)}
    assert not [name for name, found in contents_of(server).items() if len(found) > 1]
