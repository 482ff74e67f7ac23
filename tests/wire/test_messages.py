"""From messages to runs, in both encodings, whole and in lists."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from datetime import UTC
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from edge_agent.errors import ProtocolError
from edge_agent.values.record import resolve_time
from edge_agent.values.time_format import parse_format
from edge_agent.wire.encodings import MSGPACK
from edge_agent.wire.messages import read_in_turns, read_message, read_messages
from edge_agent.wire.reading_types import (
    RUN_BYTES_MAX,
    Arrival,
    Received,
    TimeKey,
    TooBigMessage,
    Undecodable,
    WireLimits,
)
from edge_agent.wire.records import Good, judge
from edge_agent.wire.shapes import Learner

NOW = 1_795_341_600 * 10**9
NOW_WITH_A_QUARTER = NOW + 250_000_000
ARRIVAL = Arrival("greenhouse/1", "pi-7", NOW, synced=True)
LIMITS = WireLimits()
#: Below the depth of a usual record nothing is taken in bulk.
CAREFUL = WireLimits(record_depth=2)


def pack(value: Any) -> bytes:
    return msgpack.packb(value)


def records_of(received: Received) -> list[tuple[int, str, Any]]:
    """(number, stream, fields) of every good record."""
    found: list[tuple[int, str, Any]] = []
    for run in received.runs:
        unpacker = msgpack.Unpacker(timestamp=1)
        unpacker.feed(run.body)
        maps = list(unpacker)
        assert len(maps) == run.count
        found += [(run.source_seq + i, run.stream, fields) for i, fields in enumerate(maps)]
    return found


# ---- shapes ----


@pytest.mark.parametrize("encode", [pack, json.dumps])
def test_a_map_is_one_record_and_an_array_a_batch_in_order(encode: Any) -> None:
    one = read_message(encode({"t": 21.5}), 7, ARRIVAL, LIMITS)
    assert records_of(one) == [(7, "greenhouse/1", {"t": 21.5})]
    assert one.numbers == 1
    batch = read_message(encode([{"t": 1}, {"t": 2}, 3]), 7, ARRIVAL, LIMITS)
    assert [fields for *_, fields in records_of(batch)] == [{"t": 1}, {"t": 2}, {"value": 3}]
    assert batch.numbers == 3


@pytest.mark.parametrize("encode", [pack, json.dumps])
@pytest.mark.parametrize("value", [21.5, 0, True, "open"])
def test_a_bare_value_is_a_record(encode: Any, value: object) -> None:
    received = read_message(encode(value), 1, ARRIVAL, LIMITS)
    assert records_of(received) == [(1, "greenhouse/1", {"value": value})]


@pytest.mark.parametrize("encode", [pack, json.dumps])
def test_an_empty_array_takes_no_number(encode: Any) -> None:
    received = read_message(encode([]), 1, ARRIVAL, LIMITS)
    assert (received.numbers, received.runs, received.rejects) == (0, (), ())


def test_msgpack_is_kept_byte_for_byte() -> None:
    # A float32, a str8 where a fixstr would do, a map16 where a fixmap would.
    raw = b"\xde\x00\x01\xd9\x01t\xca\x41\xac\x00\x00"
    assert read_message(raw, 1, ARRIVAL, LIMITS).runs[0].body == raw
    batch = read_message(b"\xdc\x00\x02" + raw * 2, 1, ARRIVAL, LIMITS)
    assert batch.runs[0].body == raw * 2


def test_each_element_takes_a_number_good_or_bad() -> None:
    message = pack([{"t": 1}, None, {"time": "noon"}, {"t": 2}, [1], {"t": 3}])
    received = read_message(message, 100, ARRIVAL, LIMITS)
    assert [number for number, *_ in records_of(received)] == [100, 103, 105]
    assert [(r.number, r.code) for r in received.rejects] == [
        (101, "bad_record"),
        (102, "bad_time"),
        (104, "bad_record"),
    ]
    assert received.numbers == 6
    assert received.rejects[1].body == pack({"time": "noon"})


def test_plain_mode_numbers_nothing() -> None:
    received = read_message(pack([{"t": 1}, None, {"t": 2}]), 0, ARRIVAL, LIMITS)
    assert {run.source_seq for run in received.runs} == {0}
    assert received.rejects[0].number == 0
    assert received.numbers == 3


def test_a_record_that_names_a_stream_goes_there_and_runs_are_split() -> None:
    message = pack([{"t": 1}, {"t": 2, "stream": "b"}, {"t": 3, "stream": "b"}, {"t": 4}])
    received = read_message(message, 1, ARRIVAL, LIMITS)
    assert [(run.stream, run.count, run.source_seq) for run in received.runs] == [
        ("greenhouse/1", 1, 1),
        ("b", 2, 2),
        ("greenhouse/1", 1, 4),
    ]


def test_a_stream_that_the_token_forbids_is_a_reject_and_not_the_end() -> None:
    strict = Arrival("a", "pi", NOW, synced=True, may_write=lambda name: name == "b")
    message = pack([{"stream": "b"}, {"stream": "c"}, {"t": 1}])
    received = read_message(message, 1, strict, LIMITS)
    assert [run.stream for run in received.runs] == ["b", "a"]
    assert [(r.number, r.code) for r in received.rejects] == [(2, "forbidden_stream")]


@pytest.mark.parametrize("name", [[], {}, 5, True])
def test_a_stream_that_is_no_text_is_a_reject(name: object) -> None:
    received = read_messages([pack({"stream": name}), pack({"t": 1})], 1, ARRIVAL, LIMITS)
    assert [r.code for r in received.rejects] == ["bad_stream"]
    assert received.numbers == 2


def test_the_word_stream_elsewhere_changes_nothing() -> None:
    received = read_messages([pack({"note": "stream time"})] * 2, 1, ARRIVAL, LIMITS)
    assert [(run.stream, run.count) for run in received.runs] == [("greenhouse/1", 2)]


# ---- times ----


@pytest.mark.parametrize(
    "times",
    [
        [1_795_341_000.5, 1_795_340_000.25, 1_795_342_000],
        [1_795_341_000, None, -30],
        [0, -1, -2.5],
        [100.0, 200.0],
        ["2026-11-22T10:00:00Z", "2026-11-22T09:00:00.125+01:00"],
        [None, None],
        [1_795_341_000.1, 1.0, 1_262_304_000],
    ],
)
def test_a_run_tells_the_range_of_its_resolved_times(times: list[object]) -> None:
    expected = [resolve_time(value, NOW)[0] for value in times]
    for messages in (
        [pack({"time": value}) for value in times],
        [pack([{"time": v} for v in times])],
    ):
        (run,) = read_messages(messages, 1, ARRIVAL, LIMITS).runs
        assert (run.time_min_ns, run.time_max_ns) == (min(expected), max(expected))


def test_a_nan_among_good_times_does_not_slip_through() -> None:
    good = 1_795_341_000.5
    for times in ([good, float("nan"), good], [float("nan"), good], [good, float("inf")]):
        received = read_message(pack([{"time": value} for value in times]), 1, ARRIVAL, LIMITS)
        assert [r.code for r in received.rejects] == ["bad_time"]


# ---- what cannot be read ----


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x81\xa1a",  # ends early
        b"\x81\xa1a\x01\x00",  # ends late
        b"\x92\x80",  # an array that ends early
        b"\x91\x80\x80",  # and late
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 100_000,  # deeper than a stack
        b"\x81\xa1a" * 100_000,
        "",
        " ",
        "{",
        "nan",
        '{"a": NaNa}',
        '{"a": NaN',
        "{NaN: 1}",
        '{"a": 1} {"a": 2}',
        "[1,]",
        "{'a': 1}",
        '{"a": "\ud800"}',  # half a character as it is
        '{"a": "\\ud800}',  # and escaped, in a text that does not end
        '{"a": "\\ud800", "b": NaNa}',
        '{"a": "\x01"}',
        "[" * 100_000,
        '{"a":' * 100_000,
        "hello",
    ],
)
def test_what_is_neither_json_nor_msgpack_is_undecodable(data: str | bytes) -> None:
    with pytest.raises(Undecodable) as caught:
        read_message(data, 1, ARRIVAL, LIMITS)
    assert caught.value.close_code == 1007
    assert len(caught.value.message) < 400


HALVES = [r"\ud800", r"x\uDBFFx", r"\udc00", r"\ud800\ud800", r"\ud83d\\ude00", r"\\\ud83d"]


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("count", [1, 3, 100])
def test_half_a_character_costs_its_record_alone(half: str, count: int) -> None:
    text = '{"a": "' + half + '", "n": 1.5}'
    values = [json.dumps({"a": "\\\\ud800 \U0001f600 ü", "n": number}) for number in range(count)]
    values[count // 2] = text
    received = read_message("[" + " ,\n".join(values) + "]", 1, ARRIVAL, LIMITS)
    assert received.numbers == count
    (reject,) = received.rejects
    assert (reject.number, reject.code) == (count // 2 + 1, "bad_record")
    # As it was sent, for whoever looks into quarantine.
    assert reject.body == text.encode()
    found = [fields["n"] for _, _, fields in records_of(received)]
    assert found == [n for n in range(count) if n != count // 2]


@pytest.mark.parametrize(
    "text", [r'"\ud800"', r'{"a": "\ud800"}', r' {"\ud800": 1} ', r'[["\udfff"]]']
)
def test_half_a_character_alone_is_a_record_at_fault(text: str) -> None:
    received = read_message(text, 1, ARRIVAL, LIMITS)
    assert received.numbers == 1 and received.rejects[0].code == "bad_record"


def test_half_a_character_beside_nan_costs_its_record_alone() -> None:
    received = read_message(
        r'[{"a": NaN}, {"a": "\ud800"}, {"a": "\ud83d\ude00"}]', 1, ARRIVAL, LIMITS
    )
    assert [reject.number for reject in received.rejects] == [2]
    assert [fields for _, _, fields in records_of(received)] == [{"a": None}, {"a": "\U0001f600"}]


def test_nan_in_json_is_null_and_costs_no_neighbour() -> None:
    # As Python's own encoder writes a batch of 100 in which one probe is broken.
    values = [{"t": float(number), "note": 'a "NaN" \\'} for number in range(100)]
    values[42]["t"] = float("nan")
    values[43]["t"] = float("-inf")
    values[44]["t"] = float("inf")
    received = read_message(json.dumps(values), 1, ARRIVAL, LIMITS)
    assert (received.numbers, received.rejects) == (100, ())
    found = [fields for _, _, fields in records_of(received)]
    assert [fields["t"] for fields in found[41:46]] == [41.0, None, None, None, 45.0]
    assert {fields["note"] for fields in found} == {'a "NaN" \\'}


@pytest.mark.parametrize("text", ["NaN", "[NaN, 1]", '{"a": {"b": [1, -Infinity]}}'])
def test_nan_is_null_wherever_it_stands(text: str) -> None:
    python = json.loads(text, parse_constant=lambda _: None)
    received = read_message(text, 1, ARRIVAL, LIMITS)
    same = read_message(json.dumps(python), 1, ARRIVAL, LIMITS)
    assert [run.body for run in received.runs] == [run.body for run in same.runs]
    assert [reject.code for reject in received.rejects] == [each.code for each in same.rejects]


def test_a_time_that_is_nan_is_the_fault_of_its_record_alone() -> None:
    received = read_message('[{"a": 1}, {"time" : NaN, "a": 2}, {"a": 3}]', 1, ARRIVAL, LIMITS)
    assert [(each.number, each.code) for each in received.rejects] == [(2, "bad_time")]
    assert received.numbers == 3


def test_a_text_that_never_ends_is_looked_through_once() -> None:
    # Some seconds where each of its quotes begins a search of its own.
    text = '{"a": NaN, "b": "' + '\\"' * 400_000
    with pytest.raises(Undecodable):
        read_message(text, 1, ARRIVAL, LIMITS)


def test_a_long_message_that_has_to_be_searched_for_nan_is_searched_turn_by_turn() -> None:
    # A mebibyte of it takes a quarter of a second, during which nobody else would be heard.
    text = '{"v": ["' + '","' * 20_000 + '", NaN]}'
    turns = list(read_in_turns([pack({"t": 1}), text], 1, ARRIVAL, LIMITS))
    assert [each.numbers for each in turns[:20]] == [1] + [0] * 19
    assert sum(each.numbers for each in turns) == 2
    found = [fields for turn in turns for _, _, fields in records_of(turn)]
    assert found == [{"t": 1}, {"v": [""] * 20_001 + [None]}]


@pytest.mark.parametrize("count", [1, 5, 100])
def test_text_that_is_not_utf_8_costs_no_neighbour(count: int) -> None:
    latin = b"\x81\xa1a\xa1\xb0"
    array = b"\xdc" + (count + 1).to_bytes(2, "big") + pack({"a": "\xb0"}) * count + latin
    received = read_message(array, 1, ARRIVAL, LIMITS)
    assert received.numbers == count + 1
    assert [(each.number, each.code) for each in received.rejects] == [(count + 1, "bad_record")]
    assert "UTF-8" in received.rejects[0].message


def test_a_bad_element_of_an_array_takes_the_whole_message_back() -> None:
    message = pack([{"t": 1}] * 3 + [None]) + b""
    spoilt = b"\x95" + message[1:] + b"\xc1"
    received = read_messages([pack({"t": 0}), spoilt, pack({"t": 9})], 1, ARRIVAL, LIMITS)
    assert records_of(received) == [(1, "greenhouse/1", {"t": 0})]
    assert not received.rejects
    assert (received.numbers, received.messages) == (1, 1)
    assert isinstance(received.failure, Undecodable)


def test_nested_deeper_than_allowed_is_a_reject_and_takes_its_number() -> None:
    value: Any = 1
    for _ in range(17):
        value = [value]
    received = read_message(pack([{"a": value}, {"t": 1}]), 5, ARRIVAL, LIMITS)
    assert [(r.number, r.code) for r in received.rejects] == [(5, "too_deep")]
    assert records_of(received) == [(6, "greenhouse/1", {"t": 1})]


def test_a_message_over_the_limit_is_too_big_in_bytes_and_not_in_characters() -> None:
    limits = WireLimits(message_bytes=20)
    read_message(json.dumps({"a": "x" * 10}), 1, ARRIVAL, limits)
    for data in (json.dumps({"a": "x" * 13}), '{"a": "' + "ü" * 6 + '"}', pack("x" * 20)):
        with pytest.raises(TooBigMessage) as caught:
            read_message(data, 1, ARRIVAL, limits)
        assert caught.value.close_code == 1009


@pytest.mark.parametrize("encode", [pack, lambda value: json.dumps(value, separators=(",", ":"))])
def test_too_many_records_are_refused_however_small(encode: Any) -> None:
    limits = WireLimits(batch_records=10)
    assert read_message(encode([{}] * 10), 1, ARRIVAL, limits).numbers == 10
    arrays: list[list[Any]] = [[{}] * 11, [1] * 11, [[]] * 11, [{}] * 100_000]
    for value in arrays:
        with pytest.raises(TooBigMessage, match="at most 10 records"):
            read_message(encode(value), 1, ARRIVAL, limits)


def test_a_record_over_its_limit_is_a_reject_and_its_neighbours_stay() -> None:
    limits = WireLimits(record_bytes=100)
    for encode in (pack, json.dumps):
        message = encode([{"a": 1}, {"a": "x" * 200}, {"a": 2}])
        received = read_message(message, 1, ARRIVAL, limits)
        assert [(r.number, r.code) for r in received.rejects] == [(2, "too_big")]
        assert [fields for *_, fields in records_of(received)] == [{"a": 1}, {"a": 2}]


def test_a_record_over_its_limit_is_a_reject_beside_nan_too() -> None:
    # Such an element is mended by itself, and was then taken whatever its length.
    for wrong in (
        '[{"t":NaN,"x":"%s"}]',
        '[{"a":1},{"t":NaN,"x":"%s"},{"a":2}]',
        '{"t":NaN,"x":"%s"}',
    ):
        received = read_message(wrong % ("y" * 70_000), 1, ARRIVAL, LIMITS)
        assert [reject.code for reject in received.rejects] == ["too_big"]
        assert sum(run.count for run in received.runs) == received.numbers - 1
        assert not read_message(wrong % ("y" * 60_000), 1, ARRIVAL, LIMITS).rejects


@pytest.mark.parametrize("encode", [pack, json.dumps, lambda value: json.dumps(value, indent=1)])
@pytest.mark.parametrize("inner", [1, [], {}, "ab", {"": 1}, [[1]]])
def test_a_record_of_too_many_values_is_a_reject_and_its_neighbours_stay(
    encode: Any, inner: Any
) -> None:
    each = 3 if inner in ({"": 1}, [[1]]) else 1
    for most in (2_000, 70_000):
        limits = WireLimits(record_bytes=1024 * 1024, message_bytes=10**7, record_values=most)
        # The map, its key and the array are values, too.
        fits = {"a": [inner] * ((most - 3) // each)}
        over = {"a": [inner] * ((most - 3) // each + 1)}
        received = read_message(encode([{"n": 1}, fits, over, {"n": 2}]), 1, ARRIVAL, limits)
        assert [(r.number, r.code) for r in received.rejects] == [(3, "too_many_values")]
        assert f"at most {most} values (limits.record_values)" in received.rejects[0].message
        assert [one for *_, one in records_of(received)] == [{"n": 1}, fits, {"n": 2}]
        for alone, codes in ((fits, []), (over, ["too_many_values"])):
            found = read_message(encode(alone), 1, ARRIVAL, limits)
            assert [reject.code for reject in found.rejects] == codes
            found = read_messages([encode({"n": 1}), encode(alone)], 1, ARRIVAL, limits)
            assert [reject.code for reject in found.rejects] == codes


def test_values_are_counted_by_what_nests_not_by_what_text_holds() -> None:
    limits = WireLimits(record_bytes=1024 * 1024, record_values=2_000)
    for encode in (pack, json.dumps):
        for text in ('[{"a":1,' * 20_000, '\\"' * 30_000):
            received = read_message(encode({"text": text}), 1, ARRIVAL, limits)
            assert not received.rejects and received.numbers == 1


def test_a_record_of_too_many_values_is_not_decoded() -> None:
    limits = WireLimits(record_bytes=1024 * 1024)
    message = pack({"a": [{}] * 1_000_000})
    tracemalloc.start()
    try:
        received = read_message(message, 1, ARRIVAL, limits)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [reject.code for reject in received.rejects] == ["too_many_values"]
    assert peak < 3 * len(message)


def test_an_array_larger_than_a_record_is_fine_if_its_records_are_not() -> None:
    limits = WireLimits(record_bytes=100)
    received = read_message(pack([{"a": i} for i in range(1000)]), 1, ARRIVAL, limits)
    assert [fields["a"] for *_, fields in records_of(received)] == list(range(1000))
    assert not received.rejects


def test_a_message_never_becomes_many_times_its_size_in_memory() -> None:
    # As one list of 32,000 empty maps in each of 32 records it would be 75 MB at once.
    record = b"\x81\xa1a\xdd\x00\x00\x7d\x00" + b"\x80" * 32_000
    message = b"\xdc\x00\x20" + record * 32
    tracemalloc.start()
    try:
        received = read_message(message, 1, ARRIVAL, LIMITS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(run.count for run in received.runs) == 32
    assert peak < 12 * 2**20


# ---- lists ----


def test_a_list_of_single_records_becomes_one_run() -> None:
    batch = [pack({"t": i}) for i in range(100)]
    received = read_messages(batch, 1000, ARRIVAL, LIMITS)
    (run,) = received.runs
    assert (run.source_seq, run.count, run.body) == (1000, 100, b"".join(batch))
    assert (received.messages, received.size) == (100, sum(map(len, batch)))


def test_two_halves_of_a_record_in_two_messages_are_no_record() -> None:
    raw = pack({"abc": 5})
    received = read_messages([pack({"t": 1}), raw[:3], raw[3:]], 1, ARRIVAL, LIMITS)
    assert (received.messages, received.numbers) == (1, 1)
    assert isinstance(received.failure, Undecodable)


def test_binary_that_happens_to_look_like_json_is_not_taken_for_text() -> None:
    received = read_messages(['{"a": 1}', b'{"a": 1}'], 1, ARRIVAL, LIMITS)
    assert received.messages == 1
    assert isinstance(received.failure, Undecodable)


def test_reading_ends_at_the_first_message_that_cannot_be_read() -> None:
    received = read_messages([pack(1), b"\xc1", pack(2)], 1, ARRIVAL, LIMITS)
    assert (received.messages, received.numbers, received.size) == (1, 1, 1)
    assert received.failure is not None
    assert received.failure.code == "undecodable"


def test_an_empty_list_is_nothing() -> None:
    received = read_messages([], 1, ARRIVAL, LIMITS)
    assert received == Received((), (), 0, 0, 0, None)


@pytest.mark.parametrize("encode", [pack, json.dumps])
def test_runs_of_a_large_batch_stay_below_their_limit(encode: Any) -> None:
    records = [{"t": i, "note": "x" * 50} for i in range(5000)]
    whole = read_message(encode(records), 1, ARRIVAL, LIMITS)
    singly = read_messages([encode(record) for record in records], 1, ARRIVAL, LIMITS)
    for received in (whole, singly):
        assert [fields["t"] for *_, fields in records_of(received)] == list(range(5000))
        assert all(len(run.body) <= RUN_BYTES_MAX for run in received.runs)
        assert len(received.runs) < 10


def test_json_that_grows_in_msgpack_stays_below_the_limit_of_a_run() -> None:
    records = [{"a": [1.5] * 100} for _ in range(120)]
    received = read_message(json.dumps(records, separators=(",", ":")), 1, ARRIVAL, LIMITS)
    assert sum(run.count for run in received.runs) == 120
    assert all(len(run.body) <= RUN_BYTES_MAX for run in received.runs)


# ---- the bulk way and the careful way agree ----

names = st.sampled_from(["t", "time", "stream", "ü", ""])
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from(["a/b", "a b", "2026-11-22T10:00:00Z", -30, 1_795_341_000.5, 17]),
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3)
)
records = st.dictionaries(names, leaves, max_size=4)


def told(call: Any, *args: Any) -> Any:
    try:
        return call(*args)
    except ProtocolError as error:
        return error.code


@settings(max_examples=150)
@given(st.lists(records, max_size=6), st.booleans())
def test_in_bulk_and_one_by_one_give_the_same(sent: list[Any], is_json: bool) -> None:
    encode: Any = json.dumps if is_json else pack
    bulk = read_message(encode(sent), 1, ARRIVAL, LIMITS)
    careful = read_message(encode(sent), 1, ARRIVAL, CAREFUL)
    assert bulk == careful
    listed = read_messages([encode(record) for record in sent], 1, ARRIVAL, LIMITS)
    assert (listed.runs, listed.rejects) == (bulk.runs, bulk.rejects)


@settings(max_examples=150)
@given(st.lists(values, max_size=5), st.booleans())
def test_every_element_comes_out_as_it_was_sent_or_with_a_reason(
    sent: list[Any], is_json: bool
) -> None:
    encode: Any = json.dumps if is_json else pack
    received = read_message(encode(sent), 1, ARRIVAL, LIMITS)
    assert received.numbers == len(sent)
    good = {number: fields for number, _, fields in records_of(received)}
    bad = {reject.number for reject in received.rejects}
    assert good.keys() | bad == set(range(1, len(sent) + 1))
    assert not good.keys() & bad
    for number, fields in good.items():
        value = sent[number - 1]
        assert fields == (value if isinstance(value, dict) else {"value": value})


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=12) | st.text(max_size=12) | values.map(pack), max_size=4))
def test_nothing_that_can_be_sent_raises_anything_but_a_protocol_error(
    batch: list[str | bytes],
) -> None:
    received = read_messages(batch, 1, ARRIVAL, LIMITS)
    one_by_one = [told(read_message, data, 1, ARRIVAL, LIMITS) for data in batch]
    readable = [item for item in one_by_one if isinstance(item, Received)]
    if received.failure is None:
        assert received.messages == len(batch) == len(readable)
        assert received.numbers == sum(item.numbers for item in readable)
    else:
        assert one_by_one[received.messages] == received.failure.code


@settings(max_examples=200)
@given(values | st.binary(max_size=6).map(lambda drawn: {"t": drawn}), st.integers(0, 2))
def test_a_list_of_one_is_read_as_its_message_by_itself(sent: Any, number: int) -> None:
    messages: list[str | bytes] = [pack(sent)]
    if not (isinstance(sent, dict) and isinstance(sent.get("t"), bytes)):
        messages += [json.dumps(sent), " " + json.dumps(sent)]
    for limits in (LIMITS, CAREFUL, WireLimits(record_bytes=12), WireLimits(message_bytes=12)):
        for message in messages:
            listed = read_messages([message], number, ARRIVAL, limits)
            failed = None if listed.failure is None else listed.failure.code
            assert (failed or listed) == told(read_message, message, number, ARRIVAL, limits)


# ---- where a stream has its time, by a rule ----


def with_time_key(name: str, form: str | None = None, zone: str | None = None) -> Arrival:
    """Arrivals of the stream "meter", whose records have their time under ``name``."""
    key = TimeKey(name, parse_format(form, zone, form_key="format", zone_key="zone"))
    return replace(
        ARRIVAL, stream="meter", time_key=lambda stream: key if stream == "meter" else None
    )


@pytest.mark.parametrize("encode", [pack, json.dumps], ids=["msgpack", "json"])
@pytest.mark.parametrize(
    "key, form, zone, value",
    [
        ("ts", "unix-ms", None, 1_795_341_600_250),
        ("ts", None, None, "2026-11-22T10:00:00.25Z"),
        ("when", "%d.%m.%Y %H:%M:%S.%f", "Europe/Berlin", "22.11.2026 11:00:00.25"),
        ("time", None, "Europe/Berlin", "2026-11-22 11:00:00.25"),
    ],
)
def test_a_rule_says_where_the_time_is_and_how_it_is_written(
    encode: Callable[[Any], str | bytes], key: str, form: str | None, zone: str | None, value: Any
) -> None:
    arrival = with_time_key(key, form, zone)
    records = [{"t": 1, key: value}, {"t": 2, key: value, "stream": "meter"}, {"t": 3}]
    one_by_one = [encode(record) for record in records]
    for messages in (one_by_one, [encode(records)], one_by_one[:1]):
        received = read_messages(messages, 1, arrival, LIMITS, Learner())
        assert received.rejects == ()
        for _, _, fields in records_of(received):
            expected = NOW if fields["t"] == 3 else NOW_WITH_A_QUARTER
            assert resolve_time(fields.get("time"), NOW)[0] == expected
            assert key == "time" or key not in fields


def test_other_streams_are_read_as_ever() -> None:
    arrival = replace(with_time_key("ts", "unix-ms"), stream="other")
    batch = [pack({"t": 1, "ts": "not looked at"})] * 5
    (run,) = read_messages(batch, 1, arrival, LIMITS).runs
    assert run.body == b"".join(batch)


@pytest.mark.parametrize("value", ["noon", "2026-11-22 10:00", 1e300, [], True])
def test_a_time_that_the_rule_does_not_understand_names_its_key(value: object) -> None:
    received = read_message(pack({"ts": value}), 1, with_time_key("ts"), LIMITS)
    (reject,) = received.rejects
    assert (reject.code, reject.message[:4]) == ("bad_time", "ts: ")


@pytest.mark.parametrize("arrival, expected", [("00:31", "00:30"), ("01:29", "01:30")])
def test_of_an_hour_that_occurs_twice_the_arrival_says_which_is_meant(
    arrival: str, expected: str
) -> None:
    now_ns = resolve_time(f"2026-10-25T{arrival}:00Z", 0)[0]
    key = with_time_key("ts", None, "Europe/Berlin")
    (run,) = read_message(
        pack({"ts": "2026-10-25 02:30"}), 1, replace(key, wall_ns=now_ns), LIMITS
    ).runs
    assert run.time_min_ns == resolve_time(f"2026-10-25T{expected}:00Z", 0)[0]
    (reject,) = read_message(pack({"ts": "2026-10-25 02:30"}), 1, key, LIMITS).rejects
    assert "occurs twice" in reject.message


@settings(max_examples=150)
@given(
    st.lists(
        st.binary(max_size=12)
        | st.text(max_size=12)
        | values.map(pack)
        | st.lists(values | st.binary(max_size=3), min_size=2, max_size=30).map(pack),
        max_size=8,
    ),
    st.sampled_from([1, 3, 64]),
)
def test_turn_by_turn_and_all_at_once_give_the_same(batch: list[str | bytes], turn: int) -> None:
    whole = read_messages(batch, 7, ARRIVAL, LIMITS)
    turns = list(read_in_turns(batch, 7, ARRIVAL, LIMITS, turn=turn))
    assert [received.is_last for received in turns] == [False] * (len(turns) - 1) + [True]
    for field in ("numbers", "size", "messages"):
        assert sum(getattr(each, field) for each in turns) == getattr(whole, field)
    assert [one for each in turns for one in each.rejects] == list(whole.rejects)
    assert [one for each in turns for one in records_of(each)] == records_of(whole)
    assert all(len(each.rejects) <= turn + 32 for each in turns)
    assert turns[-1].unread == whole.unread
    assert (turns[-1].failure is None) == (whole.failure is None)


def test_reading_goes_on_behind_what_cannot_be_read_and_rejects_stand_apart() -> None:
    batch = [pack({"t": 1}), b"\xc1", pack({"t": 2}), pack([1]), pack([[], {}]), pack({"t": 3})]
    turns = list(read_in_turns(batch, 0, ARRIVAL, LIMITS, past_failures=True, apart=True))
    seen = [(each.messages, len(each.rejects), each.unread) for each in turns]
    assert seen == [(1, 0, b"\xc1"), (2, 0, b""), (1, 1, b""), (1, 0, b"")]


@settings(max_examples=100)
@given(
    st.lists(
        st.dictionaries(
            names,
            st.recursive(
                leaves | st.binary(max_size=3) | st.datetimes(timezones=st.just(UTC)),
                lambda inner: (
                    st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2)
                ),
                max_leaves=8,
            ),
            max_size=3,
        ),
        max_size=6,
    ),
    st.integers(3, 6),
)
def test_binary_timestamps_and_depth_are_the_same_in_bulk_and_one_by_one(
    sent: list[Any], depth: int
) -> None:
    limits = WireLimits(record_depth=depth)
    raws = [msgpack.packb(record, datetime=True) for record in sent]
    bulk = read_messages(raws, 1, ARRIVAL, limits)
    singly = [judge(raw, MSGPACK, ARRIVAL, limits) for raw in raws]
    bad = [at for at, verdict in enumerate(singly, 1) if not isinstance(verdict, Good)]
    assert [reject.number for reject in bulk.rejects] == bad
    good = [verdict for verdict in singly if isinstance(verdict, Good)]
    assert b"".join(run.body for run in bulk.runs) == b"".join(one.body for one in good)
    assert {run.time_min_ns for run in bulk.runs} <= {one.time_ns for one in good}
    assert max((run.time_max_ns for run in bulk.runs), default=0) == max(
        (one.time_ns for one in good), default=0
    )


def test_a_record_that_vouches_for_an_old_date_is_believed_under_a_rule_too() -> None:
    arrival = with_time_key("time", None, "Europe/Berlin")
    data = pack({"t": 1, "time": {"historic": "2010-01-01T00:00:00Z"}})
    (run,) = read_message(data, 1, arrival, LIMITS).runs
    assert run.time_min_ns == 1_262_304_000 * 10**9
