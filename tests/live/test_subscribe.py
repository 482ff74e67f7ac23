from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from edge_agent.config import Alarm, Rule
from edge_agent.errors import ProtocolError
from edge_agent.live import AlarmBoard, run_alarms
from edge_agent.live.subscribe import BATCH_RECORDS, Start, Subscription, Subscriptions
from edge_agent.store import Entry, LogSettings, encode_runs
from edge_agent.values.filter import compile_filter
from edge_agent.values.record import ForeignBlock, Origin
from edge_agent.values.stream_names import compile_pattern
from tests.patience import PATIENCE_S
from tests.waist import NOW_NS, SECOND, Waist, open_waist, run_of, settings

TWO_LOGS = settings(
    logs=(LogSettings("alarms", ("alarm/**",), share=0.2), LogSettings("main", share=0.5))
)
BOTH = {"alarms": 0.001, "main": 0.001}


def feed_of(waist: Waist, budget: int = 10**6, subscriptions: int = 10) -> Subscriptions:
    return Subscriptions(
        waist.log, subscriptions=subscriptions, budget_bytes=budget, metrics=waist.metrics
    )


@asynccontextmanager
async def view(
    feed: Subscriptions, pattern: str = "**", start: Start = "new", wanted: str | None = None
) -> AsyncIterator[Subscription]:
    found = compile_filter(wanted) if wanted else None
    async with feed.subscribe(compile_pattern(pattern), start, found) as subscription:
        yield subscription


async def next_values(subscription: Subscription) -> tuple[list[object], int]:
    with trio.fail_after(PATIENCE_S):
        batch = await subscription.__anext__()
    return [record.fields["t"] for record in batch.records], batch.missed


async def test_new_records_come_as_they_are_committed(tmp_path: Path) -> None:
    async with open_waist(tmp_path, interval=0.001) as waist:
        await waist.put(run_of({"t": 0}))
        async with view(feed_of(waist)) as subscription:
            await waist.put(run_of({"t": 1}, {"t": 2}))
            assert await next_values(subscription) == ([1, 2], 0)
            await waist.put(run_of({"t": 3}))
            assert await next_values(subscription) == ([3], 0)


async def test_a_view_sleeps_until_a_commit(tmp_path: Path) -> None:
    async with open_waist(tmp_path, interval=0.001) as waist:
        got: list[object] = []
        async with view(feed_of(waist)) as subscription, trio.open_nursery() as nursery:

            async def collect() -> None:
                async for batch in subscription:
                    got.extend(record.fields["t"] for record in batch.records)

            nursery.start_soon(collect)
            await wait_all_tasks_blocked()
            await waist.put(run_of({"t": 1}))
            await wait_all_tasks_blocked()
            assert got == [1]
            nursery.cancel_scope.cancel()


async def test_streams_and_filter_select(tmp_path: Path) -> None:
    async with (
        open_waist(tmp_path, interval=0.001) as waist,
        view(feed_of(waist), "a/*", wanted="t > 1") as subscription,
    ):
        await waist.put(run_of({"t": 1}, {"t": 2}, stream="a/1"), run_of({"t": 9}, stream="b/1"))
        assert await next_values(subscription) == ([2], 0)


async def test_a_view_can_begin_at_a_position_even_within_a_block(tmp_path: Path) -> None:
    async with open_waist(tmp_path, interval=0.001) as waist:
        await waist.put(run_of(*({"t": n} for n in range(1, 8))))
        async with view(feed_of(waist), start=("main", 5)) as subscription:
            assert await next_values(subscription) == ([5, 6, 7], 0)
        async with view(feed_of(waist), start=("main", 99)) as subscription:
            await waist.put(run_of({"t": 8}))
            assert await next_values(subscription) == ([8], 0)


async def test_a_view_from_a_time_leaves_out_what_is_older_but_not_late_arrivals(
    tmp_path: Path,
) -> None:
    now_s = NOW_NS // SECOND
    async with open_waist(tmp_path, interval=0.001) as waist:
        await waist.put(run_of({"t": 1, "time": now_s - 100}, {"t": 2, "time": now_s - 10}))
        async with view(feed_of(waist), start=NOW_NS - 50 * SECOND) as subscription:
            assert await next_values(subscription) == ([2], 0)
            await waist.put(run_of({"t": 3, "time": now_s - 200}))
            assert await next_values(subscription) == ([3], 0)


async def test_all_logs_are_told(tmp_path: Path) -> None:
    async with (
        open_waist(tmp_path, using=TWO_LOGS, intervals=BOTH) as waist,
        view(feed_of(waist)) as subscription,
    ):
        await waist.put(run_of({"t": 1}), run_of({"t": 2}, stream="alarm/a"))
        both = [await next_values(subscription), await next_values(subscription)]
        assert sorted(values[0] for values, _ in both if values) == [1, 2]  # type: ignore[type-var]  # ints


async def test_large_blocks_come_in_pieces(tmp_path: Path) -> None:
    async with open_waist(tmp_path, interval=0.001) as waist, view(feed_of(waist)) as subscription:
        await waist.put(run_of(*({"t": n} for n in range(1200))))
        pieces = [await next_values(subscription) for _ in range(3)]
    assert [len(values) for values, _ in pieces] == [BATCH_RECORDS, BATCH_RECORDS, 200]
    assert [value for values, _ in pieces for value in values] == list(range(1200))


