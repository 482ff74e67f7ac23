"""A source connects again while its old connection still is, or seems to be, there."""

from __future__ import annotations

import itertools
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio

from edge_agent.client import Backoff, Producer
from tests.end_to_end.support import AgentProcess, agents, eventually
from tests.end_to_end.talking import Closed, Peer, metric
from tests.patience import PATIENCE_S

QUICK = '[store]\nsize = "16MiB"\n[log.main]\ncommit_interval = "20ms"\n'
#: A while in which what is sent is appended and not yet committed.
HELD = '[store]\nsize = "16MiB"\n[log.main]\ncommit_interval = "1s"\n'
#: Nothing commits what a test sends until it sends something to the other log, too.
HELD_UNTIL_TOLD = """
[store]
size = "16MiB"
[log.main]
commit_interval = "1h"
commit_interval_max = "1h"
[log.quick]
streams = ["quick"]
commit_interval = "1ms"
share = "10%"
"""


async def connection_of(agent: AgentProcess, source: str) -> dict[str, Any] | None:
    """How the agent sees a source's connection."""
    connections = (await agent.get("/api/status"))["connections"]
    return next((one for one in connections if one["source"] == source), None)


async def appended(agent: AgentProcess, source: str, upto: int) -> dict[str, Any]:
    """Wait until everything before the number ``upto`` has been taken in."""

    async def check() -> dict[str, Any] | None:
        seen = await connection_of(agent, source)
        return seen if seen is not None and seen["next"] >= upto else None

    found: dict[str, Any] = await eventually(check, describe=f"{source} at {upto}")
    return found


async def stored(agent: AgentProcess, source: str) -> list[dict[str, Any]]:
    """The fields of everything of one source, in order."""
    records = await agent.records("**")
    return [record["fields"] for record in records if record["source"] == source]


async def said_when_closed(old: Peer, other: Peer) -> None:
    """Something is committed once the old connection is no longer read."""
    assert await old.hear_close() == 4409
    await other.say({"n": 1})


async def test_a_source_that_returns_while_a_commit_is_held_goes_on_where_it_was_appended(
    tmp_path: Path,
) -> None:
    agent = AgentProcess(tmp_path, "agent", HELD_UNTIL_TOLD)
    async with (
        agents(agent),
        await Peer.open(agent) as old,
        await Peer.open(agent) as new,
        await Peer.open(agent, "/ingest/quick") as other,
    ):
        await other.hello("other")
        assert await old.hello("pi") == 1
        await old.say([{"n": n, "by": "old"} for n in (1, 2, 3)])
        seen = await appended(agent, "pi", 4)
        assert seen["acked"] < 4 and await stored(agent, "pi") == []

        async with trio.open_nursery() as nursery:
            nursery.start_soon(said_when_closed, old, other)
            following = await new.hello("pi")
        assert following == 4
        # What the agent says it has, it has: no ack is needed for it.
        assert [fields["n"] for fields in await stored(agent, "pi")] == [1, 2, 3]
        await new.say([{"n": n, "by": "new"} for n in (4, 5)])
        await appended(agent, "pi", 6)
        await other.say({"n": 2})
        await new.hear_ack(6)
        found = await stored(agent, "pi")
        assert [fields["n"] for fields in found] == [*range(1, 6)]
        assert [fields["by"] for fields in found] == ["old"] * 3 + ["new"] * 2
        assert await metric(agent, "takeovers_total") == 1
        assert await metric(agent, "records_duplicate_total") == 0


async def test_a_source_that_returns_in_the_middle_of_a_burst_loses_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    agent = AgentProcess(tmp_path, "agent", HELD)
    last = 3000
    async with agents(agent), await Peer.open(agent) as old, await Peer.open(agent) as new:
        assert await old.hello("pi") == 1

        async def burst() -> None:
            with suppress(Closed):
                for n in itertools.count(1):
                    await old.say({"n": n, "by": "old"})

        async with trio.open_nursery() as nursery:
            nursery.start_soon(burst)
            await appended(agent, "pi", 100)
            following = await new.hello("pi")
            assert following > 100
            nursery.cancel_scope.cancel()
        for n in range(following, following + last):
            await new.say({"n": n, "by": "new"})
        await new.hear_ack(following + last)
        found = await stored(agent, "pi")
        assert [fields["n"] for fields in found] == [*range(1, following + last)]
        assert {fields["by"] for fields in found[: following - 1]} == {"old"}
        assert {fields["by"] for fields in found[following - 1 :]} == {"new"}


