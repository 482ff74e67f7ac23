from __future__ import annotations

import csv
import io
import json
from typing import Any

from edge_agent.cli.tables import print_answer

ANSWER: dict[str, Any] = {
    "columns": ["time", "stream", "t_mean", "n"],
    "rows": [
        ["2026-01-01T00:00:00Z", "a/b", 21.316666666666666, 5],
        ["2026-01-01T00:01:00Z", "=a", None, 12345],
        ["2026-01-01T00:02:00Z", "a/b\x1b[2J", 1234567.0, 0],
        ["2026-01-01T00:03:00Z", "a/b", 0.0000123456, None],
    ],
    "truncated": False,
    "next": None,
}


def shown(form: str, answer: dict[str, Any] = ANSWER) -> str:
    out = io.StringIO()
    print_answer(answer, form, out)
    return out.getvalue()


def test_a_person_sees_short_numbers_below_one_another() -> None:
    assert shown("table").splitlines()[1].endswith("21.3167      5")
    lines = shown("table").splitlines()
    assert lines[3].endswith("1234567      0") and lines[4].endswith("1.235e-05")
    assert "\x1b" not in shown("table")


def test_programs_get_everything() -> None:
    assert json.loads(shown("json")) == ANSWER
    lines = [json.loads(line) for line in shown("ndjson").splitlines()]
    assert [list(line.values()) for line in lines] == ANSWER["rows"]
    head, *rows = csv.reader(io.StringIO(shown("csv")))
    assert head == ANSWER["columns"] and rows[0][2] == "21.316666666666666"
    assert rows[1][1:] == ["'=a", "", "12345"]


def test_an_empty_table_has_its_heading() -> None:
    empty = {**ANSWER, "rows": []}
    assert shown("table", empty).split() == ANSWER["columns"]
