"""What may be asked of history, and what is said to who asks otherwise."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import ProtocolError
from edge_agent.history.keys import DAY_NS, HOUR_NS, MINUTE_NS
from edge_agent.history.question import (
    ALL_NS,
    Question,
    format_next,
    is_about_history,
    parse_fields,
    parse_question,
)
from edge_agent.values.field_paths import path_text

NOW_NS = 1_795_341_600 * 1_000_000_000  # 2026-11-22T10:00:00Z
SECOND_NS = 1_000_000_000


def ask(**given: str) -> Question:
    parameters = {name.rstrip("_"): value for name, value in given.items()}
    return parse_question(parameters, NOW_NS, 100_000)


def test_without_anything_it_is_about_the_records_of_the_last_hour() -> None:
    asked = ask()
    assert (asked.kind, asked.pattern, asked.limit) == ("records", "**", 1000)
    assert (asked.from_ns, asked.to_ns) == (NOW_NS - HOUR_NS, NOW_NS)
    assert not asked.newest_first


def test_fields_make_points_and_a_step_makes_figures() -> None:
    assert ask(fields="t").kind == "points"
    figures = ask(fields="t", step="1m")
    assert (figures.kind, figures.aggregates, figures.limit) == ("figures", ("mean",), 10_000)


@pytest.mark.parametrize(
    "text, ns",
    [
        ("1ms", 1_000_000), ("10s", 10 * SECOND_NS), ("1.5m", 90 * SECOND_NS), ("1h", HOUR_NS),
        ("1d", DAY_NS), ("1w", 7 * DAY_NS), ("all", ALL_NS), (" 2 h ", 2 * HOUR_NS),
    ],
)  # fmt: skip
def test_steps(text: str, ns: int) -> None:
    assert ask(step=text).step_ns == ns


def test_a_range_with_a_step_is_widened_to_whole_steps() -> None:
    asked = ask(from_="2026-11-22T08:10:30Z", to="2026-11-22T09:00:00Z", step="1h")
    assert asked.span_ns == (NOW_NS - 2 * HOUR_NS, NOW_NS - HOUR_NS)
    asked = ask(from_="2026-11-22T08:10:30Z", to="2026-11-22T09:00:00.5Z", step="all")
    assert asked.span_ns == (NOW_NS - 110 * MINUTE_NS, NOW_NS - 59 * MINUTE_NS)
    points = ask(from_="2026-11-22T08:10:30Z", fields="t")
    assert points.span_ns == (points.from_ns, points.to_ns)


def test_what_looks_at_the_value_before_says_how_far() -> None:
    assert ask(step="1m", aggregate="mean,p50").back_ns == 0
    assert ask(step="1m", aggregate="increase").back_ns == HOUR_NS
    assert ask(step="1d", aggregate="mean,rate").back_ns == DAY_NS
    assert ask(step="all", aggregate="twmean").back_ns == HOUR_NS


def test_before_1970_there_were_measurements() -> None:
    assert ask(from_="1955-01-01T00:00:00Z").from_ns < 0


def test_days() -> None:
    today = NOW_NS // DAY_NS * DAY_NS
    asked = ask(from_="yesterday", to="today")
    assert (asked.from_ns, asked.to_ns) == (today - DAY_NS, today)


def test_fields_are_paths() -> None:
    assert parse_fields("t, n.a ,params.`switch:0`.apower,`a.b`,`a,b`,t") == (
        ("t",), ("n", "a"), ("params", "switch:0", "apower"), ("a.b",), ("a,b",),
    )  # fmt: skip
    assert parse_fields('params."switch:0".apower') == (("params", "switch:0", "apower"),)


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=4))
def test_a_path_is_written_so_that_it_can_be_read(parts: list[str]) -> None:
    assert parse_fields(path_text(tuple(parts))) == (tuple(parts),)


@pytest.mark.parametrize(
    "wrong, told",
    [
        ({"nonsense": "1"}, "nonsense: no such parameter; there are stream, fields"),
        ({"fields": "a..b"}, "fields: "),
        ({"fields": "a."}, "fields: "),
        ({"fields": ".a"}, "fields: "),
        ({"fields": "a`b"}, "fields: "),
        ({"fields": "`a"}, "fields: "),
        ({"fields": "a,,b"}, "fields: "),
        ({"fields": ",".join(f"f{n}" for n in range(33))}, "fields: at most 32"),
        ({"step": "1"}, "step: expected a length"),
        ({"step": "0s"}, "step: expected a length"),
        ({"step": "0.5ms"}, "step: expected a length"),
        ({"step": "9999d"}, "step: expected a length"),
        ({"step": "-1m"}, "step: expected a length"),
        ({"aggregate": "mean"}, "aggregate: needs a step"),
        ({"group": "none"}, "group: needs a step"),
        ({"fill": "null"}, "fill: needs a step"),
        ({"step": "1m", "aggregate": "mode"}, "'mode' is none of count, min"),
        ({"step": "1m", "group": "0"}, "group: expected"),
        ({"step": "1m", "group": "100"}, "group: expected"),
        ({"step": "1m", "group": "1000"}, "group: expected"),
        ({"step": "1m", "group": "-1"}, "group: expected"),
        ({"step": "1m", "fill": "nan"}, "fill: expected"),
        ({"step": "1m", "fill": "inf"}, "fill: expected"),
        ({"step": "1m", "fill": "last"}, "fill: expected"),
        ({"order": "random"}, "order: expected oldest or newest"),
        ({"times": "local"}, "times: expected iso or unix"),
        ({"limit": "0"}, "limit: expected 1 to 100000 rows"),
        ({"limit": "100001"}, "limit: expected 1 to 100000 rows"),
        ({"limit": "9" * 5000}, "limit: expected"),
        ({"from": "soon"}, "from: expected RFC 3339"),
        ({"from": "29.11.2026"}, "'now', 'today', 'yesterday' or an age"),
        ({"from": "now"}, "from: expected a time before to"),
        ({"from": "-1h", "to": "-2h"}, "from: expected a time before to"),
        ({"to": "1e400"}, "to: expected"),
        ({"next": "main:7", "order": "newest"}, "next: expected"),
        ({"next": "1:1", "step": "1m"}, "next: expected"),
        ({"next": "9999999999999999999:1"}, "is no time"),
        ({"filter": "t >"}, ""),
    ],
)
def test_what_cannot_be_asked_is_told(wrong: dict[str, str], told: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        parse_question(wrong, NOW_NS, 100_000)
    assert refused.value.code == "bad_query"
    assert told in refused.value.message and len(refused.value.message) < 300


@given(
    st.dictionaries(
        st.sampled_from(["fields", "from", "to", "step", "limit", "next", "group", "fill"]),
        st.text(max_size=30),
    )
)
def test_no_text_does_more_than_be_refused(parameters: dict[str, str]) -> None:
    with suppress(ProtocolError):
        parse_question(parameters, NOW_NS, 100_000)


def test_next_is_where_to_go_on() -> None:
    text = format_next(NOW_NS - 5, 3)
    oldest = ask(next=text)
    assert (oldest.from_ns, oldest.to_ns, oldest.skip) == (NOW_NS - 5, NOW_NS, 3)
    newest = ask(next=text, order="newest")
    assert (newest.from_ns, newest.to_ns, newest.skip) == (NOW_NS - HOUR_NS, NOW_NS - 4, 3)
    assert ask(next=text, fields="t").skip == 3


def test_which_questions_are_about_history() -> None:
    assert is_about_history({"order": "newest"}) and is_about_history({"times": "unix"})
    assert not is_about_history({"stream": "a", "aggregate": "t", "next": "main:1"})


@pytest.mark.parametrize("own", ["time", "stream"])
def test_what_stands_in_front_anyway_is_no_field(own: str) -> None:
    with pytest.raises(ProtocolError, match=f"fields: {own} stands in front of them anyway"):
        parse_fields(f"t,{own}")
    assert parse_fields(f"a.{own}") == (("a", own),)
