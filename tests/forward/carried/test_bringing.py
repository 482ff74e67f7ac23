"""From agent to agent on a stick: what was written out is brought in once, as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from edge_agent.errors import ForeignFile
from edge_agent.forward.carried.bringing import source_of
from edge_agent.forward.sinks.file.names import FileName
from edge_agent.store import Entry
from tests.forward.carried.rich import (
    MAPS,
    SECOND,
    all_told,
    bring,
    fill,
    rich_run,
    write_out,
)
from tests.forward.support import NOW_NS, Station, running_station, serving
from tests.manual_clock import ManualClock


def reason(caught: pytest.ExceptionInfo[BaseException]) -> str:
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, ForeignFile), error
    return str(error)


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
async def test_what_was_written_out_comes_in_once_and_equal_to_what_it_was(
    tmp_path: Path, compression: str
) -> None:
    stick = tmp_path / "stick"
    async with running_station(tmp_path / "a") as a, running_station(tmp_path / "b") as b:
        await fill(a)
        # Cut within blocks, too.
        await write_out(a, stick, 3, 10, 11, 30, compression=compression)
        async with serving(b) as port:
            done = await bring(port, stick)
            assert (done.files, done.records, done.known) == (5, 5 * len(MAPS), 0)
            assert await all_told(b) == await all_told(a)
            again = await bring(port, stick)
            assert (again.records, again.known) == (0, 5 * len(MAPS))
            assert await all_told(b) == await all_told(a)


async def test_an_import_that_was_cut_in_the_middle_goes_on_where_it_was(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    async with running_station(tmp_path / "a") as a, running_station(tmp_path / "b") as b:
        await fill(a)
        await write_out(a, stick, 10, 20)
        (_, second, third) = sorted(stick.iterdir())
        whole = third.read_bytes()
        async with serving(b) as port:
            # Some of it came another way round: half of the second file's numbers are there.
            half = tmp_path / "half"
            await write_out(a, half, 14)
            await bring(port, min(half.iterdir()))
            third.write_bytes(whole[:-20])
            with pytest.raises(BaseExceptionGroup) as caught:
                await bring(port, stick)
            assert third.name in reason(caught)
            assert len(await b.records()) == 20
            third.write_bytes(whole)
            done = await bring(port, second, third)
            assert (done.records, done.known) == (15, 10)
        assert await all_told(b) == await all_told(a)


async def test_what_patterns_leave_out_is_no_missing_file(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    wanted = ("greenhouse/1", "greenhouse/2", "greenhouse/3")
    async with running_station(tmp_path / "a") as a, running_station(tmp_path / "b") as b:
        await fill(a)
        # The second file holds nothing at all.
        await write_out(a, stick, 7, 14, streams=("greenhouse/*",))
        assert len(list(stick.iterdir())) == 3
        await put_last(a)
        async with serving(b) as port:
            # Its numbers are the last ones, and a commit for them alone is not waited for long.
            b.committer.spread({"main": 0.0}, 0.0)
            done = await bring(port, stick)
        assert done.records == 3 * len(MAPS)
        assert await all_told(b) == await all_told(a, *wanted)


async def put_last(station: Station) -> None:
    await station.put(1, stream="later/1")


async def test_a_missing_file_is_told_before_anything_behind_it_is_taken(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    async with running_station(tmp_path / "a") as a, running_station(tmp_path / "b") as b:
        await fill(a)
        await write_out(a, stick, 7, 14)
        first, second, third = sorted(stick.iterdir())
        async with serving(b) as port:
            with pytest.raises(BaseExceptionGroup) as caught:
                await bring(port, first, third)
            assert "records 8 to 14 of" in reason(caught) and "--with-gaps" in reason(caught)
            assert len(await b.records()) == 7
            done = await bring(port, first, third, with_gaps=True)
            assert (done.records, len(done.missing)) == (21, 1)
            # What was given up stays out: its numbers have been passed.
            assert (await bring(port, second)).records == 0


async def test_an_agents_own_files_are_not_brought_into_it(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    async with running_station(tmp_path / "a") as a:
        await fill(a)
        await write_out(a, stick)
        async with serving(a) as port:
            with pytest.raises(BaseExceptionGroup) as caught:
                await bring(port, stick)
        assert "of this very agent" in reason(caught)


async def test_clocks_that_were_not_set_are_told_as_what_they_are_known_to_be(
    tmp_path: Path,
) -> None:
    stick = tmp_path / "stick"
    clock = ManualClock(7 * SECOND, synced=False)
    async with (
        running_station(tmp_path / "a", clock=clock) as a,
        running_station(tmp_path / "b") as b,
    ):
        run = rich_run("greenhouse/1", arrival_ns=7 * SECOND)
        await (await a.log.append(Entry(runs=(run,)))).wait()
        unset = [told[9] for told in await all_told(a)]
        await write_out(a, stick)
        async with serving(b) as port:
            await bring(port, stick)
            assert await all_told(b) == await all_told(a)
            assert "unsynced" in unset
        clock.step_wall(NOW_NS + clock.read().boot_ns, synced=True)
        await a.arrive(1, start=9)
        assert "corrected" in [told[9] for told in await all_told(a)]
        other = tmp_path / "other"
        await write_out(a, other)
        async with running_station(tmp_path / "c") as c, serving(c) as port:
            await bring(port, other)
            assert await all_told(c) == await all_told(a)


async def test_two_upstreams_and_two_stores_do_not_share_numbers() -> None:
    await trio.lowlevel.checkpoint()
    name = FileName("a1", "e1", "main", "stick", 1, 5, 5)
    assert source_of(name) == "a1/stick/main/file-e1"
    assert source_of(name._replace(variant="/moved-2")) == source_of(name)
    others = [
        name._replace(epoch="e2"), name._replace(upstream="usb"), name._replace(log="x"),
        name._replace(variant="/again-7"),
    ]  # fmt: skip
    assert len({source_of(one) for one in (name, *others)}) == 5


async def test_many_records_of_many_sources_go_in_blocks(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    async with running_station(tmp_path / "a") as a, running_station(tmp_path / "b") as b:
        for start in range(0, 6000, 500):
            await a.put(500, start=start, stream=f"t/{start % 3}")
        await write_out(a, stick, 100, 2000)
        async with serving(b) as port:
            assert (await bring(port, stick)).records == 6000
        assert await all_told(b) == await all_told(a)
