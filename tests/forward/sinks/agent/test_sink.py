"""The session with a real hub: exactly once, whatever breaks."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
import trio
import trio.testing
from msgspec import structs

from edge_agent.commit.committer import LAZY_SECONDS
from edge_agent.config import Upstream
from edge_agent.errors import SinkUnavailable
from edge_agent.forward import Forwarder, make_sink
from edge_agent.forward.sink import LaneResume, SinkParts
from edge_agent.forward.sinks.agent.resume import moved
from edge_agent.forward.sinks.agent.sink import EMPTY_S, WebSocketSink
from edge_agent.store import Block, Entry, Gap, Numbering, Position
from tests.forward.gateways import gateway
from tests.forward.support import (
    Station,
    inline,
    make_run,
    running_station,
    serving,
    until,
    upstream,
)
from tests.manual_clock import ManualClock
from tests.model.memory_network import MemoryNetwork
from tests.patience import PATIENCE_S


def forwarder_for(station: Station, config: Upstream, **more: Any) -> Forwarder:
    def make(log: str) -> Any:
        identity = station.log.identity
        return make_sink(
            config, log, identity=identity, clock=station.clock, run_blocking=inline, **more
        )

    dice, metrics = random.Random(1), station.metrics
    return Forwarder(config, station.log, make, clock=station.clock, dice=dice, metrics=metrics)


@asynccontextmanager
async def forwarding(station: Station, port: int, **more: Any) -> AsyncIterator[Forwarder]:
    """An agent's forwarder, killed at the end of the block."""
    config = upstream(f"ws://127.0.0.1:{port}/forward", **more)
    async with trio.open_nursery() as nursery:
        forwarder = forwarder_for(station, config)
        nursery.start_soon(forwarder.run)
        yield forwarder
        nursery.cancel_scope.cancel()


async def numbers(hub: Station, log: str = "main") -> list[int]:
    return [record.fields["n"] for record in await hub.records(log)]


async def test_records_arrive_once_in_order_with_their_origin(tmp_path: Path) -> None:
    async with (
        running_station(tmp_path / "hub") as hub,
        running_station(tmp_path / "agent") as agent,
        serving(hub) as port,
    ):
        await agent.put(3)
        async with forwarding(agent, port) as forwarder:
            await agent.put(2, start=3)
            await until(lambda: forwarder.statistics().records == 5)
            assert forwarder.statistics().phase == "caught up"
        arrived = await hub.records()
        assert [record.fields["n"] for record in arrived] == [0, 1, 2, 3, 4]
        identity = agent.log.identity
        assert {record.origin for record in arrived} == {identity.agent_id}
        assert [record.origin_seq for record in arrived] == [1, 2, 3, 4, 5]
        assert {record.origin_epoch for record in arrived} == {identity.epoch}


async def test_over_cuts_and_kills_every_record_arrives_once(tmp_path: Path) -> None:
    dice = random.Random(5)
    async with (
        running_station(tmp_path / "hub", interval=0.003) as hub,
        running_station(tmp_path / "agent") as agent,
    ):
        async with serving(hub) as free:
            port = free
        count = 0
        for round_ in range(12):
            async with serving(hub, port=port):
                # By turns the hub's port goes away, or the agent's forwarder is killed.
                async with forwarding(agent, port):
                    for _ in range(dice.randrange(1, 6)):
                        await agent.put(5, start=count)
                        count += 5
                        await trio.sleep(dice.random() * 0.006)
                if round_ % 2:
                    async with forwarding(agent, port):
                        await trio.sleep(dice.random() * 0.004)
        async with serving(hub, port=port), forwarding(agent, port):
            await until(lambda: hub.log.last_seq("main") >= count)
        assert await numbers(hub) == list(range(count))


async def test_a_backlog_arrives_once_beside_what_is_new_and_is_marked(tmp_path: Path) -> None:
    clock = ManualClock()
    async with (
        running_station(tmp_path / "hub") as hub,
        running_station(tmp_path / "agent", clock=clock) as agent,
        serving(hub) as port,
    ):
        await agent.put(3)
        clock.advance(400)
        async with forwarding(agent, port) as forwarder:
            await until(lambda: hub.log.last_seq("main") == 3)
            await agent.put(2, start=3)
            await until(lambda: forwarder.statistics().backlog_records == 0)
            await until(lambda: len(forwarder.statistics().lanes) == 1)
        assert sorted(await numbers(hub)) == [0, 1, 2, 3, 4]
        blocks = [one for one in await hub.log.read("main", 0) if isinstance(one, Block)]
        marked = {one.historical: [r.fields["n"] for r in one.records()] for one in blocks}
        assert marked == {True: [0, 1, 2], False: [3, 4]}
        own = agent.log.identity.agent_id
        lanes = {one.name for one in await hub.log.sources() if "/main/" in one.name}
        assert lanes == {f"$forward/{own}/hub/main/{part}" for part in ("live", "backlog")}


