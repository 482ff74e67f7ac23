"""A store that changes its name keeps its history: moved to another card, and read back."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.end_to_end.support import AgentProcess, agents
from tests.end_to_end.talking import Peer
from tests.end_to_end.test_copied_store import warnings

CONFIG = '[store]\nsize = "16MiB"\n[log.main]\ncommit_interval = "0s"\n'


async def count(agent: AgentProcess) -> int:
    answer = await agent.get("/api/query", stream="a", fields="t", step="all", aggregate="count")
    return int(answer["rows"][0][-1])


async def test_moved_to_another_card_and_read_back_it_is_the_same(tmp_path: Path) -> None:
    agent = AgentProcess(tmp_path, "agent", CONFIG)
    async with agents(agent):
        async with await Peer.open(agent, "/ingest/a") as peer:
            await peer.hello("pi")
            await peer.say([{"t": n} for n in range(50)])
            while (await peer.hear()).get("next") != 51:
                pass
        assert await count(agent) == 50
        await agent.stop()
        copy = tmp_path / "card"
        # An id of the file system shows that it is another file.
        shutil.copytree(agent.store, copy)
        shutil.rmtree(agent.store)
        copy.rename(agent.store)
        await agent.start()
        assert "store_copied" in await warnings(agent)
        assert await count(agent) == 50
        await agent.stop()
        data = agent.store / "store" / "data.mdb"
        with data.open("r+b") as file:
            file.write(b"\xff" * 8192)
        await agent.start()
        assert "salvaged" in await warnings(agent)
        assert await count(agent) == 50
    assert "history is damaged" not in agent.output()
    assert not (agent.store / "history.damaged").exists()
