from __future__ import annotations

from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge_agent.commit.persist import REOPEN_SECONDS_MAX, Persistence
from edge_agent.errors import StoreDamaged, StoreFailed
from edge_agent.metrics import Metrics
from edge_agent.store import Stored
from tests.commit.recording import RecordingStore, entry
from tests.waist import inline


def persistence(store: RecordingStore, metrics: Metrics | None = None) -> Persistence:
    return Persistence(store, inline, metrics=metrics or Metrics(), trace=None, reopen_after=1.0)


async def test_a_refusing_disk_is_reopened_after_growing_pauses(autojump_clock: MockClock) -> None:
    store, metrics = RecordingStore(), Metrics()
    store.failures = [StoreFailed("EIO")] * 9
    began = trio.current_time()
    result = await persistence(store, metrics).call(store.commit, (entry(),))
    assert result.answers == (Stored({"main": 1}, 0, 0),)
    # The first call fails, then eight reopenings; the ninth reopening succeeds.
    assert store.names() == ["commit"] + ["reopen"] * 9 + ["commit"]
    times = [time - began for time, _ in store.calls]
    pauses = [later - sooner for sooner, later in pairwise(times[:-1])]
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60, 60])
    assert max(pauses) <= REOPEN_SECONDS_MAX
    assert metrics.get("store_failures_total") == 9


async def test_trouble_is_told_while_it_lasts(autojump_clock: MockClock) -> None:
    store = RecordingStore()
    disk = persistence(store)
    store.failures = [StoreFailed("EIO on data.mdb")]
    assert not disk.trouble
    async with trio.open_nursery() as nursery:
        nursery.start_soon(disk.call, store.commit, (entry(),))
        await wait_all_tasks_blocked()
        assert "EIO on data.mdb" in str(disk.trouble)
        assert disk.calling_since is None
    assert disk.trouble is None


async def test_a_store_that_was_opened_for_reading_alone_is_reopened_before_anything_else(
    autojump_clock: MockClock,
) -> None:
    store = RecordingStore()
    store.refusal = "Read-only file system"
    store.failures = [StoreFailed("Read-only file system")]
    disk = persistence(store)
    assert disk.trouble == "Read-only file system"
    await disk.call(store.trim)
    assert store.names() == ["reopen", "reopen", "trim"]
    assert disk.trouble is None


async def test_a_call_that_hangs_shows_since_when() -> None:
    release = trio.Event()

    async def hang(function: object, *args: object) -> None:
        await release.wait()

    store = RecordingStore()
    disk = Persistence(store, hang, metrics=Metrics(), trace=None, reopen_after=1)  # type: ignore[arg-type]  # a stub
    async with trio.open_nursery() as nursery:
        nursery.start_soon(disk.call, store.trim)
        await wait_all_tasks_blocked()
        assert disk.calling_since == pytest.approx(trio.current_time(), abs=5)
        release.set()
    assert disk.calling_since is None


async def test_what_reopening_cannot_cure_is_raised(autojump_clock: MockClock) -> None:
    store = RecordingStore()
    store.failures = [StoreFailed("EIO"), StoreDamaged("the file is damaged now")]
    with pytest.raises(StoreDamaged):
        await persistence(store).call(store.commit, (entry(),))
