from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from edge_agent.forward.batches.open_reader import OpenBatches
from tests.forward.support import running_station, upstream
from tests.manual_clock import ManualClock

CONFIG = upstream("http://hub/in", batch_records=4)


async def test_open_batches_follow_one_another(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station:
        await station.put(3)
        await station.put(3, start=3)
        batches = OpenBatches(CONFIG, station.log, "main", station.clock)
        batches.resume(2)
        first = await batches.next()
        assert (first.first, first.last) == (2, 6)
        again = await batches.next()
        assert again == first
        batches.sent(first)
        await station.put(1, start=6)
        assert (await batches.next()).first == 7


async def test_a_read_takes_no_more_than_a_batch(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station:
        for start in range(0, 40, 10):
            await station.put(10, start=start)
        batches = OpenBatches(
            upstream("ws://h/", batch_bytes=1), station.log, "main", station.clock
        )
        batches.resume(1)
        batch = await batches.next()
        assert (batch.first, batch.last) == (1, 10)


@pytest.mark.parametrize("age_s, waits_s", [(0, 5.0), (2, 3.0), (5, 0.0), (3600, 0.0)])
async def test_a_record_waits_for_company_from_its_commit_on(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, age_s: float, waits_s: float
) -> None:
    clock = ManualClock()
    async with running_station(tmp_path, clock=clock) as station:
        await station.put(3)
        clock.advance(age_s)
        config = upstream("ws://h/", batch_age=5.0)
        batches = OpenBatches(config, station.log, "main", clock)
        batches.resume(1)
        began = trio.current_time()
        assert (await batches.next()).last == 3
        assert trio.current_time() - began == pytest.approx(waits_s)


async def test_what_an_earlier_boot_stored_does_not_wait(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    clock = ManualClock()
    async with running_station(tmp_path, clock=clock) as station:
        await station.put(3)
        clock.reboot(wall_ns=0)
        batches = OpenBatches(upstream("ws://h/", batch_age=5.0), station.log, "main", clock)
        batches.resume(1)
        began = trio.current_time()
        await batches.next()
        assert trio.current_time() == began
