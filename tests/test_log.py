from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge_agent.commit import Closed
from edge_agent.commit.committer import MEND_SECONDS
from edge_agent.errors import StoreFailed
from edge_agent.store import Block, ConsumerSettings, Entry, Gap, LogSettings, Position, Stored
from edge_agent.values.clock_note import ClockNote
from tests.manual_clock import ManualClock
from tests.patience import PATIENCE_S
from tests.store.support import failing_disk
from tests.waist import NOW_NS, make_waist, numbered, open_engine, open_waist, run_of, settings

TWO_LOGS = settings(
    logs=(LogSettings("alarms", ("alarm/**",), share=0.2), LogSettings("main", share=0.5)),
    consumers=(ConsumerSettings("upstream/hub", "main"),),
)
BOTH = {"alarms": 0.01, "main": 0.01}


async def test_what_is_answered_is_read_back_in_order_of_seq(tmp_path: Path) -> None:
    async with open_waist(tmp_path) as waist:
        for number in range(1, 8):
            ticket = await waist.log.append(numbered(number, {"t": number}))
        assert (await ticket.wait()).last == {"main": 7}
        records = await waist.records()
        assert [(record.seq, record.fields["t"]) for record in records] == [
            (number, number) for number in range(1, 8)
        ]
        assert (waist.log.first_seq("main"), waist.log.last_seq("main")) == (1, 7)
        (block,) = await waist.log.read("main", 3)
        assert isinstance(block, Block)
        assert await waist.log.read("main", 7) == []


async def test_an_offer_is_answered_as_what_is_appended(tmp_path: Path) -> None:
    async with open_waist(tmp_path) as waist:
        ticket = waist.log.offer(numbered(1, {"t": 1}))
        assert ticket is not None
        assert (await ticket.wait()).last == {"main": 1}
        assert [record.fields["t"] for record in await waist.records()] == [1]


async def test_streams_are_routed_to_logs_with_numberings_of_their_own(tmp_path: Path) -> None:
    async with open_waist(tmp_path, using=TWO_LOGS, intervals=BOTH) as waist:
        assert waist.log.names() == ("alarms", "main")
        assert waist.log.route("alarm/fire") == "alarms"
        await waist.put(run_of({"t": 1}), run_of({"on": True}, stream="alarm/fire"))
        assert [record.stream for record in await waist.records("alarms")] == ["alarm/fire"]
        assert [record.seq for record in await waist.records("main")] == [1]
        statistics = waist.log.statistics()
        assert statistics.last_seq == {"alarms": 1, "main": 1}
        assert statistics.first_seq == {"alarms": 1, "main": 1}
        assert statistics.commit.commits == 1
        assert (await waist.log.store_statistics()).logs["main"].records == 1


async def test_a_log_that_is_no_longer_configured_can_still_be_read(tmp_path: Path) -> None:
    clock = ManualClock(NOW_NS)
    async with open_waist(tmp_path, clock=clock, using=TWO_LOGS, intervals=BOTH) as waist:
        await waist.put(run_of({"on": True}, stream="alarm/fire"))
    async with open_waist(tmp_path, clock=clock) as waist:
        assert waist.log.names() == ("main", "alarms")
        assert len(await waist.records("alarms")) == 1
        assert waist.log.route("alarm/fire") == "main"


async def test_waiting_ends_with_the_commit_and_not_before(tmp_path: Path) -> None:
    async with open_waist(tmp_path, using=TWO_LOGS, intervals=BOTH) as waist:
        woken: list[int] = []

        async def wait(seq: int) -> None:
            woken.append(await waist.log.wait_past("main", seq))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, 0)
            nursery.start_soon(wait, 1)
            await waist.put(run_of({"on": True}, stream="alarm/fire"))
            await wait_all_tasks_blocked()
            assert woken == []
            await waist.put(run_of({"t": 1}))
            await wait_all_tasks_blocked()
            assert woken == [1]
            await waist.put(run_of({"t": 2}, {"t": 3}))
        assert woken == [1, 3]
        assert await waist.log.wait_past("main", 2) == 3


