"""What a line protocol server's answer means; the texts are InfluxDB's own."""

from __future__ import annotations

import json

import pytest

from edge_agent.config import InfluxTable
from edge_agent.errors import SinkRefused, SinkUnavailable
from edge_agent.forward.sinks.http.answer import HttpAnswer
from edge_agent.forward.sinks.influx.answer import judge_lines, named_by
from edge_agent.forward.sinks.influx.lines import LineRenderer
from tests.forward.sinks.influx.test_lines import record, slices

CONFLICT = (
    'partial write: field type conflict: input field "t" on measurement "t/1" is type string,'
    " already exists as type float dropped=2"
)


def answer(status: int, error: str = "", **headers: str) -> HttpAnswer:
    body = json.dumps({"error": error}).encode() if error else b""
    return HttpAnswer(status, headers, body)


def test_204_is_an_acknowledgement() -> None:
    assert judge_lines(answer(204), "key", 0, "auto") == (None, 0, "")


@pytest.mark.parametrize("status", [200, 201, 202])
def test_another_2xx_may_be_anybodys(status: int) -> None:
    assert isinstance(judge_lines(answer(status), "key", 0, "auto").problem, SinkUnavailable)
    assert judge_lines(answer(status), "key", 0, "status").problem is None


def test_what_is_older_than_the_database_keeps_is_counted_and_everything_else_taken() -> None:
    error = "partial write: points beyond retention policy dropped=3"
    verdict = judge_lines(answer(400, error), "key", 0, "auto")
    assert (verdict.problem, verdict.dropped) == (None, 3) and error in verdict.reason


@pytest.mark.parametrize("status, error", [
    (400, "database is required"),
    (404, 'database not found: "x"'),
    (500, "retention policy not found: y"),
    (400, "partial write: max-series-per-database limit exceeded: (1000000) dropped=1"),
    (401, "authorization failed"),
])  # fmt: skip
def test_what_a_person_has_to_change_keeps_everything(status: int, error: str) -> None:
    problem = judge_lines(answer(status, error), "key", 0, "auto").problem
    assert isinstance(problem, SinkUnavailable) and problem.slow and error in str(problem)


@pytest.mark.parametrize("status, error", [
    (400, CONFLICT), (422, CONFLICT), (400, "unable to parse 'm x=1u 8': invalid number"),
    (400, "field type conflict"), (413, "Request Entity Too Large"),
])  # fmt: skip
def test_what_is_about_the_lines_is_halved(status: int, error: str) -> None:
    problem = judge_lines(answer(status, error), "key", 0, "auto").problem
    assert isinstance(problem, SinkRefused)
    assert problem.code == ("too_big" if status == 413 else "refused")


def test_a_server_in_trouble_is_tried_again() -> None:
    problem = judge_lines(answer(503, "timeout"), "key", 0, "auto").problem
    assert isinstance(problem, SinkUnavailable) and not problem.slow


RECORDS = [
    record({"t": 1.5}, seq=1),
    record({"t": "x"}, seq=2),
    record({"t": "y", "u": 1}, seq=3),
    record({"t": "z"}, seq=4, stream="other"),
    record({"u": 't="x"'}, seq=5),
]


def test_the_very_records_of_a_conflict_are_found() -> None:
    named = named_by(answer(400, CONFLICT), slices(*RECORDS), LineRenderer(InfluxTable(), "a"))
    assert list(named) == [2, 3] and "type string" in named[2]


@pytest.mark.parametrize("error", [
    CONFLICT.replace("dropped=2", "dropped=1"),
    CONFLICT.replace("partial write: ", ""),
    CONFLICT.replace("type string", "type unheard-of"),
    "partial write: unable to parse 'm': missing fields dropped=0",
])  # fmt: skip
def test_where_it_cannot_be_told_which_records_none_is_named(error: str) -> None:
    assert named_by(answer(400, error), slices(*RECORDS), LineRenderer(InfluxTable(), "a")) == {}


@pytest.mark.parametrize("kind, fields, found", [
    ("integer", {"t": 1}, True), ("integer", {"t": 1.5}, False), ("float", {"t": 1.5}, True),
    ("float", {"t": 1}, False), ("boolean", {"t": True}, True), ("unsigned", {"t": 2**63}, True),
    ("float", {}, False), ("string", {"t": "1i"}, True), ("integer", {"t": "1i"}, False),
])  # fmt: skip
def test_types_are_told_apart(kind: str, fields: dict[str, object], found: bool) -> None:
    error = CONFLICT.replace("string", kind).replace("dropped=2", "dropped=1")
    renderer = LineRenderer(InfluxTable(integers=True), "a")
    named = named_by(answer(400, error), slices(record({**fields, "x": 0})), renderer)
    assert bool(named) == found
