"""What was forwarded while a clock was not set is put right at every hop, once it is known."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from edge_agent.forward import Forwarder, make_sink
from edge_agent.store import Entry, Position
from edge_agent.values.clock_note import HOPS_MAX, ClockNote
from tests.forward.support import NOW_NS, Station, inline, running_station, serving, until, upstream
from tests.manual_clock import ManualClock

SECOND = 10**9
WOKE_NS = 7 * SECOND
BOOT = b"another boot    "


@asynccontextmanager
async def telling(station: Station, port: int) -> AsyncIterator[Forwarder]:
    """An agent's forwarder as the agent makes it, killed at the end of the block."""
    config = upstream(f"ws://127.0.0.1:{port}/forward")

    def make(log: str) -> Any:
        identity = station.log.identity
        return make_sink(
            config, log, identity=identity, clock=station.clock, run_blocking=inline,
            news=station.log,
        )  # fmt: skip

    async with trio.open_nursery() as nursery:
        forwarder = Forwarder(
            config, station.log, make,
            clock=station.clock, dice=random.Random(1), metrics=station.metrics,
        )  # fmt: skip
        nursery.start_soon(forwarder.run)
        yield forwarder
        nursery.cancel_scope.cancel()


def set_right(clock: ManualClock) -> None:
    """It was NOW_NS when the boot clock stood at zero."""
    clock.step_wall(NOW_NS + clock.read().boot_ns, synced=True)


async def times(station: Station) -> list[tuple[float, str]]:
    return [
        ((record.time_ns - NOW_NS) / SECOND, record.time_quality)
        for record in await station.records()
    ]


async def commit(station: Station) -> None:
    """A commit without records."""
    await station.log.acknowledge(Position("somebody", "main", 0, b"x"), durable=True)


def _has(station: Station, last: int) -> bool:
    return station.log.last_seq("main") >= last and bool(notes(station))


def _more_than(told: list[int], count: int) -> bool:
    return len(told) > count


def notes(station: Station) -> list[ClockNote]:
    return [note for _, note in station.log.clock_notes(0)[1]]


async def test_a_note_follows_what_went_out_uncorrected_although_nothing_else_does(
    tmp_path: Path,
) -> None:
    clock = ManualClock(WOKE_NS, synced=False)
    async with (
        running_station(tmp_path / "hub") as hub,
        running_station(tmp_path / "agent", clock=clock) as agent,
        serving(hub) as port,
        telling(agent, port) as forwarder,
    ):
        await agent.arrive(2)
        await until(lambda: forwarder.statistics().records == 2)
        assert {quality for _, quality in await times(hub)} == {"unsynced"}
        clock.advance(30)
        set_right(clock)
        await commit(agent)
        await until(lambda: notes(hub))
        assert await times(hub) == [(1, "corrected")] * 2 == await times(agent)
        # As stored they stay what they were, for those who come after.
        (block,) = await hub.log.read("main", 0)
        assert block.origin.stored_ns == WOKE_NS  # type: ignore[union-attr]  # a foreign block
        assert not block.origin.synced  # type: ignore[union-attr]  # as above


async def test_each_of_two_boots_is_put_right_by_its_own_note_and_one_never_set_is_not(
    tmp_path: Path,
) -> None:
    clock = ManualClock(WOKE_NS, synced=False)
    async with (
        running_station(tmp_path / "hub") as hub,
        running_station(tmp_path / "agent", clock=clock) as agent,
        serving(hub) as port,
        telling(agent, port),
    ):
        for boot, wall_ns in enumerate((WOKE_NS, 99 * SECOND, NOW_NS + 10**9 * SECOND)):
            clock.reboot(wall_ns=wall_ns)
            await agent.arrive(1)
            if boot != 1:
                clock.advance(10)
                clock.step_wall(NOW_NS + boot * 86_400 * SECOND, synced=True)
                await agent.arrive(1)
        # What the forwarder has counted is more where a connection had to begin anew.
        await until(lambda: len(notes(hub)) == 2 and hub.log.last_seq("main") >= 5)
        assert await times(hub) == await times(agent)
        assert await times(hub) == [
            (-10, "corrected"), (0, "synced"), ((99 * SECOND - NOW_NS) / SECOND, "unsynced"),
            (2 * 86_400 - 10, "corrected"), (2 * 86_400, "synced"),
        ]  # fmt: skip


