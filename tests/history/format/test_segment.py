"""Records of a stream come back from a segment as they were, however it was put together."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_agent.errors import StoreDamaged
from edge_agent.history import HistorySegment, Rows, Way
from edge_agent.history.format.segment import (
    COLUMNS_MAX,
    ROWS_MAX,
    TABLES_MAX,
    column_of,
    decode_segment,
    encode_segment,
    join_segments,
    make_segment,
    pack_segment,
    paths_of,
    records_of,
    rows_of,
    times_of,
)
from edge_agent.values.record import Record
from tests.history import values as drawn
from tests.history.damage import told_or_sound

START = 1_795_341_600 * 10**9
WAYS = [
    Way("main", "pi", "sensor", True, False),
    Way("main", "$rule/mean", "arrival", False, True),
    Way("main", "pi", "sensor", True, False, "feed", "0" * 16, "main"),
]


def records(found: list[dict[str, Any]], seed: int = 1) -> list[Record]:
    """Records with these fields, at times in no order, some of them equal."""
    chance = random.Random(seed)
    made = []
    for seq, fields in enumerate(found, 1):
        way = chance.choice(WAYS)
        time_ns = START + chance.randrange(len(found)) * 10**6
        origin_seq = chance.randrange(2**40) if way.origin else 0
        made.append(
            Record(
                way.log, seq, "a/1", time_ns, way.quality, 0, way.synced, way.source,
                chance.choice([0, 2**63 - 1, seq]), fields, way.origin, way.origin_epoch,
                way.origin_log, origin_seq, way.corrected,
            )
        )  # fmt: skip
    return made


def rows(found: list[Record]) -> Rows:
    made = Rows()
    for one in found:
        way = Way(
            one.log, one.source, one.quality, one.synced, one.corrected,
            one.origin, one.origin_epoch, one.origin_log,
        )  # fmt: skip
        made.times.append(one.time_ns)
        made.seqs.append(one.seq)
        made.source_seqs.append(one.source_seq)
        if one.origin_seq:
            made.origin_seqs += [0] * (len(made.seqs) - 1 - len(made.origin_seqs))
            made.origin_seqs.append(one.origin_seq)
        made.way_of.append(made.way(way))
        made.fields.append(one.fields)
    return made


def joined(segments: list[HistorySegment]) -> HistorySegment:
    *pauses, made = join_segments(segments)
    assert made is not None and not any(pauses)
    *pauses, packed = pack_segment(made)
    assert packed is not None and not any(pauses)
    return packed


def stored(segment: HistorySegment) -> HistorySegment:
    return decode_segment(encode_segment(segment))


def seen(segment: HistorySegment) -> list[Any]:
    """What its records are, as far as it is promised."""
    found = [
        (*[getattr(one, name) for name in one.__struct_fields__ if name != "fields"],
         drawn.as_kept(one.fields))
        for one in records_of(segment, "a/1")
    ]  # fmt: skip
    assert [one[3] for one in found] == times_of(segment) == sorted(times_of(segment))
    return sorted(found, key=lambda one: one[1])


def expected(found: list[Record]) -> list[Any]:
    return [
        (*[getattr(one, name) for name in one.__struct_fields__ if name != "fields"],
         drawn.as_kept(one.fields))
        for one in found
    ]  # fmt: skip


@st.composite
def shaped(draw: Any) -> list[dict[str, Any]]:
    """Fields of records, of one shape mostly, as a sensor sends them."""
    names = draw(st.lists(drawn.keys, max_size=3, unique=True))
    columns = [draw(drawn.columns) for _ in names]
    count = min(map(len, columns), default=draw(st.integers(0, 5)))
    found: list[dict[str, Any]] = [
        dict(zip(names, one, strict=True)) for one in zip(*columns, strict=False)
    ] or [{} for _ in range(count)]
    found += draw(st.lists(drawn.fields, min_size=0 if found else 1, max_size=4))
    return found


@given(shaped(), st.lists(st.integers(1, 9), max_size=8))
@example([{}, {"a": 1}], [])
@example([{}, {"a": 1}, {}, {"a": {"b": {}}}, {"a b": 1}], [2])
@example([{"a": 1, "b": 2.5}, {"b": 1, "a": 2}], [1])
@example([{"": {"": {"": 0}}}, {"a": {1: 2}}, {"a": {"b": {1: 2}}}], [1, 1])
def test_records_come_back_loose_and_however_they_are_put_together(
    found: list[dict[str, Any]], cuts: list[int]
) -> None:
    made = records(found)
    assert seen(stored(make_segment(rows(made)))) == expected(made)
    parts, begin = [], 0
    for size in (*cuts, len(made)):
        if part := made[begin : begin + size]:
            parts.append(make_segment(rows(part)))
        begin += size
    assert seen(stored(joined(parts))) == expected(made)
    *_, unpacked = join_segments(parts)
    assert unpacked is not None and seen(stored(unpacked)) == expected(made)
    if len(parts) > 2:
        # Put together from what was put together, and in another order.
        twice = [stored(joined(parts[1:])), stored(joined(parts[:1]))]
        assert seen(stored(joined(twice))) == expected(made)


def test_many_fields_and_many_shapes_stay_whole() -> None:
    found: list[dict[str, Any]] = [{f"f{i}": i for i in range(COLUMNS_MAX + 1)}]
    found += [{f"g{i}": i, "common": 1.5} for i in range(TABLES_MAX + 9)]
    found += [{"map": {f"h{i}": i for i in range(COLUMNS_MAX + 1)}}]
    found += [{f"f{i}": i for i in range(COLUMNS_MAX)}]
    made = records(found)
    segment = make_segment(rows(made))
    assert len(segment.tables) <= TABLES_MAX + 1
    assert max(len(table.columns) for table in segment.tables) <= COLUMNS_MAX
    assert seen(stored(joined([segment]))) == expected(made)


def test_maps_within_maps_within_maps_come_back() -> None:
    deep: Any = 1.5
    for _ in range(20):
        deep = {"in": deep, "beside": [deep]}
        if len(str(deep)) > 5000:
            break
    made = records([{"a": deep}, {"a": 1}])
    assert seen(stored(joined([make_segment(rows(made))]))) == expected(made)


def test_a_segment_of_the_most_records() -> None:
    made = records([{"t": i / 10, "n": {"a": i % 7}} for i in range(ROWS_MAX)])
    parts = [make_segment(rows(made[i : i + 512])) for i in range(0, ROWS_MAX, 512)]
    whole = stored(joined(parts))
    assert seen(whole) == expected(made)
    assert paths_of(whole) == [("t",), ("n", "a")]
    [(places, numbers)] = column_of(whole, ("n", "a"))
    assert places is None
    order = sorted(made, key=lambda one: (one.time_ns, one.seq))
    assert sorted(numbers.values) == sorted(one.fields["n"]["a"] for one in order)


def test_a_field_of_some_records_has_their_places() -> None:
    made = rows(records([{"t": 1}, {"u": 2}, {"t": 3.5}]))
    made.times = [START, START + 1, START + 2]
    segment = joined([make_segment(made)])
    [(places, numbers)] = column_of(segment, ("t",))
    assert (places, numbers.floats()) == ([0, 2], [1.0, 3.5])
    assert list(column_of(segment, ("v",))) == []


def test_what_is_the_same_for_all_records_takes_next_to_nothing() -> None:
    made = Rows()
    made.times = [START + i * 10**9 for i in range(3600)]
    made.seqs = list(range(1, 3601))
    made.source_seqs = list(range(1, 3601))
    made.way_of = [made.way(WAYS[0])] * 3600
    made.fields = [{"on": 1.5} for _ in range(3600)]
    assert len(encode_segment(joined([make_segment(made)]))) < 200


@pytest.mark.parametrize(
    "found",
    [
        [{"t": i / 10, "s": "on", "n": {"a": i}} for i in range(50)],
        [{}, {"t": 1.5}, {"t": None, "u": [1, {"b": 2}]}] * 9,
    ],
    ids=["alike", "mixed"],
)
def test_of_a_damaged_segment_there_is_nothing_but_the_word_that_it_is(
    found: list[dict[str, Any]],
) -> None:
    loose = make_segment(rows(records(found)))
    for segment in (loose, joined([loose])):

        def read(flipped: bytes) -> None:
            damaged = decode_segment(flipped)
            for path in paths_of(damaged):
                list(column_of(damaged, path))
            rows_of(damaged)
            joined([damaged])

        told_or_sound(encode_segment(segment), read, times=300)


def test_a_segment_of_another_format_or_of_none_is_told() -> None:
    segment = make_segment(rows(records([{"t": 1}])))
    for raw in (b"", b"\xc1", encode_segment(segment)[:-1], b"\x91" * 4000):
        with pytest.raises(StoreDamaged):
            decode_segment(raw)
