"""An agent that says which tasks it has."""

from __future__ import annotations

import json
import signal
import tracemalloc
from pathlib import Path

import trio

from benchmarks.churn_agent import Teller, living_tasks


async def test_tasks_are_counted_by_name_wherever_they_hang() -> None:
    async def sleeper() -> None:
        await trio.sleep_forever()

    async def parent() -> None:
        async with trio.open_nursery() as inner:
            inner.start_soon(sleeper)
            inner.start_soon(sleeper)

    before = living_tasks()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(parent)
        await trio.testing.wait_all_tasks_blocked()
        during = living_tasks()
        nursery.cancel_scope.cancel()

    name = next(name for name in during if name.endswith("sleeper"))
    assert during[name] == 2 and name not in before
    assert sum(during.values()) == sum(before.values()) + 3
    assert living_tasks() == before


def test_outside_of_trio_there_are_no_tasks() -> None:
    assert living_tasks() == {}


def test_the_lines_whose_memory_grew_are_named_from_the_second_time_on(tmp_path: Path) -> None:
    file = tmp_path / "tasks.json"
    teller = Teller(file)
    tracemalloc.start(6)
    try:
        teller.tell(signal.SIGUSR2, None)
        assert json.loads(file.read_text())["asked"] == 1
        held = [bytes(10_000) for _ in range(100)]
        teller.tell(signal.SIGUSR2, None)
    finally:
        tracemalloc.stop()

    answer = json.loads(file.read_text())
    assert answer["asked"] == 2
    assert answer["growth"][0].startswith("+1,0") and "test_churn_agent.py" in answer["growth"][0]
    assert len(held) == 100