async def test_a_source_that_returns_from_a_half_open_connection_is_not_kept_waiting(
    tmp_path: Path,
) -> None:
    agent = AgentProcess(tmp_path, "agent", '[listen]\nclose_timeout = "60s"\n' + QUICK)
    async with agents(agent), await Peer.open(agent) as old:
        assert await old.hello("pi") == 1
        await old.say([{"n": n, "by": "old"} for n in (1, 2, 3)])
        # The cable is pulled in the middle of the next message: from here on it reads nothing,
        # answers nothing, and its end is never told.
        unsent = old.encode({"n": 4, "by": "old"})
        await old.write(unsent[:9])
        await appended(agent, "pi", 4)

        async with await Peer.open(agent) as new:
            # The old one's goodbye, which takes a minute, is not waited for.
            with trio.fail_after(PATIENCE_S):
                assert await new.hello("pi") == 4
            await new.say([{"n": n, "by": "new"} for n in (4, 5)])
            await new.hear_ack(6)
            # Whatever the network still delivers of the old connection comes too late.
            await old.write(unsent[9:] + old.encode({"n": 5, "by": "old"}))
            await new.say({"n": 6, "by": "new"})
            await new.hear_ack(7)
        found = await stored(agent, "pi")
        assert [fields["n"] for fields in found] == [*range(1, 7)]
        assert [fields["by"] for fields in found] == ["old"] * 3 + ["new"] * 3
        assert await metric(agent, "takeovers_total") == 1


class Bystander:
    """Says one record after the other, each when the one before is acked."""

    def __init__(self, peer: Peer) -> None:
        self.acked = 0
        self._peer = peer

    async def say(self) -> None:
        await self._peer.say({"n": self.acked + 1})
        await self._peer.hear_ack(self.acked + 2)
        self.acked += 1


class Rival:
    """Sends under a name that somebody else uses too; returns at once whenever it is thrown out."""

    def __init__(self, agent: AgentProcess, name: str, bystander: Bystander) -> None:
        self.name = name
        self.acked: dict[int, str] = {}
        self.connections = 0
        #: Acks that the bystander got while this one waited for a welcome, at most.
        self.served_meanwhile = 0
        self._agent = agent
        self._bystander = bystander

    async def run(self) -> None:
        while True:
            with suppress(Closed):
                async with await Peer.open(self._agent) as peer:
                    self.connections += 1
                    await self._send(peer)

    async def _send(self, peer: Peer) -> None:
        before = self._bystander.acked
        following = await peer.hello("twin")
        self.served_meanwhile = max(self.served_meanwhile, self._bystander.acked - before)
        while True:
            await peer.say([{"n": n, "by": self.name} for n in (following, following + 1)])
            await peer.hear_ack(following + 2)
            self.acked.update({following: self.name, following + 1: self.name})
            following += 2


async def test_two_senders_under_one_name_get_what_is_acked_stored_once_and_are_slowed(
    tmp_path: Path,
) -> None:
    agent = AgentProcess(tmp_path, "agent", QUICK)
    async with agents(agent), await Peer.open(agent) as peer:
        await peer.hello("bystander")
        bystander = Bystander(peer)
        rivals = [Rival(agent, name, bystander) for name in ("a", "b")]

        async def fought() -> bool:
            await bystander.say()
            # Where a wait for a takeover held up all others, one could be served at either end of
            # it. A slow machine goes on to longer waits.
            is_served = max(rival.served_meanwhile for rival in rivals) > 3
            return is_served and await metric(agent, "takeovers_total") >= 4

        async with trio.open_nursery() as nursery:
            began = trio.current_time()
            for rival in rivals:
                nursery.start_soon(rival.run)
            await eventually(fought, describe="four takeovers, and others served meanwhile")
            seconds = trio.current_time() - began
            nursery.cancel_scope.cancel()

        found = await stored(agent, "twin")
        assert [fields["n"] for fields in found] == [*range(1, len(found) + 1)]
        holder = {fields["n"]: fields["by"] for fields in found}
        for rival in rivals:
            assert rival.acked and rival.acked.items() <= holder.items()
        # 0 + 1/4 + 1/2 + 1 s: each takeover waits longer than the one before.
        assert seconds > 1.7
        assert sum(rival.connections for rival in rivals) < 20
        assert "do two senders use this name?" in agent.output()
        found = await stored(agent, "bystander")
        assert [fields["n"] for fields in found] == [*range(1, bystander.acked + 1)]


async def test_a_producer_loses_nothing_to_somebody_who_sends_one_record_under_its_name(
    tmp_path: Path,
) -> None:
    agent = AgentProcess(tmp_path, "agent", HELD.replace('"1s"', '"300ms"'))
    async with agents(agent):
        sent = 0
        enough = trio.Event()

        async def produce() -> None:
            nonlocal sent
            async with Producer(
                f"{agent.url}/ingest/test", source="twin", close_timeout=PATIENCE_S,
                backoff=Backoff(base=0.05, maximum=0.1, slow=0.1),
            ) as producer:  # fmt: skip
                while not enough.is_set():
                    await producer.send([{"n": n, "by": "us"} for n in range(sent, sent + 10)])
                    sent += 10
                    await trio.sleep(0.005)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(produce)
            await appended(agent, "twin", 100)
            async with await Peer.open(agent) as visitor:
                # Until it is welcomed the producer goes on sending what nobody reads any more.
                following = await visitor.hello("twin")
                await visitor.say({"n": 0, "by": "visitor"})
                await visitor.hear_ack(following + 1)
            enough.set()
        found = await stored(agent, "twin")
        assert [fields["n"] for fields in found if fields["by"] == "us"] == [*range(sent)]
        assert [fields["n"] for fields in found if fields["by"] != "us"] == [0]
        assert await metric(agent, "takeovers_total") >= 1