async def test_a_hub_that_lost_its_store_during_a_backlog_gets_each_lane_again(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    async with running_station(tmp_path / "agent", clock=clock) as agent:
        await agent.put(5)
        clock.advance(400)
        async with running_station(tmp_path / "hub") as hub, serving(hub) as port:
            async with forwarding(agent, port) as forwarder:
                await until(lambda: hub.log.last_seq("main") == 5)
                await until(lambda: len(forwarder.statistics().lanes) == 1)
            # Half of a later backlog is there, and some of what is newer.
            await agent.put(4, start=5)
            span = Position("upstream/hub/backlog", "main", 7, moved(None), span=(6, 9))
            entry = Entry(positions=(span, Position("upstream/hub", "main", 9, moved(None))))
            await (await agent.log.append(entry)).wait()
        await agent.put(2, start=9)
        async with (
            running_station(tmp_path / "other") as hub,
            serving(hub, port=port),
            forwarding(agent, port),
        ):
            await until(lambda: hub.log.last_seq("main") == 4)
        async with (
            running_station(tmp_path / "third") as hub,
            serving(hub, port=port),
            forwarding(agent, port) as forwarder,
        ):
            await until(lambda: hub.log.last_seq("main") == 11)
            assert sorted(await numbers(hub)) == list(range(11))


async def test_a_hub_that_lost_its_store_gets_again_what_is_held(tmp_path: Path) -> None:
    async with running_station(tmp_path / "agent") as agent:
        await agent.put(6)
        async with running_station(tmp_path / "hub") as hub, serving(hub) as port:
            async with forwarding(agent, port) as forwarder:
                await until(lambda: forwarder.statistics().records == 6)
            await agent.put(1, start=6)
        async with running_station(tmp_path / "new") as hub, serving(hub, port=port):
            async with forwarding(agent, port) as forwarder:
                await until(lambda: hub.log.last_seq("main") == 7)
                assert forwarder.statistics().rewinds == 1
            assert await numbers(hub) == list(range(7))
            # And the new epoch is remembered: nothing is sent a third time.
            async with forwarding(agent, port) as forwarder:
                await agent.put(1, start=7)
                await until(lambda: forwarder.statistics().lanes[0].floor == 8)
                assert forwarder.statistics().rewinds == 0
            assert await numbers(hub) == list(range(8))


async def test_a_hub_with_another_history_gets_everything_under_a_new_epoch(
    tmp_path: Path,
) -> None:
    async with (
        running_station(tmp_path / "hub") as hub,
        running_station(tmp_path / "other") as other,
        running_station(tmp_path / "agent") as agent,
        serving(hub) as port,
        serving(other) as other_port,
    ):
        before = agent.log.identity
        await agent.put(6)
        async with forwarding(agent, port) as forwarder:
            await until(lambda: forwarder.statistics().records == 6)
        # Another copy of this agent's store was here meanwhile, and used up three numbers.
        source = f"$forward/{before.agent_id}/hub/main/live"
        ticket = await hub.log.append(Entry(numbering=Numbering(source, 7, 10, opening="x")))
        await ticket.wait()
        async with forwarding(agent, other_port, name="second") as second:
            await agent.put(6, start=6)
            await until(lambda: second.statistics().records == 12)
            async with forwarding(agent, port) as forwarder:
                await until(lambda: forwarder.statistics().records == 6)
                now = agent.log.identity
                assert now.epoch != before.epoch and now.agent_id == before.agent_id
                assert now.copied is not None and "other records" in now.copied.reason
                assert "copy" in forwarder.statistics().error or not forwarder.statistics().error
                # Whoever else is forwarded to is told of the new epoch with the next record.
                await agent.put(1, start=12)
                await until(lambda: second.statistics().lanes[0].floor == 13)
                await until(lambda: forwarder.statistics().lanes[0].floor == 13)
        assert await numbers(hub) == list(range(13))
        assert await numbers(other) == list(range(13))
        epochs = [record.origin_epoch for record in await other.records()]
        assert epochs == [before.epoch] * 12 + [now.epoch]


async def test_an_agent_that_lost_its_store_is_not_taken_for_its_own_duplicate(
    tmp_path: Path,
) -> None:
    async with running_station(tmp_path / "hub") as hub, serving(hub) as port:
        for life in ("one", "two"):
            async with running_station(tmp_path / life) as agent:
                # Its board, and so its id, stay the same.
                object.__setattr__(agent.log.identity, "agent_id", "a1" * 6)
                await agent.put(4, start=0 if life == "one" else 100)
                async with forwarding(agent, port) as forwarder:
                    await until(lambda: forwarder.statistics().records == 4)  # awaited in the loop
        assert await numbers(hub) == [0, 1, 2, 3, 100, 101, 102, 103]


async def test_a_new_store_killed_before_its_first_record_left_loses_nothing(
    tmp_path: Path,
) -> None:
    async with running_station(tmp_path / "hub") as hub, serving(hub) as port:
        for life in ("one", "two"):
            async with running_station(tmp_path / life) as agent:
                object.__setattr__(agent.log.identity, "agent_id", "a1" * 6)
                await agent.put(4, start=0 if life == "one" else 100)
                if life == "two":
                    # Killed at the first moment at which it knows the hub and has sent nothing.
                    sink = make_sink(
                        upstream(f"ws://127.0.0.1:{port}/forward"),
                        "main",
                        identity=agent.log.identity,
                        clock=agent.clock,
                        run_blocking=inline,
                    )
                    async with trio.open_nursery() as nursery:
                        resumed = await sink.open(nursery, LaneResume(0, 1, 4, None))
                        nursery.cancel_scope.cancel()
                    position = Position("upstream/hub", "main", 0, resumed.state)
                    await agent.log.acknowledge(position, durable=True)
                async with forwarding(agent, port) as forwarder:
                    await until(lambda: forwarder.statistics().records == 4)  # awaited in the loop
        assert await numbers(hub) == [0, 1, 2, 3, 100, 101, 102, 103]


async def test_a_kill_right_after_the_first_welcome_loses_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    async with (
        running_station(tmp_path / "hub", interval=0.02) as hub,
        running_station(tmp_path / "agent") as agent,
        serving(hub) as port,
    ):
        await agent.put(4)
        async with forwarding(agent, port):
            await until(lambda: agent.engine.position("upstream/hub", "main")[1])
        async with forwarding(agent, port):
            await until(lambda: hub.log.last_seq("main") >= 4)
        async with forwarding(agent, port):
            await agent.put(1, start=4)
            await until(lambda: hub.log.last_seq("main") >= 5)
        assert await numbers(hub) == [0, 1, 2, 3, 4]


async def test_a_block_that_is_partly_there_is_completed(tmp_path: Path) -> None:
    async with (
        running_station(tmp_path / "hub") as hub,
        running_station(tmp_path / "agent") as agent,
        serving(hub) as port,
    ):
        async with forwarding(agent, port) as forwarder:
            await agent.put(1)
            await until(lambda: forwarder.statistics().records == 1)
        await agent.put(6, start=1)
        identity = agent.log.identity
        source = f"$forward/{identity.agent_id}/hub/main/live"
        assert hub.engine.next_of(source) == 2
        await (await hub.log.append(Entry(numbering=Numbering(source, 2, 5)))).wait()
        async with forwarding(agent, port):
            await until(lambda: hub.log.last_seq("main") == 4)
        assert await numbers(hub) == [0, 4, 5, 6]


async def test_only_the_wanted_streams_arrive_and_the_position_passes_the_others(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    network = MemoryNetwork()
    async with (
        running_station(tmp_path / "hub") as hub,
        running_station(tmp_path / "agent") as agent,
        serving(hub, listeners=await network.listen("127.0.0.1:1")),
        trio.open_nursery() as nursery,
    ):
        config = upstream("ws://127.0.0.1:1/forward", streams=("t/*",))
        forwarder = forwarder_for(agent, config, dial=network.dial)
        nursery.start_soon(forwarder.run)
        await agent.put(3, stream="t/1")
        await trio.sleep(0.1)
        assert await numbers(hub) == [0, 1, 2]
        assert forwarder.statistics().lanes[0].floor == 3
        await agent.put(3, stream="x", start=3)
        await agent.put(2, stream="x", start=6)
        await trio.sleep(EMPTY_S - 1)
        assert hub.metrics.get("messages_received_total") == 1
        # Told after ten seconds; the hub makes no commit for it, so the ack takes half a minute.
        await trio.sleep(1 + LAZY_SECONDS + 1)
        assert hub.metrics.get("messages_received_total") == 2
        assert forwarder.statistics().lanes[0].floor == 8
        assert forwarder.statistics().phase == "caught up"
        await agent.put(2, stream="x", start=8)
        await agent.put(1, stream="t/1", start=10)
        await trio.sleep(0.1)
        assert forwarder.statistics().lanes[0].floor == 11
        assert await numbers(hub) == [0, 1, 2, 10]
        nursery.cancel_scope.cancel()


async def test_what_was_trimmed_is_told_and_does_not_hold_up_the_rest(
    tmp_path: Path,
) -> None:
    async with (
        running_station(tmp_path / "hub") as hub,
        running_station(tmp_path / "agent") as agent,
        serving(hub) as port,
    ):
        await agent.put(4)
        await agent.put(4, start=4)
        read = agent.engine.read

        def trimmed(log: str, after: int, limit: int, upto: int | None = None) -> Any:
            items = read(log, max(after, 4), limit, upto)
            return [Gap("main", after + 1, 4, "trimmed"), *items] if after < 4 else items

        agent.engine.read = trimmed  # type: ignore[method-assign, assignment]  # retention would need minutes
        async with forwarding(agent, port) as forwarder:
            await until(lambda: forwarder.statistics().records == 4)
            assert forwarder.statistics().lanes[0].floor == 8
        assert await numbers(hub) == [4, 5, 6, 7]


async def test_records_do_not_go_round_in_a_circle(tmp_path: Path) -> None:
    async with (
        running_station(tmp_path / "a") as one,
        running_station(tmp_path / "b") as two,
        serving(one) as port_one,
        serving(two) as port_two,
        forwarding(one, port_two),
        forwarding(two, port_one),
    ):
        await one.put(3)
        await until(lambda: two.log.last_seq("main") == 3)
        await two.put(1, start=3)
        await until(lambda: one.log.last_seq("main") == 4)
        # What comes back is dropped, and counted.
        await until(lambda: one.metrics.get("records_dropped_total", "$loop") >= 3)
        await until(lambda: two.metrics.get("records_dropped_total", "$loop") >= 1)
        assert await numbers(one) == [0, 1, 2, 3] == await numbers(two)
        assert one.metrics.get("records_dropped_total", "$loop") == 3
        assert two.metrics.get("records_dropped_total", "$loop") == 1


async def test_each_log_has_a_session_of_its_own(tmp_path: Path) -> None:
    logs = ("main", "alarms")
    async with (
        running_station(tmp_path / "hub", logs=logs) as hub,
        running_station(tmp_path / "agent", logs=logs) as agent,
        serving(hub) as port,
        forwarding(agent, port) as forwarder,
    ):
        await agent.put(3)
        await agent.put(2, stream="alarms/fire", log="alarms")
        await until(lambda: forwarder.statistics().records == 5)
        assert len(await numbers(hub, "main")) == 3 and len(await numbers(hub, "alarms")) == 2


async def test_a_stop_lets_what_is_in_flight_be_acknowledged(tmp_path: Path) -> None:
    async with (
        running_station(tmp_path / "hub", interval=3600) as hub,
        running_station(tmp_path / "agent") as agent,
        serving(hub) as port,
        trio.open_nursery() as nursery,
    ):
        forwarder = forwarder_for(agent, upstream(f"ws://127.0.0.1:{port}/forward"))
        nursery.start_soon(forwarder.run)
        await agent.put(4)
        await until(lambda: hub.metrics.get("records_received_total") == 4)
        assert forwarder.statistics().phase == "sending"
        forwarder.stop()
        await trio.sleep(0.01)
        assert forwarder.statistics().lanes[0].floor == 0 and nursery.child_tasks
        await (await hub.log.append(Entry(), soon=True)).wait()
        await until(lambda: not nursery.child_tasks)
        assert forwarder.statistics().lanes[0].floor == 4
        assert await numbers(hub) == [0, 1, 2, 3]


async def test_a_closed_sink_says_so() -> None:
    async def dial(*_: object) -> trio.abc.Stream:
        raise OSError("no network")

    from edge_agent.store import Identity
    from tests.manual_clock import ManualClock

    identity, given = Identity("0", "e0", "a1", 0), upstream("ws://hub/forward")
    sink = WebSocketSink(SinkParts(given, "main", identity, ManualClock(), inline, dial))
    await sink.aclose()
    with pytest.raises(SinkUnavailable, match="closed"):
        await sink.settle(0)
    with pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            await sink.open(nursery, LaneResume(0, 1, 0, None))
    assert caught.group_contains(SinkUnavailable, match="no network")


async def test_messages_shrink_over_connections_that_break_before_any_ack(tmp_path: Path) -> None:
    """A way that breaks every 60 kB: what never arrives whole is sent in smaller messages."""
    async with (
        running_station(tmp_path / "hub") as hub,
        running_station(tmp_path / "agent") as agent,
        serving(hub) as port,
        gateway(port, most=60_000) as way,
    ):
        for block in range(12):
            await put_incompressible(agent, 10, start=10 * block)
        async with forwarding(agent, way.port) as forwarder:
            await until(lambda: forwarder.statistics().lanes[0].floor == 120, seconds=PATIENCE_S)
        assert way.breaks >= 2
        assert await numbers(hub) == list(range(120))


async def put_incompressible(station: Station, count: int, *, start: int) -> None:
    """A block of ``count`` times two kilobytes."""
    body = b"".join(msgpack.packb({"n": start + n, "pad": os.urandom(2000)}) for n in range(count))
    run = structs.replace(make_run("t/1", count, start), body=body)
    await (await station.log.append(Entry(runs=(run,)))).wait()
