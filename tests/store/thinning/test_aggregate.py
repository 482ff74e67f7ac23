"""Nothing is counted twice, nothing is left out: against sums over the records themselves."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import pairwise
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from edge_agent.store.format.block import Block
from edge_agent.store.format.foreign import check_payload
from edge_agent.store.format.payload import encode_runs
from edge_agent.store.thinning.aggregate import MINUTE_NS, Aggregated, aggregate, continues
from edge_agent.values.aggregates import THINNED_SOURCE
from edge_agent.values.record import Origin, Record, Run, array_header
from tests.store.support import START_NS, pack

BASE_NS = START_NS - START_NS % MINUTE_NS
LIMIT = 256 * 1024
ORIGIN = Origin(
    "feedfacecafe", "e" * 16, "main", 900, b"o" * 16, 3, START_NS, False, ("feedfacecafe",)
)


def run_of(
    records: list[dict[str, Any]],
    *,
    stream: str = "a",
    source: str = "pi",
    arrival_ns: int = BASE_NS,
    synced: bool = True,
    first: int = 0,
) -> Run:
    body = b"".join(map(pack, records))
    return Run(stream, source, first, arrival_ns, synced, len(records), body, 0, 0)


def block_of(first: int, runs: list[Run], origin: Origin | None = None) -> Block:
    raw = encode_runs(runs)
    count = sum(run.count for run in runs)
    return Block(
        "main", first, count, 0, len(raw), raw, bytes(16), 7, START_NS, True, 0, 0, origin
    )  # fmt: skip


def made_of(made: Aggregated, first: int) -> Block:
    return Block(
        "main", first, made.count, 0, len(made.raw), made.raw, bytes(16), 7, START_NS, True,
        made.time_min_ns, made.time_max_ns, made.origin, made.covers,
    )  # fmt: skip


def thinned(blocks: list[Block]) -> list[Record]:
    made = aggregate(blocks, LIMIT)
    assert made is not None
    found = list(made_of(made, blocks[0].first).records())
    assert len(found) == made.count
    # No two share a number: what upstreams are sent is known by its first and last one.
    assert all(before.seq < after.seq for before, after in pairwise(found))
    assert made.covers == blocks[-1].last - blocks[0].first + 1
    assert sum(weight(record) for record in found) == made.covers
    assert all(made.time_min_ns <= record.time_ns <= made.time_max_ns for record in found)
    check_payload(0, len(made.raw), made.raw, made.count)
    return found


def weight(record: Record) -> int:
    is_aggregate = record.source.startswith(THINNED_SOURCE)
    return int(record.fields["records"]) if is_aggregate else 1


numbers = st.one_of(
    st.integers(-(2**53), 2**53), st.floats(-1e12, 1e12, allow_nan=False, allow_infinity=False)
)
times = st.one_of(
    st.none(),
    st.floats(0, 200).map(lambda s: BASE_NS / 1e9 + s),
    st.integers(-200, 0),
    st.just("nonsense"),
)
fields = st.dictionaries(
    st.sampled_from(["t", "h", "t_count", "records", "state"]),
    st.one_of(numbers, st.booleans(), st.text(max_size=3), st.just(float("nan")), st.just([1])),
    max_size=4,
)
sent = st.lists(
    st.tuples(
        st.sampled_from(["a", "b/c"]),
        st.sampled_from(["pi", "gate", "$rule/x"]),
        st.booleans(),
        st.integers(0, 150),
        st.lists(st.tuples(times, fields), min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=200)
@given(st.lists(sent, min_size=1, max_size=4), st.booleans())
def test_an_aggregate_is_what_its_minutes_records_were(
    blocks: list[list[Any]], foreign: bool
) -> None:
    made: list[Block] = []
    first, numbered = 11, 900
    for runs in blocks:
        encoded = [
            run_of(
                [f if t is None else {"time": t, **f} for t, f in records],
                stream=stream,
                source=source,
                synced=synced,
                arrival_ns=BASE_NS + arrival * 10**9,
            )
            for stream, source, synced, arrival, records in runs
        ]
        origin = msgspec.structs.replace(ORIGIN, first=numbered)
        made.append(block_of(first, encoded, origin if foreign else None))
        assert len(made) < 2 or continues(made[-2], made[-1])
        # A foreign block's numbers may have holes, by a filter on the way.
        first, numbered = first + made[-1].count, numbered + made[-1].count + 3
    before = [record for block in made for record in block.records()]
    groups: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for record in before:
        by_sensor = record.quality == "sensor"
        minute = record.time_ns - record.time_ns % MINUTE_NS
        groups[record.stream, record.source, record.synced, by_sensor, minute].append(record)
    after = thinned(made)
    identities = {(r.origin_seq or r.seq): r for r in before}
    for record in after:
        number = record.origin_seq or record.seq
        if not record.source.startswith(THINNED_SOURCE):
            was = identities[number]
            assert repr(record.fields) == repr(was.fields)
            assert (record.stream, record.source) == (was.stream, was.source)
            assert (record.time_ns, record.source_seq) == (was.time_ns, was.source_seq)
            continue
        source = record.source.removeprefix(THINNED_SOURCE)
        by_sensor = record.quality == "sensor"
        group = groups.pop((record.stream, source, record.synced, by_sensor, record.time_ns))
        assert number == (group[-1].origin_seq or group[-1].seq)
        assert record.fields["records"] == len(group) > 1
        is_as_summed_up(record.fields, group)
    # What is left was alone in its minute, or derived.
    for key, group in groups.items():
        assert len(group) == 1 or key[1].startswith("$")


def is_as_summed_up(found: dict[str, Any], group: list[Record]) -> None:
    for name in ("t", "h", "t_count", "records", "state"):
        values = [
            (record.time_ns, record.fields[name])
            for record in group
            if isinstance(record.fields.get(name), (int, float))
            and not isinstance(record.fields[name], bool)
            and math.isfinite(record.fields[name])
        ]
        if not values:
            assert f"{name}_count" not in found or name + "_count" in {
                other for record in group for other in record.fields
            }
            continue
        numbers = [value for _, value in values]
        assert found[f"{name}_count"] == len(numbers)
        assert found[f"{name}_min"] == min(numbers)
        assert found[f"{name}_max"] == max(numbers)
        assert found[f"{name}_mean"] == pytest.approx(math.fsum(numbers) / len(numbers), abs=1e-3)
        latest = max(time for time, _ in values)
        assert found[f"{name}_last"] == [value for time, value in values if time == latest][-1]


def test_a_text_keeps_its_last_value_and_a_map_nothing() -> None:
    records: list[dict[str, Any]] = [
        {"state": "on", "n": None, "where": {"x": 1}, "long": "x" * 500, "ok": True},
        {"state": "off", "ok": False},
    ]
    (found,) = thinned([block_of(1, [run_of(records)])])
    assert found.fields == {"records": 2, "state_last": "off", "n_last": None, "ok_last": False}
    assert (found.stream, found.source, found.time_ns) == ("a", "$thin/pi", BASE_NS)


def test_what_cannot_be_decoded_is_counted() -> None:
    bad = b"\x81\xa1t\xa1\xff"
    run = run_of([{"t": 1}])
    run = Run("a", "pi", 0, BASE_NS, True, 3, pack({"t": 1}) + bad + pack({"t": 3}), 0, 0)
    (found,) = thinned([block_of(1, [run])])
    assert found.fields["records"] == 3
    assert (found.fields["t_count"], found.fields["t_mean"]) == (2, 2.0)


def test_a_record_that_is_alone_in_its_minute_stays_under_its_number() -> None:
    runs = [
        run_of([{"t": 1}, {"t": 2}]),
        run_of([{"t": 9, "x": [1, 2]}], source="slow", first=77),
        run_of([{"t": 3}]),
    ]
    alone, found = thinned([block_of(41, runs)])
    assert (alone.seq, alone.source_seq, alone.fields) == (43, 77, {"t": 9, "x": [1, 2]})
    assert (found.seq, found.fields["records"]) == (44, 3)


def test_what_was_derived_before_stays_as_it_is() -> None:
    runs = [run_of([{"t_mean": n}], source="$rule/m") for n in range(3)]
    runs += [run_of([{"records": 60, "t_mean": n}], source="$thin/pi") for n in range(3)]
    made = aggregate([block_of(1, runs)], LIMIT)
    assert made is not None
    assert (made.count, made.thinned, made.aggregates) == (6, 0, 0)
    found = list(made_of(made, 1).records())
    assert [record.seq for record in found] == [1, 2, 3, 4, 5, 6]


def test_minutes_are_those_of_the_clock_that_gave_the_time() -> None:
    """An unset clock's times can be corrected later; a sensor's own cannot, and are kept apart."""
    at = BASE_NS // 10**9
    runs = [
        run_of([{"t": 1}, {"t": 2}], arrival_ns=5 * MINUTE_NS, synced=False),
        run_of([{"t": 1, "time": at + 1}, {"t": 2, "time": at + 2}], arrival_ns=5 * MINUTE_NS),
        run_of([{"t": 1}, {"t": 2}], arrival_ns=BASE_NS + 1),
    ]
    unset, sensor, arrival = thinned([block_of(1, runs)])
    assert (unset.time_ns, unset.quality, unset.synced) == (5 * MINUTE_NS, "arrival", False)
    assert (sensor.time_ns, sensor.quality) == (BASE_NS, "sensor")
    assert (arrival.time_ns, arrival.quality, arrival.synced) == (BASE_NS, "arrival", True)


def test_times_before_1970_and_out_of_order_have_minutes_too() -> None:
    old = [{"t": n, "time": {"historic": -90.0 - n}} for n in range(3)]
    (found,) = thinned([block_of(1, [run_of(old)])])
    assert found.time_ns == -120 * 10**9
    assert found.fields["t_last"] == 0


def test_an_aggregate_that_would_be_larger_than_a_block_is_not_made() -> None:
    runs = [run_of([{"t": 1}, {"t": 2}], stream=f"s/{n}") for n in range(100)]
    assert aggregate([block_of(1, runs)], 4096) is None


def test_what_is_no_payload_is_left_alone() -> None:
    block = block_of(1, [run_of([{"t": 1}])])
    broken = Block("main", 1, 1, 0, 3, b"abc", bytes(16), 7, START_NS, True, 0, 0)
    assert aggregate([block, broken], LIMIT) is None


def test_a_peers_numbers_that_do_not_rise_are_left_alone() -> None:
    head = [["a", "pi", 0, BASE_NS, True, 0], ["a", "$x", 0, BASE_NS, True, 0]]
    raw = array_header(2) + b"".join(pack([*fields, [{"t": 1}]]) for fields in head)
    block = Block("main", 1, 2, 0, len(raw), raw, bytes(16), 7, START_NS, True, 0, 0, ORIGIN)
    assert aggregate([block], LIMIT) is None


def test_only_blocks_of_one_kind_continue_one_another() -> None:
    one = block_of(1, [run_of([{"t": 1}])])
    other = block_of(2, [run_of([{"t": 1}])])
    assert continues(one, other)
    assert not continues(other, one)
    foreign = block_of(2, [run_of([{"t": 1}])], ORIGIN)
    assert not continues(one, foreign)
    again = block_of(3, [run_of([{"t": 1}])], ORIGIN)
    assert not continues(foreign, again)
