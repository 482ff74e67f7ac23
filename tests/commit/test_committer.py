from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge_agent.commit import Closed, Committer, Ticket
from edge_agent.commit.committer import SOON_SECONDS
from edge_agent.errors import StoreFailed
from edge_agent.metrics import Metrics
from edge_agent.store import Engine, LogSettings, Stored
from tests.commit.recording import RecordingStore, bare_acknowledge, committer_on, entry
from tests.manual_clock import ManualClock
from tests.waist import NOW_NS, make_waist, numbered, open_engine, open_waist, run_of, settings


@asynccontextmanager
async def running(committer: Committer) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(committer.run)
        yield
        committer.close()


async def test_a_group_waits_for_the_interval_of_its_log(autojump_clock: MockClock) -> None:
    store = RecordingStore()
    committer = committer_on(store)
    async with running(committer):
        began = trio.current_time()
        await committer.append(entry("a"))
        await trio.sleep(0.4)
        ticket = await committer.append(entry("b"))
        await ticket.wait()
        assert trio.current_time() == pytest.approx(began + 1.0)
        assert [len(group) for _, group in store.groups] == [2]


async def test_the_shortest_interval_commits_what_waits_in_all_logs(
    autojump_clock: MockClock,
) -> None:
    store = RecordingStore()
    committer = committer_on(store)
    async with running(committer):
        began = trio.current_time()
        slow = await committer.append(entry("telemetry"))
        quick = await committer.append(entry("alarm/fire"))
        await slow.wait()
        assert trio.current_time() == pytest.approx(began + 0.1)
        assert quick.answer is not None


async def test_a_full_group_does_not_wait(autojump_clock: MockClock) -> None:
    store = RecordingStore()
    committer = committer_on(store, records=3)
    async with running(committer):
        began = trio.current_time()
        tickets = [await committer.append(entry()) for _ in range(3)]
        await tickets[2].wait()
        assert trio.current_time() == began


async def test_the_next_group_gathers_while_one_commits(autojump_clock: MockClock) -> None:
    store = RecordingStore()

    async def slow(function: Callable[..., Any], *args: Any) -> Any:
        await trio.sleep(5)
        return function(*args)

    committer = committer_on(store, run_blocking=slow)
    async with running(committer):
        first = await committer.append(entry())
        await trio.sleep(1.5)
        # The first one commits from 1 to 6, so these two wait in time and go together at 6.
        later = [await committer.append(entry()) for _ in range(2)]
        await first.wait()
        assert trio.current_time() == pytest.approx(6)
        await later[1].wait()
        assert trio.current_time() == pytest.approx(11)
    assert [len(group) for _, group in store.groups] == [1, 2]


def lasting(seconds: float) -> Callable[..., Any]:
    """`RunBlocking` on a disk that takes so long for each call."""

    async def call(function: Callable[..., Any], *args: Any) -> Any:
        await trio.sleep(seconds)
        return function(*args)

    return call


async def test_under_load_groups_grow_with_the_time_that_a_commit_takes(
    autojump_clock: MockClock,
) -> None:
    sizes: dict[float, list[int]] = {}
    for seconds in (0.0, 0.25, 1.0):
        store = RecordingStore()
        committer = committer_on(store, run_blocking=lasting(seconds), records=10**6)
        async with running(committer):
            for _ in range(500):
                assert committer.offer(entry("alarm/fire")) is not None
                await trio.sleep(0.01)
        sizes[seconds] = [len(group) for _, group in store.groups]
    # As many as come in the interval of 0.1 s, or while the commit before lasts.
    for seconds, usual in ((0.0, 10), (0.25, 25), (1.0, 100)):
        assert all(abs(size - usual) <= 1 for size in sizes[seconds][1:-1])
    assert {sum(groups) for groups in sizes.values()} == {500}


@pytest.mark.parametrize("records, stream", [(3, "telemetry"), (1000, "alarm/fire")])
async def test_what_is_due_when_a_commit_ends_goes_at_once(
    autojump_clock: MockClock, records: int, stream: str
) -> None:
    store = RecordingStore()
    committer = committer_on(store, run_blocking=lasting(0.8), records=records)
    async with running(committer):
        first = await committer.append(entry(stream), soon=True)
        await trio.sleep(0.5)
        # Due by number or by time, while the first one commits.
        for _ in range(3):
            last = await committer.append(entry(stream))
        await first.wait()
        began = trio.current_time()
        await last.wait()
        assert trio.current_time() == pytest.approx(began + 0.8)


