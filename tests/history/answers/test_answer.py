"""Answers as they are written: forms, limits, paging, gaps, and questions that are absurd."""

from __future__ import annotations

import csv
import io
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from edge_agent.errors import ProtocolError
from edge_agent.history.answers import answer
from edge_agent.history.keys import DAY_NS, HOUR_NS, MINUTE_NS
from tests.history.answers.made import START_NS, Made, Plain, at, made
from tests.history.answers.test_figures import fill

SECOND_NS = 1_000_000_000
HOUR = {"from_": START_NS, "to": START_NS + HOUR_NS}


def shown(value: Any) -> Any:
    """As JSON shows it."""
    return json.loads(
        json.dumps(value)
        .replace("NaN", "null")
        .replace("-Infinity", "null")
        .replace("Infinity", "null")
    )


def pages(history: Made, **asked: object) -> list[Any]:
    found: list[Any] = []
    more: dict[str, object] = {}
    while True:
        page = history.json(**asked, **more)
        found += page["records"] if "records" in page else page["rows"]
        assert page["truncated"] is (page["next"] is not None)
        if page["next"] is None:
            return found
        more = {"next": page["next"]}


@pytest.mark.parametrize("order", ["oldest", "newest"])
@pytest.mark.parametrize("seed", range(4))
def test_paging_gives_each_record_and_each_point_once(
    tmp_path: Path, seed: int, order: str
) -> None:
    dice = random.Random(seed)
    with made(tmp_path) as history:
        span = fill(history, dice)
        # Many at one time: more than a page.
        history.put(Plain("a/1", START_NS + span // 2, {"t": n}) for n in range(20))
        from_ns, to_ns = START_NS + span // 10, START_NS + span
        expected = sorted(
            (one for one in history.records if from_ns <= one.time_ns < to_ns),
            key=lambda one: one.order,
            reverse=order == "newest",
        )
        for limit in (1, 7, 1000):
            if limit == 1 and len(expected) > 60:
                continue
            asked = {"from_": from_ns, "to": to_ns, "order": order, "limit": limit}
            records = pages(history, **asked)
            assert [one["seq"] for one in records] == [one.seq for one in expected]
            assert [one["fields"] for one in records] == [shown(one.fields) for one in expected]
            points = pages(history, fields="t,n.a", times="unix", **asked)
            with_any = [
                one for one in expected if "t" in one.fields or "a" in (at(one.fields, ["n"]) or {})
            ]
            assert [(row[1], *row[2:]) for row in points] == [
                (one.stream, shown(one.fields.get("t")), at(one.fields, ["n", "a"]))
                for one in with_any
            ]


@pytest.fixture
def history(tmp_path: Path) -> Any:
    with made(tmp_path) as one:
        for n in range(120):
            fields = {"t": n / 10, "text": "=1+1", "n": {"a": n}}
            one.put([Plain("s/1", START_NS + n * SECOND_NS, fields)])
        one.put([Plain("s/2", START_NS + 10 * MINUTE_NS, {"t": 5})])
        one.flush()
        yield one


def test_a_table_says_the_same_in_every_form(history: Made) -> None:
    for asked in ({"fields": "t,text"}, {"step": "1m", "fields": "t", "aggregate": "count,p50"}):
        table = history.json(**HOUR, **asked)
        lines = history.text("ndjson", **HOUR, **asked).splitlines()
        assert [list(json.loads(line).values()) for line in lines] == table["rows"]
        assert list(json.loads(lines[0])) == table["columns"]
        head, *rows = csv.reader(io.StringIO(history.text("csv", **HOUR, **asked).decode()))
        assert head == table["columns"]
        assert len(rows) == len(table["rows"])
        columns, *parts = history.pieces(**HOUR, **asked)
        assert json.loads(columns) == table["columns"]
        assert json.loads(b"[" + b",".join(parts) + b"]") == table["rows"]
    assert b"'=1+1" in history.text("csv", **HOUR, fields="text"), "no formula for a spreadsheet"


def test_records_say_the_same_in_every_form(history: Made) -> None:
    records = history.json(**HOUR, limit=200)["records"]
    assert len(records) == 121
    lines = history.text("ndjson", **HOUR, limit=200).splitlines()
    assert [json.loads(line) for line in lines] == records
    head, *rows = csv.reader(io.StringIO(history.text("csv", **HOUR, limit=200).decode()))
    assert head[:4] == ["log", "seq", "stream", "time"]
    assert [row[1] for row in rows] == [str(one["seq"]) for one in records]
    parts = history.pieces(**HOUR, limit=200)
    assert json.loads(b"[" + b",".join(parts) + b"]") == records
    assert b"next" not in lines[0]


def test_a_filter_leaves_records_and_points_out(history: Made) -> None:
    asked = {**HOUR, "filter": "n.a >= 100 and t < 11"}
    assert [one["fields"]["n"]["a"] for one in history.json(**asked)["records"]] == list(
        range(100, 110)
    )
    assert [row[2] for row in history.json(fields="n.a", **asked)["rows"]] == list(range(100, 110))
    head, *rows = history.text("csv", **asked).splitlines()
    assert len(rows) == 10 and head.startswith(b"log,")


def test_fields_are_found_where_none_are_named(history: Made) -> None:
    assert history.json(**HOUR, step="all", aggregate="count")["columns"] == [
        "time", "stream", "t_count", "n.a_count",
    ]  # fmt: skip


def test_gaps_are_filled(history: Made) -> None:
    asked = {"from_": START_NS, "to": START_NS + 12 * MINUTE_NS, "step": "1m", "fields": "t"}
    asked |= {"stream": "s/1", "aggregate": "max", "times": "unix"}
    none = history.json(**asked)["rows"]
    assert [row[2] for row in none] == [5.9, 11.9]
    empty = history.json(fill="null", **asked)["rows"]
    assert [row[2] for row in empty] == [5.9, 11.9, *[None] * 10]
    assert [row[0] for row in empty] == [START_NS / 1e9 + 60 * n for n in range(12)]
    held = history.json(fill="previous", order="newest", **asked)["rows"]
    assert [row[2] for row in held] == [*[11.9] * 11, 5.9]
    number = history.json(fill="-1.5", **asked)["rows"]
    assert number[2][2] == -1.5
    other = history.json(fill="null", **(asked | {"stream": "none"}))
    assert other["rows"] == [], "of a stream that there is not, nothing is filled"


def test_rows_end_at_the_limit_and_say_so(history: Made) -> None:
    asked = {**HOUR, "step": "1m", "fields": "t"}
    assert not history.json(limit=3, **asked)["truncated"]
    cut = history.json(limit=2, **asked)
    assert (len(cut["rows"]), cut["truncated"], cut["next"]) == (2, True, None)
    for order, place in (("oldest", 0), ("newest", 1)):
        (row,) = history.json(limit=1, order=order, stream="s/1", **asked)["rows"]
        assert row[0].startswith(f"2026-03-02T00:0{place}")


def test_an_answer_of_rows_that_is_too_large_goes_on_elsewhere(
    history: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer, "ANSWER_BYTES_MAX", 3000)
    monkeypatch.setattr(answer, "PIECE_BYTES", 500)
    monkeypatch.setattr(answer, "_BATCH_ROWS", 10)
    for asked in ({}, {"fields": "t,text"}):
        first = history.json(**HOUR, **asked)
        assert first["truncated"] and first["next"]
        assert len(pages(history, **HOUR, **asked)) == 121
    rows = list(csv.reader(io.StringIO(history.text("csv", **HOUR).decode())))
    assert 1 < len(rows) < 20


def test_figures_that_are_too_large_are_refused(
    history: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer, "ANSWER_BYTES_MAX", 300)
    with pytest.raises(ProtocolError, match="larger step") as refused:
        history.json(**HOUR, step="1s", fields="t")
    assert refused.value.code == "too_long"


def test_pieces_are_small(history: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "PIECE_BYTES", 500)
    for asked in ({}, {"fields": "t,text"}, {"step": "1s", "fields": "t"}):
        assert max(map(len, history.pieces(**HOUR, **asked))) <= 500


def test_percentiles_of_several_streams_are_refused(history: Made) -> None:
    with pytest.raises(ProtocolError, match="of single streams; group by stream"):
        history.json(**HOUR, step="1m", aggregate="p95", group="none")
    assert history.json(**HOUR, step="1m", aggregate="p95", group="none", stream="s/2")["rows"]


@pytest.mark.parametrize(
    "absurd",
    [
        {"step": "1ms"},
        {"step": "1ms", "aggregate": "p99,rate"},
        {"step": "1m", "order": "newest"},
        {"step": "3660d", "aggregate": "twmean"},
        {"step": "all", "aggregate": "p50"},
        {},
        {"fields": "t", "order": "newest"},
        {"fields": ",".join(f"f{n}.g" for n in range(32))},
    ],
)
def test_a_question_about_all_times_looks_where_something_is(
    tmp_path: Path, absurd: dict[str, str]
) -> None:
    with made(tmp_path) as history:
        days = (-8000 * DAY_NS, 0, START_NS, START_NS + 70_000 * DAY_NS)
        history.put(Plain("a", time_ns, {"t": 1.5}) for time_ns in days)
        for _ in ("from memory", "from the file"):
            began = time.process_time()
            found = history.json(from_="1700-01-01T00:00:00Z", to="2262-01-01T00:00:00Z", **absurd)
            assert found.get("rows") != [] or "f0.g" in found["columns"]
            # It takes milliseconds; looking at each hour of 500 years takes minutes.
            assert time.process_time() - began < 10
            history.flush(START_NS)


def test_more_filled_steps_than_there_is_memory_for_are_refused(history: Made) -> None:
    asked = {"from": "1970-01-02T00:00:00Z", "step": "1ms", "fill": "null"}
    with pytest.raises(ProtocolError, match=r"fill: at most .* steps"):
        history.json(**asked)
