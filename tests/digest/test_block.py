"""Blocks of a log become rows, on the quick way as on the slow one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from edge_agent.digest.block import (
    TOGETHER_BYTES,
    TOGETHER_RECORDS,
    WAIT_NS,
    _slow,
    digest,
    together,
    waits,
)
from edge_agent.digest.pending import LOOSE_ROWS
from edge_agent.digest.tail import Tail
from edge_agent.history import Rows
from edge_agent.history.format.segment import records_of
from edge_agent.store import ERASED, Block, Gap, encode_runs
from edge_agent.values.aggregates import THINNED_SOURCE
from edge_agent.values.record import UNSET_CLOCK_BEFORE_NS, Origin, Run
from tests.history import values as drawn

NOW = 1_795_341_600 * 10**9
BOOT = bytes(16)


def run(
    found: list[Any], *, stream: str = "a/1", source: str = "pi", first: int = 0,
    arrival_ns: int = NOW, synced: bool = True,
) -> Run:  # fmt: skip
    body = b"".join(map(msgspec.msgpack.encode, found))
    return Run(stream, source, first, arrival_ns, synced, len(found), body, NOW, NOW)


def block(
    *runs: Run, first: int = 1, synced: bool = True, stored_ns: int = NOW,
    origin: Origin | None = None,
) -> Block:  # fmt: skip
    payload = encode_runs(runs)
    count = sum(one.count for one in runs)
    size = len(payload)
    return Block(
        "main", first, count, 0, size, payload, BOOT, 1, stored_ns, synced, NOW, NOW, origin
    )


def rows_of(tail: Tail) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for stream, kept in tail.streams.items():
        rows: Rows = kept.decoded() if kept.pending else kept.rows
        if rows.columns:
            made = zip(*rows.columns.values(), strict=True)
            rows.fields = [dict(zip(rows.columns, row, strict=True)) for row in made]
        rows.fill()
        found[stream] = [
            (*one[:4], rows.ways[one[4]], drawn.as_kept(one[5]))
            for one in zip(
                rows.times, rows.seqs, rows.source_seqs, rows.origin_seqs, rows.way_of,
                rows.fields, strict=True,
            )
        ]  # fmt: skip
    return found


def all_rows_of(tail: Tail) -> list[tuple[Any, ...]]:
    """What is pending and what was looked at one by one, which one stream may have both of."""
    pending = rows_of(tail)
    for kept in tail.streams.values():
        kept.clear()
    looked_at = rows_of(tail)
    return sorted(
        (stream, row[1], repr(row))
        for found in (pending, looked_at)
        for stream, rows in found.items()
        for row in rows
    )


def taken(one: Block, after: int = 0) -> tuple[dict[str, list[Any]], int]:
    tail = Tail()
    skipped = sum(digest([one], after, tail, NOW + 5))
    return rows_of(tail), skipped


def slowly(one: Block, after: int = 0) -> tuple[dict[str, list[Any]], int]:
    tail = Tail()
    return_of = sum(_slow(one, after, tail, NOW + 5))
    return rows_of(tail), return_of


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MIDNIGHT = datetime(2026, 11, 30, tzinfo=UTC)
times: Any = (
    st.none()
    | st.booleans()
    | st.text(max_size=3)
    | st.floats()
    | st.integers(-(10**4), 2**40)
    | st.integers(0, 2 * 10**17).map(lambda us: _EPOCH + timedelta(0, 0, us))
    | st.integers(0, 10**16).map(lambda us: us / 1e6)
    | st.just("2026-11-22T10:00:00.25Z")
    | st.integers(-(10**9), 10**9).map(lambda s: {"historic": s})
)
bodies = st.builds(
    lambda fields, time, stream: {**fields, **time, **stream},
    st.dictionaries(st.sampled_from(["t", "u"]), drawn.scalars, max_size=2),
    st.just({}) | times.map(lambda value: {"time": value}),
    st.just({}) | st.just({"stream": "a/1"}),
)
runs = st.builds(
    run,
    st.lists(bodies, min_size=1, max_size=4),
    stream=st.sampled_from(["a/1", "b/2", ERASED]),
    source=st.sampled_from(["pi", "$rule/x", THINNED_SOURCE + "x"]),
    first=st.sampled_from([0, 7]),
    arrival_ns=st.sampled_from([NOW, NOW + 1, UNSET_CLOCK_BEFORE_NS + 1]),
    synced=st.booleans(),
)


@given(st.lists(runs, min_size=1, max_size=4), st.integers(0, 5), st.booleans())
@example([run([{"time": datetime(3000, 1, 1, tzinfo=UTC)}, {"time": 2.0**40}])], 0, True)
@example([run([{"time": _EPOCH + timedelta(0, 0, 4_344_631_098_569_059)}])], 0, True)
@example([run([{"time": MIDNIGHT + timedelta(0, 0, us)} for us in (1, 0, -1)])] * 3, 0, True)
@example([run([{"time": MIDNIGHT + timedelta(0, s)} for s in (0, 86_399, 86_400)])] * 3, 0, True)
@example([run([{"t": 1}, {"t": 2}, {"t": 3}])], 2, True)
@example([run([{"time": -1}], arrival_ns=UNSET_CLOCK_BEFORE_NS + 1, synced=False)], 0, False)
def test_the_quick_way_is_the_slow_way(found: list[Run], after: int, synced: bool) -> None:
    one = block(*found, synced=synced)
    rows, skipped = taken(one, after)
    assert (rows, skipped) == slowly(one, after)
    kept = sum(map(len, rows.values()))
    wanted = [
        seq
        for seq, of in enumerate((of for of in found for _ in range(of.count)), 1)
        if seq > after and of.stream != ERASED and not of.source.startswith(THINNED_SOURCE)
    ]
    assert kept == len(wanted)
    assert sorted(row[1] for of in rows.values() for row in of) == wanted


@given(st.lists(st.lists(runs, min_size=1, max_size=6), min_size=1, max_size=5), st.integers(0, 9))
@example([[run([{"t": i}])] for i in range(5)] * 3, 3)
@example([[run([{"t": 1}]), run([{"t": 2}, {"t": 3}], source="b")], [run([{"t": 4}])] * 5], 0)
def test_blocks_that_are_taken_together_are_as_one_after_the_other(
    found: list[list[Run]], after: int
) -> None:
    blocks, seq = [], 1
    for number, of in enumerate(found):
        # Every third block's records are looked at one by one.
        origin = Origin("feed", "0" * 16, "far", 100, bytes(16), 1, NOW, True, ("feed",))
        one = block(*of, first=seq, origin=origin if number % 3 == 2 else None)
        blocks.append(one)
        # Numbers between blocks may be missing.
        seq = one.last + 1 + number % 2
    at_once, in_turn = Tail(), Tail()
    skipped = sum(digest(blocks, after, at_once, NOW + 5))
    assert skipped == sum(sum(digest([one], after, in_turn, NOW + 5)) for one in blocks)
    assert all_rows_of(at_once) == all_rows_of(in_turn)
    assert (at_once.rows, at_once.records) == (in_turn.rows, in_turn.records)


def test_blocks_come_together_up_to_so_many_records_and_bytes_and_never_over_a_gap() -> None:
    def of(*counts: int, text: int = 1) -> list[Block]:
        first, made = 1, []
        for count in counts:
            made.append(block(*[run([{"s": "x" * text}])] * count, first=first))
            first += count
        return made

    few, gap = of(1, 2, 3), Gap("main", 7, 9, "trimmed")
    assert list(together([*few, gap, *few])) == [few, gap, few]
    assert list(together([gap, few[0]])) == [gap, few[:1]]
    many = of(TOGETHER_RECORDS - 1, 1, 1, 2 * TOGETHER_RECORDS, 1)
    assert list(together(many)) == [many[:2], many[2:3], many[3:4], many[4:]]
    large = of(2, 2, 2, text=TOGETHER_BYTES // 5)
    assert list(together(large)) == [large[:2], large[2:]]
    assert not list(together([]))


def test_one_record_that_cannot_be_read_hides_no_other() -> None:
    good = msgspec.msgpack.encode({"t": 1})
    # A date beyond the year 9999, a text that is none.
    for bad in (b"\x81\xa1t\xc7\x0c\xff" + bytes(4) + b"\x7f" + b"\xff" * 7, b"\x81\xa1t\xa1\xff"):
        one = block(Run("a/1", "pi", 0, NOW, True, 3, good + bad + good, NOW, NOW))
        rows, _ = taken(one)
        assert [row[5] for row in rows["a/1"]] == [
            drawn.as_kept(v) for v in ({"t": 1}, {}, {"t": 1})
        ]


def test_records_of_other_agents_keep_where_they_come_from() -> None:
    origin = Origin("feed", "0" * 16, "far", 100, bytes(16), 1, NOW, True, ("feed",))
    rows, _ = taken(block(run([{"t": 1}, {"t": 2}]), origin=origin))
    [(_, seq, _, origin_seq, way, _), (_, _, _, second, _, _)] = rows["a/1"]
    assert (seq, origin_seq, second) == (1, 100, 101)
    assert (way.origin, way.origin_epoch, way.origin_log) == ("feed", "0" * 16, "far")


def test_what_a_clock_that_was_never_set_gave_is_taken_at_the_time_of_digesting() -> None:
    woke = 10**9
    one = block(
        run([{"t": 1}, {"t": 2, "time": 1_795_341_600.0}], arrival_ns=woke, synced=False),
        synced=False,
        stored_ns=woke,
    )
    rows, _ = taken(one)
    assert [row[0] for row in rows["a/1"]] == [NOW + 5, NOW]
    assert [(row[4].synced, row[4].quality) for row in rows["a/1"]] == [
        (False, "arrival"), (False, "sensor"),
    ]  # fmt: skip


def test_only_records_of_a_boot_that_has_just_begun_wait_for_its_clock() -> None:
    unset = block(run([{"t": 1}]), synced=False)
    assert waits(unset, BOOT, WAIT_NS - 1)
    assert not waits(unset, BOOT, WAIT_NS)
    assert not waits(unset, b"another boot....", 1)
    assert not waits(block(run([{"t": 1}])), BOOT, 1)
    known = unset.corrected({("", BOOT): 10**9})
    assert known.correction is not None and not waits(known, BOOT, 1)


def test_a_long_block_pauses() -> None:
    one = block(*[run([{"t": 1}], stream=f"s/{i % 7}") for i in range(1000)])
    assert len(list(digest([one], 0, Tail(), NOW))) >= 3
    assert len(list(_slow(one, 0, Tail(), NOW))) >= 3


def test_a_block_that_is_no_block_is_passed_over() -> None:
    one = replace(block(run([{"t": 1}])), payload=b"\xc1", raw_len=1)
    assert taken(one) == ({}, 0)


def test_a_body_that_is_large_becomes_a_segment_at_once() -> None:
    tail = Tail()
    list(digest([block(run([{"s": "x" * 60_000}] * 3))], 0, tail, NOW))
    assert tail.rows == 0 and len(tail.streams["a/1"].segments) == 1


def test_tens_of_thousands_of_records_with_nothing_in_them_take_little_room() -> None:
    origin = Origin("feed", "0" * 16, "far", 100, bytes(16), 1, NOW, True, ("feed",))
    tail, count = Tail(), 20_000
    body = b"\x80" * count
    long = Run("a/1", "pi", 7, NOW, True, count, body, NOW, NOW)
    assert sum(digest([block(long, origin=origin)], 0, tail, NOW)) == 0
    kept = tail.streams["a/1"]
    (segments,) = kept.segments.values()
    assert sum(one.count for one in segments) + len(kept.rows) == count
    assert tail.bytes < 200_000
    records = [record for one in segments for record in records_of(one, "a/1")]
    assert [record.seq for record in records] == list(range(1, len(records) + 1))
    assert records[-1].source_seq == 6 + len(records)
    assert records[-1].origin_seq == 99 + len(records)


def test_single_records_that_are_put_there_together_are_as_one_by_one() -> None:
    """Streams and their senders known or new, taking turns, erased, and more than one segment's."""
    quick, slow, at_once = Tail(), Tail(), Tail()
    seq, count, blocks = 1, 0, []
    plans: list[list[tuple[str, str, bool]]] = [
        [(f"s/{i % 3}", "pi", True) for i in range(15)],
        [(f"s/{i % 4}", "pi", True) for i in range(20)],
        [(("s/0", ERASED, "s/1")[i % 3], ("pi", "other")[i % 2], i < 9) for i in range(18)],
        [(("s/0", ERASED)[i % 2], "other", False) for i in range(12)],
    ]
    for plan in plans:
        one = block(
            *[
                run([{"t": seq + i}], stream=stream, source=source, first=i + 1, synced=synced)
                for i, (stream, source, synced) in enumerate(plan)
            ],
            first=seq,
        )
        list(digest([one], 0, quick, NOW))
        list(_slow(one, 0, slow, NOW))
        blocks.append(one)
        seq += len(plan)
        count += sum(stream != ERASED for stream, _, _ in plan)
    list(digest(blocks[:1], 0, at_once, NOW))
    list(digest(blocks[1:], 0, at_once, NOW))
    assert rows_of(quick) == rows_of(slow) == rows_of(at_once)
    assert (quick.rows, quick.records) == (count, count)
    many = block(*[run([{"t": i}], source="other", stream="s/2") for i in range(3 * LOOSE_ROWS)])
    for _ in range(2):
        list(digest([many], 0, quick, NOW))
    kept = quick.streams["s/2"]
    found = sum(segment.count for segments in kept.segments.values() for segment in segments)
    assert found and found + kept.pending == 2 * 3 * LOOSE_ROWS + len(slow.streams["s/2"].rows)
    assert quick.records == count + 2 * 3 * LOOSE_ROWS
