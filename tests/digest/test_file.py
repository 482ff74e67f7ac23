"""History's file is whole, or is set aside and made anew from the log."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from subprocess import run as run_process

import pytest

from edge_agent.digest import HistoryFile, HistoryOwner
from edge_agent.digest.file import BUILDING, DAMAGED, NEVER, Flush, Puts
from edge_agent.errors import StoreFailed
from edge_agent.history import FOLDER, keys
from tests.digest.support import DAY, MIB, Bench, Opened, everything, made
from tests.store.support import failing_disk

SECOND = 10**9


def test_a_new_file_says_what_it_is(tmp_path: Path) -> None:
    file, told = HistoryFile.open(tmp_path, MIB, HistoryOwner("store", "epoch"))
    assert told == ""
    header = file.header
    assert (header.store_id, header.epoch, header.positions) == ("store", "epoch", {})
    assert (header.flushes, header.records, header.hours_until) == (0, 0, NEVER)
    usage = file.usage()
    assert set(usage.oldest.values()) == {None} and usage.limit_bytes == MIB
    file.close()
    assert (tmp_path / FOLDER).stat().st_mode & 0o777 == 0o700


def test_a_file_that_was_only_begun_is_made_again(tmp_path: Path) -> None:
    (tmp_path / BUILDING).mkdir()
    (tmp_path / BUILDING / "data.mdb").write_bytes(b"half")
    file, told = HistoryFile.open(tmp_path, MIB, HistoryOwner("store", "epoch"))
    file.close()
    assert told == "" and not (tmp_path / BUILDING).exists()


def test_another_stores_file_is_set_aside(bench: Opened) -> None:
    one = bench()
    one.send((DAY, {"t": 1}))
    one.flush()
    one.history.file.close()
    file, told = HistoryFile.open(one.path, MIB, HistoryOwner("other", "epoch"))
    assert "another store" in told and (one.path / DAMAGED / "data.mdb").exists()
    assert (file.header.store_id, file.header.positions, file.names) == ("other", {}, {})
    file.close()


def test_after_a_salvage_the_same_stores_file_goes_on(bench: Opened) -> None:
    one = bench()
    one.send((DAY, {"t": 1}))
    one.flush()
    one.history.file.close()
    store_id = one.engine.identity.store_id
    file, told = HistoryFile.open(one.path, MIB, HistoryOwner(store_id, "another"))
    assert told == "" and file.header.epoch == "another"
    assert file.header.positions == {"main": 1}
    file.close()


def filled(one: Bench) -> None:
    for hour in range(3):
        for stream in range(4):
            found = [
                (DAY + (hour * 3600 + i * 20) * SECOND, {"t": i / 8, "s": f"{i * hour:x}"})
                for i in range(180)
            ]
            one.send(*found, stream=f"s/{stream}")
        one.flush()


@pytest.mark.parametrize("cut", [0, 100, 4096, 9000, 20_000])
def test_a_truncated_file_is_set_aside_and_made_anew_from_the_log(bench: Opened, cut: int) -> None:
    one = bench()
    filled(one)
    expected = everything(one.history.file)
    one.history.file.close()
    with (one.path / FOLDER / "data.mdb").open("r+b") as data:
        data.truncate(cut)
    one.history = one.opened()
    assert "begins anew" in one.told
    one.flush()
    assert everything(one.history.file) == expected


def test_flipped_bytes_end_no_process_and_what_is_read_is_sound(bench: Opened) -> None:
    """Opened and flushed by a process of its own, as LMDB may bring one down."""
    one = bench()
    filled(one)
    sound = one.path / FOLDER / "data.mdb"
    one.history.file.close()
    raw = sound.read_bytes()
    used = len(raw.rstrip(b"\0"))
    identity = one.engine.identity
    (one.path / "before").write_bytes(raw)
    script = (
        "import sys, random\n"
        "from pathlib import Path\n"
        "from tests.digest.flipped import try_all\n"
        "try_all(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:5])\n"
    )
    done = run_process(
        [sys.executable, "-c", script, str(one.path), str(used), identity.store_id, identity.epoch],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    one.history = one.opened()


def test_a_disk_that_refuses_is_told(tmp_path: Path, bench: Opened) -> None:
    with failing_disk(), pytest.raises(StoreFailed):
        HistoryFile.open(tmp_path, MIB, HistoryOwner("store", "epoch"))
    one = bench()
    one.send((DAY, {"t": 1}))
    one.take()
    flush = made(one.history, DAY)
    with failing_disk(), pytest.raises(StoreFailed):
        one.history.file.write(flush)
    one.history.file.write(flush)
    one.history.flushed()
    assert one.history.file.header.records == 1


def test_less_room_than_before_is_made_by_forgetting(bench: Opened) -> None:
    one = bench()
    for hour in range(30):
        found = [
            (DAY + (hour * 3600 + i) * SECOND, {"s": f"{random.Random(i).getrandbits(4000):x}"})
            for i in range(100)
        ]
        one.send(*found)
        one.flush()
    before = one.history.file.usage().used_bytes
    one.limit = before // 4
    one.reopen()
    for hour in range(30, 33):
        one.send((DAY + hour * keys.HOUR_NS, {"t": 1}))
        one.flush()
    assert one.history.file.usage().used_bytes <= before // 4


def test_a_part_takes_what_lmdb_gives_it(tmp_path: Path) -> None:
    """The largest part that shares a page, and the smallest that does not."""
    for more, pages in ((0, 0), (1, 1)):
        (tmp_path / str(more)).mkdir()
        file, _ = HistoryFile.open(tmp_path / str(more), 4 * MIB, HistoryOwner("store", "epoch"))
        flush = Flush(file.header)
        flush.puts[keys.part_key(keys.RAW, 1, 1, 0)] = bytes(file.inline_bytes + more)
        file.write(flush)
        with file._env.begin() as txn:
            assert txn.stat()["overflow_pages"] == pages
        file.close()


def test_the_parts_of_a_flush_are_found_by_their_bucket() -> None:
    puts = Puts({keys.part_key(keys.RAW, -3, 1, 0): b"a"})
    for level in (keys.RAW, keys.MINUTES):
        for bucket in (-3, 7):
            for series in (258, 1, 2):
                puts[keys.part_key(level, bucket, series, 0)] = b"b"
    for level in (keys.RAW, keys.MINUTES, keys.HOURS):
        for bucket in (-3, -2, 6, 7):
            begin, end = keys.bucket_key(level, bucket), keys.bucket_key(level, bucket + 1)
            expected = sorted(key for key in puts if begin <= key < end)
            assert puts.of_bucket(level, bucket) == expected
    gone = keys.part_key(keys.RAW, 7, 2, 0)
    puts.take_out(gone)
    puts.take_out(gone)
    assert gone not in puts and len(puts.of_bucket(keys.RAW, 7)) == 2
    puts[gone] = b"c"
    assert len(puts.of_bucket(keys.RAW, 7)) == 3
