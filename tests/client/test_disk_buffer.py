from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import pytest
import trio

from edge_agent.client.disk_buffer import VERSION, DiskBuffer
from edge_agent.errors import ConfigError, StoreFailed, StoreTooNew

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


async def reopened(path: Path, source: str = "me") -> DiskBuffer:
    return await DiskBuffer.open(path, source=source, form="msgpack")


async def test_records_numbers_and_epoch_outlive_the_process(tmp_path: Path) -> None:
    buffer = await reopened(tmp_path / "b")
    await buffer.append([b"a", b"bb", b"ccc"])
    await buffer.remember("e1", 41)
    await buffer.acknowledge(2)
    await buffer.aclose()
    buffer = await reopened(tmp_path / "b")
    assert (buffer.first, buffer.next, buffer.size) == (2, 4, 5)
    assert (buffer.epoch, buffer.shift) == ("e1", 41)
    await buffer.acknowledge(4)
    await buffer.aclose()
    buffer = await reopened(tmp_path / "b")
    assert (buffer.first, buffer.next, buffer.size) == (4, 4, 0)
    await buffer.aclose()


async def test_each_opening_is_another_and_the_earlier_ones_are_known_with_their_ends(
    tmp_path: Path,
) -> None:
    openings: list[tuple[str, int]] = []
    for count in range(1, 36):
        buffer = await reopened(tmp_path / "b")
        assert buffer.before == tuple(openings[-32:])
        await buffer.append([b"x"])
        await buffer.aclose()
        openings.append((buffer.opening, count + 1))
    assert len({opening for opening, _ in openings}) == 35
    # In another numbering their ends say nothing.
    buffer = await reopened(tmp_path / "b")
    await buffer.remember("e1", 41)
    assert buffer.before == ()
    await buffer.aclose()
    again = await reopened(tmp_path / "b")
    assert again.before == ((buffer.opening, 36),)
    await again.aclose()


async def test_a_buffer_of_an_older_version_begins_to_count_its_openings(tmp_path: Path) -> None:
    buffer = await reopened(tmp_path / "b")
    await buffer.append([b"x"])
    await buffer.aclose()
    with closing(sqlite3.connect(tmp_path / "b")) as db, db:
        db.execute("DELETE FROM meta WHERE name IN ('opening', 'before')")
    buffer = await reopened(tmp_path / "b")
    assert (buffer.next, buffer.before) == (2, ())
    await buffer.aclose()


async def test_after_a_kill_everything_that_append_returned_for_is_there(tmp_path: Path) -> None:
    script = f"""
import trio
from edge_agent.client.disk_buffer import DiskBuffer
from pathlib import Path
async def main():
    buffer = await DiskBuffer.open(Path({str(tmp_path / "b")!r}), source="me", form="msgpack")
    n = 0
    while True:
        n = await buffer.append([b"%d" % (n + 1)])
        await buffer.acknowledge(n - 5)
        print(n, flush=True)
trio.run(main)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    told = [int(process.stdout.readline()) for _ in range(20)]
    os.kill(process.pid, signal.SIGKILL)
    told += [int(line) for line in process.stdout.read().split()]
    process.wait()
    process.stdout.close()
    buffer = await reopened(tmp_path / "b")
    assert buffer.next > told[-1]
    for number in range(told[-1] - 5, told[-1] + 1):
        assert await buffer.read(number, 1, 100) == [b"%d" % number]
    await buffer.aclose()


async def test_a_second_producer_on_the_same_file_is_refused(tmp_path: Path) -> None:
    buffer = await reopened(tmp_path / "b")
    with pytest.raises(ConfigError, match="no other producer"):
        await reopened(tmp_path / "b")
    await buffer.aclose()


async def test_a_buffer_belongs_to_its_source(tmp_path: Path) -> None:
    await (await reopened(tmp_path / "b")).aclose()
    with pytest.raises(ConfigError, match="'you'"):
        await reopened(tmp_path / "b", source="you")


async def test_an_empty_buffer_may_change_its_format_and_a_full_one_not(tmp_path: Path) -> None:
    await (await reopened(tmp_path / "b")).aclose()
    buffer = await DiskBuffer.open(tmp_path / "b", source="me", form="json")
    await buffer.append([b"{}"])
    await buffer.aclose()
    with pytest.raises(ConfigError, match="form"):
        await reopened(tmp_path / "b")


async def test_a_newer_file_is_left_untouched(tmp_path: Path) -> None:
    await (await reopened(tmp_path / "b")).aclose()
    with sqlite3.connect(tmp_path / "b") as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
    db.close()
    with pytest.raises(StoreTooNew):
        await reopened(tmp_path / "b")
    assert [each.name for each in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize(
    "garbage", [b"not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000]
)
async def test_a_damaged_file_is_set_aside_and_a_new_one_begun(
    tmp_path: Path, garbage: bytes
) -> None:
    (tmp_path / "b").write_bytes(garbage)
    buffer = await reopened(tmp_path / "b")
    assert buffer.damaged is not None
    assert buffer.damaged.read_bytes() == garbage
    assert await buffer.append([b"a"]) == 1
    await buffer.aclose()


async def test_a_folder_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match="unable to open"):
        await reopened(tmp_path / "none" / "b")


async def test_a_disk_that_refuses_keeps_nothing_of_the_append_and_says_so(tmp_path: Path) -> None:
    buffer = await reopened(tmp_path / "b")
    await buffer.append([b"a"])
    buffer._connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(StoreFailed, match="full"):
        await buffer.append([b"x" * 100_000])
    assert (buffer.next, buffer.size) == (2, 1)
    buffer._connection.execute("PRAGMA max_page_count = 100000")
    assert await buffer.append([b"b"]) == 2
    await buffer.aclose()


async def test_a_simulation_calls_the_file_on_the_spot(tmp_path: Path) -> None:
    calls: list[str] = []

    async def inline(function: Callable[[*Ts], T], /, *arguments: *Ts) -> T:
        await trio.lowlevel.checkpoint()
        calls.append(function.__name__)
        return function(*arguments)

    buffer = await DiskBuffer.open(tmp_path / "b", source="me", form="msgpack", run_blocking=inline)
    await buffer.append([b"a"])
    await buffer.aclose()
    assert calls == ["_open", "transaction", "close"]
