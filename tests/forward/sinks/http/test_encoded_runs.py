"""Records encoded run by run: the same bytes as one by one, whatever they hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import structs

from edge_agent.config import Format
from edge_agent.errors import SinkRefused
from edge_agent.forward.sink import Batch
from edge_agent.forward.sinks.http.body import encode_each, rendered
from edge_agent.forward.sinks.http.encoded_runs import encoded_runs
from edge_agent.store import Block, Gap, encode_runs
from edge_agent.values.record import Origin, Run
from edge_agent.values.stream_names import compile_patterns
from tests.forward.support import NOW_NS, make_run
from tests.forward.thinned import thinned_block

AGENT, EPOCH = "9b1d", "5f0c"
FORMATS: tuple[Format, ...] = ("ndjson", "json", "cloudevents", "msgpack")
BOOT = bytes(16)
TEXT = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(
    ['"', "\\", "\n", "\0", "\u2028", "t\u00fcr", "a,b", ".0,"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | TEXT
    | st.binary(max_size=4)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=3))
    | st.builds(msgpack.Timestamp, st.integers(-(10**9), 10**10), st.integers(0, 999_999_999)),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(TEXT | st.integers(-9, 9) | st.none(), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
#: As sensors' clocks give them: whole, to the millisecond, the microsecond, and as a double has it.
SECONDS = st.builds(
    lambda whole, part, digits: whole + round(part, digits),
    st.integers(1_577_836_700, 2**33 + 2**27 + 9),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from([0, 1, 3, 5, 6, 7, 9]),
)
TIMES = (
    st.integers(-(10**4), 2**35) | SECONDS | st.none() | st.booleans() | TEXT | st.floats()
    | st.integers(-(2**63), 2**64 - 1)
    | st.sampled_from(["2026-11-22T10:00:00.5+02:00", {"historic": -3}, {"historic": -(9 * 10**9)}])
    | st.builds(msgpack.Timestamp, st.integers(-(10**9), 10**10), st.integers(0, 999_999_999))
)  # fmt: skip
RECORDS = st.builds(
    lambda time, fields, more: {**time, **fields, **more},
    st.fixed_dictionaries({}, optional={"time": TIMES}),
    st.dictionaries(TEXT, VALUES, max_size=3),
    st.fixed_dictionaries({}, optional={"stream": TEXT}),
)
#: What no encoder of ours writes: another agent's, or a sensor's own.
STRANGE = st.sampled_from(
    [
        b"\x81\xa1\xff\x01",  # a key that is no UTF-8
        b"\x81\xa1a\xa1\xff",  # a text that is none
        b"\x82\xa1a\x01\xa1a\x02",  # the same key twice
        b"\x83\xa4time\x01\xa1a\x02\xa4time\xcb\x41\xda\xac\x9c\xc4\x00\x00\x00",  # and a time
        b"\x81\xd9\x01a\xd3" + bytes(8),  # wider than it need be
        b"\xdf\x00\x00\x00\x01\xda\x00\x01a\xca\x3f\x80\x00\x00",  # likewise, and a short float
        b"\x81\xa1a\xcb\x7f\xf8" + bytes(5) + b"\x01",  # a NaN with something in it
        b"\x81\xa1a\xd7\xff" + bytes(3) + b"\x04" + bytes(4),  # a timestamp of one nanosecond
        b"\x81\xa1a\xd7\xff" + b"\xff" * 8,  # and one that is none
        b"\x81\xa1a" + b"\x91" * 60 + b"\x90",  # deep
    ]
)
#: Of one run: odd ones, and those of a sensor as most are.
BODIES = st.one_of(
    st.lists(RECORDS.map(msgpack.packb) | STRANGE, min_size=1, max_size=4),
    st.lists(
        st.builds(lambda time, n: msgpack.packb({"time": time, "n": n}), SECONDS, st.floats()),
        min_size=1, max_size=12,
    ),
)  # fmt: skip
NAMES = st.sampled_from(["t/1", "t/2", 't/"\\', "t/tür", "other"])
SOURCES = st.sampled_from(
    ["s", 'pi-7/"x"', "$thin/t/2", "quelle/ü", "s" * 31, "s" * 32, "ü" * 200, "s" * 65_536]
)
RUNS = st.builds(
    lambda stream, source, bodies, synced, arrival: structs.replace(
        make_run(stream, len(bodies)),
        body=b"".join(bodies), source=source, synced=synced, arrival_ns=arrival,
    ),
    NAMES, SOURCES, BODIES, st.booleans(),
    st.sampled_from([NOW_NS, NOW_NS + 123_456_789, 0, 5]),
)  # fmt: skip
AGGREGATE_OF_A_PEER = structs.replace(
    make_run("t/1", 1, source="$thin/s"), body=msgpack.packb({"x": msgpack.ExtType(5, b"1")})
)
ORIGINS = st.none() | st.builds(
    Origin,
    st.sampled_from(["77aa", 'ag"ent\\']), st.sampled_from(["e9", 'é"']), st.just("alarms"),
    st.integers(1, 2**62), st.just(BOOT), st.just(1), st.just(NOW_NS), st.booleans(),
    st.just(("77aa",)),
)  # fmt: skip


def block_of(runs: list[Run], origin: Origin | None, first: int) -> Block:
    raw, count = encode_runs(runs), sum(run.count for run in runs)
    return Block(
        "main", first, count, 0, len(raw), raw, BOOT, 1, NOW_NS, False, NOW_NS, NOW_NS, origin
    )


def assert_same(batch: Batch, how: Format) -> None:
    """Encoded by runs it is what `rendered` says of each record."""
    matches = compile_patterns(("t/**", "$agents/**"))
    expected = [rendered(record, AGENT, EPOCH) for record in batch.records(matches)]
    texts: list[bytes] = []
    unsaid = ""
    try:
        texts = encode_each(expected, how)
    except (TypeError, ValueError, OverflowError) as error:
        unsaid = f"cannot be written as {how}: {error}"
    if unsaid:
        with pytest.raises(SinkRefused) as refused:
            list(encoded_runs(batch, matches, AGENT, EPOCH, how))
        assert str(refused.value) == unsaid
        return
    runs = list(encoded_runs(batch, matches, AGENT, EPOCH, how))
    assert [text for run in runs for text in run.texts] == texts
    told = [
        (seq, identity, run.stream, run.source)
        for run in runs
        for seq, identity in zip(run.seqs, run.ids, strict=True)
    ]
    assert told == [(one.seq, one.id, one.stream, one.source) for one in expected]


@example([([AGGREGATE_OF_A_PEER], None)], 0, 0, {}, "ndjson")
@given(
    st.lists(st.tuples(st.lists(RUNS, min_size=1, max_size=3), ORIGINS), min_size=1, max_size=3),
    st.integers(0, 9), st.integers(0, 9),
    st.sampled_from([{}, {("", BOOT): 10**18}, {("77aa", BOOT): 7}, {("", BOOT): 2**63}]),
    st.sampled_from(FORMATS),
)  # fmt: skip
def test_runs_give_the_bytes_that_their_records_give(
    given_: list[tuple[list[Run], Origin | None]],
    skipped: int,
    cut: int,
    offsets: dict[Any, int],
    how: Format,
) -> None:
    items: list[Block | Gap] = []
    at = 1
    for runs, origin in given_:
        items += (
            block_of(runs, origin, at).corrected(offsets),
            Gap("main", at + 20, at + 20, "damaged"),
        )
        at += 21
    first = min(1 + skipped, at - 1)
    batch = Batch("main", first, max(at - 1 - cut, first), tuple(items))
    assert_same(batch, how)


@given(st.lists(SECONDS, min_size=1, max_size=9), st.sampled_from(FORMATS))
@example([1_577_836_801.0, 2**33 - 1], "ndjson")
# In the year 2242 doubles lie so far apart that the shortest text is another microsecond.
@example([2**33 + 0.000_030_5], "json")
@example([1_790_000_000.999_999_9, 1_790_000_000.123_456_7, 1_790_000_000.000_000_2], "ndjson")
@example([1_790_000_000.000_000_5], "ndjson")
# The last of an hour, which is the next hour's first to the microsecond; and what hides from min().
@example([1_790_002_799.5, 1_790_002_799.999_999_8], "ndjson")
@example([1_790_000_000.5, float("nan"), 1_790_000_000.5], "ndjson")
def test_times_of_sensors_are_those_that_everything_else_reads(
    times: list[float], how: Format
) -> None:
    run = structs.replace(
        make_run("t/1", len(times)),
        body=b"".join(msgpack.packb({"time": time}) for time in times),
    )
    assert_same(Batch("main", 1, len(times), (block_of([run], None, 1),)), how)


@given(st.integers(0, 9), st.booleans(), st.sampled_from(FORMATS))
def test_aggregates_and_what_shares_a_seq_are_as_one_by_one(
    skipped: int, foreign: bool, how: Format
) -> None:
    origin = Origin("77aa", "e9", "alarms", 40, BOOT, 1, NOW_NS, True, ("77aa",))
    thinned = [
        thinned_block(
            at, make_run("t/1", 4), make_run("t/2", 6, 4), origin=origin if foreign else None
        )
        for at in (1, 6)
    ]
    # Numbers that two blocks claim, as after a repair.
    batch = Batch("main", 1 + skipped, 15, tuple(thinned), begun=1 + skipped)
    assert_same(batch, how)
    assert_same(replace(batch, begun=1), how)


def test_a_run_of_more_records_than_become_objects_at_a_time_is_whole() -> None:
    run = make_run("t/1", 10_000)
    batch = Batch("main", 4000, 9000, (block_of([run], None, 1),))
    assert_same(batch, "ndjson")
    found = list(encoded_runs(batch, lambda _: True, AGENT, EPOCH, "ndjson"))
    assert len(found) > 1 and sum(len(one.texts) for one in found) == 5001
