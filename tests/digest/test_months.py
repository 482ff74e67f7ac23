"""Months are what their days were: late records, erasing, ages, crashes, damage, old files."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from math import fsum, isclose
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_agent.digest import HistoryFile, HistoryOwner, HistoryWriter, Keep, check_history
from edge_agent.digest import months as months_module
from edge_agent.digest.file import Flush, Puts
from edge_agent.digest.months import JOIN_FROM
from edge_agent.digest.salvage import salvage_history
from edge_agent.digest.scrub import HistoryScrub
from edge_agent.digest.tools import back_up_history, restore_history, rewrite_history
from edge_agent.history import (
    FOLDER,
    Cells,
    cells_of_field,
    decode_rollup,
    join_cells,
    keys,
    within,
)
from edge_agent.history.keys import (
    DAY_NS,
    HOUR_NS,
    HOURS,
    MINUTES,
    MONTH_DAYS,
    MONTH_NS,
    MONTHS,
    RAW,
)
from edge_agent.seal import KeyRing
from edge_agent.store import writing
from tests.digest.support import parts
from tests.history.answers.made import Made, Plain, made, values_by_step

#: The beginning of a month of history.
START_NS = 1_772_409_600 * 10**9 // MONTH_NS * MONTH_NS
FIRST = START_NS // MONTH_NS
SPAN_NS = 3 * MONTH_NS
AGGREGATES = "count,min,max,sum,mean,first,last"


def places(history: Made, level: int, series: int | None = None) -> list[keys.PartKey]:
    found = [place for place, _ in parts(history.history.file, level)]
    return [place for place in found if series in (None, place.series)]


def a_day(history: Made, day: int, records: Sequence[Plain] = (), *, flush: bool = True) -> None:
    """What two streams say each third hour, and ``records``."""
    begin = START_NS + day * DAY_NS
    for hour in range(0, 24, 3):
        at = begin + hour * HOUR_NS
        history.put([Plain("a", at + 10**9, {"t": day + hour / 4, "n": hour})])
        history.put([Plain("b", at + 2 * 10**9, {"t": hour / 10})])
    history.put(records)
    if flush:
        history.flush(begin + DAY_NS + HOUR_NS)


def assert_answers(history: Made, fields: Sequence[str] = ("t", "n")) -> None:
    """By hour, by day and for a part of the range the answers are those of plain Python."""
    streams = {one.stream for one in history.records}
    ranges = [(START_NS, START_NS + SPAN_NS), (START_NS + 5 * DAY_NS, START_NS + 39 * DAY_NS)]
    for step, step_ns in (("1h", HOUR_NS), ("1d", DAY_NS)):
        for from_ns, to_ns in ranges:
            for stream in streams:
                for name in fields:
                    own = [one for one in history.records if one.stream == stream]
                    wanted = values_by_step(own, [name], step_ns, from_ns, to_ns)
                    found = history.table(
                        stream=stream, from_=from_ns, to=to_ns, step=step, fields=name,
                        aggregate=AGGREGATES, limit="100000",
                    )  # fmt: skip
                    assert [round(row["time"]) * 10**9 for row in found] == sorted(wanted)
                    for row, start in zip(found, sorted(wanted), strict=True):
                        assert_row(row, name, [value for _, value in wanted[start]])


def assert_row(row: dict[str, Any], name: str, values: list[float]) -> None:
    exact = [row[f"{name}_{one}"] for one in ("count", "min", "max", "first", "last")]
    assert exact == [len(values), min(values), max(values), values[0], values[-1]]
    assert isclose(row[f"{name}_sum"], fsum(values), rel_tol=1e-12, abs_tol=1e-9)
    assert isclose(row[f"{name}_mean"], fsum(values) / len(values), rel_tol=1e-12, abs_tol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_months_are_what_plain_python_makes_of_all_records(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    with made(tmp_path) as history:
        for day in range(MONTH_DAYS + 12):
            found = list[Plain]()
            for _ in range(dice.choice([0, 1, 20])):
                # Most of long ago, in every way that a number may have.
                at = START_NS + dice.randrange((day + 1) * 86_400 * 1000) * 10**6 + len(found)
                value = dice.choice(
                    [dice.randrange(99), round(dice.uniform(-9, 9), dice.randrange(5)),
                     dice.random(), "off", None, 2**60]
                )  # fmt: skip
                found.append(Plain(dice.choice("abc"), at, {dice.choice("tn"): value}))
            a_day(history, day, found)
            if dice.random() < 0.1:
                history.history = HistoryWriter(history.history.file, history.history._keep)
            if day in (MONTH_DAYS, MONTH_DAYS + 2):
                assert_answers(history)
        assert {place.bucket for place in places(history, MONTHS)} == {FIRST}
        for series in history.history.file.names:
            over = [p for p in places(history, HOURS, series) if p.bucket // MONTH_DAYS <= FIRST]
            assert len(over) < 3 * JOIN_FROM
        assert_answers(history)
    report = check_history(tmp_path, deep=True)
    assert report is not None and not report.problems
    assert report.records == len(history.records)


def test_what_comes_late_lies_beside_its_month_until_there_are_several(tmp_path: Path) -> None:
    with made(tmp_path) as history:
        for day in range(MONTH_DAYS + 2):
            a_day(history, day)
        over = (FIRST + 1) * MONTH_DAYS
        assert [place.bucket for place in places(history, MONTHS)] == [FIRST, FIRST]
        assert all(place.bucket >= over for place in places(history, HOURS))
        now_ns = START_NS + (MONTH_DAYS + 2) * DAY_NS + 2 * HOUR_NS
        before = [value for _, value in parts(history.history.file, MONTHS)]
        for number in range(JOIN_FROM):
            # Of an hour that is there, and of one that is not.
            at = START_NS + (number % 3) * DAY_NS + (number % 2) * HOUR_NS + number + 7
            history.put([Plain("a", at, {"t": number / 8})])
            history.flush(now_ns)
            late = [place for place in places(history, HOURS) if place.bucket < over]
            assert len(late) == number + 1
            assert [value for _, value in parts(history.history.file, MONTHS)] == before
            assert_answers(history)
        history.flush(now_ns)
        assert not [place for place in places(history, HOURS) if place.bucket < over]
        assert [place.part for place in places(history, MONTHS)] == [0, 0]
        assert_answers(history)


def test_numbers_that_are_not_alike_stay_as_each_day_had_them(tmp_path: Path) -> None:
    with made(tmp_path) as history:
        for day in range(MONTH_DAYS + 2):
            at = START_NS + day * DAY_NS + 10 * HOUR_NS
            history.put([Plain("c", at, {"t": [7, 7.25, 0.1 + 0.2][day % 3]})])
            a_day(history, day)
        ((_, value),) = [
            one
            for one in parts(history.history.file, MONTHS)
            if history.history.file.names[one[0].series] == "c"
        ]
        found = cells_of_field(decode_rollup(value), ("t",))
        assert [(one.exact, one.scale) for one in found] == [(True, 2), (True, 0), (False, 0)]
        assert_answers(history)


def test_of_one_moment_the_last_value_is_what_came_last(tmp_path: Path) -> None:
    with made(tmp_path) as history:
        for day in range(MONTH_DAYS):
            a_day(history, day)
        at = START_NS + 3 * DAY_NS + HOUR_NS
        for value in (1.25, 7, 2.25):
            history.put([Plain("c", at, {"t": value})])
            history.flush()
        for number in range(JOIN_FROM):
            history.put([Plain("c", at + number * DAY_NS, {"n": 1})])
            history.flush()
        for _ in range(2):
            asked = {"from_": at, "to": START_NS + SPAN_NS, "step": "1h", "fields": "t"}
            (row,) = history.table(stream="c", aggregate="first,last,count", **asked)
            assert (row["t_first"], row["t_last"], row["t_count"]) == (1.25, 2.25, 3)
            history.flush()
        assert places(history, MONTHS, 3)


def test_a_stream_that_is_erased_is_in_no_month(tmp_path: Path) -> None:
    with made(tmp_path) as history:
        for day in range(MONTH_DAYS + 2):
            a_day(history, day)
    assert rewrite_history(tmp_path, lambda stream: stream == "a") == ["a"]
    file, told = HistoryFile.open(tmp_path, 64 << 20, HistoryOwner("0" * 12, "e"))
    assert not told
    again = Made(tmp_path, HistoryWriter(file, history.history._keep), history.records)
    again.records = [one for one in again.records if one.stream == "b"]
    try:
        assert {place.series for place in places(again, MONTHS)} == {file.numbers["b"]}
        assert_answers(again, ["t"])
    finally:
        file.close()


def test_a_month_is_backed_up_sealed_and_read_back_as_any_part(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    agent, backup, back = (tmp_path / name for name in ("agent", "backup", "back"))
    for folder in (agent, backup, back):
        folder.mkdir()
    with made(agent) as history:
        for day in range(MONTH_DAYS + 2):
            a_day(history, day)
        whole = [value for _, value in parts(history.history.file, MONTHS)]
    assert len(whole) == 2
    seals = KeyRing((bytes(32),), os.urandom)
    assert rewrite_history(agent, None, seals) == []
    report = check_history(agent, deep=True, seals=seals)
    assert report is not None and not report.problems and report.parts["months by hour"] == 2
    assert back_up_history(agent, backup)
    assert restore_history(backup, back, "0" * 12, "e")
    owner = HistoryOwner("0" * 12, "e", seals)
    found = salvage_history(back / FOLDER, back / "salvaged", owner, 64 << 20)
    assert not found.lost
    (back / FOLDER).rename(back / "before")
    (back / "salvaged").rename(back / FOLDER)
    file, told = HistoryFile.open(back, 64 << 20, owner)
    assert not told and [value for _, value in parts(file, MONTHS)] == whole
    key = keys.part_key(MONTHS, FIRST, 1, 0)
    with writing(file._env) as txn:
        txn.put(key, b"not what was written")
    scrub, after, damaged = HistoryScrub(1.0), b"", list[bytes]()
    while True:
        after, some = file.scrub(after, 64 * 1024)
        damaged += some
        if not after:
            break
    assert damaged == [key]
    scrub._tell(key, file)
    assert f"a part of a (month {FIRST}) fails" in caplog.text
    file.close()


def test_an_age_that_ends_within_a_month_cuts_it_day_by_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(months_module, "JOINS_MAX", 1)
    keep = Keep(2 * DAY_NS, 2 * DAY_NS, 40 * DAY_NS)
    with made(tmp_path) as history:
        history.history = HistoryWriter(history.history.file, keep)
        for day in range(2 * MONTH_DAYS + 14):
            a_day(history, day)
            now_ns = START_NS + (day + 1) * DAY_NS + HOUR_NS
            # One stream at a time is cut, and as many are joined.
            for _ in range(3):
                history.flush(now_ns)
            oldest = (now_ns - keep.hours_ns) // DAY_NS
            asked = {"stream": "a", "from_": START_NS, "to": now_ns, "step": "1d", "fields": "t"}
            found = [
                round(row["time"]) * 10**9 // DAY_NS
                for row in history.table(aggregate="count", **asked)
            ]
            assert found == list(range(max(oldest, START_NS // DAY_NS), now_ns // DAY_NS))
        months = {place.bucket for place in places(history, MONTHS)}
        assert months == {FIRST + 1}


def test_a_month_that_is_joined_again_is_cut_at_once(tmp_path: Path) -> None:
    keep = Keep(2 * DAY_NS, 2 * DAY_NS, 40 * DAY_NS)
    with made(tmp_path) as history:
        history.history = HistoryWriter(history.history.file, keep)
        for day in range(MONTH_DAYS + 2):
            a_day(history, day)
        for number in range(JOIN_FROM):
            history.put([Plain("a", START_NS + 25 * DAY_NS + number, {"t": 90 + number})])
            history.flush(START_NS + (MONTH_DAYS + 2) * DAY_NS + 2 * HOUR_NS)
        assert places(history, HOURS)[0].bucket == FIRST * MONTH_DAYS + 25
        now_ns = START_NS + 60 * DAY_NS
        history.flush(now_ns)
        assert places(history, HOURS)[0].bucket == (FIRST + 1) * MONTH_DAYS
        for stream in "ab":
            asked = {"from_": START_NS, "to": now_ns, "step": "1d", "fields": "t"}
            rows = history.table(stream=stream, aggregate="max,count", **asked)
            days = [(round(row["time"]) * 10**9 - START_NS) // DAY_NS for row in rows]
            assert days == list(range(20, MONTH_DAYS + 2))
            of_late = (97, 16) if stream == "a" else (2.1, 8)
            assert (rows[5]["t_max"], rows[5]["t_count"]) == of_late


@pytest.mark.parametrize("seed", range(3))
def test_a_crash_while_a_month_is_joined_changes_nothing(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    with made(tmp_path) as history:
        for day in range(MONTH_DAYS + 4):
            late = START_NS + dice.randrange(day + 1) * DAY_NS + 5
            a_day(history, day, [Plain("a", late + number, {"t": number}) for number in range(3)])
            now_ns = START_NS + (day + 1) * DAY_NS + 2 * HOUR_NS
            *steps, flush = history.history.flush(now_ns)
            assert flush is not None
            if dice.random() < 0.5:
                flushing = history.history.flush(now_ns)
                for _ in range(dice.randrange(len(steps) + 1)):
                    next(flushing)
            else:
                # It was written, and nobody remembers it.
                history.history.file.write(flush)
            history.history = HistoryWriter(history.history.file, history.history._keep)
        assert places(history, MONTHS)
        assert_answers(history)


def test_a_file_of_days_is_read_and_joined_some_streams_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(months_module, "JOINS_MAX", 1)
    with made(tmp_path) as history:
        with monkeypatch.context() as patched:
            patched.setattr(months_module, "JOIN_FROM", 10**9)
            for day in range(2 * MONTH_DAYS + 3):
                a_day(history, day)
            assert not places(history, MONTHS)
        file = history.history.file
        file.write(Flush(msgspec.structs.replace(file.header, format=1)))
        assert file.header.format == 1
        assert_answers(history)
        for number in range(4):
            assert len(places(history, MONTHS)) == number
            history.flush(START_NS + (2 * MONTH_DAYS + 3) * DAY_NS + 2 * HOUR_NS)
            assert_answers(history)
        assert file.header.format == 2
        assert len(places(history, MONTHS)) == 4
        assert min(place.bucket for place in places(history, HOURS)) == (FIRST + 2) * MONTH_DAYS


@pytest.mark.parametrize("looks, listed", [(1, 1), (1, 2), (3, 1), (40, 3)])
def test_however_little_a_flush_looks_at_all_is_joined_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: int, listed: int
) -> None:
    monkeypatch.setattr(months_module, "LOOKS_MAX", looks)
    monkeypatch.setattr(months_module, "KEYS_MAX", listed)
    with made(tmp_path) as history:
        with monkeypatch.context() as patched:
            patched.setattr(months_module, "JOIN_FROM", 10**9)
            for day in range(2 * MONTH_DAYS + 3):
                late = START_NS + (day // 3) * DAY_NS + day
                a_day(history, day, [Plain("a", late, {"t": 7 * day}), Plain("c", late, {"n": 1})])
        for _ in range(40):
            history.flush(START_NS + (2 * MONTH_DAYS + 3) * DAY_NS + 2 * HOUR_NS)
        for series, months in ((1, 2), (2, 2), (3, 1)):
            assert len(places(history, MONTHS, series)) == months
            over = [p for p in places(history, HOURS, series) if p.bucket // MONTH_DAYS < FIRST + 2]
            assert len(over) < JOIN_FROM
        assert_answers(history)


def test_a_stream_of_many_fields_has_several_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(months_module, "PART_BYTES_MAX", 4096)
    with made(tmp_path) as history:
        for day in range(MONTH_DAYS + 2):
            a_day(history, day)
        found = places(history, MONTHS, 1)
        assert [place.part for place in found] == list(range(len(found))) and len(found) > 2
        assert_answers(history)
        for number in range(JOIN_FROM):
            history.put([Plain("a", START_NS + number * DAY_NS + 9, {"n": number})])
            history.flush()
        history.flush()
        assert not [p for p in places(history, HOURS, 1) if p.bucket < (FIRST + 1) * MONTH_DAYS]
        assert_answers(history)


def change(history: Made, key: bytes, value: bytes) -> None:
    file = history.history.file
    with writing(file._env) as txn:
        assert txn.get(key) is not None
        txn.put(key, value)


def test_where_a_part_is_damaged_the_others_are_joined_beside_it(tmp_path: Path) -> None:
    with made(tmp_path) as history:
        for day in range(MONTH_DAYS):
            a_day(history, day)
        damaged = keys.part_key(HOURS, FIRST * MONTH_DAYS + 3, 1, 0)
        change(history, damaged, b"damaged")
        a_day(history, MONTH_DAYS)
        a_day(history, MONTH_DAYS + 1)
        assert damaged in history.history.file.part_keys(HOURS, 0, 2**31 - 2)
        assert [place.part for place in places(history, MONTHS, 1)] == [0]
        month = keys.part_key(MONTHS, FIRST, 1, 0)
        change(history, month, b"damaged, too")
        for number in range(JOIN_FROM):
            history.put([Plain("a", START_NS + number * DAY_NS + 9, {"t": number})])
            history.flush()
        history.flush()
        # What nobody can read is not written over: it is told until somebody looks at it.
        assert month in history.history.file.part_keys(MONTHS, FIRST, FIRST)
        assert [place.part for place in places(history, MONTHS, 1)] == [1]
        asked = {"from_": START_NS, "to": START_NS + SPAN_NS, "step": "1d", "fields": "t"}
        assert history.json(stream="a", **asked)["damaged"] >= 2
        assert "damaged" not in history.json(stream="b", **asked)


def test_what_is_sound_and_cannot_be_read_stays_and_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with made(tmp_path) as history:
        for day in range(MONTH_DAYS):
            a_day(history, day)
        file = history.history.file
        key = keys.part_key(HOURS, FIRST * MONTH_DAYS + 3, 1, 0)
        file.write(Flush(file.header, Puts({key: b"\xc1"})))
        for day in (0, 1):
            a_day(history, MONTH_DAYS + day)
        assert not places(history, MONTHS, 1) and places(history, MONTHS, 2)
        monkeypatch.delattr(months_module, "decode_rollup")
        history.flush()


def test_an_hour_that_is_lost_when_joining_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lossy(found: list[Cells], unit_ns: int) -> Cells:
        cells = join_cells(found, unit_ns)
        return within(cells, cells.starts[1], 2**63)

    monkeypatch.setattr(months_module, "join_cells", lossy)
    with made(tmp_path) as history:
        for day in range(MONTH_DAYS + 2):
            a_day(history, day)
        with pytest.raises(AssertionError):
            assert_answers(history)
    report = check_history(tmp_path)
    assert report is not None and len(report.problems) == 2
    assert "its hours count" in report.problems[0]


def test_where_the_share_is_full_a_month_goes_with_what_came_late_for_it(tmp_path: Path) -> None:
    with made(tmp_path) as history:
        for day in range(MONTH_DAYS + 2):
            a_day(history, day)
        history.put([Plain("a", START_NS + 5, {"t": 1})])
        now_ns = START_NS + (MONTH_DAYS + 2) * DAY_NS + 2 * HOUR_NS
        history.flush(now_ns)
        newer = [(FIRST + 1) * MONTH_DAYS, (FIRST + 1) * MONTH_DAYS + 1]
        assert sorted({p.bucket for p in places(history, HOURS)}) == [FIRST * MONTH_DAYS, *newer]
        file = history.history.file
        finer = file.part_keys(RAW, 0, 2**31 - 2) + file.part_keys(MINUTES, 0, 2**31 - 2)
        file.write(Flush(file.header, deletes=finer))
        file.limit_bytes = file.usage().used_bytes - 1
        history.flush(now_ns)
        assert not places(history, MONTHS)
        assert sorted({place.bucket for place in places(history, HOURS)}) == newer
