"""History's file as one who asks sees it: replaced, grown, damaged, overtaken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from edge_agent.digest.file import HistoryFile
from edge_agent.digest.owner import HistoryOwner
from edge_agent.history import FOLDER
from edge_agent.history.answers import reading
from edge_agent.history.answers.reading import HistoryReader
from edge_agent.history.keys import DAY_NS, HOUR_NS, HOURS, MINUTES, RAW, part_key
from tests.history.answers.made import START_NS, Plain, made


def nothing() -> None:
    pass


def test_buckets_are_those_that_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hours = [START_NS // HOUR_NS + n for n in (-400_000, 0, 1, 5)]
    with made(tmp_path) as history:
        history.put(Plain("a", hour * HOUR_NS, {"t": 1}) for hour in hours)
        history.flush()
        with history.view([], START_NS, START_NS) as view:
            near = view.buckets(RAW, START_NS, START_NS + DAY_NS)
            assert list(near) == list(range(hours[1], hours[3] + 1)), "few: not looked up"
            assert list(view.buckets(RAW, -(2**62), 2**62)) == hours
            assert list(view.buckets(RAW, START_NS - 300_000 * HOUR_NS, START_NS + 1)) == [hours[1]]
        monkeypatch.setattr(reading, "_LOOKED_AT", 0)
        with history.view([], START_NS, START_NS) as view:
            assert list(view.buckets(MINUTES, START_NS, START_NS + DAY_NS)) == hours[1:]
            assert view.hours("a", START_NS, START_NS + 2 * HOUR_NS) == hours[1:3]


def test_of_days_only_those_are_looked_at_that_no_month_has(tmp_path: Path) -> None:
    with made(tmp_path) as history:
        for day in range(0, 300, 2):
            at = START_NS + day * DAY_NS
            history.put([Plain("a", at, {"t": day})])
            history.flush(at + DAY_NS + HOUR_NS)
        history.put([Plain("a", START_NS + 30 * DAY_NS + 1, {"t": 0.5})])
        for _ in range(2):
            history.flush(START_NS + 300 * DAY_NS + HOUR_NS)
        asked = {"stream": "a", "from_": START_NS, "to": START_NS + 300 * DAY_NS, "fields": "t"}
        with history.view([], START_NS, START_NS) as view:
            days = list(view.buckets(HOURS, START_NS, START_NS + 300 * DAY_NS))
            first = START_NS // DAY_NS
            assert days[0] == first + 30 and days[1] > first + 250
        rows = history.table(step="1d", aggregate="count,max", **asked)
        assert [row["t_max"] for row in rows] == list(range(0, 300, 2))
        assert [row["t_count"] for row in rows] == [1] * 15 + [2] + [1] * 134


def test_the_first_bucket_of_a_range_is_found(tmp_path: Path) -> None:
    hours = [START_NS // HOUR_NS + n for n in (-3, 0, 5)]
    with made(tmp_path) as history:
        with history.view([], START_NS, START_NS) as view:
            assert view.bucket_from(RAW, -(2**62), 2**62) is None
        history.put(Plain("a", hour * HOUR_NS, {"t": 1}) for hour in hours)
        history.flush()
        with history.view([], START_NS, START_NS) as view:
            at, end = START_NS - 4 * HOUR_NS, START_NS + 9 * HOUR_NS
            found = []
            while (hour := view.bucket_from(MINUTES, at, end)) is not None:
                found.append(hour)
                at = (hour + 1) * HOUR_NS
            assert found == hours
            assert view.bucket_from(RAW, START_NS + HOUR_NS, START_NS + 5 * HOUR_NS) is None
            assert view.bucket_from(RAW, START_NS + 1, START_NS + 1) is None
            assert view.bucket_from(RAW, START_NS + 1, START_NS + 2) == hours[1]


def test_the_tail_counts_among_the_hours(tmp_path: Path) -> None:
    with made(tmp_path) as history:
        history.put([Plain("a", START_NS, {"t": 1})])
        with history.view(["a"], START_NS, START_NS + DAY_NS) as view:
            assert view.hours("a", START_NS, START_NS + DAY_NS) == [START_NS // HOUR_NS]
            assert view.hours("b", START_NS, START_NS + DAY_NS) == []
            assert view.hours("a", START_NS + HOUR_NS, START_NS + DAY_NS) == []


def test_a_damaged_part_is_left_out_and_counted(tmp_path: Path) -> None:
    with made(tmp_path) as history:
        for n in range(3):
            history.put([Plain("a", START_NS + n, {"t": n})])
            history.flush(0)
        key = part_key(RAW, START_NS // HOUR_NS, 1, 1)
        with history.history.file._env.begin(write=True) as txn:
            value = txn.get(key)
            assert value is not None
            txn.put(key, bytes(value)[:-1] + b"?")
        answer = history.json(from_=START_NS, to=START_NS + 9)
        assert [one["fields"]["t"] for one in answer["records"]] == [0, 2]
        assert answer["damaged"] >= 1
        assert b'"damaged"' not in history.text("csv", from_=START_NS, to=START_NS + 9)


def test_the_reader_follows_the_file(tmp_path: Path) -> None:
    reader = HistoryReader(tmp_path / FOLDER)
    with pytest.raises(OSError, match="data"):
        reader.view({}, 0, nothing)
    with made(tmp_path) as history:
        history.put([Plain("a", START_NS, {"t": 1})])
        history.flush()
    assert reader.view({}, 0, nothing) is None, "it was written since"
    view = reader.view({}, 1, nothing)
    assert view is not None and len(view.segments("a", 1, START_NS // HOUR_NS)) == 1
    view.txn.abort()
    # Another file takes its place.
    (tmp_path / FOLDER).rename(tmp_path / "old")
    with made(tmp_path):
        pass
    view = reader.view({}, 0, nothing)
    assert view is not None and view.segments("a", 1, START_NS // HOUR_NS) == []
    view.txn.abort()
    reader.close()


def test_the_reader_maps_no_more_than_the_file_says(tmp_path: Path) -> None:
    with made(tmp_path):
        pass
    reader = HistoryReader(tmp_path / FOLDER)
    view = reader.view({}, 0, nothing)
    assert view is not None and reader._env is not None
    # Boards with 39 bits of addresses have no room for a terabyte.
    assert reader._env.info()["map_size"] < 2**30
    view.txn.abort()
    reader.close()


def test_a_file_that_has_grown_beyond_the_map_is_mapped_anew(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from edge_agent.history.answers.reading import HistoryReader\n"
        "reader = HistoryReader(Path(sys.argv[1]))\n"
        "for line in sys.stdin:\n"
        "    view = reader.view({}, int(line), lambda: None)\n"
        "    print(view is not None, flush=True)\n"
        "    view and view.txn.abort()\n"
    )
    file, _ = HistoryFile.open(tmp_path, 1 << 20, HistoryOwner("0" * 12, "e"))
    file.close()
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / FOLDER)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("0\n")
        process.stdin.flush()
        assert process.stdout.readline() == "True\n"
        with lmdb.open(str(tmp_path / FOLDER), map_size=64 << 20, max_dbs=0, lib_version=0) as env:
            for number in range(12):
                with env.begin(write=True) as txn:
                    txn.put(b"\xf0%d" % number, bytes(2 << 20))
        process.stdin.write("0\n")
        process.stdin.close()
        assert process.stdout.readline() == "True\n"
