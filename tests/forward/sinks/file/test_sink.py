"""The file sink on a real folder; what every sink promises is in test_sink_contract.py."""

from __future__ import annotations

import random
import re
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import trio

from edge_agent.config import Duration, FileTable, Size
from edge_agent.errors import ConfigError, SinkRefused, SinkUnavailable
from edge_agent.extras import library_needed
from edge_agent.forward import Forwarder, make_sink
from edge_agent.forward.sink import Batch, LaneResume, Part, SinkParts
from edge_agent.forward.sinks.file import sink as sink_module
from edge_agent.forward.sinks.file.names import parse_name
from edge_agent.forward.sinks.file.sink import FileSink, folder_of, make, probe
from tests.forward.sinks.file.side import lines_in
from tests.forward.support import Station, inline, parts_for, running_station, until, upstream
from tests.patience import PATIENCE_S, eventually


def sink_in(station: Station, folder: Path, **more: Any) -> FileSink:
    folder.mkdir(exist_ok=True)
    return FileSink(parts_for(station, upstream(folder.as_uri(), **more)))


async def batch_of(station: Station, first: int, last: int, **more: Any) -> Batch:
    return Batch("main", first, last, tuple(await station.log.read("main", first - 1)), **more)


async def test_a_batch_is_a_file_and_again_the_same_file(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    async with running_station(tmp_path / "a") as station:
        await station.put(5)
        sink = sink_in(station, stick)
        for _ in range(2):
            done = await sink.send(await batch_of(station, 2, 4))
            (path,) = stick.iterdir()
            assert (done.upto, done.records, done.size) == (4, 3, path.stat().st_size)
        name = parse_name(path.name)
        assert name is not None
        assert (name.first, name.last, name.records, name.log) == (2, 4, 3, "main")
        assert [line["fields"]["n"] for line in lines_in(stick)] == [1, 2, 3]


async def test_a_store_that_was_set_back_is_noticed_by_the_numbers_of_files(
    tmp_path: Path,
) -> None:
    stick, near, image = tmp_path / "stick", tmp_path / "a", tmp_path / "image"

    async def used(start: int, *, part: Part = "live") -> tuple[int, str]:
        """Three records come and are a file: the highest number, and why it is a copy."""
        async with running_station(near) as station, trio.open_nursery() as nursery:
            sink, last = sink_in(station, stick), station.log.last_seq("main")
            resumed = await sink.open(nursery, LaneResume(last, 1, last, None, part=part))
            if not resumed.forked:
                last = await station.put(3, start=start)
                await sink.send(await batch_of(station, last - 2, last))
            return last, resumed.forked

    assert await used(0) == (3, "")
    shutil.copytree(near, image)
    # Neither a restart nor the same file once more, nor others' files.
    (stick / "0-9.txt").write_text("somebody's")
    for turn in (1, 2):
        assert await used(10 * turn) == (3 * turn + 3, "")
    shutil.rmtree(near)
    shutil.copytree(image, near)
    assert await used(50) == (3, "a folder has records that were never here")
    assert [line["fields"]["n"] for line in lines_in(stick)] == [0, 1, 2, 10, 11, 12, 20, 21, 22]
    # Of an order `last` is where that ends.
    assert await used(60, part="resend") == (6, "")


async def test_a_range_without_a_record_has_a_file_where_import_asks_for_it(
    tmp_path: Path,
) -> None:
    stick = tmp_path / "stick"
    async with running_station(tmp_path / "a") as station:
        await station.put(3)
        batch = await batch_of(station, 1, 3)
        for form, files in (("csv", 0), ("ndjson", 1)):
            done = await sink_in(station, stick, streams=("no/**",), format=form).send(batch)
            assert (done.upto, done.records) == (3, 0)
            assert len(list(stick.iterdir())) == files


async def test_a_record_that_is_sent_to_try_leaves_no_file(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    async with running_station(tmp_path / "a") as station:
        await station.put(3)
        sink = sink_in(station, stick)
        assert (await sink.send(await batch_of(station, 2, 2, probe=1))).records == 1
        assert list(stick.iterdir()) == []


async def test_old_files_go_only_where_that_was_asked_for(tmp_path: Path) -> None:
    async with running_station(tmp_path / "a") as station:
        await station.put(4)
        for keep, left in ((0, 4), (1, 1)):
            stick = tmp_path / str(keep)
            sink = sink_in(station, stick, file=FileTable(keep_bytes=Size(keep)))
            (stick / "notes.txt").write_text("somebody's")
            for seq in range(1, 5):
                await sink.send(await batch_of(station, seq, seq))
            assert len(lines_in(stick)) == left and (stick / "notes.txt").exists()


async def test_a_record_that_the_format_cannot_say_is_refused(tmp_path: Path) -> None:
    async with running_station(tmp_path / "a") as station:
        await station.put(1)
        sink = sink_in(station, tmp_path / "stick")
        batch = await batch_of(station, 1, 1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sink_module, "encode_file", lambda *_: bytes(-1))
            with pytest.raises(SinkRefused, match="cannot be written as ndjson"):
                await sink.send(batch)


async def test_a_disk_that_hangs_costs_an_attempt_and_no_second_thread(tmp_path: Path) -> None:
    stick, free, begun = tmp_path / "stick", threading.Event(), 0

    def hangs(*_: object) -> None:
        nonlocal begun
        begun += 1
        free.wait(PATIENCE_S)

    async with running_station(tmp_path / "a") as station:
        await station.put(1)
        sink = sink_in(station, stick, timeout=0.1)
        batch = await batch_of(station, 1, 1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sink_module, "write_whole", hangs)
            for _ in range(3):
                with pytest.raises(SinkUnavailable, match="has not answered for"):
                    await sink.send(batch)
            await sink.aclose()
            await eventually(lambda: begun > 0, "its thread begins")
            assert begun == 1
            free.set()
        patient = sink_in(station, stick)
        assert (await patient.send(batch)).upto == 1


async def test_a_missing_library_is_an_error_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await trio.lowlevel.checkpoint()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    async with running_station(tmp_path / "a") as station:
        parts = parts_of(station, tmp_path, format="parquet")
        with pytest.raises(ConfigError, match=re.escape(library_needed("arrow"))):
            make(parts)


def parts_of(station: Station, folder: Path, **more: Any) -> SinkParts:
    async def dial(*_: object) -> Any:
        raise AssertionError("files need no network")

    config = upstream(folder.as_uri(), **more)
    return SinkParts(config, "main", station.log.identity, station.clock, inline, dial)


async def test_trying_a_folder_out_says_what_came_back_and_leaves_nothing(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    async with running_station(tmp_path / "a") as station:
        (step,) = await probe(parts_of(station, stick), 1000)
        assert step.good and "MB are free" in step.told
        assert list(stick.iterdir()) == []
        (step,) = await probe(parts_of(station, tmp_path / "no"), 1000)
        assert not step.good and "plugged in" in step.told


async def test_open_says_what_is_wrong_before_there_is_anything_to_write(tmp_path: Path) -> None:
    async with running_station(tmp_path / "a") as station, trio.open_nursery() as nursery:
        sink = sink_in(station, tmp_path / "stick")
        assert (await sink.open(nursery, LaneResume(7, 1, 9, None))).next == 8
        (tmp_path / "stick").rmdir()
        with pytest.raises(SinkUnavailable, match="plugged in"):
            await sink.open(nursery, LaneResume(7, 1, 9, None))


def test_a_folder_may_have_any_name() -> None:
    assert folder_of(upstream("file:///mnt/my%20stick/a")) == Path("/mnt/my stick/a")


async def test_a_forwarder_fills_files_by_number_and_by_age(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    config = upstream(
        stick.as_uri(), batch_records=10, file=FileTable(age=Duration(0)), compression="none"
    )
    async with running_station(tmp_path / "a") as station, trio.open_nursery() as nursery:
        await station.put(25)
        forwarder = Forwarder(
            config,
            station.log,
            lambda log: make_sink(
                config, log,
                identity=station.log.identity, clock=station.clock, run_blocking=inline,
            ),
            clock=station.clock,
            dice=random.Random(1),
            metrics=station.metrics,
        )  # fmt: skip
        nursery.start_soon(forwarder.run)
        await until(lambda: len(lines_in(stick)) == 25)
        nursery.cancel_scope.cancel()
    names = [parse_name(path.name) for path in sorted(stick.iterdir())]
    assert [(name.first, name.last) for name in names if name] == [(1, 10), (11, 20), (21, 25)]
