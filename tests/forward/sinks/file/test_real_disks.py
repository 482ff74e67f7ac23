"""A forwarder and a disk that really is absent, full, read-only and pulled out."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from edge_agent.config import Duration, FileTable
from edge_agent.forward import Forwarder, make_sink
from tests.forward.sinks.file.side import lines_in
from tests.forward.support import inline, running_station, until, upstream

pytestmark = pytest.mark.needs("loop", "mount", "umount")


def mount(place: Path, *options: str) -> None:
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(place)], check=True
    )


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A mount point at which no disk is."""
    found = tmp_path / "usb"
    # Somebody has written below it once, when no stick was there either.
    (found / "edge").mkdir(parents=True)
    yield found
    if os.path.ismount(found):
        subprocess.run(["umount", "-l", str(found)], check=True)


async def test_what_a_disk_does_is_told_and_nothing_is_lost_or_written_elsewhere(
    place: Path, tmp_path: Path
) -> None:
    if place.stat().st_dev != Path("/").stat().st_dev:
        pytest.skip("the tests' folder is on a disk of its own")
    folder = place / "edge"
    config = upstream(
        folder.as_uri(), batch_records=20, compression="none",
        file=FileTable(age=Duration(0), mounted=True),
    )  # fmt: skip
    async with running_station(tmp_path / "a") as station, trio.open_nursery() as nursery:
        forwarder = Forwarder(
            config, station.log,
            lambda log: make_sink(
                config, log,
                identity=station.log.identity, clock=station.clock, run_blocking=inline,
            ),
            clock=station.clock, dice=random.Random(1), metrics=station.metrics,
        )  # fmt: skip

        async def told(words: str) -> None:
            await until(lambda: words in forwarder.statistics().error)

        nursery.start_soon(forwarder.run)
        await station.put(20)
        await told("no disk is mounted there")
        assert list(folder.iterdir()) == []

        mount(place, "size=64k")
        await told("is not there, or no folder")
        folder.mkdir()
        await until(lambda: len(lines_in(folder)) == 20)

        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        await station.put(20, start=20)
        await told("mounted read-only")
        subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)
        await until(lambda: len(lines_in(folder)) == 40)

        await station.put(200, start=40)
        await told("the disk is full")
        whole = lines_in(folder)
        assert [line["fields"]["n"] for line in whole] == list(range(len(whole)))
        await until(lambda: not list(folder.glob(".*")))
        subprocess.run(["mount", "-o", "remount,size=10m", str(place)], check=True)
        await until(lambda: len(lines_in(folder)) == 240)
        assert [line["fields"]["n"] for line in lines_in(folder)] == list(range(240))

        subprocess.run(["umount", "-l", str(place)], check=True)
        await station.put(20, start=240)
        await told("no disk is mounted there")
        assert list(folder.iterdir()) == []
        nursery.cancel_scope.cancel()
