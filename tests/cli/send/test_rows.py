from __future__ import annotations

import io
import os
from datetime import UTC, datetime
from typing import Any, BinaryIO, cast

import pytest

from edge_agent.cli.send.rows import (
    LINE_BYTES_MAX,
    BoundedLines,
    FileFormat,
    guess_format,
    read_rows,
    take,
)
from edge_agent.cli.send.times import BadRow, Row, TimeReader
from edge_agent.errors import ConfigError


def rows(
    text: str | bytes, form: FileFormat, column: str | None = None, zone: str | None = "UTC"
) -> list[Any]:
    data = text.encode() if isinstance(text, str) else text
    times = TimeReader.parse(column, None, zone)
    return [
        (row.line, row.fields) if isinstance(row, Row) else (row.line, row.reason)
        for row in read_rows(BoundedLines(io.BytesIO(data)), form, times)
    ]


def test_json_lines_with_scalars_blank_lines_and_no_newline_at_the_end() -> None:
    assert rows('{"a": 1}\n\n21.5\r\n"x"\n{"b": [1]}', "jsonl") == [
        (1, {"a": 1}), (3, {"value": 21.5}), (4, {"value": "x"}), (5, {"b": [1]})
    ]  # fmt: skip


def test_nan_in_json_lines_is_a_null_as_where_agents_read_it() -> None:
    text = '{"a": NaN, "b": [-Infinity, 1], "c": "NaN"}\nNaN\n{"a": Nan}'
    found = rows(text, "jsonl")
    assert found[0] == (1, {"a": None, "b": [None, 1], "c": "NaN"})
    assert found[1] == (2, "expected one record, a map, found null")
    assert found[2][1].startswith("not JSON")


def test_csv_cells_become_numbers_booleans_or_text_and_empty_ones_are_left_out() -> None:
    found = rows("a,b,c,d,e\n1,-2.5e3,007,true,\n1_000, x ,NaN,0,18446744073709551616\n", "csv")
    assert found == [
        (2, {"a": 1, "b": -2500.0, "c": "007", "d": True}),
        (3, {"a": "1_000", "b": " x ", "c": "NaN", "d": 0, "e": "18446744073709551616"}),
    ]
    assert [type(value) for value in found[0][1].values()] == [int, float, str, bool]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_in_the_heading(delimiter: str) -> None:
    text = "a,b\n1,2\n".replace(",", delimiter)
    assert rows(text, "csv") == [(2, {"a": 1, "b": 2})]


def test_quotes_commas_and_line_breaks_within_cells() -> None:
    assert rows('a,b\n"x,""y""","two\nlines"\n1,2\n', "csv") == [
        (3, {"a": 'x,"y"', "b": "two\nlines"}), (4, {"a": 1, "b": 2})
    ]  # fmt: skip


def test_a_byte_order_mark_is_not_part_of_the_first_column() -> None:
    assert rows(b"\xef\xbb\xbfa\n1\n", "csv") == [(2, {"a": 1})]


def test_the_time_column_becomes_time_whatever_its_name() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert rows("when,t\n2026-01-01,1\n", "csv", "when") == [(2, {"t": 1, "time": moment})]
    assert rows('{"ts": "2026-01-01T00:00"}', "jsonl", "ts") == [(1, {"time": moment})]
    assert rows("time,t\n1782907200.5,1\n", "csv") == [(2, {"t": 1, "time": 1782907200.5})]


def test_a_naive_time_without_a_zone_names_line_and_column() -> None:
    for text, form in (("t,when\n1,2026-01-01T00:00\n", "csv"), ("", "jsonl")):
        if form == "jsonl":
            text = '\n{"when": "2026-01-01T00:00"}'
        ((line, reason),) = rows(text, cast("FileFormat", form), "when", None)
        assert line == 2
        assert reason.startswith("column 'when': '2026-01-01T00:00' has no time zone")


@pytest.mark.parametrize(
    "text, form, line, says",
    [
        ('{"a": 1}\n{"a": ', "jsonl", 2, "not JSON"),
        ("[1, 2]\n", "jsonl", 1, "expected one record, a map, found a list"),
        ("null\n", "jsonl", 1, "found null"),
        (b'{"a": "\xff"}\n', "jsonl", 1, "not JSON in UTF-8"),
        (b'{"a": "' + b"x" * 2 * LINE_BYTES_MAX + b'"}\n', "jsonl", 1, "not JSON"),
        ("a,b\n1\n", "csv", 2, "expected 2 columns, found 1"),
        ("a,b\n1,2,3\n", "csv", 2, "expected 2 columns, found 3"),
        (b"a,b\n1,\xff\n", "csv", 2, "not UTF-8"),
        ('a,b\n"x"y,2\n', "csv", 2, "',' expected after"),
        ("when,t\n,1\n", "csv", 2, "column 'when': no time"),
    ],
)
def test_a_bad_row_names_its_line_and_reading_goes_on(
    text: str | bytes, form: FileFormat, line: int, says: str
) -> None:
    data = text.encode() if isinstance(text, str) else text
    good = b'\n{"a": 5}\n' if form == "jsonl" else b"2026-01-01T00:00Z,5\n"
    column = "when" if b"when" in data else None
    found = rows(data.rstrip(b"\n") + b"\n" + good.lstrip(b"\n"), form, column)
    (bad,) = [each for each in found if isinstance(each[1], str)]
    assert bad[0] == line
    assert says in bad[1]
    assert not isinstance(found[-1][1], str)


@pytest.mark.parametrize("header", ["a,a", "a,,b", "a,b\udcff"])
def test_a_heading_that_is_none_is_an_error(header: str) -> None:
    with pytest.raises(ConfigError, match="line 1"):
        rows(header.encode("utf-8", "surrogateescape") + b"\n1,2,3\n", "csv")


def test_a_time_column_that_is_not_there_is_an_error_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match="one of a, b"):
        rows("a,b\n1,2\n", "csv", "when")


def test_an_empty_file_has_no_rows() -> None:
    assert rows("", "csv") == rows("", "jsonl") == []


@pytest.mark.parametrize(
    "name, text, expected",
    [
        ("x.csv", "{", "csv"),
        ("x.TSV", "", "csv"),
        ("x.jsonl", "a,b", "jsonl"),
        ("-", '{"a": 1}\n', "jsonl"),
        ("-", "21.5\n", "jsonl"),
        ("-", "date,temp\n", "csv"),
    ],
)
def test_the_format_is_guessed_by_suffix_and_then_by_the_first_line(
    name: str, text: str, expected: str
) -> None:
    assert guess_format(name, BoundedLines(io.BytesIO(text.encode()))) == expected


def test_what_has_arrived_on_a_pipe_is_taken_without_waiting_for_more() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as file:
        lines = BoundedLines(cast("BinaryIO", file))
        os.write(writer, b'{"n": 1}\n{"n": 2}\n{"n"')
        source = read_rows(lines, "jsonl", TimeReader())
        assert [row.line for row in take(source, lines, 100)] == [1, 2]
        os.write(writer, b": 3}\n")
        os.close(writer)
        assert take(source, lines, 100) == [Row(3, {"n": 3})]
        assert take(source, lines, 100) == []


def test_take_is_bounded() -> None:
    lines = BoundedLines(io.BytesIO(b"1\n" * 10))
    source = read_rows(lines, "jsonl", TimeReader())
    assert [len(take(source, lines, 4)) for _ in range(4)] == [4, 4, 2, 0]


def test_a_bad_row_is_a_value_of_its_own() -> None:
    assert BadRow(1, "x") != Row(1, {})
