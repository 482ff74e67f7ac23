"""Rows as a binary COPY takes them: what is in them is what a reader of that format finds."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import msgspec
import psycopg
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from edge_agent.forward.sinks.postgres.rows import COLUMNS, render_rows
from tests.forward.sinks.influx.test_lines import record
from tests.forward.sinks.postgres.server import new_database
from tests.forward.support import NOW_NS

YEAR_2000_NS = 946_684_800 * 10**9


def read(body: bytes) -> Iterator[dict[str, Any]]:
    """The rows of a binary COPY, as PostgreSQL's documents describe it."""
    assert body.startswith(b"PGCOPY\n\xff\r\n\x00" + bytes(8)) and body.endswith(b"\xff\xff")
    at = 19
    while body[at : at + 2] != b"\xff\xff":
        (columns,) = struct.unpack_from(">h", body, at)
        assert columns == len(COLUMNS)
        at += 2
        row: dict[str, Any] = {}
        for name, kind in COLUMNS.items():
            (size,) = struct.unpack_from(">i", body, at)
            value = body[at + 4 : at + 4 + size]
            at += 4 + size
            row[name] = value.decode() if kind == "text" else value
            if kind in ("bigint", "timestamptz"):
                (row[name],) = struct.unpack(">q", value)
            elif kind == "jsonb":
                assert value[0] == 1
                row[name] = json.loads(value[1:])
        yield row
    assert at + 2 == len(body)


def test_a_row_has_the_key_and_all_of_the_record() -> None:
    rows = render_rows([record({"t": 21.5, "s": "ü"}, seq=7)], "agent", "epoch")
    (row,) = read(rows.body)
    assert (rows.number, rows.refused) == (1, {})
    assert row == {
        "agent": "agent", "epoch": "epoch", "log": "main", "variant": "", "stream": "t/1",
        "source": "pi/s", "time_quality": "sensor", "seq": 7,
        "time": (NOW_NS + 1234 - YEAR_2000_NS) // 1000, "time_ns": NOW_NS + 1234,
        "fields": {"t": 21.5, "s": "ü"},
    }  # fmt: skip


def test_a_record_of_another_agent_keeps_its_place_there() -> None:
    origin: dict[str, Any] = {
        "origin": "other",
        "origin_epoch": "e2",
        "origin_log": "l2",
        "origin_seq": 5,
    }
    (row,) = read(render_rows([record({}, **origin)], "agent", "epoch").body)
    assert [row[name] for name in ("agent", "epoch", "log", "seq")] == ["other", "e2", "l2", 5]


def test_aggregates_that_end_alike_have_keys_of_their_own() -> None:
    records = [record({"n": n}, source="$thin/1m") for n in (1, 2, 1)]
    one, other, again = read(render_rows(records, "agent", "epoch").body)
    assert one["variant"].startswith("thinned-") and one["variant"] != other["variant"]
    assert again == one


def test_what_json_cannot_say_is_as_in_the_http_body() -> None:
    fields = {
        "nan": float("nan"),
        "inf": float("inf"),
        "b": b"\x00",
        "e": msgspec.msgpack.Ext(5, b""),
    }
    (row,) = read(render_rows([record(fields)], "agent", "epoch").body)
    assert row["fields"] == {"nan": None, "inf": None, "b": "AA==", "e": {"ext": 5, "data": ""}}


@pytest.mark.parametrize("fields, refused", [
    ({"s": "a\x00b"}, True), ({"a\x00": 1}, True), ({"x": [{"y": "\x00"}]}, True),
    ({"s": "\\u0000"}, False), ({"s": "\\\x00"}, True), ({"s": "\\\\u0000"}, False),
])  # fmt: skip
def test_the_character_0_is_refused_and_nothing_that_looks_like_it(
    fields: dict[str, Any], refused: bool
) -> None:
    rows = render_rows([record({}, seq=1), record(fields, seq=2), record({}, seq=3)], "a", "e")
    assert list(rows.refused) == [2] * refused
    assert [row["seq"] for row in read(rows.body)] == [1, *[2] * (not refused), 3]


def test_a_record_that_is_no_json_is_refused_alone() -> None:
    rows = render_rows([record({"x": {(1, 2): 3}}, seq=1), record({"n": 1}, seq=2)], "a", "e")
    assert rows.number == 1 and "cannot be written as JSON" in rows.refused[1]


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from("cd"), st.integers(-(2**63), 2**63 - 1))
    )
)
def test_rows_are_those_of_their_records(given_: list[tuple[str, str, int]]) -> None:
    records = [
        record({"n": n}, seq=n, stream=stream, source=source, time_ns=time_ns)
        for n, (stream, source, time_ns) in enumerate(given_)
    ]
    found = [
        (row["stream"], row["source"], row["time_ns"], row["seq"], row["fields"]["n"])
        for row in read(render_rows(records, "a", "e").body)
    ]
    assert found == [(*one, n, n) for n, one in enumerate(given_)]


_texts = st.text(st.characters(exclude_characters="\x00", codec="utf-8"), max_size=8)
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | _texts
    | st.floats(-(2.0**52), 2.0**52),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@pytest.mark.needs("postgresql", "psycopg")
@settings(max_examples=5, phases=(Phase.explicit, Phase.generate))
@given(
    st.lists(
        st.tuples(st.dictionaries(_texts, _values, max_size=4), st.integers(-(2**63), 2**63 - 1)),
        min_size=20,
        max_size=40,
    )
)
def test_postgresql_reads_what_was_said(given_: list[tuple[dict[str, Any], int]]) -> None:
    records = [record(fields, seq=n, time_ns=ns) for n, (fields, ns) in enumerate(given_)]
    server, name = new_database()
    columns = ", ".join(f"{column} {kind}" for column, kind in COLUMNS.items())
    url = f"host=127.0.0.1 port={server.port} user=edge password=secret dbname={name}"
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(f"SET timezone = UTC; CREATE TEMP TABLE t ({columns})")
        with cursor.copy("COPY t FROM STDIN (FORMAT binary)") as copy:
            copy.write(render_rows(records, "a", "e").body)
        cursor.execute(
            "SELECT fields::text, time_ns, round(extract(epoch FROM time) * 1000000)"
            " FROM t ORDER BY seq"
        )
        for (fields, ns), (text, found_ns, found_us) in zip(given_, cursor, strict=True):
            assert json.loads(text) == fields
            assert (found_ns, found_us) == (ns, ns // 1000)
