"""The digester follows the log, acknowledges only what it has written, and holds nothing up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from edge_agent.digest import CONSUMER, Digester, HistoryFile, HistoryOwner
from edge_agent.digest.block import WAIT_NS
from edge_agent.digest.digester import (
    FLOOD_REST_S,
    FLUSH_EVERY_S,
    FLUSH_RETRY_S,
    GATHER_RECORDS,
    GATHER_S,
    REST_S,
)
from edge_agent.errors import StoreFailed
from edge_agent.history import keys
from edge_agent.store import LogSettings
from edge_agent.values.record import Run
from tests.digest.support import FOREVER, MIB, kept
from tests.manual_clock import ManualClock
from tests.waist import NOW_NS, Waist, open_waist, run_of, settings

HOUR_S = 3600


def digester_of(waist: Waist, path: Path) -> Digester:
    return Digester(waist.log, path, 16 * MIB, FOREVER, clock=waist.clock, metrics=waist.metrics)


@asynccontextmanager
async def running(waist: Waist, path: Path) -> AsyncIterator[Digester]:
    digester = digester_of(waist, path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(digester.run)
        try:
            await digester.catch_up()
            yield digester
        finally:
            nursery.cancel_scope.cancel()


async def acknowledged(waist: Waist) -> int:
    """As far as history says that it has the log."""
    # A consumer's word becomes durable with the next commit.
    await waist.put(run_of({"beat": 1}))
    return (await waist.log.position(CONSUMER, "main"))[0]


async def test_it_acknowledges_only_behind_a_flush(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_waist(tmp_path) as waist, running(waist, tmp_path) as digester:
        await waist.put(run_of({"t": 1}, {"t": 2}))
        assert await digester.catch_up() == 0
        history = digester.history
        assert history is not None and history.tail.records == 2
        assert await acknowledged(waist) == 0
        await trio.sleep(FLUSH_EVERY_S + 2 * REST_S)
        assert history.tail.records == 0
        assert [record.fields for record in kept(history.file)][:2] == [{"t": 1}, {"t": 2}]
        assert await acknowledged(waist) == history.file.header.positions["main"] == 3
        [view] = [one for one in await waist.log.consumers() if one.consumer == CONSUMER]
        assert (view.log, view.floor) == ("main", 3)


async def test_records_gather_until_they_are_many_or_have_waited_or_somebody_asks(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_waist(tmp_path) as waist, running(waist, tmp_path) as digester:
        history = digester.history
        assert history is not None
        await trio.sleep(1)
        await waist.put(run_of({"t": 1}))
        await trio.sleep(GATHER_S - REST_S)
        await waist.put(run_of({"t": 2}))
        assert history.tail.records == 0 and digester.status().lag == 2
        await trio.sleep(2 * REST_S)
        assert history.tail.records == 2 and digester.status().lag == 0
        await waist.put(run_of({"t": 3}))
        began = trio.current_time()
        assert await digester.catch_up() == 0
        assert trio.current_time() == began and history.tail.records == 3
        await waist.put(*[run_of({"t": i}) for i in range(GATHER_RECORDS)])
        await trio.sleep(2 * REST_S)
        assert digester.status().lag == 0


async def test_while_records_flood_in_a_little_is_digested_now_and_then(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.digest.digester.FLOOD_RATE", 500)
    monkeypatch.setattr("edge_agent.digest.digester._READ_BYTES", 1)

    async def flood() -> None:
        while True:
            await waist.put(*[run_of({"t": i}) for i in range(100)])
            await trio.sleep(0.1)

    async with open_waist(tmp_path) as waist, running(waist, tmp_path) as digester:
        history = digester.history
        assert history is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            await trio.sleep(0.9 * FLOOD_REST_S)
            assert history.tail.records == 0
            # A read is a block here.
            await trio.sleep(3 * FLOOD_REST_S)
            assert 100 <= history.tail.records <= 400
            assert digester.status().lag > 1000
            # Whoever asks is not put off, and the flood is let pass again behind that.
            with trio.fail_after(FLOOD_REST_S / 2):
                await digester.catch_up()
            await trio.sleep(2 * REST_S)
            taken = history.tail.records
            await trio.sleep(FLOOD_REST_S / 2)
            assert history.tail.records <= taken + 100
            nursery.cancel_scope.cancel()
        await trio.sleep(GATHER_S + FLOOD_REST_S / 2)
        assert digester.status().lag == 0


async def test_what_was_not_flushed_is_digested_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_waist(tmp_path) as waist:
        for flushed in (False, True, True):
            async with running(waist, tmp_path) as digester:
                await waist.put(run_of({"t": 1}))
                if flushed:
                    await trio.sleep(FLUSH_EVERY_S + 2 * REST_S)
                assert await digester.catch_up() == 0
            assert digester.history is None
            with pytest.raises(StoreFailed):
                await digester.catch_up()
        file, told = HistoryFile.open(
            tmp_path, 16 * MIB, HistoryOwner(waist.log.identity.store_id, "")
        )
        assert not told
        assert [record.seq for record in kept(file)] == [1, 2, 3]
        file.close()


async def test_a_write_that_fails_is_told_and_tried_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_waist(tmp_path) as waist, running(waist, tmp_path) as digester:
        history = digester.history
        assert history is not None
        await waist.put(run_of({"s": "x" * 50_000}))
        await digester.catch_up()
        # The file can be no larger than it is now.
        history.file._env.set_mapsize(8192)
        await trio.sleep(FLUSH_EVERY_S + 2 * REST_S)
        assert digester.status().trouble is not None
        assert "MAP_FULL" in (digester.trouble or "") and history.tail.records == 1
        history.file._env.set_mapsize(MIB)
        await trio.sleep(FLUSH_RETRY_S + 1)
        assert digester.trouble is None and history.tail.records == 0
        assert await acknowledged(waist) == 1


async def test_the_log_forgets_without_waiting_and_what_was_missed_is_counted(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    clock = ManualClock(NOW_NS)
    using = settings(logs=(LogSettings("main", keep_s=HOUR_S),))
    async with open_waist(tmp_path, clock=clock, using=using) as waist:
        async with running(waist, tmp_path) as digester:
            await waist.put(run_of({"t": 1}))
            await trio.sleep(FLUSH_EVERY_S + 2 * REST_S)
            await digester.catch_up()
        # While nobody digests, two records come and are forgotten.
        await waist.put(run_of({"t": 2}, {"t": 3}))
        clock.advance(3 * HOUR_S)
        await waist.put(run_of({"t": 4}, arrival_ns=clock.read().wall_ns))
        waist.engine.trim()
        assert waist.log.first_seq("main") == 4
        async with running(waist, tmp_path) as digester:
            assert await digester.catch_up() == 0
            status = digester.status()
            assert (status.records, status.missed, status.lag) == (2, 2, 0)


async def test_records_of_a_clock_that_may_be_set_soon_wait(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    clock = ManualClock(10**9, synced=False)
    async with open_waist(tmp_path, clock=clock) as waist, running(waist, tmp_path) as digester:
        await waist.put(_unsynced(arrival_ns=10**9))
        assert await digester.catch_up() == 1
        assert digester.status().undated
        clock.advance(1)
        clock.step_wall(NOW_NS, synced=True)
        await waist.put(run_of({"t": 2}))
        assert await digester.catch_up() == 0
        history = digester.history
        assert history is not None and not digester.status().undated
        for _ in history.tail.settle_all():
            pass
        hours = set(history.tail.streams["greenhouse/1"].segments)
        assert hours == {(NOW_NS - 10**9) // keys.HOUR_NS, NOW_NS // keys.HOUR_NS}


async def test_records_of_a_clock_that_is_never_set_are_taken_in_the_end(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    clock = ManualClock(10**9, synced=False)
    async with open_waist(tmp_path, clock=clock) as waist, running(waist, tmp_path) as digester:
        await waist.put(_unsynced(arrival_ns=10**9))
        assert await digester.catch_up() == 1
        clock.advance(WAIT_NS / 1e9)
        await waist.put(_unsynced(arrival_ns=clock.read().wall_ns))
        assert await digester.catch_up() == 0


async def test_records_are_moved_once_the_clock_is_set_even_hours_later(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    fake_ns = NOW_NS - 300 * keys.DAY_NS  # As a board without a battery says, at its start.
    clock = ManualClock(fake_ns, synced=False)
    async with open_waist(tmp_path, clock=clock) as waist, running(waist, tmp_path) as digester:
        clock.advance(WAIT_NS / 1e9)
        for _ in range(3):
            await waist.put(_unsynced(arrival_ns=clock.read().wall_ns))
            clock.advance(2 * HOUR_S)
            assert await digester.catch_up() == 0
            await trio.sleep(2 * FLUSH_EVERY_S)
        history = digester.history
        assert history is not None and history.tail.records == 3  # Nothing was written.
        clock.step_wall(NOW_NS, synced=True)
        await waist.put(run_of({"t": 2}))
        assert await digester.catch_up() == 0
        await trio.sleep(2 * FLUSH_EVERY_S)
        times = [record.time_ns for record in kept(history.file)]
        assert times == [NOW_NS - hours * HOUR_S * 10**9 for hours in (6, 4, 2)] + [NOW_NS]


async def test_what_the_log_no_longer_holds_keeps_the_time_that_it_had(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock(NOW_NS - 300 * keys.DAY_NS, synced=False)
    async with open_waist(tmp_path, clock=clock) as waist, running(waist, tmp_path) as digester:
        clock.advance(WAIT_NS / 1e9)
        await waist.put(_unsynced(arrival_ns=clock.read().wall_ns))
        assert await digester.catch_up() == 0
        clock.step_wall(NOW_NS, synced=True)
        # As if a full log had discarded its oldest record meanwhile.
        monkeypatch.setattr(waist.log, "first_seq", lambda name: 2)
        await waist.put(run_of({"t": 2}))
        assert await digester.catch_up() == 0
        history, status = digester.history, digester.status()
        assert history is not None and (status.records, status.missed) == (2, 0)
        assert [record.seq for record in kept(history.file)] == [1]


def _unsynced(arrival_ns: int) -> Run:
    return replace(run_of({"t": 1}, arrival_ns=arrival_ns), synced=False)
