"""History is what the log held, whatever came late, was cut off, or failed on the way."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from edge_agent.digest import HistoryFile, HistoryOwner, HistoryWriter, Keep, rewrite_history
from edge_agent.digest.file import FREE_BYTES
from edge_agent.digest.history import GRACE_NS, _groups
from edge_agent.digest.tail import TAIL_BYTES_MAX, size_of
from edge_agent.errors import StoreFailed
from edge_agent.history import FOLDER, HistorySegment, Rows, Way, keys, make_segment
from edge_agent.store import Gap
from edge_agent.values.record import Run
from tests.digest.support import (
    DAY,
    FOREVER,
    MIB,
    Bench,
    Opened,
    everything,
    expected_figures,
    figures,
    kept,
    made,
    parts,
    raw_values,
    run,
)
from tests.store.support import pack, records

MINUTE, HOUR = keys.MINUTE_NS, keys.HOUR_NS
SECOND = 10**9


def hours_of(bench: Bench, level: int) -> list[int]:
    return sorted({place.bucket for place, _ in parts(bench.history.file, level)})


def assert_holds(bench: Bench, count: int) -> None:
    """All of the log is in the file, and the figures are those of its records."""
    of_log = [record for record in records(bench.engine) if record.seq > 0]
    of_file = kept(bench.history.file)
    assert len(of_file) == len(of_log) == count
    for one, other in zip(of_file, of_log, strict=True):
        assert (one.seq, one.stream, one.time_ns, one.quality, one.source) == (
            other.seq, other.stream, other.time_ns, other.quality, other.source,
        )  # fmt: skip
        assert (one.source_seq, one.synced, one.fields) == (
            other.source_seq, other.synced, other.fields,
        )  # fmt: skip
    assert figures(bench.history.file, keys.MINUTES) == expected_figures(of_log, MINUTE)
    over = (bench.history.file.header.hours_until + 1) * keys.DAY_NS
    assert figures(bench.history.file, keys.HOURS) == expected_figures(of_log, HOUR, until=over)


def test_what_is_flushed_is_what_the_log_holds(bench: Opened) -> None:
    one = bench()
    one.send(*[(DAY + i * SECOND, {"t": i / 10, "n": i, "s": "on"}) for i in range(300)])
    one.send((DAY + 5 * SECOND, {"other": None, "m": {"a": [1]}}), stream="b/2")
    flush = one.flush()
    assert flush.header.positions == {"main": 301}
    assert (flush.header.flushes, flush.header.records, flush.header.missed) == (1, 301, 0)
    assert_holds(one, 301)
    one.send((DAY + 301 * SECOND, {"t": 1}))
    one.flush()
    assert_holds(one, 302)


def test_late_records_go_to_their_hour_and_their_day(bench: Opened) -> None:
    one = bench()
    chance = random.Random(1)
    count = 0
    for _ in range(40):
        one.clock.advance(3 * 3600)
        # Most of now, some of hours and days that are over, one of 1969 and one of 1975.
        found = [(one.now() - age * SECOND, {"t": chance.randrange(100) / 10}) for age in (0, 1, 2)]
        found += [(one.now() - chance.randrange(6 * 86_400) * SECOND, {"t": 1.5, "u": 2})]
        one.send(*found, stream=f"a/{chance.randrange(3)}")
        one.commit([run([(one.now(), {"t": 1, "historic": 5})], arrival_ns=one.now())])
        count += len(found) + 1
        one.flush()
    assert_holds(one, count)
    assert one.history.file.header.hours_until == (one.now() - GRACE_NS) // keys.DAY_NS - 1
    historic = [(-5, {"t": 1}), (155_000_000, {"t": 2}), (1, {"t": 3})]
    for seconds, fields in historic:
        one.commit([_historic(seconds, fields, one.now())])
        one.flush()
    assert_holds(one, count + 3)


def _historic(seconds: int, fields: dict[str, Any], now_ns: int) -> Run:
    body = pack({"time": {"historic": seconds}, **fields})
    return Run("old/1", "pi", 0, now_ns, True, 1, body, seconds * SECOND, seconds * SECOND)


def test_the_very_first_records_may_be_half_a_century_old(bench: Opened) -> None:
    one = bench()
    for seconds in (-86_400 * 3, -5, 0, 155_000_000):
        one.commit([_historic(seconds, {"t": seconds}, one.now())])
    one.send((DAY, {"t": 1}))
    one.flush()
    for _ in range(3):
        one.clock.advance(86_400)
        one.send((one.now(), {"t": 1.5}))
        one.flush()
    assert one.history.file.header.hours_until == (one.now() - GRACE_NS) // keys.DAY_NS - 1
    assert_holds(one, 8)


def test_an_hour_that_is_over_has_one_part_of_minutes_for_each_stream(bench: Opened) -> None:
    one = bench()
    for quarter in range(8):
        for stream in ("a/1", "b/2"):
            one.send((DAY + quarter * 15 * MINUTE, {"t": quarter}), stream=stream)
        one.clock.advance(900)
        one.flush()
    one.clock.advance(GRACE_NS / 1e9)
    one.send((one.now(), {"t": 1}))
    one.flush()
    found = [place for place, _ in parts(one.history.file, keys.MINUTES)]
    assert [place.part for place in found if place.bucket == DAY // HOUR] == [0, 0]
    assert_holds(one, 17)


def test_where_a_part_is_damaged_the_others_of_its_hour_stay_as_they_are(bench: Opened) -> None:
    one = bench()
    for quarter in range(4):
        one.send((DAY + quarter * 15 * MINUTE, {"t": quarter}))
        one.clock.advance(900)
        one.flush()
    key = keys.part_key(keys.RAW, DAY // HOUR, 1, 1)
    with one.history.file._env.begin(write=True) as txn:
        txn.put(key, b"damaged")
    one.clock.advance(GRACE_NS / 1e9)
    one.send((one.now(), {"t": 9}))
    one.flush()
    assert [record.fields["t"] for record in kept(one.history.file)] == [0, 2, 3, 9]
    assert key in one.history.file.part_keys(keys.RAW, DAY // HOUR, DAY // HOUR)


def test_what_is_older_than_its_age_goes_level_by_level(bench: Opened) -> None:
    one = bench(keep=Keep(2 * HOUR, 2 * keys.DAY_NS, 5 * keys.DAY_NS))
    one.clock.advance(1200)
    for _ in range(24 * 8):
        one.clock.advance(3600)
        one.send((one.now(), {"t": 1}))
        one.flush()
    now = one.now()
    hours, days = now // HOUR, now // keys.DAY_NS
    assert hours_of(one, keys.RAW) == list(range(hours - 2, hours + 1))
    assert hours_of(one, keys.MINUTES) == list(range(hours - 48, hours + 1))
    assert hours_of(one, keys.HOURS) == list(range(days - 5, days))


def test_an_unset_clock_says_nothing_of_age(bench: Opened) -> None:
    one = bench(keep=Keep(2 * HOUR, 2 * keys.DAY_NS, 5 * keys.DAY_NS))
    one.send((DAY, {"t": 1}))
    one.flush()
    one.clock.advance(30 * 86_400)
    one.send((one.now(), {"t": 1}))
    one.flush(trusted=False)
    assert hours_of(one, keys.RAW)[0] == DAY // HOUR
    assert hours_of(one, keys.HOURS) == []
    one.send((one.now(), {"t": 1}))
    one.flush()
    assert hours_of(one, keys.RAW)[0] == one.now() // HOUR
    assert one.history.file.header.hours_until == (one.now() - GRACE_NS) // keys.DAY_NS - 1


@pytest.mark.parametrize("pad", [0, 300], ids=["numbers", "text"])
def test_history_stays_within_its_share_for_twenty_turnovers(bench: Opened, pad: int) -> None:
    limit = MIB // 4
    one = bench(limit=limit)
    chance = random.Random(3)
    wrote = most = 0

    def words() -> dict[str, Any]:
        return {"s": f"{chance.getrandbits(4 * pad):x}"} if pad else {}

    while wrote < 20 * limit:
        runs = []
        for stream in range(8):
            found: list[tuple[int, dict[str, Any]]] = [
                (one.now() + i * SECOND, {name: chance.random() for name in "tuv"} | words())
                for i in range(100 - pad // 5)
            ]
            runs.append(run(found, stream=f"s/{stream}", arrival_ns=one.now()))
        one.commit(runs)
        one.clock.advance(7 * 3600)
        wrote += sum(map(len, one.flush().puts.values()))
        most = max(most, one.history.file.usage().used_bytes)
    assert most <= limit
    # It is full, and not emptier than it has to be.
    usage = one.history.file.usage()
    assert usage.used_bytes > limit * 0.6
    # Of the finest level the last flush is there.
    newest = (one.now() - 7 * HOUR) // HOUR
    assert newest in hours_of(one, keys.RAW)


def test_where_nothing_else_is_left_minutes_go_before_their_day_has_hours(bench: Opened) -> None:
    one = bench(limit=256 * 1024)
    for _ in range(60):
        found = [
            (one.now() + i * MINUTE, {f"f{n}": i * n / 7 for n in range(30)}) for i in range(60)
        ]
        one.send(*found)
        one.clock.advance(3600)
        one.flush(trusted=False)
        assert one.history.file.usage().used_bytes <= 256 * 1024


def test_gaps_are_counted_once_history_has_begun(bench: Opened) -> None:
    one = bench()
    take = one.history.take
    list(take([Gap("main", 1, 10, "trimmed")], DAY))
    assert one.history.missed == 0
    list(take([Gap("main", 11, 15, "damaged")], DAY))
    # What is damaged is told as that, and what was passed over at a restoring never was.
    assert (one.history.missed, one.history.digested) == (0, {"main": 15})
    # A gap that begins before what is digested counts from there.
    list(take([Gap("main", 12, 20, "trimmed")], DAY))
    assert one.history.missed == 5
    one.history.digested["main"] = 0
    one.send((DAY, {"t": 1}))
    assert one.flush().header.missed == 5
    assert one.history.missed == 0


def test_after_the_logs_newest_records_were_lost_new_ones_are_taken(bench: Opened) -> None:
    one = bench()
    one.send((DAY, {"t": 1}), (DAY + 1, {"t": 2}))
    one.flush()
    one.history.rewind("main", 1)
    assert one.history.digested == {"main": 1}
    one.history.rewind("main", 5)
    assert one.history.digested == {"main": 1}


def _fill(one: Bench, step: int) -> None:
    """What comes at a step: several streams, shapes, late ones; the same for each bench."""
    chance = random.Random(step)
    one.clock.advance(1200)
    runs = []
    for stream in range(4):
        found: list[tuple[int, dict[str, Any]]] = []
        for i in range(chance.choice([1, 7, 140])):
            late = chance.choice([0, 0, 0, 4000, 90_000])
            fields: dict[str, Any] = {"t": chance.randrange(1000) / 10}
            if stream == 3:
                fields = {"t": i, "txt": "x" * chance.randrange(40)} if i % 2 else {"u": None}
            found.append((one.now() - late * SECOND + i * 10**6, fields))
        runs.append(run(found, stream=f"s/{stream}", source=f"d{stream}", first=0,
                        arrival_ns=one.now()))  # fmt: skip
    one.commit(runs)


STEPS = 24


def undisturbed(one: Bench) -> tuple[Any, ...]:
    for step in range(STEPS):
        _fill(one, step)
        one.take()
        if step % 4 == 3:
            one.flush()
    return everything(one.history.file)


@pytest.mark.parametrize("seed", range(4))
def test_a_crash_at_any_point_changes_nothing(bench: Opened, seed: int) -> None:
    expected = undisturbed(bench("whole"))
    one, chance = bench("crashed"), random.Random(seed)
    for step in range(STEPS):
        _fill(one, step)
        taking = one.history.take(one.engine.read("main", one.history.digested.get("main", 0), MIB),
                                  one.now())  # fmt: skip
        if chance.random() < 0.3:
            # In the middle of a block.
            for _ in range(chance.randrange(1, 3)):
                next(taking, None)
            one.reopen()
        one.take()
        if step % 4 == 3:
            if chance.random() < 0.5:
                flushing = one.history.flush(one.now())
                for _ in range(chance.randrange(30)):
                    next(flushing, None)
                one.reopen()
                one.take()
            if chance.random() < 0.3:
                # The process ends between the write and what it would have remembered of it.
                one.history.file.write(made(one.history, one.now()))
                one.reopen()
            else:
                one.flush()
        elif chance.random() < 0.2:
            one.reopen()
    assert everything(one.history.file) == expected
    assert_holds(one, len(expected[0]))


def test_one_message_may_hold_more_records_than_a_segment(bench: Opened) -> None:
    one = bench()
    one.send(*[(DAY + i * 10**6, {}) for i in range(6000)])
    one.flush()
    assert_holds(one, 6000)


def test_names_of_series_are_written_once(bench: Opened) -> None:
    one = bench()
    one.send((DAY, {"t": 1}))
    assert one.flush().series == {1: "a/1"}
    one.send((DAY, {"t": 1}), stream="b/2")
    one.send((DAY, {"t": 1}))
    assert one.flush().series == {2: "b/2"}
    one.reopen()
    one.send((DAY, {"t": 1}))
    assert one.flush().series == {}
    assert one.history.file.numbers == {"a/1": 1, "b/2": 2}


def test_a_flush_that_fails_is_written_later(
    bench: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = bench()
    monkeypatch.setattr("edge_agent.digest.file._HEADROOM_BYTES", 64 * 1024)
    for i in range(50):
        one.send((DAY + i * SECOND, {"t": f"{random.Random(i).getrandbits(16_000):x}"}))
    one.take()
    small, told = HistoryFile.open(tmp_path, 0, HistoryOwner("s", "e"))
    assert not told
    history = HistoryWriter(small, FOREVER)
    list(history.take(one.engine.read("main", 0, 10 * MIB), DAY))
    flush = made(history, DAY)
    before = raw_values(small)
    for _ in range(2):
        with pytest.raises(StoreFailed):
            small.write(flush)
        assert raw_values(small) == before
        assert small.header.flushes == 0
        assert history.tail.records == 50
    small._env.set_mapsize(4 * MIB)
    small.write(flush)
    history.flushed()
    assert len(kept(small)) == 50
    assert small.written == {1}
    small.close()


def test_streams_beyond_what_is_kept_are_counted(
    bench: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.digest.tail.SERIES_MAX", 2)
    one = bench()
    for number in range(4):
        one.send((DAY, {"t": 1}), stream=f"s/{number}")
    assert one.flush().header.missed == 2
    # Those of the file count, too, also after the next start.
    one.reopen()
    one.send((DAY, {"t": 1}), stream="s/5")
    one.send((DAY, {"t": 1}), stream="s/0")
    assert one.flush().header.missed == 3
    assert sorted(one.history.file.numbers) == ["s/0", "s/1"]


def test_on_a_disk_that_is_nearly_full_history_makes_room_within_its_file(
    bench: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = bench()
    data = one.path / FOLDER / "data.mdb"

    def hour_of_noise(hour: int) -> None:
        dice = random.Random(hour)
        begin = DAY + hour * HOUR
        one.send(*((begin + n * SECOND, {"x": dice.random()}) for n in range(1000)))
        one.clock.advance(3600)
        one.flush()

    for hour in range(60):
        hour_of_noise(hour)
    before, first = data.stat().st_size, one.history.file.usage().oldest[keys.RAW]
    full = shutil.disk_usage(one.path)._replace(free=FREE_BYTES)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    for hour in range(60, 180):
        hour_of_noise(hour)
    usage = one.history.file.usage()
    assert data.stat().st_size <= before * 1.2
    assert usage.used_bytes <= data.stat().st_size
    # The oldest records gave way; their minutes are still there.
    assert first is not None and (usage.oldest[keys.RAW] or 0) > first
    assert usage.oldest[keys.MINUTES] == first


def test_a_new_stream_gets_no_number_that_another_has_where_one_was_erased(bench: Opened) -> None:
    one = bench()
    for number, stream in enumerate(("a", "b", "c")):
        one.send((DAY + number * 10**9, {"t": number}), stream=stream)
    one.flush()
    one.history.file.close()
    assert rewrite_history(one.path, lambda stream: stream == "b") == ["b"]
    one.history = one.opened()
    one.send((DAY + 9 * 10**9, {"t": 9}), stream="d")
    one.flush()
    one.reopen()
    found = [(record.stream, record.fields["t"]) for record in kept(one.history.file)]
    assert found == [("a", 0), ("c", 2), ("d", 9)]


def test_segments_whose_sizes_are_not_looked_at_are_put_together_as_if_they_were() -> None:
    def segment(first: int, end: int, size: int) -> HistorySegment:
        rows = Rows()
        rows.ways = [Way("main", "pi", "sensor", True, False)]
        for seq in range(first, end):
            rows.times.append(seq)
            rows.seqs.append(seq)
            rows.source_seqs.append(seq)
            rows.way_of.append(0)
            rows.fields.append({"b": random.Random(seq).randbytes(size)})
        return make_segment(rows)

    for count, each, size, wanted in ((5, 2, 10, 1), (3, 1500, 1, 2), (5, 2, 90_000, 3)):
        some = [segment(at, at + each, size) for at in range(0, count * each, each)][::-1]
        groups = list(_groups(some, sum(map(size_of, some))))
        assert groups == list(_groups(some, 2**40)) and len(groups) == wanted
        firsts = [one.first_ns for group in groups for one in group]
        assert firsts == list(range(0, count * each, each))


def test_a_read_of_records_in_an_hour_each_is_taken_until_the_tail_is_full(bench: Opened) -> None:
    one = bench("apart")
    count = 20_000
    for begin in range(0, count, 1000):
        hours = range(begin, begin + 1000)
        one.send(*((DAY - hour * keys.HOUR_NS, {"t": hour}) for hour in hours))
    items = one.engine.read("main", 0, MIB)
    assert items[-1].last == count
    list(one.history.take(items, one.now()))
    taken = one.history.digested["main"]
    assert one.history.tail.bytes < TAIL_BYTES_MAX + 4 * MIB
    # What is left is read again, and nothing of it is missed or taken twice.
    while one.history.digested["main"] < count:
        flush = made(one.history, one.now())
        one.history.file.write(flush)
        one.history.flushed()
        after = one.history.digested["main"]
        list(one.history.take(one.engine.read("main", after, MIB), one.now()))
    one.flush()
    assert 0 < taken < count
    assert [record.seq for record in kept(one.history.file)] == [*range(1, count + 1)]
