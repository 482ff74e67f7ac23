"""A sensor's buffer on disk is copied, and the copy put back or used beside the original."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
import trio

from benchmarks.ports import free_port
from edge_agent.client import Producer, Trouble
from edge_agent.net.backoff import Backoff
from tests.end_to_end.relay import uplink
from tests.end_to_end.support import AgentProcess, agents, eventually
from tests.end_to_end.test_copied_store import warnings
from tests.patience import PATIENCE_S

CONFIG = '[store]\nsize = "16MiB"\n[log.main]\ncommit_interval = "10ms"\n'


def producer(port: int, stream: str, path: Path, told: list[Trouble]) -> Producer:
    return Producer(
        f"ws://127.0.0.1:{port}/ingest/{stream}", source="pi", buffer_path=path,
        on_error=told.append, close_timeout=0.2, backoff=Backoff(0.02, 0.2, slow=0.2),
    )  # fmt: skip


async def counted(agent: AgentProcess, stream: str) -> Counter[int]:
    return Counter(record["fields"]["n"] for record in await agent.records(stream))


async def arrived(agent: AgentProcess, stream: str, last: int) -> None:
    async def there() -> bool:
        return set(await counted(agent, stream)) >= {*range(1, last + 1)}

    await eventually(there, timeout=PATIENCE_S, describe=f"{stream} up to {last}")


@pytest.mark.parametrize("more", [0, 10, 60])
async def test_an_older_copy_put_back_keeps_every_new_record(tmp_path: Path, more: int) -> None:
    agent, told = AgentProcess(tmp_path, "agent", CONFIG), list[Trouble]()
    file, copy = tmp_path / "buffer", tmp_path / "copy"
    async with agents(agent), uplink(agent.port) as relay:
        async with producer(relay.port, "before", file, told) as sensor:
            await sensor.send([{"n": n} for n in range(1, 21)])
            await sensor.flush(PATIENCE_S)
        shutil.copyfile(file, copy)
        async with producer(relay.port, "lost", file, told) as sensor:
            await sensor.send([{"n": n} for n in range(1, 31)])
            await sensor.flush(PATIENCE_S)
        file.unlink()
        shutil.copyfile(copy, file)
        relay.cut()
        if more:
            async with producer(relay.port, "new", file, told) as sensor:
                await sensor.send([{"n": n} for n in range(1, more + 1)])
        relay.restore()
        told.clear()
        async with producer(relay.port, "new", file, told) as sensor:
            await sensor.send({"n": more + 1})
            await sensor.flush(PATIENCE_S)
        for stream, last in (("before", 20), ("lost", 30), ("new", more + 1)):
            assert await counted(agent, stream) == Counter(range(1, last + 1))
        assert "renumbered" in [trouble.kind for trouble in told]
        assert "source_copied" in await warnings(agent)


async def test_a_copy_of_what_nothing_happened_to_sends_nothing_twice(tmp_path: Path) -> None:
    agent, told = AgentProcess(tmp_path, "agent", CONFIG), list[Trouble]()
    file, copy = tmp_path / "buffer", tmp_path / "copy"
    async with agents(agent):
        async with producer(agent.port, "s", file, told) as sensor:
            await sensor.send([{"n": n} for n in range(1, 21)])
            await sensor.flush(PATIENCE_S)
        shutil.copyfile(file, copy)
        for path in (copy, file):
            told.clear()
            first = 21 if path == copy else 31
            async with producer(agent.port, "s", path, told) as sensor:
                await sensor.send([{"n": n} for n in range(first, first + 10)])
                await sensor.flush(PATIENCE_S)
            # The copy goes on; the original, which comes back behind it, is a copy then.
            assert [trouble.kind for trouble in told] == ([] if path == copy else ["renumbered"])
        assert await counted(agent, "s") == Counter(range(1, 41))


async def test_two_copies_at_once_lose_nothing(tmp_path: Path) -> None:
    agent, told = AgentProcess(tmp_path, "agent", CONFIG), list[Trouble]()
    async with agents(agent):
        async with producer(agent.port, "both", tmp_path / "a", told) as sensor:
            await sensor.send([{"n": n} for n in range(1, 11)])
            await sensor.flush(PATIENCE_S)
        shutil.copyfile(tmp_path / "a", tmp_path / "b")
        # What the copy has kept out of reach of the agent comes when the original is further.
        async with producer(free_port(), "b", tmp_path / "b", told) as sensor:
            await sensor.send([{"n": n} for n in range(1, 31)])

        async def send(name: str) -> None:
            async with producer(agent.port, name, tmp_path / name, told) as sensor:
                for n in range(1, 31) if name == "a" else range(31, 41):
                    await sensor.send({"n": n})
                    await trio.sleep(0.01)
                await sensor.flush(PATIENCE_S)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, "a")
            await arrived(agent, "a", 10)
            nursery.start_soon(send, "b")
        await arrived(agent, "a", 30)
        await arrived(agent, "b", 40)
