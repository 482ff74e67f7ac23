"""The list of streams: follows the log, is bounded, survives a disk that refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from edge_agent.errors import StoreFailed
from edge_agent.ops import streams
from edge_agent.ops.streams import Directory, RecentCount
from edge_agent.store import Block, Gap
from edge_agent.values.record import NANOSECONDS
from tests.ops.real import Agent, agent
from tests.patience import PATIENCE_S, eventually


def names(directory: Directory) -> list[str]:
    return [name for name, _ in directory.listing(lambda stream: True)]


async def until_seen(directory: Directory, count: int) -> None:
    with trio.fail_after(PATIENCE_S):
        while sum(seen.records for _, seen in directory.listing(lambda _: True)) < count:
            await trio.sleep(0.005)


async def follow(running: Agent, directory: Directory, count: int) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(directory.run)
        await until_seen(directory, count)
        nursery.cancel_scope.cancel()


async def test_records_are_counted_by_stream_and_the_newest_is_remembered(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        await running.keep("a/1", [1, 2, 3], "one")
        running.clock.advance(5)
        await running.keep("a/2", [4], "two")
        await running.keep("a/1", [5], "three")
        directory = Directory(running.log)
        await follow(running, directory, 5)
        (_, first), (_, second) = directory.listing(lambda _: True)
        assert (first.records, first.last_seq, first.source) == (4, 5, "three")
        assert (second.records, second.last_seq, second.source) == (1, 4, "two")
        assert first.stored_ns == running.clock.read().wall_ns
        assert directory.since == {"main": 0}


async def test_only_the_end_of_a_long_log_is_looked_at_after_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LOOK_BACK", 10)
    async with agent(tmp_path, serve=False) as running:
        await running.keep("old", list(range(100)))
        await running.keep("new", list(range(10)))
        directory = Directory(running.log)
        await follow(running, directory, 10)
        assert names(directory) == ["new"] and directory.since == {"main": 100}


async def test_a_name_that_may_not_be_read_is_not_listed(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        await running.keep("a/1", [1])
        await running.keep("b/1", [1])
        directory = Directory(running.log)
        await follow(running, directory, 2)
        assert [name for name, _ in directory.listing(lambda name: name == "b/1")] == ["b/1"]


async def test_beyond_the_bound_those_heard_of_longest_ago_are_forgotten(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        for name in ("a", "b", "c"):
            await running.keep(name, [1])
        await running.keep("a", [2])
        await running.keep("d", [1])
        directory = Directory(running.log, streams_max=3)
        for item in await running.log.read("main", 0):
            directory.note(item)
        assert names(directory) == ["a", "c", "d"] and directory.forgotten == 1


async def test_a_busy_log_is_sampled_and_the_newest_is_always_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "ROUND_RUNS", 1)
    monkeypatch.setattr(streams, "_ROUND_S", 0.01)
    async with agent(tmp_path, serve=False) as running:
        for _ in range(20):
            await running.keep("busy", list(range(10)))
            running.clock.advance(1)
        await running.keep("newest", [1])
        directory = Directory(running.log)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(directory.run)
            with trio.fail_after(PATIENCE_S):
                while "newest" not in names(directory):
                    await trio.sleep(0.005)
            nursery.cancel_scope.cancel()
        (_, busy), _ = directory.listing(lambda _: True)
        # A block that a skip lands in is looked at whole.
        assert busy.records < 100 and 200 <= busy.records + directory.skipped <= 210


async def test_the_newest_record_of_each_stream_is_opened(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        directory = Directory(running.log)
        for value in range(5):
            await running.keep("a/1", [-1, value])
            await running.keep("a/2", ["text", value * 2])
            running.clock.advance(1)
        await follow(running, directory, 20)
        first, second = directory.last_of("a/1"), directory.last_of("a/2")
        assert first is not None and second is not None
        assert first.numbers == {"t": 4} and second.numbers == {"t": 8}
        assert first.trust == "synced"
        assert first.time_ns == running.clock.read().wall_ns - NANOSECONDS
        # Of what was there before the start, the newest of each second.
        assert list(first.spark) == [0, 1, 2, 3, 4] and list(second.spark) == [0, 2, 4, 6, 8]


async def test_what_comes_is_opened_once_a_round_and_at_once_for_whoever_asks(
    tmp_path: Path,
) -> None:
    async with agent(tmp_path, serve=False) as running:
        directory, at = Directory(running.log), 0
        for _ in range(3):
            for value in range(10):
                await running.keep("a", [value])
                running.clock.advance(1)
            for item in await running.log.read("main", at):
                directory.note(item)
                at = item.last
            last = directory.last_of("a")
        assert last is not None and last.numbers == {"t": 9} and list(last.spark) == [9, 9, 9]


async def test_values_of_streams_that_are_forgotten_are_forgotten_with_them(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        directory = Directory(running.log, streams_max=2)
        for name in ("a", "b", "c", "d"):
            await running.keep(name, [1])
        for item in await running.log.read("main", 0):
            directory.note(item)
        assert [name for name in "abcd" if directory.last_of(name)] == ["c", "d"]


async def test_a_rate_is_that_of_the_last_minute(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    async with agent(tmp_path, serve=False) as running:
        directory, at = Directory(running.log), 0
        for _ in range(100):
            await running.keep("a", [1, 2])
            for item in await running.log.read("main", at):
                directory.note(item)
                at = item.last
            ((_, seen),) = directory.listing(lambda _: True)
            directory.last_of("a")
            mock_clock.jump(1)
        assert directory.rate(seen) == pytest.approx(2, abs=0.1)
        mock_clock.jump(61)
        assert directory.rate(seen) == 0


async def test_what_was_there_before_the_start_is_no_rate(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        await running.keep("old", list(range(600)))
        directory = Directory(running.log)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(directory.run)
            await until_seen(directory, 600)
            await running.keep("new", [1, 2])
            await until_seen(directory, 602)
            await eventually(lambda: directory.last_of("new") is not None, "it was opened")
            rates = {name: directory.rate(seen) for name, seen in directory.listing(lambda _: True)}
            nursery.cancel_scope.cancel()
        assert rates["old"] == 0 and 0 < rates["new"] <= 2
        old = directory.last_of("old")
        assert old is not None and old.numbers == {"t": 599}


async def test_the_rate_of_a_log_that_is_sampled_is_that_of_all_its_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "ROUND_RUNS", 1)
    monkeypatch.setattr(streams, "_ROUND_S", 0.01)
    async with agent(tmp_path, serve=False) as running:
        directory = Directory(running.log)
        began_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(directory.run)
            while directory.skipped < 200:
                for _ in range(20):
                    await running.keep("busy", list(range(10)))
            total = running.log.last_seq("main")
            await eventually(
                lambda: next(iter(directory.listing(lambda _: True)))[1].last_seq == total, "seen"
            )
            ((_, busy),) = directory.listing(lambda _: True)
            known_s = trio.current_time() - began_s
            estimate = directory.rate(busy) * min(60, max(1, known_s))
            nursery.cancel_scope.cancel()
        assert busy.records < 0.9 * total
        if known_s < 50:
            assert estimate == pytest.approx(total, rel=0.3)


def test_what_is_counted_is_forgotten_a_minute_later() -> None:
    count = RecentCount()
    count.add(30, 1000.0)
    count.add(30, 1005.0)
    assert count.rate(1005.0, 3600) == 1
    assert count.rate(1005.0, 0.5) == 60, "a rate needs a second at least"
    assert count.rate(1059.0, 3600) == 1
    assert count.rate(1065.0, 3600) == 0.5, "the oldest ten seconds count for half"
    assert count.rate(1070.0, 3600) == count.rate(5000.0, 3600) == 0
    count.add(6, 5001.0)
    assert count.rate(5001.0, 3600) == 0.1


async def test_a_gap_in_the_log_is_nothing_to_list(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        directory = Directory(running.log)
        directory.note(Gap("main", 1, 5, "damaged"))
        assert len(directory) == 0


async def test_a_block_that_makes_no_sense_is_passed_over(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        await running.keep("a", [1])
        (block,) = await running.log.read("main", 0)
        assert isinstance(block, Block)
        directory = Directory(running.log)
        odd = replace(block, codec=0, raw_len=1, payload=b"\xc1")
        assert directory.note(odd) == 0 and directory.note(block) == 1


async def test_it_waits_while_the_disk_refuses_and_goes_on_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_AGAIN_S", 0.01)
    async with agent(tmp_path, serve=False) as running:
        await running.keep("a", [1])
        read, refusals = running.log.read, [1, 2, 3]

        async def refusing(*arguments: object) -> object:
            if refusals:
                refusals.pop()
                raise StoreFailed("input/output error")
            return await read(*arguments)  # type: ignore[arg-type]  # as it was called

        monkeypatch.setattr(running.log, "read", refusing)
        directory = Directory(running.log)
        await follow(running, directory, 1)
        assert not refusals and names(directory) == ["a"]


async def test_places_of_erased_records_are_no_stream(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        await running.keep("$erased", [1, 2, 3], "")
        await running.keep("a/1", [4])
        directory = Directory(running.log)
        await follow(running, directory, 1)
        assert names(directory) == ["a/1"]