async def test_notes_pass_every_hop_and_are_kept_there(tmp_path: Path) -> None:
    clock = ManualClock(WOKE_NS, synced=False)
    async with running_station(tmp_path / "agent", clock=clock) as agent:
        await agent.arrive(1)
        async with (
            running_station(tmp_path / "middle") as middle,
            running_station(tmp_path / "top") as top,
            serving(top) as up,
        ):
            async with serving(middle) as port, telling(middle, up), telling(agent, port):
                await until(lambda: top.log.last_seq("main") == 1)
                set_right(clock)
                await agent.arrive(1)
                await until(lambda: top.log.last_seq("main") == 2 and notes(top))
            assert await times(top) == [(1, "corrected"), (1, "synced")]
            assert [note.hops for note in notes(middle) + notes(top)] == [1, 2]
            assert notes(top)[0].agent == agent.log.identity.agent_id
        async with running_station(tmp_path / "top") as top:
            assert await times(top) == [(1, "corrected"), (1, "synced")]


async def test_notes_go_no_further_than_blocks_and_not_round_in_a_circle(tmp_path: Path) -> None:
    async with (
        running_station(tmp_path / "one") as one,
        running_station(tmp_path / "two") as two,
        serving(one) as port_one,
        serving(two) as port_two,
    ):
        far = ClockNote("feedfacecafe", BOOT, 5, 6, HOPS_MAX)
        near = ClockNote("feedfacecafe", b"x" * 16, 5, 6, 2)
        await (await one.log.append(Entry(clocks=(far, near)))).wait()
        async with telling(one, port_two), telling(two, port_one):
            await until(lambda: notes(two))
            for number in range(5):
                await one.put(1, start=number)
                await two.put(1, start=number)
            await until(lambda: two.log.last_seq("main") == 10 == one.log.last_seq("main"))
        assert [(note.boot_id, note.hops) for note in notes(two)] == [(b"x" * 16, 3)]
        assert notes(one) == [far, near]
        assert two.log.clock_notes(0)[0] <= 3


async def test_a_note_known_to_have_arrived_is_not_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    clock = ManualClock(WOKE_NS, synced=False)
    async with (
        running_station(tmp_path / "hub") as hub,
        running_station(tmp_path / "agent", clock=clock) as agent,
        serving(hub) as port,
    ):
        real_news = hub.log.clock_news

        def watched(given: Any) -> Any:
            told.append(len(given))
            return real_news(given)

        monkeypatch.setattr(hub.log, "clock_news", watched)
        await agent.arrive(1)
        set_right(clock)
        await commit(agent)
        # Nothing follows it: whether it came is not known.
        for _ in range(2):
            before = len(told)
            async with telling(agent, port):
                await until(partial(_more_than, told, before))
        assert told == [1, 1]
        async with telling(agent, port) as forwarder:
            await until(lambda: len(told) == 3)
            await agent.arrive(1)
            await until(lambda: forwarder.statistics().lanes[0].floor == 2)
            await commit(agent)
        async with telling(agent, port) as forwarder:
            await agent.arrive(1)
            await until(lambda: forwarder.statistics().lanes[0].floor == 3)
        assert told == [1, 1, 1]


async def test_a_hub_that_lost_its_store_is_told_again(tmp_path: Path) -> None:
    clock = ManualClock(WOKE_NS, synced=False)
    async with running_station(tmp_path / "agent", clock=clock) as agent:
        await agent.arrive(1)
        set_right(clock)
        await agent.arrive(1)
        for life in ("one", "two"):
            async with running_station(tmp_path / life) as hub, serving(hub) as port:
                async with telling(agent, port):
                    await until(partial(_has, hub, 2))
                    await agent.arrive(1)
                    last = agent.log.last_seq("main")
                    await until(partial(_has, hub, last))
                    await commit(agent)
                assert (await times(hub))[0] == (1, "corrected")


async def test_a_hub_whose_own_clock_is_not_set_puts_both_right_by_and_by(tmp_path: Path) -> None:
    clock, hubs = ManualClock(WOKE_NS, synced=False), ManualClock(3 * WOKE_NS, synced=False, boot=9)
    async with (
        running_station(tmp_path / "hub", clock=hubs) as hub,
        running_station(tmp_path / "agent", clock=clock) as agent,
        serving(hub) as port,
        telling(agent, port),
    ):
        await agent.arrive(1)
        await until(lambda: hub.log.last_seq("main") == 1)
        hubs.advance(20)
        set_right(hubs)
        await commit(hub)
        (record,) = await hub.records()
        assert (record.time_quality, record.stored_ns) == ("unsynced", NOW_NS + SECOND)
        assert record.time_ns == WOKE_NS
        clock.advance(40)
        set_right(clock)
        await commit(agent)
        await until(lambda: [note for note in notes(hub) if note.agent])
        (record,) = await hub.records()
        assert (record.time_quality, record.stored_ns) == ("corrected", NOW_NS + SECOND)
        assert record.time_ns == NOW_NS + SECOND
