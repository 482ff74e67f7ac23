"""Learnt shapes change how fast records are read, and nothing else."""

from __future__ import annotations

import gc
import json
import weakref
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.wire.encodings import DECODE_ERRORS
from edge_agent.wire.messages import read_messages
from edge_agent.wire.reading_types import Arrival, Received, WireLimits
from edge_agent.wire.shapes import (
    BULK_FROM,
    KEY_CHARACTERS_MAX,
    KEYS_MAX,
    MISSES_MAX,
    Learner,
    Shape,
    ShapeCache,
)

NOW = 1_795_341_600 * 10**9
ARRIVAL = Arrival("greenhouse/1", "pi-7", NOW, synced=True, may_write=lambda name: name != "no")
LIMITS = WireLimits()
USUAL: dict[str, Any] = {"time": 1_795_341_000.5, "t": 21.5, "stream": "a", "ok": True}


def taught(record: dict[str, Any] = USUAL, cache: ShapeCache | None = None) -> Learner:
    learner = Learner(ShapeCache(4) if cache is None else cache, learnt_after=BULK_FROM)
    learner.look([record] * BULK_FROM)
    assert learner.shape() is not None
    return learner


def pairs(fields: list[tuple[Any, Any]]) -> bytes:
    """A msgpack map whose keys may be there twice."""
    head = msgpack.Packer().pack_map_header(len(fields))
    return head + b"".join(msgpack.packb(key) + msgpack.packb(value) for key, value in fields)


def json_pairs(fields: list[tuple[Any, Any]]) -> str:
    return "{" + ",".join(f"{json.dumps(str(k))}:{json.dumps(v)}" for k, v in fields) + "}"


TIMES = [1_795_341_000, 1_795_341_000.25, -3, 7, None, "2026-11-22T10:00:00Z", float("inf")]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
    st.sampled_from([[1, [2]], {"a": {"b": 1}}, [[[1]]], {"time": 5}]),
)
FIELD = st.one_of(
    st.tuples(st.just("time"), st.sampled_from(TIMES[:-1]) | VALUES),
    st.tuples(st.just("stream"), st.sampled_from(["a", "b", "no", "", None, 5, ["x"]])),
    st.tuples(st.sampled_from(["t", "ok"]), VALUES),
    st.tuples(st.sampled_from(["other", "tt", ""]), VALUES),
)
EXACT = st.tuples(VALUES, st.sampled_from(TIMES[:3])).map(
    lambda drawn: [("time", drawn[1]), ("t", drawn[0]), ("stream", "a"), ("ok", False)]
)
RECORD = EXACT | EXACT | st.lists(FIELD, max_size=6)


def told(received: Received, *, in_values: bool) -> tuple[Any, ...]:
    if not in_values:
        return (received.runs, received.rejects, received.numbers, received.messages)
    runs = []
    for run in received.runs:
        unpacker = msgpack.Unpacker(strict_map_key=False)
        unpacker.feed(run.body)
        values = [sorted(repr(item) for item in fields.items()) for fields in unpacker]
        runs.append((run.stream, run.source_seq, run.count, run.time_min_ns, run.time_max_ns))
        runs.append(values)  # type: ignore[arg-type]  # beside the run's facts, for comparison
    return (runs, received.rejects, received.numbers, received.messages)


def both_ways(batch: list[Any]) -> tuple[Received, Received]:
    plain = read_messages(batch, 7, ARRIVAL, LIMITS)
    learnt = read_messages(batch, 7, ARRIVAL, LIMITS, taught())
    assert str(plain.failure) == str(learnt.failure)
    assert plain.size == learnt.size
    return plain, learnt


@given(st.lists(RECORD, min_size=1, max_size=12), st.booleans(), st.binary(max_size=2))
def test_msgpack_is_read_byte_for_byte_the_same_with_a_shape(
    records: list[Any], in_array: bool, behind: bytes
) -> None:
    batch = [pairs(fields) for fields in records]
    if in_array:
        batch = [msgpack.Packer().pack_array_header(len(batch)) + b"".join(batch)]
    batch[-1] += behind
    plain, learnt = both_ways(batch)
    assert told(plain, in_values=False) == told(learnt, in_values=False)


@given(st.lists(RECORD, min_size=1, max_size=12), st.booleans())
def test_json_is_read_with_the_same_values_with_a_shape(records: list[Any], in_array: bool) -> None:
    batch = [json_pairs(fields) for fields in records]
    if in_array:
        batch = ["[" + ",".join(batch) + "]"]
    plain, learnt = both_ways(batch)
    assert told(plain, in_values=True) == told(learnt, in_values=True)