async def test_a_bare_acknowledgement_rides_and_the_newest_stands_for_all(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_waist(tmp_path, using=TWO_LOGS, intervals=BOTH) as waist:
        log = waist.log
        await waist.put(*(run_of({"t": n}) for n in range(5)))
        commits = waist.committer.statistics().commits
        for floor in (1, 2, 4, 3):
            await log.acknowledge(Position("upstream/hub", "main", floor))
        await trio.sleep(10)
        assert waist.committer.statistics().commits == commits
        assert waist.committer.statistics().waiting_entries == 1
        assert await log.position("upstream/hub", "main") == (0, None)
        await waist.put(run_of({"t": 6}))
        assert await log.position("upstream/hub", "main") == (4, None)
        assert waist.committer.statistics().commits == commits + 1
        # What was committed is not waiting any more: the next one is a new entry.
        await log.acknowledge(Position("upstream/hub", "main", 5))
        await trio.sleep(31)
        assert await log.position("upstream/hub", "main") == (5, None)


async def test_a_later_acknowledgement_keeps_the_state_of_the_one_it_stands_for(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_waist(tmp_path) as waist:
        await waist.put(*(run_of({"t": n}) for n in range(5)))
        await waist.log.acknowledge(Position("c", "main", 1, state=b"one"))
        await waist.log.acknowledge(Position("c", "main", 2))
        await waist.put(run_of({"t": 6}))
        assert await waist.log.position("c", "main") == (2, b"one")


async def test_a_rewind_is_not_swallowed_by_what_was_acknowledged_before(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_waist(tmp_path) as waist:
        await waist.put(*(run_of({"t": n}) for n in range(5)))
        await waist.log.acknowledge(Position("c", "main", 4))
        await waist.log.acknowledge(Position("c", "main", 2, rewind=True))
        await trio.sleep(31)
        assert await waist.log.position("c", "main") == (2, None)


async def test_a_durable_acknowledgement_returns_when_it_is(tmp_path: Path) -> None:
    async with open_waist(tmp_path) as waist:
        await waist.put(run_of({"t": 1}))
        await waist.log.acknowledge(Position("upstream/http", "main", 1, b"key"), durable=True)
        assert await waist.log.position("upstream/http", "main") == (1, b"key")


async def test_outputs_position_and_state_are_one_entry(tmp_path: Path) -> None:
    clock = ManualClock(NOW_NS)
    async with open_waist(tmp_path, clock=clock) as waist:
        await waist.put(run_of({"t": 1}))
        output = run_of({"t_mean": 1}, stream="hourly", source="$rule/hourly")
        entry = Entry(runs=(output,), positions=(Position("rule/hourly", "main", 1, b"open"),))
        await (await waist.log.append(entry)).wait()
    async with open_waist(tmp_path, clock=clock) as waist:
        assert await waist.log.position("rule/hourly", "main") == (1, b"open")
        assert [record.stream for record in await waist.records()] == ["greenhouse/1", "hourly"]


async def test_next_of_counts_what_was_answered(tmp_path: Path) -> None:
    async with open_waist(tmp_path) as waist:
        assert await waist.log.next_of("pi-7") == 0
        ticket = await waist.log.append(numbered(1, {"t": 1}, {"t": 2}))
        assert isinstance(await ticket.wait(), Stored)
        assert await waist.log.next_of("pi-7") == 3


async def test_reading_and_waiting_survive_the_end_of_appending(tmp_path: Path) -> None:
    clock = ManualClock(NOW_NS)
    with open_engine(tmp_path, clock) as engine:
        waist = make_waist(engine, clock)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waist.committer.run)
            await waist.put(run_of({"t": 1}))
            waist.committer.close()
        assert len(await waist.records()) == 1
        assert await waist.log.wait_past("main", 0) == 1
        with pytest.raises(Closed):
            await waist.log.append(numbered(1, {"t": 2}))
        with pytest.raises(Closed):
            await waist.log.acknowledge(Position("c", "main", 1))


async def test_a_trimmed_stretch_is_told_as_a_gap(tmp_path: Path) -> None:
    small = settings(logs=(LogSettings("main", share=0.03),))
    async with open_waist(tmp_path, using=small) as waist:
        for number in range(20):
            await waist.put(run_of({"t": random.Random(number).randbytes(20_000)}))
        items = await waist.log.read("main", 0)
        first = waist.log.first_seq("main")
        assert first > 1
        assert items[0] == Gap("main", 1, first - 1, "trimmed")


async def test_listeners_hear_of_commits_when_they_can_be_read(tmp_path: Path) -> None:
    async with open_waist(tmp_path) as waist:
        heard: list[tuple[int, int]] = []
        waist.log.listen(
            lambda result: heard.append((result.last_seq["main"], waist.log.last_seq("main")))
        )
        await waist.put(run_of({"t": 1}))
        await waist.put(run_of({"t": 2}))
        assert heard == [(1, 1), (2, 2)]


async def test_a_reader_has_the_store_reopened_where_nothing_is_to_be_committed(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_waist(tmp_path) as waist:
        await waist.put(run_of({"t": 1}))
        with failing_disk(), pytest.raises(StoreFailed):
            waist.engine.reopen()
        began = trio.current_time()
        with failing_disk():
            with pytest.raises(StoreFailed):
                await waist.log.position("upstream/hub", "main")
            await trio.sleep(MEND_SECONDS + 0.1)
            with pytest.raises(StoreFailed):
                await waist.log.next_of("pi-7")
            assert [record.fields for record in await waist.records()] == [{"t": 1}]
        await trio.sleep(3)
        assert [record.fields for record in await waist.records()] == [{"t": 1}]
        assert waist.log.trouble is None
        assert trio.current_time() < began + 10


async def test_whoever_waits_for_news_of_clocks_is_woken_by_the_commit_that_brings_it(
    tmp_path: Path,
) -> None:
    async with open_waist(tmp_path) as waist:
        await waist.put(run_of({"t": 1}))
        (number, told), woken = waist.log.clock_notes(0), trio.Event()
        assert (number, told) == (1, [])

        async def wait() -> None:
            await waist.log.wait_clocks(number)
            woken.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await waist.put(run_of({"t": 2}))
            await wait_all_tasks_blocked()
            assert not woken.is_set()
            note = ClockNote("feedfacecafe", bytes(16), 5, 6)
            await (await waist.log.append(Entry(clocks=(note,)))).wait()
            with trio.fail_after(PATIENCE_S):
                await woken.wait()
        assert waist.log.clock_notes(number) == (2, [(2, note)])
        assert waist.log.clock_news([note]) == []
