"""Others fill the card: a reserved store does not notice; one that is not says what is to blame,
and goes on when there is room again.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from edge_agent.client import Backoff
from tests.end_to_end.disks import MIB, card, fill
from tests.end_to_end.support import AgentProcess, agents, eventually, producer_to
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.needs("root", "loop", "mkfs.ext4")

STORE = """
[store]
size = "16MiB"
reopen_after = "50ms"
compression_level = 0
[log.main]
commit_interval = "20ms"
"""
PACE = Backoff(base=0.05, maximum=0.2)
PAD = "x" * 4000


def batch(first: int, last: int) -> list[dict[str, object]]:
    return [{"n": n, "pad": PAD} for n in range(first, last + 1)]


async def numbers(agent: AgentProcess) -> list[int]:
    return [record["fields"]["n"] for record in await agent.records("pi")]


async def health(agent: AgentProcess) -> dict[str, Any]:
    found: dict[str, Any] = await agent._get("/healthz", {}, any_status=True)
    return found


async def test_a_reserved_store_takes_records_and_starts_while_others_have_filled_the_card(
    tmp_path: Path,
) -> None:
    with card(tmp_path) as its_card:
        agent = AgentProcess(tmp_path, "agent", STORE)
        agent.store = its_card.place / "agent"
        async with agents(agent):
            fill(its_card.place)
            async with producer_to(f"{agent.url}/ingest/pi", source="pi", backoff=PACE) as producer:
                await producer.send(batch(1, 500))
                await producer.flush(PATIENCE_S)
            assert await agent.stop() == 0
        async with agents(agent):
            assert (await health(agent))["status"] != "failed"
            async with producer_to(f"{agent.url}/ingest/pi", source="pi", backoff=PACE) as producer:
                await producer.send(batch(501, 900))
                await producer.flush(PATIENCE_S)
            assert await numbers(agent) == [*range(1, 901)]


async def test_a_first_start_without_room_says_how_much_would_fit(tmp_path: Path) -> None:
    with card(tmp_path, mib=12) as its_card:
        agent = AgentProcess(tmp_path, "agent", STORE)
        agent.store = its_card.place / "agent"
        await agent.start(wait=False)
        assert agent.process is not None
        code: int = agent.process.wait(PATIENCE_S)
        assert code == 1
        assert "cannot reserve 16 MiB" in agent.output()
        assert "MiB would fit: set store.size" in agent.output()
        # What was tried left nothing behind that would have to be deleted.
        assert [path.name for path in agent.store.iterdir()] == ["lock"]


async def test_a_store_that_lost_its_reservation_names_the_full_card_and_goes_on_with_room(
    tmp_path: Path,
) -> None:
    with card(tmp_path) as its_card:
        agent = AgentProcess(tmp_path, "agent", STORE)
        agent.store = its_card.place / "agent"
        async with agents(agent):
            assert await agent.stop() == 0
        # A copy that leaves zeros out, on a card that others then fill.
        data = agent.store / "store" / "data.mdb"
        copy = data.with_name("copy")
        subprocess.run(["cp", "--sparse=always", str(data), str(copy)], check=True)
        copy.replace(data)
        assert data.stat().st_blocks * 512 < MIB
        others = fill(its_card.place)
        async with (
            agents(agent),
            producer_to(f"{agent.url}/ingest/pi", source="pi", backoff=PACE) as producer,
        ):
            assert "cannot reserve" in agent.output()
            await producer.send(batch(1, 500))

            async def said() -> bool:
                reasons = (await health(agent))["reasons"]
                return any("is full" in reason["message"] for reason in reasons)

            await eventually(said, describe="the full card is named")
            held = await numbers(agent)
            assert held == [*range(1, len(held) + 1)]
            assert producer.acked <= len(held) < 500

            others.unlink()
            await producer.flush(PATIENCE_S)
            assert await numbers(agent) == [*range(1, 501)]
            assert (await health(agent))["status"] != "failed"