@pytest.mark.parametrize(
    "odd",
    [
        pairs([("time", float("nan")), ("stream", "a")]),
        pairs([("time", 1.0), ("stream", "a"), ("t", b"binary")]),
        pairs([("time", 1.0), ("stream", "a"), (5, 5)]),
        pairs([("time", 1.0), ("stream", "a"), (b"t", 5)]),
        b"\x83\xa4time\x01\xa6stream\xa1a\xa1t\xa1\xff",
        b"\x83\xa4time\x01\xa6stream\xa1a\xa1t\xd4\x05\x00",
        b"\xc1",
        b"",
    ],
    ids=["NaN", "binary", "number as key", "binary key", "not UTF-8", "extension", "C1", "empty"],
)
def test_what_is_not_usual_is_judged_the_same_with_a_shape(odd: bytes) -> None:
    plain, learnt = both_ways([msgpack.packb(USUAL), odd, msgpack.packb(USUAL)])
    assert told(plain, in_values=False) == told(learnt, in_values=False)


def test_json_of_a_shape_is_byte_for_byte_the_same_where_its_keys_come_in_its_order() -> None:
    batch = [json.dumps(USUAL | {"t": value}) for value in (1, 1.0, "x", None, 2**64 - 1, [1.5])]
    plain, learnt = both_ways(batch)
    assert plain.runs == learnt.runs


def test_a_sender_teaches_its_keys_and_only_in_bulk() -> None:
    learner = Learner(ShapeCache(4), learnt_after=3 * BULK_FROM)
    for _ in range(100):
        learner.look([USUAL] * (BULK_FROM - 1))
    assert learner.shape() is None
    for _ in range(2):
        learner.look([USUAL] * BULK_FROM)
    assert learner.shape() is None
    learner.look([USUAL] * BULK_FROM)
    shape = learner.shape()
    assert shape is not None
    (records,) = shape.read([msgpack.packb([USUAL, {"time": 2, "stream": "b"}])], **MSGPACK_ARRAY)
    assert shape.times(records) == [USUAL["time"], 2]
    assert shape.streams(records) == ["a", "b"]


MSGPACK_ARRAY = {"is_json": False, "is_array": True}


@pytest.mark.parametrize(
    "record",
    [
        {f"key{index}": 1 for index in range(KEYS_MAX + 1)},
        {"k" * (KEY_CHARACTERS_MAX + 1): 1},
        {'"': 1},
        {"\n": 1},
    ],
    ids=["many", "long", "quote", "control"],
)
def test_keys_that_no_class_can_or_should_have_are_not_learnt(record: dict[str, Any]) -> None:
    cache = ShapeCache(4)
    learner = Learner(cache, learnt_after=1)
    for _ in range(100):
        learner.look([record] * BULK_FROM)
    assert learner.shape() is None
    assert len(cache) == 0


def test_a_sender_that_varies_its_keys_makes_no_classes() -> None:
    cache = ShapeCache(4)
    learner = Learner(cache, learnt_after=10 * BULK_FROM)
    for index in range(1000):
        learner.look([{f"key{index}": 1}] * BULK_FROM)
    assert len(cache) == 0


def test_a_shape_that_never_fits_is_forgotten_and_has_to_be_seen_twice_as_often() -> None:
    learner = taught()
    for _ in range(MISSES_MAX - 1):
        learner.miss()
    learner.hit()
    for _ in range(MISSES_MAX - 1):
        learner.miss()
    assert learner.shape() is not None
    learner.miss()
    assert learner.shape() is None
    learner.look([USUAL] * BULK_FROM)
    assert learner.shape() is None
    learner.look([USUAL] * BULK_FROM)
    assert learner.shape() is not None


def test_the_shape_that_was_not_used_lately_goes_and_its_class_with_it() -> None:
    cache = ShapeCache(2)
    busy, idle = taught({"busy": 1}, cache), taught({"idle": 1}, cache)
    going = idle.shape()
    assert going is not None
    made = weakref.ref(type(going.read([msgpack.packb([{"idle": 1}])], **MSGPACK_ARRAY)[0][0]))
    for shape in (busy.shape(), going):
        assert shape is not None
        shape.is_used = shape is not going
    new = taught({"new": 1}, cache)
    assert (len(cache), idle.shape()) == (2, None)
    assert busy.shape() is not None
    assert new.shape() is not None
    with pytest.raises(DECODE_ERRORS):
        going.read([msgpack.packb([{"idle": 1}])], **MSGPACK_ARRAY)
    gc.collect()
    assert made() is None


def test_senders_of_the_same_keys_share_a_shape() -> None:
    cache = ShapeCache(2)
    assert taught(USUAL, cache).shape() is taught(USUAL, cache).shape()


def test_one_list_is_enough_for_a_shape_that_others_have_taught_unless_it_was_in_doubt() -> None:
    cache = ShapeCache(2)
    taught(USUAL, cache)
    learner = Learner(cache)
    learner.look([{"other": 1}] * BULK_FROM)
    assert learner.shape() is None
    learner = Learner(cache)
    learner.look([USUAL] * BULK_FROM)
    assert learner.shape() is taught(USUAL, cache).shape()
    for _ in range(MISSES_MAX):
        learner.miss()
    learner.look([USUAL] * BULK_FROM)
    assert learner.shape() is None


def test_a_shape_tells_no_times_where_its_keys_have_none() -> None:
    shape = Shape(("t",))
    (records,) = shape.read(['[{"t": 1}, {}]'], is_json=True, is_array=True)
    assert len(records) == 2
    assert shape.times(records) is None
    assert shape.streams(records) is None
