"""The card goes read-only, or is at the start: reading and forwarding go on, nothing is acked, and
everything resumes without a restart once it takes writes again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from edge_agent.client import Backoff
from edge_agent.store import Engine, Entry, StoreSettings
from edge_agent.values.record import Run
from tests.end_to_end.clocked_agent import set_clock
from tests.end_to_end.disks import card
from tests.end_to_end.relay import uplink
from tests.end_to_end.support import AgentProcess, agents, eventually, producer_to
from tests.end_to_end.talking import Peer
from tests.manual_clock import ManualClock
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.needs("root", "loop", "mkfs.ext4", "e2fsck")

STORE = """
[store]
size = "16MiB"
reopen_after = "50ms"
[log.main]
commit_interval = "20ms"
"""
UPSTREAM = """
[[upstream]]
name = "hub"
url = "ws://127.0.0.1:{port}/forward"
batch_age = "20ms"
backoff_base = "50ms"
backoff_max = "200ms"
"""


async def numbers(agent: AgentProcess, stream: str = "pi") -> list[int]:
    return [record["fields"]["n"] for record in await agent.records(stream)]


async def health(agent: AgentProcess) -> dict[str, Any]:
    found: dict[str, Any] = await agent._get("/healthz", {}, any_status=True)
    return found


def batch(first: int, last: int) -> list[dict[str, int]]:
    return [{"n": n} for n in range(first, last + 1)]


async def test_a_card_that_goes_read_only_is_read_and_forwarded_and_taken_up_again(
    tmp_path: Path,
) -> None:
    hub = AgentProcess(tmp_path, "hub", STORE)
    with card(tmp_path) as its_card:
        async with agents(hub), uplink(hub.port) as relay:
            agent = AgentProcess(tmp_path, "agent", STORE + UPSTREAM.format(port=relay.port))
            agent.store = its_card.place / "agent"
            pace = Backoff(base=0.05, maximum=0.2)
            async with (
                agents(agent),
                producer_to(f"{agent.url}/ingest/pi", source="pi", backoff=pace) as producer,
            ):
                await producer.send(batch(1, 10))
                await producer.flush(PATIENCE_S)

                async def ten_arrived() -> bool:
                    return len(await numbers(hub)) == 10

                await eventually(ten_arrived, describe="the first ten at the hub")
                relay.cut()
                await producer.send(batch(11, 20))
                await producer.flush(PATIENCE_S)
                its_card.meet_an_error()
                await producer.send(batch(21, 30))

                async def refused() -> bool:
                    status = await health(agent)
                    return bool(status["status"] == "failed")

                await eventually(refused, describe="the agent says so")
                relay.restore()

                async def twenty_arrived() -> bool:
                    return len(await numbers(hub)) == 20

                await eventually(twenty_arrived, describe="what can be read is at the hub")
                assert producer.acked == 20
                assert await numbers(agent) == [*range(1, 21)]
                status = await agent.get("/api/status")
                assert not status["store"]["healthy"] and status["store"]["readable"]
                (reason,) = status["health"]["reasons"]
                assert "Read-only file system" in reason["message"]
                assert "can still be read" in reason["message"]
                (upstream,) = status["upstreams"]
                assert upstream["connected"] and upstream["backlog_records"] == 0
                async with await Peer.open(agent, "/ingest/other") as peer:
                    await peer.say({"type": "hello", "source": "other"})
                    stop = await peer.hear()
                    assert (stop["type"], stop["code"]) == ("stop", "store_failed")
                    assert "Read-only file system" in stop["message"]
                    assert stop["retry_after"] > 0

                its_card.repair()
                await producer.flush(PATIENCE_S)
                assert producer.acked == 30

                async def all_arrived() -> bool:
                    return len(await numbers(hub)) == 30

                await eventually(all_arrived, describe="the rest at the hub")
                assert await numbers(hub) == await numbers(agent) == [*range(1, 31)]
                assert (await health(agent))["status"] != "failed"
                assert agent.output().count("the disk takes writes again") == 1
                # Its card was the one that was repaired: nothing is held by the old one.
                assert await agent.stop() == 0


def _fill_before(path: Path, count: int) -> None:
    """A store that an earlier boot has left."""
    body = b"".join(b"\x81\xa1n" + bytes([n]) for n in range(1, count + 1))
    run = Run("pi", "pi", 1, 1, True, count, body, 1, 1)
    clock = ManualClock(boot=7)
    engine = Engine.open(path, StoreSettings(size=16 << 20), clock=clock, entropy=os.urandom)
    engine.commit([Entry(runs=(run,))])
    engine.close()


async def test_a_start_on_a_read_only_card_answers_and_forwards_and_takes_nothing(
    tmp_path: Path,
) -> None:
    hub = AgentProcess(tmp_path, "hub", STORE)
    with card(tmp_path) as its_card:
        async with agents(hub):
            agent = AgentProcess(tmp_path, "agent", STORE + UPSTREAM.format(port=hub.port))
            agent.store = its_card.place / "agent"
            _fill_before(agent.store, 9)
            its_card.remount("ro")
            async with agents(agent):
                assert await numbers(agent) == [*range(1, 10)]
                status = await health(agent)
                assert status["status"] == "failed"
                assert await numbers(hub) == []
                # A hub that was never greeted has to be noted durably before anything is sent.

                async def said() -> bool:
                    (upstream,) = (await agent.get("/api/status"))["upstreams"]
                    return "waits until the disk takes writes" in (upstream["error"] or "")

                await eventually(said, describe="why nothing is forwarded")
                async with await Peer.open(agent, "/ingest/other") as peer:
                    await peer.say({"type": "hello", "source": "other"})
                    assert (await peer.hear())["code"] == "store_failed"

                its_card.remount("rw")

                async def arrived() -> bool:
                    return len(await numbers(hub)) == 9

                await eventually(arrived, describe="everything at the hub, without a restart")
                assert (await health(agent))["status"] != "failed"
                async with await Peer.open(agent, "/ingest/other") as peer:
                    await peer.hello("other")
                    await peer.say({"n": 1})
                    await peer.hear_ack(2)
                assert await agent.stop() == 0


async def test_a_board_that_comes_up_with_a_read_only_card_forwards_what_it_held(
    tmp_path: Path,
) -> None:
    hub = AgentProcess(tmp_path, "hub", STORE)
    with card(tmp_path) as its_card:
        async with agents(hub), uplink(hub.port) as relay:
            clock = tmp_path / "clock"
            set_clock(clock, wall_s=0, synced=True, number=1)
            agent = AgentProcess(tmp_path, "agent", STORE + UPSTREAM.format(port=relay.port))
            agent.store = its_card.place / "agent"
            agent.module = ("tests.end_to_end.clocked_agent",)
            agent.environment["EDGE_AGENT_TEST_CLOCK"] = str(clock)
            pace = Backoff(base=0.05, maximum=0.2)
            async with agents(agent):
                async with producer_to(
                    f"{agent.url}/ingest/pi", source="pi", backoff=pace
                ) as producer:
                    await producer.send(batch(1, 10))
                    await producer.flush(PATIENCE_S)

                    async def ten_arrived() -> bool:
                        return len(await numbers(hub)) == 10

                    await eventually(ten_arrived, describe="the first ten at the hub")
                    relay.cut()
                    await producer.send(batch(11, 20))
                    await producer.flush(PATIENCE_S)
                await agent.kill()
            its_card.remount("ro")
            set_clock(clock, wall_s=0, synced=True, number=2)
            relay.restore()
            async with agents(agent):

                async def all_arrived() -> bool:
                    return await numbers(hub) == [*range(1, 21)]

                await eventually(all_arrived, describe="what was held is at the hub")
                status = await agent.get("/api/status")
                assert status["health"]["status"] == "failed" and status["store"]["readable"]
                assert status["upstreams"][0]["backlog_records"] == 0
                its_card.remount("rw")

                async def well() -> bool:
                    return bool((await health(agent))["status"] != "failed")

                await eventually(well, describe="it takes records again")
                async with producer_to(
                    f"{agent.url}/ingest/pi", source="pi", backoff=pace
                ) as producer:
                    await producer.send(batch(21, 25))
                    await producer.flush(PATIENCE_S)

                async def the_rest() -> bool:
                    return await numbers(hub) == [*range(1, 26)]

                await eventually(the_rest, describe="everything at the hub, once")
