from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from edge_agent.cli.output import line, print_aggregates, print_csv, print_table

RECORDS: list[dict[str, Any]] = [
    {"seq": 1, "stream": "a", "time": "2026-01-01T00:00:00Z", "source": "s"}
    | {"fields": {"t": 21.5, "on": True}},
    {"seq": 12, "stream": "b/c", "time": "2026-01-01T00:00:01Z", "source": ""}
    | {"fields": {"t": None, "source": "x,y"}},
]
AGGREGATES = {"a": {"count": 2, "min": 1.0, "max": 3.0, "mean": 2.0}}


def printed(function: Any, *arguments: Any) -> str:
    out = io.StringIO()
    function(*arguments, out)
    return out.getvalue()


def test_a_table_is_aligned_and_has_a_column_for_each_field_once() -> None:
    heading, first, second = printed(print_table, RECORDS).splitlines()
    assert heading.split() == ["seq", "stream", "time", "source", "t", "on", "source"]
    assert first.split() == ["1", "a", "2026-01-01T00:00:00Z", "s", "21.5", "true"]
    assert heading.index("time") == first.index("2026") == second.index("2026")


def test_an_empty_table_is_a_heading() -> None:
    assert printed(print_table, []).split() == ["seq", "stream", "time", "source"]


def test_csv_can_be_read_back_and_a_field_never_hides_a_column_of_ours() -> None:
    rows = list(csv.DictReader(io.StringIO(printed(print_csv, RECORDS))))
    assert rows[0]["t"] == "21.5"
    assert rows[0]["on"] == "true"
    assert rows[1]["t"] == ""
    assert (rows[1]["source"], rows[1]["field.source"]) == ("", "x,y")


def test_text_of_a_sensor_cannot_move_the_cursor() -> None:
    record = RECORDS[0] | {"fields": {"x": "\x1b[2Jhi"}}
    assert "\x1b" not in line(record)
    assert "\x1b" not in printed(print_table, [record])


def test_a_line_tells_time_stream_fields_or_what_was_missed() -> None:
    assert line(RECORDS[0]) == "2026-01-01T00:00:00Z  a  t=21.5  on=true"
    assert "7 records were missed" in line({"missed": 7})


@pytest.mark.parametrize("form", ["table", "json", "ndjson", "csv"])
def test_aggregates_in_every_format(form: str) -> None:
    text = printed(print_aggregates, AGGREGATES, form)
    if form == "json":
        assert json.loads(text) == AGGREGATES
    elif form == "ndjson":
        assert json.loads(text) == {"stream": "a", **AGGREGATES["a"]}
    else:
        heading, row = text.replace(",", " ").splitlines()
        assert heading.split()[:3] == ["stream", "count", "min"]
        assert row.split() == ["a", "2", "1.0", "3.0", "2.0"]


def test_no_name_of_a_field_and_no_value_moves_the_cursor() -> None:
    bad = "\x1b[2J\u202e\n\u2028\x9b"
    told = {"seq": 1, "stream": "a", "time": "t", "source": "s", "fields": {bad: bad, "=1+1": -5}}
    out = io.StringIO()
    print_table([told], out)
    print_csv([told], out)
    print_aggregates({bad: {"count": 1}}, "table", out)
    shown = [*out.getvalue().split("\n"), line(told)]
    assert len(shown) == 2 + 2 + 2 + 1 + 1
    assert all(one.isprintable() for one in shown)
    assert any(one.endswith(",'=1+1") for one in shown) and any(
        one.endswith(",-5") for one in shown
    )


def test_a_long_value_is_cut_for_eyes_and_whole_for_programs() -> None:
    told = {"seq": 1, "stream": "a", "time": "t", "source": "s", "fields": {"x": "y" * 9000}}
    table, rows = io.StringIO(), io.StringIO()
    print_table([told], table)
    print_csv([told], rows)
    assert max(map(len, table.getvalue().splitlines())) < 100 and len(line(told)) < 300
    assert "y" * 9000 in rows.getvalue()