class Steps(trio.abc.Instrument):
    """Counts how often a task of that name is woken."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += task.name.endswith(self.name)


async def test_at_rest_only_retention_wakes_the_committer(autojump_clock: MockClock) -> None:
    store = RecordingStore()
    committer = committer_on(store)
    steps = Steps("Committer.run")
    async with running(committer):
        await (await committer.append(entry())).wait()
        await trio.sleep(700)
        rested = len(store.calls)
        trio.lowlevel.add_instrument(steps)
        await trio.sleep(6000)
        trio.lowlevel.remove_instrument(steps)
        assert store.names()[rested:] == ["trim"] * 10
        # Awake when it is due, and once more as `inline` calls the store.
        assert steps.count == 20


async def test_answers_come_in_order_and_only_after_the_store_returned() -> None:
    store = RecordingStore()
    committer = committer_on(store, records=4)
    tickets: list[Ticket] = []
    store.before_commit = lambda: seen.append([ticket.answer for ticket in tickets])
    seen: list[list[object]] = []
    async with running(committer):
        tickets += [await committer.append(entry(count=2)) for _ in range(2)]
        last = [(await ticket.wait()).last["main"] for ticket in tickets]
    assert last == [2, 4]
    assert seen == [[None, None]]


async def test_a_lazy_entry_rides_with_the_next_group_in_its_place(
    autojump_clock: MockClock,
) -> None:
    store = RecordingStore()
    committer = committer_on(store)
    async with running(committer):
        lazy = await committer.append(bare_acknowledge(), lazy=True)
        await trio.sleep(5)
        assert store.groups == []
        ticket = await committer.append(entry())
        await ticket.wait()
        assert lazy.answer is not None
        assert store.groups[0][1] == [lazy.entry, ticket.entry]


async def test_a_lazy_entry_goes_alone_after_half_a_minute(autojump_clock: MockClock) -> None:
    store = RecordingStore()
    committer = committer_on(store)
    async with running(committer):
        began = trio.current_time()
        ticket = await committer.append(bare_acknowledge(), lazy=True)
        await ticket.wait()
        assert trio.current_time() == pytest.approx(began + 30)


async def test_what_a_peer_waits_for_does_not_wait_for_the_interval(
    autojump_clock: MockClock,
) -> None:
    store = RecordingStore()
    committer = committer_on(store)
    async with running(committer):
        began = trio.current_time()
        ticket = await committer.append(entry(), soon=True)
        await ticket.wait()

        assert trio.current_time() - began == pytest.approx(SOON_SECONDS)


async def test_in_flight_bytes_hold_appenders_back_in_turn() -> None:
    store = RecordingStore()
    committer = committer_on(store, in_flight_bytes=3 * entry().size_bytes)
    taken: list[int] = []

    async def append(number: int) -> None:
        await committer.append(entry(count=10 + number))
        taken.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(7):
            nursery.start_soon(append, number)
            await wait_all_tasks_blocked()
        assert taken == [0, 1, 2]
        assert committer.statistics().appenders_waiting == 4
        async with running(committer):
            pass
    # The order in which tasks go on within one moment is the scheduler's, that of entries is ours.
    assert sorted(taken) == list(range(7))
    counts = [entry.count for _, group in store.groups for entry in group]
    assert counts == list(range(10, 17))
    assert [len(group) for _, group in store.groups] == [3, 3, 1]
    assert committer.statistics().in_flight_bytes == 0


async def test_an_offer_needs_no_task_to_wait_in(autojump_clock: MockClock) -> None:
    store = RecordingStore()
    committer = committer_on(store, in_flight_bytes=2 * entry().size_bytes)
    answered: list[float] = []
    async with running(committer):
        began = trio.current_time()
        for stream in ("a", "alarm/fire"):
            ticket = committer.offer(entry(stream))
            assert ticket is not None
            ticket.watcher = lambda: answered.append(trio.current_time())
        assert committer.offer(entry()) is None
        await trio.sleep(2)
        assert answered == [pytest.approx(began + 0.1)] * 2
        soon = committer.offer(entry(), soon=True)
        lazy = committer.offer(bare_acknowledge(), lazy=True)
        assert soon is not None
        assert lazy is not None
        assert soon.deadline == pytest.approx(trio.current_time() + SOON_SECONDS)
        assert lazy.deadline == pytest.approx(trio.current_time() + 30)
    with pytest.raises(Closed):
        committer.offer(entry())


async def test_a_watcher_finds_the_room_that_its_own_group_left() -> None:
    store = RecordingStore()
    committer = committer_on(store, in_flight_bytes=entry().size_bytes, records=1)
    offered: list[Ticket | None] = []
    async with running(committer):
        ticket = committer.offer(entry())
        assert ticket is not None
        ticket.watcher = lambda: offered.append(committer.offer(entry(count=2)))
        await ticket.wait()
        assert [taken is not None for taken in offered] == [True]
    assert [[e.count for e in group] for _, group in store.groups] == [[1], [2]]


async def test_a_watcher_that_fails_ends_the_committer_and_nobody_waits_forever() -> None:
    store = RecordingStore()
    committer = committer_on(store, records=2)
    tickets = [await committer.append(entry()) for _ in range(3)]
    tickets[0].watcher = lambda: 1 // 0  # type: ignore[assignment]  # it is a bug
    with pytest.raises(ZeroDivisionError):
        await committer.run()
    assert [type(ticket.answer) for ticket in tickets] == [Stored, Stored, StoreFailed]


async def test_close_drains_what_was_taken_and_takes_nothing_new() -> None:
    store = RecordingStore()
    committer = committer_on(store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(committer.run)
        tickets = [await committer.append(entry()) for _ in range(3)]
        committer.close()
        with pytest.raises(Closed):
            await committer.append(entry())
    assert all(isinstance(ticket.answer, Stored) for ticket in tickets)


async def test_whoever_waits_when_the_committer_is_cancelled_is_told() -> None:
    store = RecordingStore()
    committer = committer_on(store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(committer.run)
        ticket = await committer.append(entry())
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    with pytest.raises(StoreFailed):
        await ticket.wait()
    with pytest.raises(Closed):
        await committer.append(entry())


async def test_a_commit_under_way_is_answered_although_the_committer_is_cancelled(
    tmp_path: Path,
) -> None:
    # The thread is not abandoned, so the outcome is known and told.
    store, begun = RecordingStore(), trio.Event()
    token = trio.lowlevel.current_trio_token()

    def before_commit() -> None:
        trio.from_thread.run_sync(begun.set, trio_token=token)

    committer = committer_on(store, records=1, run_blocking=trio.to_thread.run_sync)
    store.before_commit = before_commit
    store.commit = in_thread(store, store.commit)  # type: ignore[method-assign]  # Trio's clock is for its own thread
    async with trio.open_nursery() as nursery:
        nursery.start_soon(committer.run)
        ticket = await committer.append(entry())
        await begun.wait()
        nursery.cancel_scope.cancel()
    assert isinstance(ticket.answer, Stored)


def in_thread(store: RecordingStore, commit: Callable[..., Any]) -> Callable[..., Any]:
    def inner(entries: Any) -> Any:
        store.before_commit()
        store.before_commit = lambda: None
        return trio.from_thread.run_sync(commit, entries)

    return inner


async def test_a_group_is_kept_while_the_disk_refuses(autojump_clock: MockClock) -> None:
    store, events = RecordingStore(), []
    committer = committer_on(store, trace=lambda event, facts: events.append(event))
    store.failures = [StoreFailed("EIO")] * 3
    async with running(committer):
        ticket = await committer.append(entry())
        await trio.sleep(2.5)
        assert "EIO" in str(committer.trouble)
        assert committer.statistics().trouble == committer.trouble
        assert ticket.answer is None
        await ticket.wait()
        assert committer.trouble is None
    assert [group for _, group in store.groups] == [[ticket.entry]]
    assert events == ["store_failed"] * 3 + ["store_reopened", "commit"]


async def test_retention_runs_once_a_minute_under_way_and_rarely_at_rest(
    autojump_clock: MockClock,
) -> None:
    store, metrics = RecordingStore(), Metrics()
    committer = committer_on(store, metrics=metrics)
    async with running(committer):
        await trio.sleep(0.5)
        began = trio.current_time()
        for _ in range(180):
            await committer.append(entry())
            await trio.sleep(1)
        busy = [time - began for time, name in store.calls if name == "trim"]
        await trio.sleep(3600)
    trims = [time - began for time, name in store.calls if name == "trim"]
    assert len(busy) == 3
    # A commit brings retention forward once more, then it is every ten minutes.
    assert len(trims) - len(busy) == pytest.approx(6, abs=1)
    assert metrics.get("records_trimmed_total", "main") == 2 * len(trims)
    assert metrics.get("records_discarded_total", "main") == len(trims)


async def test_a_crowded_log_is_thinned_step_by_step_between_commits(
    autojump_clock: MockClock,
) -> None:
    store = RecordingStore()
    store.crowded = 4
    committer = committer_on(store)
    async with running(committer):
        began = trio.current_time()
        await (await committer.append(entry())).wait()
        await trio.sleep(30)
        trims = [time - began for time, name in store.calls if name == "trim"]
        assert trims == pytest.approx([1, 2, 3, 4], abs=0.1)


async def test_statistics_tell_a_watchdog_what_it_needs(autojump_clock: MockClock) -> None:
    store = RecordingStore()
    hold = trio.Event()

    async def held(function: Callable[..., Any], *args: Any) -> Any:
        await hold.wait()
        return function(*args)

    committer = committer_on(store, run_blocking=held)
    async with running(committer):
        assert committer.statistics().calling_for is None
        await committer.append(entry(count=3))
        await trio.sleep(0.25)
        waiting = committer.statistics()
        assert (waiting.waiting_entries, waiting.waiting_records) == (1, 3)
        assert waiting.oldest_waiting == pytest.approx(0.25)
        assert waiting.overdue == 0
        await trio.sleep(1)
        await committer.append(entry())
        await trio.sleep(3)
        stuck = committer.statistics()
        assert stuck.calling_for == pytest.approx(3.25)
        assert stuck.overdue == pytest.approx(2)
        hold.set()
    after = committer.statistics()
    assert (after.commits, after.waiting_entries, after.in_flight_bytes) == (2, 0, 0)
    assert after.commit_median == pytest.approx(3.25 / 2)
    assert after.last_commit_ns == NOW_NS


async def test_on_a_real_store_a_repeated_group_stores_numbered_records_once(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    clock = ManualClock(NOW_NS)
    with open_engine(tmp_path, clock) as engine:
        waist = make_waist(engine, clock)
        fail_after_the_sync(engine)
        async with running(waist.committer):
            numbered_ticket = await waist.log.append(numbered(1, {"t": 1}, {"t": 2}))
            plain = await waist.log.append(numbered(0, {"t": 3}))
            assert (await numbered_ticket.wait()).next == 3
            await plain.wait()
            records = await waist.records()
    assert [record.fields["t"] for record in records if record.source_seq] == [1, 2]
    assert waist.metrics.get("store_failures_total") == 1
    assert waist.metrics.get("records_duplicate_total") == 2


def fail_after_the_sync(engine: Engine) -> None:
    """The first commit survives, but the disk reports an error, as it may after a sync."""
    commit = engine.commit

    failures = [StoreFailed("EIO")]

    def failing(entries: Any) -> Any:
        result = commit(entries)
        if failures:
            raise failures.pop()
        return result

    engine.commit = failing  # type: ignore[method-assign]  # a disk that lies


async def test_on_a_real_store_refused_records_are_counted_by_log(tmp_path: Path) -> None:
    full = settings(logs=(LogSettings("main", when_full="refuse", share=0.02),))
    async with open_waist(tmp_path, using=full) as waist:
        body = {"t": "x" * 60_000}
        tickets = [await waist.log.append(numbered(n, body)) for n in range(1, 30)]
        async with trio.open_nursery() as nursery:
            for ticket in tickets:
                nursery.start_soon(settled, ticket)
        refused = sum(not isinstance(ticket.answer, Stored) for ticket in tickets)
        assert 0 < refused < 29
        assert waist.metrics.get("records_refused_total", "main") == refused


async def settled(ticket: Ticket) -> None:
    while ticket.answer is None:
        await trio.sleep(0.001)


async def test_a_real_commit_in_a_thread_answers_what_it_stored(tmp_path: Path) -> None:
    async with open_waist(tmp_path, run_blocking=trio.to_thread.run_sync) as waist:
        ticket = await waist.log.append(numbered(1, {"t": 1}, {"t": 2}))
        assert await ticket.wait() == Stored({"main": 2}, 3, 0)
        await waist.put(run_of({"t": 3}))
        assert [record.fields for record in await waist.records()] == [{"t": 1}, {"t": 2}, {"t": 3}]


async def test_intervals_that_are_spread_hold_for_what_comes_from_then_on(
    autojump_clock: MockClock,
) -> None:
    store = RecordingStore()
    committer = committer_on(store)
    async with running(committer):
        began = trio.current_time()
        before = await committer.append(entry("telemetry"))
        committer.spread({"main": 12.0, "alarms": 1.2})
        await before.wait()
        assert trio.current_time() == pytest.approx(began + 1.0)
        slow = await committer.append(entry("telemetry"))
        await slow.wait()
        assert trio.current_time() == pytest.approx(began + 13.0)
        quick = await committer.append(entry("alarm/fire"))
        await quick.wait()
        assert trio.current_time() == pytest.approx(began + 14.2)


async def test_soon_stays_soon_and_lazy_waits_as_long_as_it_is_told_to(
    autojump_clock: MockClock,
) -> None:
    store = RecordingStore()
    committer = committer_on(store)
    async with running(committer):
        committer.spread({"main": 60.0, "alarms": 6.0}, 60.0)
        began = trio.current_time()
        ticket = await committer.append(entry("telemetry"), soon=True)
        await ticket.wait()
        assert trio.current_time() == pytest.approx(began + SOON_SECONDS)
        began = trio.current_time()
        lazy = await committer.append(bare_acknowledge(), lazy=True)
        await lazy.wait()
        assert trio.current_time() == pytest.approx(began + 60.0)
