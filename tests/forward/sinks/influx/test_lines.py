"""Lines of the line protocol: what they say, and that a real InfluxDB reads the same."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from time import thread_time
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from benchmarks.ports import free_port
from benchmarks.upstreams.servers import HttpDatabase, influxdb
from edge_agent.config import InfluxTable
from edge_agent.forward.run_columns import RunColumns
from edge_agent.forward.sinks.influx.lines import LineRenderer
from edge_agent.values.record import Record, TimeQuality
from tests.forward.support import NOW_NS

AGENT = "0123456789ab"
MS = 1_000_000


def record(
    fields: dict[str, Any],
    *,
    seq: int = 7,
    time_ns: int = NOW_NS + 1234,
    quality: TimeQuality = "sensor",
    **more: Any,
) -> Record:
    given_ = {"stream": "t/1", "source": "pi/s"} | more
    return Record(
        "main", seq, time_ns=time_ns, quality=quality, stored_ns=NOW_NS, synced=True,
        source_seq=1, fields=fields, **given_,
    )  # fmt: skip


def slices(*records: Record) -> list[RunColumns]:
    return [RunColumns.of(one) for one in records]


def line(fields: dict[str, Any], table: InfluxTable | None = None, **more: Any) -> str:
    (found,) = (
        LineRenderer(table or InfluxTable(), AGENT).render(slices(record(fields, **more))).lines
    )
    return found


def said(fields: dict[str, Any], **table: Any) -> str:
    return line(fields, InfluxTable(tags=(), **table)).partition(" ")[2].rpartition(" ")[0]


def test_a_line_has_measurement_tags_fields_and_time() -> None:
    found = line({"t": 21.5, "ok": True})
    assert found == f"t/1,agent={AGENT},source=pi/s t=21.5,ok=true {NOW_NS + 1007}"


def test_a_fixed_measurement_has_the_stream_as_a_tag() -> None:
    table = InfluxTable(measurement="edge data", tags=("stream",))
    assert line({"t": 1.5}, table).startswith("edge\\ data,stream=t/1 t=1.5 ")


def test_the_agent_that_stored_it_first_is_its_agent() -> None:
    found = line({"t": 1.5}, origin="ba9876543210", origin_seq=1_000_003, time_ns=NOW_NS)
    assert ",agent=ba9876543210," in found and found.endswith(f" {NOW_NS + 3}")


@pytest.mark.parametrize("value, text", [
    (1.5, "1.5"), (2, "2"), (True, "true"), (False, "false"), (2**64 - 1, str(2**64 - 1)),
    (1e300, "1e300"), (-0.0, "-0.0"), ("a b", '"a b"'), ('a"\\', '"a\\"\\\\"'), ("a\nb", '"a\nb"'),
    (datetime(2026, 11, 22, 10, tzinfo=UTC), '"2026-11-22T10:00:00Z"'),
])  # fmt: skip
def test_what_values_become(value: object, text: str) -> None:
    assert said({"v": value}) == f"v={text}"


def test_integers_have_their_suffix_where_it_is_wanted() -> None:
    fields = {"a": 1, "b": -(2**63), "c": 2**63, "d": 1.5}
    expected = f"a=1i,b=-{2**63}i,c={2**63}u,d=1.5"
    assert said(fields, integers=True) == expected


def test_what_the_protocol_cannot_say_is_left_out() -> None:
    fields = {
        "nan": float("nan"), "inf": float("-inf"), "list": [1], "bytes": b"x", "none": None,
        "": 1, "ext": msgspec.msgpack.Ext(5, b"x"), "in": {"a": 1, "b": {"c": "x", "d": []}},
    }  # fmt: skip
    assert said(fields) == 'in.a=1,in.b.c="x"'


def test_a_record_of_which_nothing_is_left_is_told_and_hides_no_other() -> None:
    records = [record({"t": float(n)} if n % 2 else {"l": [n]}, seq=n) for n in range(1, 7)]
    found = LineRenderer(InfluxTable(), AGENT).render(slices(*records, record({}, seq=9)))
    assert len(found.lines) == 3 and found.unsaid == [2, 4, 6, 9]
    assert [one.split()[1] for one in found.lines] == ["t=1.0", "t=3.0", "t=5.0"]


def test_quick_and_careful_ways_say_the_same() -> None:
    plain: list[dict[str, Any]] = [
        {"t": 1.5, "n": 3},
        {"b": False, "1e5": 2**63},
        {"a b": 1e-7, "ü=,": -1.5e300},
        {":x": 1.5, "a:b": 2, "[": 3, "null": True},
    ]
    careful = LineRenderer(InfluxTable(tag_fields=()), AGENT)
    for fields in plain:
        with_text = said(fields | {"s": "x"})
        assert said(fields) + ',s="x"' == with_text.replace("1e-07", "1e-7").replace("e+", "e")
    mixed = [record(one) for one in (*plain, {"s": 'x":1'}, {"t": None, "u": 1}, *plain)]
    together = careful.render(slices(*mixed))
    alone = [careful.render(slices(one)) for one in mixed]
    assert together.lines == [found.lines[0] for found in alone]


def test_names_that_no_two_records_share_cost_no_more_than_others() -> None:
    def cost_s(names: int) -> float:
        given_ = [record({f"k{n % names}_{m}": 1 for m in range(50)}) for n in range(1000)]
        begun = thread_time()
        rendered = LineRenderer(InfluxTable(), AGENT).render(slices(*given_))
        assert len(rendered.lines) == 1000 and not rendered.unsaid
        return thread_time() - begun

    # Each name was looked for in the text of all: 50,000 of them took a hundred times as long.
    assert cost_s(1000) < 10 * cost_s(2)


@pytest.mark.parametrize("chain", [False, True])
def test_long_names_above_many_values_are_not_joined(chain: bool) -> None:
    below = {f"{n}": {"a": 1} if chain else 1 for n in range(3000)}
    renderer = LineRenderer(InfluxTable(tag_fields=("a",)), AGENT)
    tracemalloc.start()
    rendered = renderer.render(slices(record({"x" * 30_000: below}), record({"t": 1})))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rendered.unsaid == [7] and len(rendered.lines) == 1 and peak < 2_000_000
    assert renderer.texts({"x" * 30_000: below}) == {}


def test_text_fields_can_be_tags() -> None:
    table = InfluxTable(tags=(), tag_fields=("room", "in.door", "n"))
    found = line({"room": "a, b", "in": {"door": "x"}, "n": 1, "t": 2.5, "note": ""}, table)
    assert found.startswith('t/1,in.door=x,room=a\\,\\ b n=1,t=2.5,note="" ')


def test_victoria_gets_no_text_and_times_as_they_are() -> None:
    table = InfluxTable(victoria=True, tags=(), tag_fields=("room",))
    assert line({"room": "a", "s": "x", "t": 1}, table) == f"t/1,room=a t=1 {NOW_NS + 1234}"
    assert LineRenderer(table, AGENT).render(slices(record({"s": "x"}))).unsaid == [7]


@pytest.mark.parametrize("quality, time_ns, expected", [
    ("sensor", NOW_NS + 5 * MS, NOW_NS + 5 * MS + 654_321),
    ("sensor", NOW_NS + 5 * MS + 7_900, NOW_NS + 5 * MS + 7_321),
    ("arrival", NOW_NS + 5 * MS + 7_900, NOW_NS + 5 * MS + 654_321),
    ("relative", NOW_NS + 1, NOW_NS + 654_321),
    ("sensor", -1, -1000 + 321),
])  # fmt: skip
def test_the_last_digits_of_a_time_are_the_records_own(
    quality: TimeQuality, time_ns: int, expected: int
) -> None:
    found = line({"t": 1}, seq=987_654_321, quality=quality, time_ns=time_ns)
    assert found.endswith(f" {expected}")


@given(st.integers(0, 3 * MS), st.integers(0, 3 * MS), st.integers(1, 10**7), st.integers(1, 999))
@example(0, 5000, 5123, 999)
def test_records_less_than_a_thousand_apart_never_share_a_time(
    one: int, other: int, seq: int, apart: int
) -> None:
    times = {
        line({"t": 1}, seq=number, time_ns=NOW_NS + time).rpartition(" ")[2]
        for number, time in ((seq, one), (seq + apart, other))
    }
    assert len(times) == 2


def test_a_million_records_of_one_millisecond_have_a_time_each() -> None:
    renderer = LineRenderer(InfluxTable(), AGENT)
    records = [record({"t": 1}, seq=seq, time_ns=NOW_NS) for seq in range(1, 10**6, 997)]
    times = {one.rpartition(" ")[2] for one in renderer.render(slices(*records)).lines}
    assert len(times) == len(records)


_anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-(2**63), 2**64 - 1)
    | st.text(max_size=4) | st.binary(max_size=2) | st.just(object()),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)  # fmt: skip
_runs = st.lists(
    st.tuples(
        st.sampled_from(["t/1", "a b", "$rule/x"]),
        st.booleans(),
        st.lists(st.dictionaries(st.sampled_from(["t", "u,", "n\\", ""]) | st.text(max_size=3),
                                 _anything, max_size=3), min_size=1, max_size=5),
        st.integers(0, 5 * MS),
    ),
    max_size=4,
)  # fmt: skip


@given(_runs, st.booleans(), st.booleans(), st.sampled_from([1, 1000]))
def test_many_at_once_become_what_each_becomes_by_itself(
    runs: list[tuple[str, bool, list[dict[str, Any]], int]],
    unique: bool,
    integers: bool,
    unit_ns: int,
) -> None:
    table = InfluxTable(unique_times=unique, integers=integers, tag_fields=("t", "n\\"))
    several, records = list[RunColumns](), list[Record]()
    for stream, is_foreign, fields, at in runs:
        made = [
            record(
                one, seq=len(records) + n, stream=stream, source=stream,
                time_ns=NOW_NS + n * at, quality="sensor" if n % 3 else "arrival",
                **({"origin": "o", "origin_seq": 999 + n} if is_foreign else {}),
            )
            for n, one in enumerate(fields)
        ]  # fmt: skip
        times = [(one.time_ns, one.quality) for one in made]
        several.append(replace(RunColumns.of(made[0]), fields=fields, times=times))
        records += made
    found = LineRenderer(table, AGENT, unit_ns).render(several)
    alone = [LineRenderer(table, AGENT, unit_ns).render(slices(one)) for one in records]
    assert found.lines == [line for one in alone for line in one.lines]
    assert found.unsaid == [seq for one in alone for seq in one.unsaid]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpDatabase]:
    with influxdb(tmp_path_factory.mktemp("influx"), free_port(), free_port()) as running:
        yield running


def as_named(text: str) -> str:
    """What is documented of names: what cannot be said of one is replaced."""
    found, text = "", "".join(" " if one < " " or one == "\x7f" else one for one in text)
    for at, one in enumerate(text):
        after = text[at:].lstrip("\\")
        cannot = one == "\\" and (not after or after[0] in ',= "')
        found += "/" if cannot else one
    return found


_names = st.text(min_size=1, max_size=8)
_odd = st.text(st.sampled_from("a ,=\\\"'\n\tü#_"), min_size=1, max_size=6)
_values = st.one_of(
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**53), 2**53),
    st.text(max_size=12),
    _odd,
)
_numbers = count(1)


@pytest.mark.needs("influxd")
@settings(max_examples=40, phases=(Phase.explicit, Phase.generate))
@given(
    st.dictionaries(st.one_of(_names, _odd), _values, min_size=1, max_size=4),
    st.one_of(_names, _odd),
    st.text(st.sampled_from("a ,='\"ü#_$"), max_size=6),
)
@example({"a\\": 1, "b\\,c": "x\\", 'd"e': 2.5, "#f": True}, "a\\\\ b\\", '=" ')
def test_influxdb_reads_what_was_said(
    server: HttpDatabase, fields: dict[str, Any], tag: str, measurement: str
) -> None:
    name = f"m{next(_numbers)}{measurement}"
    named = {as_named(key): value for key, value in fields.items()}
    if len(named) < len(fields) or {"time", "tagged"} & named.keys():
        return
    table = InfluxTable(measurement=name, tags=(), tag_fields=("tagged",))
    sent = line({**fields, "tagged": tag}, table, time_ns=NOW_NS)
    assert server.post("/write?db=x", sent.encode()) == (204, b"")
    quoted = name.replace('"', '\\"')
    (series,) = server.influx(f'SELECT * FROM "{quoted}"')
    found = dict(zip(series["columns"], series["values"][0], strict=True))
    assert series["name"] == name and found.pop("time") == NOW_NS + 7
    # Its JSON writes doubles beyond 2^53 as whole numbers.
    found = {
        key: found[key] if type(found[key]) in (str, bool) else float(found[key]) for key in found
    }
    assert found == {"tagged": as_named(tag), **named}
