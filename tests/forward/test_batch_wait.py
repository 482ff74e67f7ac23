from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from edge_agent.forward.batch_wait import wait_for_batch
from tests.forward.support import running_station, upstream
from tests.manual_clock import ManualClock


async def test_a_full_batch_goes_at_once_and_company_is_waited_for(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    clock = ManualClock()
    config = upstream("ws://h/", batch_age=5.0, batch_records=10)
    async with running_station(tmp_path, clock=clock) as station:
        await station.put(10)
        began = trio.current_time()
        await wait_for_batch(station.log, "main", 0, config, clock)
        assert trio.current_time() == began
        await wait_for_batch(station.log, "main", 3, config, clock)
        assert trio.current_time() - began == pytest.approx(5.0)
