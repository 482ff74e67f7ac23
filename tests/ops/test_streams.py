"""The list of streams: follows the log, is bounded, survives a disk that refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from edge_agent.errors import StoreFailed
from edge_agent.ops import streams
from edge_agent.ops.streams import Directory
from edge_agent.store import Block, Gap
from tests.ops.real import Agent, agent
from tests.patience import PATIENCE_S


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