async def test_a_reader_that_stops_waiting_has_lost_nothing(tmp_path: Path) -> None:
    async with open_waist(tmp_path, interval=0.001) as waist, view(feed_of(waist)) as subscription:
        await waist.put(run_of(*({"t": n} for n in range(1200))))
        values: list[object] = []
        while len(values) < 1200:
            with trio.CancelScope() as late:
                late.cancel()
                await subscription.__anext__()
            assert late.cancelled_caught
            values += (await next_values(subscription))[0]
    assert values == list(range(1200))


async def test_a_slow_reader_misses_the_oldest_is_told_and_holds_up_nobody(
    tmp_path: Path,
) -> None:
    async with (
        open_waist(tmp_path, interval=0.001) as waist,
        view(feed_of(waist, budget=3000), "a") as slow,
    ):
        for number in range(20):
            await waist.put(
                run_of({"t": number, "x": "x" * 1000}, stream="a"),
                run_of({"t": -1}, stream="other"),
            )
        values, missed = await next_values(slow)
        while values[-1] != 19:
            more, none = await next_values(slow)
            assert none == 0
            values += more
        # About three kilobytes are left, and only its own stream's records count.
        assert values == list(range(missed, 20))
        assert 2 <= len(values) <= 4
        assert waist.metrics.get("subscription_missed_total") == missed


async def test_who_has_not_caught_up_yet_misses_nothing(tmp_path: Path) -> None:
    async with open_waist(tmp_path, interval=0.001) as waist:
        feed = feed_of(waist, budget=2000)
        for number in range(20):
            await waist.put(run_of({"t": number, "x": "x" * 1000}))
        values: list[object] = []
        async with view(feed, start=("main", 1)) as subscription:
            while len(values) < 20:
                more, missed = await next_values(subscription)
                assert missed == 0
                values += more
    assert values == list(range(20))


async def test_trimmed_records_count_as_missed(tmp_path: Path) -> None:
    noise = random.Random(1)
    small = settings(logs=(LogSettings("main", share=0.03),))
    async with open_waist(tmp_path, using=small, interval=0.001) as waist:
        for number in range(20):
            await waist.put(run_of({"t": number, "x": noise.randbytes(20_000)}))
        first = waist.log.first_seq("main")
        async with view(feed_of(waist), start=("main", 1)) as subscription:
            values, missed = await next_values(subscription)
        assert missed == first - 1 > 0
        assert len(values) >= 1


async def test_views_share_what_is_read(tmp_path: Path) -> None:
    async with open_waist(tmp_path, interval=0.001) as waist:
        feed = feed_of(waist)
        reads: list[int] = []
        read = waist.log.read

        async def counted(log: str, after: int, limit: int) -> object:
            reads.append(after)
            return await read(log, after, limit)

        waist.log.read = counted  # type: ignore[assignment, method-assign]  # counts, then reads
        async with view(feed) as one, view(feed) as other, view(feed, "none") as third:
            await waist.put(run_of({"t": 1}))
            assert await next_values(one) == ([1], 0)
            assert await next_values(other) == ([1], 0)
            with trio.move_on_after(0.01):
                await third.__anext__()
        assert reads == [0]


async def test_only_so_many_views_are_open_and_the_count_is_given_back(tmp_path: Path) -> None:
    async with open_waist(tmp_path) as waist:
        feed = feed_of(waist, subscriptions=1)
        async with view(feed):
            assert waist.metrics.get("subscriptions") == 1
            with pytest.raises(ProtocolError, match="1 live views are open") as caught:
                async with view(feed):
                    raise AssertionError("a second one was let in")
            assert caught.value.code == "busy"
        assert waist.metrics.get("subscriptions") == 0
        with pytest.raises(ProtocolError, match="no log 'lost'"):
            async with view(feed, start=("lost", 1)):
                raise AssertionError("the log does not exist")
        async with view(feed):
            pass


def of_a_backlog(count: int) -> ForeignBlock:
    run = run_of(*({"t": n} for n in range(count)))
    raw = encode_runs([run])
    origin = Origin("a1", "e1", "main", 1, b"b" * 16, 1, NOW_NS, True, ("a1",))
    times = (run.time_min_ns, run.time_max_ns)
    return ForeignBlock(1, count, count, 0, len(raw), raw, *times, origin, historical=True)


async def test_a_backlog_that_comes_beside_what_is_new_is_not_shown_as_new(tmp_path: Path) -> None:
    async with open_waist(tmp_path, interval=0.001) as waist:
        feed = feed_of(waist)
        async with view(feed) as new, view(feed, start=("main", 1)) as everything:
            await (await waist.log.append(Entry(blocks=(of_a_backlog(3),)))).wait()
            await waist.put(run_of({"t": 7}))
            assert await next_values(new) == ([7], 0)
            assert await next_values(everything) == ([0, 1, 2], 0)


async def test_no_alarm_goes_on_for_a_backlog_that_comes_beside_what_is_new(
    tmp_path: Path,
) -> None:
    alarm = Rule(name="hot", streams=("**",), alarm=Alarm(field="t", above=1, clear_below=0))
    async with open_waist(tmp_path, interval=0.001) as waist, trio.open_nursery() as nursery:
        board = AlarmBoard(waist.metrics)
        run = partial(run_alarms, clock=waist.clock, metrics=waist.metrics, board=board)
        nursery.start_soon(run, waist.log, alarm)
        await (await waist.log.append(Entry(blocks=(of_a_backlog(3),)))).wait()
        await waist.put(run_of({"t": 0.5}))
        async with view(feed_of(waist), "$rule/**", ("main", 1)) as changes:
            await waist.put(run_of({"t": 9}))
            with trio.fail_after(PATIENCE_S):
                batch = await changes.__anext__()
        assert [one.fields["value"] for one in batch.records] == [9]
        nursery.cancel_scope.cancel()
