"""Records of a log found in history by their seqs, beside the list that history was made of."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from edge_agent.digest.file import Flush
from edge_agent.history import Recall, RecalledBlock
from edge_agent.history.answers import Recaller, recalling
from edge_agent.history.keys import (
    DAY_NS,
    HOUR_NS,
    MINUTE_NS,
    MINUTES,
    MONTH_DAYS,
    MONTH_NS,
    MONTHS,
    RAW,
)
from edge_agent.questions.recall import as_block
from edge_agent.values.record import ERASED, NANOSECONDS, Record
from tests.history.answers.made import START_NS, Made, Plain, made


def never() -> bool:
    return False


@contextmanager
def looked(history: Made, wanted: Recall, recaller: Recaller | None = None) -> Iterator[Any]:
    """The one that finds, all hours looked at, and what it sees."""
    recaller = recaller or Recaller()
    streams = [*history.history.tail.streams]
    with history.view(streams, wanted.from_ns, wanted.to_ns) as view:
        assert recaller.looked(view, wanted, never)
        yield recaller, view


def records_of(blocks: Sequence[RecalledBlock], log: str = "main") -> list[Record]:
    read = [as_block(log, one).records(lambda name: name != ERASED) for one in blocks]
    found = [record for records in read for record in records]
    assert [one.seq for one in found] == sorted({one.seq for one in found})
    return found


def everything(history: Made, wanted: Recall, recaller: Recaller | None = None) -> list[Record]:
    """All of it, piece by piece, each as small as the question says."""
    found: list[Record] = []
    with looked(history, wanted, recaller) as (finder, view):
        while wanted.after < wanted.upto:
            assert finder.looked(view, wanted, never)
            blocks, upto = finder.found(view, wanted)
            part = records_of(blocks, wanted.log)
            assert all(wanted.after < one.seq <= upto for one in part)
            assert upto > wanted.after
            found += part
            wanted = replace(wanted, after=upto)
    return found


def mixed(count: int) -> list[Plain]:
    """Records of several streams over hours, some of which come late, or early."""
    dice = random.Random(7)
    found = []
    for n in range(count):
        time_ns = START_NS + n * 20 * NANOSECONDS
        if dice.random() < 0.1:
            time_ns -= dice.randrange(6) * HOUR_NS
        stream = dice.choice(["a/1", "a/2", "b"])
        found.append(Plain(stream, time_ns, {"n": n, "deep": {"x": n / 10}, "text": "ä" * (n % 3)}))
    return found


def told(one: Record | Plain) -> tuple[Any, ...]:
    return one.seq, one.stream, one.time_ns, one.fields


@pytest.mark.parametrize("bytes_", [1, 1000, 10**6])
def test_records_come_whole_and_in_the_order_of_the_log(tmp_path: Path, bytes_: int) -> None:
    with made(tmp_path) as history:
        history.put(mixed(120))
        history.flush()
        history.put(mixed(80))  # Late ones, in parts of their own, and none of it in a file yet.
        wanted = Recall("main", 0, 200, ("**",), -(2**62), 2**62, bytes_)
        found = everything(history, wanted)
        assert [told(one) for one in found] == [told(one) for one in history.records]
        assert {(one.log, one.source, one.quality) for one in found} == {("main", "pi", "sensor")}
        assert [one.source_seq for one in found] == [one.seq for one in found]
        history.flush()
        assert [told(one) for one in everything(history, wanted)] == [
            told(one) for one in history.records
        ]


def test_streams_times_and_seqs_are_those_asked_for(tmp_path: Path) -> None:
    with made(tmp_path) as history:
        history.put(mixed(600))
        history.flush()
        span = (START_NS + HOUR_NS, START_NS + 2 * HOUR_NS + 7 * NANOSECONDS)
        wanted = Recall("main", 30, 400, ("a/*",), *span, 5000)
        expected = [
            told(one)
            for one in history.records
            if 30 < one.seq <= 400 and one.stream != "b" and span[0] <= one.time_ns < span[1]
        ]
        assert len(expected) > 50
        assert [told(one) for one in everything(history, wanted)] == expected
        with looked(history, Recall("main", 30, 400, ("a/*",), *span)) as (finder, view):
            survey = finder.survey(view, Recall("main", 30, 400, ("a/*",), *span))
        assert survey == {
            "count": len(expected), "first": expected[0][0], "coarse": 0, "damaged": 0,
        }  # fmt: skip
        assert everything(history, Recall("other", 0, 600, ("**",), -(2**62), 2**62, 5000)) == []


@pytest.mark.parametrize("records, bytes_", [(7, 10**6), (10**6, 3000), (50, 3000), (1, 1)])
def test_few_records_are_brought_together_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: int, bytes_: int
) -> None:
    monkeypatch.setattr(recalling, "READY_RECORDS", records)
    monkeypatch.setattr(recalling, "READY_BYTES", bytes_)
    with made(tmp_path) as history:
        history.put(mixed(200))
        history.flush()
        recaller = Recaller()
        wanted = Recall("main", 0, 200, ("**",), -(2**62), 2**62, 10**6)
        found = everything(history, wanted, recaller)
        assert [told(one) for one in found] == [told(one) for one in history.records]


def test_it_is_looked_for_in_steps_and_once(tmp_path: Path) -> None:
    with made(tmp_path) as history:
        history.put(mixed(600))
        history.history.digested["main"] = 600
        history.flush()
        recaller, steps = Recaller(), 0
        wanted = Recall("main", 0, 600, ("**",), -(2**62), 2**62, 10**6)
        with history.view([], START_NS, START_NS) as view:
            while not recaller.looked(view, wanted, lambda: True):
                steps += 1
            assert steps >= 4
            assert recaller.looked(view, wanted, lambda: True)
        # What a later flush brings has later seqs: what is known of these holds.
        history.put(mixed(100))
        history.history.digested["main"] = 700
        history.flush()
        with history.view([], START_NS, START_NS) as view:
            assert recaller.looked(view, wanted, lambda: True)
            assert not recaller.looked(view, replace(wanted, upto=700), lambda: True)
        assert [told(one) for one in everything(history, replace(wanted, upto=700), recaller)] == [
            told(one) for one in history.records
        ]


def test_what_is_known_as_minutes_only_is_counted(tmp_path: Path) -> None:
    with made(tmp_path) as history:
        history.put(Plain("a/1", START_NS + n * MINUTE_NS, {"n": n}) for n in range(180))
        history.flush()
        first = START_NS // HOUR_NS
        # The first two hours of raw records are forgotten.
        *_, flush = history.history.flush(START_NS)
        assert flush is not None
        flush.deletes += history.history.file.part_keys(RAW, first, first + 1)
        history.history.file.write(flush)
        history.history.flushed()
        span = (START_NS + 30 * MINUTE_NS, START_NS + 3 * HOUR_NS)
        wanted = Recall("main", 0, 180, ("a/1",), *span)
        with looked(history, wanted) as (finder, view):
            survey = finder.survey(view, wanted)
        assert survey == {"count": 60, "first": 121, "coarse": 90, "damaged": 0}


@pytest.mark.parametrize("minutes_from", [0, 20, MONTH_DAYS + 2])
def test_what_is_known_as_hours_only_is_counted_once_joined_or_not(
    tmp_path: Path, minutes_from: int
) -> None:
    begin_ns = START_NS // MONTH_NS * MONTH_NS
    with made(tmp_path) as history:
        for day in range(MONTH_DAYS + 3):
            at = begin_ns + day * DAY_NS
            history.put(Plain("a/1", at + n * HOUR_NS, {"n": n}) for n in (1, 5, 9))
            history.flush(at + DAY_NS + HOUR_NS)
        # Late, beside the month.
        history.put([Plain("a/1", begin_ns + 3 * DAY_NS + 7, {"n": 0})])
        history.flush(begin_ns + (MONTH_DAYS + 3) * DAY_NS + HOUR_NS)
        file, first = history.history.file, begin_ns // HOUR_NS
        assert file.part_keys(MONTHS, -(2**31), 2**31 - 2)
        gone = file.part_keys(RAW, first, first + (MONTH_DAYS + 2) * 24 - 1)
        if minutes_from:
            gone += file.part_keys(MINUTES, first, first + minutes_from * 24 - 1)
        file.write(Flush(replace(file.header, flushes=file.header.flushes + 1), deletes=gone))
        span = (begin_ns + 2 * DAY_NS, begin_ns + (MONTH_DAYS + 3) * DAY_NS)
        wanted = Recall("main", 0, 200, ("a/1",), *span)
        with looked(history, wanted) as (finder, view):
            survey = finder.survey(view, wanted)
        assert (survey["count"], survey["coarse"]) == (3, MONTH_DAYS * 3 + 1)


def test_a_damaged_part_is_left_out_and_counted(tmp_path: Path) -> None:
    with made(tmp_path) as history:
        history.put(Plain("a/1", START_NS + n * HOUR_NS, {"n": n}) for n in range(3))
        history.flush()
        env = history.history.file._env
        with env.begin(write=True) as txn:
            (_, second, _) = history.history.file.part_keys(
                RAW, START_NS // HOUR_NS, START_NS // HOUR_NS + 2
            )
            value = txn.get(second)
            assert value is not None
            txn.put(second, bytes(value)[:-1] + b"?")
        wanted = Recall("main", 0, 3, ("**",), -(2**62), 2**62, 10**6)
        assert [one.seq for one in everything(history, wanted)] == [1, 3]
        with looked(history, wanted) as (finder, view):
            assert finder.survey(view, wanted)["damaged"] == 1


def test_a_number_that_was_given_twice_is_given_back_once(tmp_path: Path) -> None:
    with made(tmp_path) as history:
        history.put(Plain("a/1", START_NS + n * NANOSECONDS, {"n": n}) for n in range(3))
        history.flush()
        # The store was read back without its newest record, and went on from there.
        history.records.pop()
        history.put([Plain("a/1", START_NS + HOUR_NS, {"n": "newer"})])
        history.flush()
        found = everything(history, Recall("main", 0, 3, ("**",), -(2**62), 2**62, 10**6))
        assert [one.fields["n"] for one in found] == [0, 1, "newer"]


def test_the_same_records_are_the_same_bytes_however_they_lie(tmp_path: Path) -> None:
    with made(tmp_path) as history:
        wanted = Recall("main", 0, 40, ("**",), -(2**62), 2**62, 10**6)
        history.put(Plain("a/1", START_NS + n, {"b": n, "a": {"d": 1, "c": n}}) for n in range(20))
        history.flush()
        history.put(Plain("a/1", START_NS - n, {"a": {"c": n, "d": 1}, "b": n}) for n in range(20))
        with looked(history, wanted) as (finder, view):
            before = finder.found(view, wanted)
        history.flush()
        with looked(history, wanted) as (finder, view):
            assert finder.found(view, wanted) == before


def test_several_orders_do_not_disturb_one_another(tmp_path: Path) -> None:
    with made(tmp_path) as history:
        history.put(mixed(100))
        history.flush()
        recaller = Recaller()
        for _ in range(2):
            for stream in ("a/1", "a/2", "b"):
                wanted = Recall("main", 0, 100, (stream,), -(2**62), 2**62, 500)
                found = everything(history, wanted, recaller)
                assert [told(one) for one in found] == [
                    told(one) for one in history.records if one.stream == stream
                ]
        assert len(recaller._known) == 3
