"""A card that did not write a root of the file: what it led to comes back, or is told as lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.store.lmdb_file.pages import ROOT_BYTES, PageFile
from tests.end_to_end.support import AgentProcess, agents, producer_to
from tests.patience import PATIENCE_S

CONFIG = '[store]\nsize = "16MiB"\n[log.main]\ncommit_interval = "1ms"\n'


async def send(agent: AgentProcess, first: int, last: int) -> None:
    """Each as a message of its own, acked before the next one goes."""
    async with producer_to(f"{agent.url}/ingest/a", source="pi") as producer:
        for number in range(first, last + 1):
            await producer.send([{"n": number}])
            await producer.flush(PATIENCE_S)


def roots(data: Path) -> list[tuple[int, bytes]]:
    """Where each root of the file lies, and what is in it."""
    with PageFile(data) as pages:
        return [(slot * pages.page_bytes, pages.root_bytes(slot)) for slot in (0, 1)]


@pytest.mark.parametrize("slots", [(0,), (1,), (0, 1)], ids=str)
async def test_no_record_is_lost_silently_by_roots_of_an_earlier_stop(
    tmp_path: Path, slots: tuple[int, ...]
) -> None:
    agent = AgentProcess(tmp_path, "agent", CONFIG)
    data = agent.store / "store" / "data.mdb"
    async with agents(agent):
        await send(agent, 1, 100)
        assert await agent.stop() == 0
        old = roots(data)
        await agent.start()
        await send(agent, 101, 102)
        assert await agent.stop() == 0
        with data.open("r+b") as file:
            for slot in slots:
                at, root = old[slot]
                assert len(root) == ROOT_BYTES
                file.seek(at)
                file.write(root)
        await agent.start()
        found = {record["fields"]["n"] for record in await agent.records("a")}
        health = (await agent.get("/api/status"))["health"]
        told = " ".join(one["message"] for one in health["warnings"])
        assert found == set(range(1, 103)), told
        assert "102 records were read back and no record is known to be lost." in told
