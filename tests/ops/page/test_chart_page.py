"""The page of one stream: what its script is told."""

from __future__ import annotations

import json
from urllib.parse import parse_qsl

from edge_agent.ops.page.chart_page import first_question, render_chart
from edge_agent.ops.units import HINTED, UNITS
from tests.ops.page.test_page import read


def test_its_script_is_told_stream_time_and_units() -> None:
    (main,) = [
        a for tag, a in read(render_chart("a/1", {}, 12.5, signed_in=False)).tags if tag == "main"
    ]
    assert main["data-stream"] == "a/1" and main["data-now"] == "12.500"
    told = json.loads(main["data-units"] or "")
    assert told == json.loads(json.dumps([UNITS, HINTED]))


def asked(**given: str) -> dict[str, str]:
    path, _, question = (first_question("a/1 ü", given, 100_000.0) or "").partition("?")
    assert path == "/api/query"
    return dict(parse_qsl(question, keep_blank_values=True))


def test_the_first_question_is_about_what_the_address_says() -> None:
    assert asked() == {
        "stream": "a/1 ü", "step": "2m", "aggregate": "min,mean,max,count,last",
        "from": "13600.000", "to": "100000.000", "times": "unix",
    }  # fmt: skip
    hour = asked(last="1h", fields="t,`a,b`")
    assert (hour["from"], hour["step"], hour["fields"]) == ("96400.000", "5s", "t,`a,b`")
    some = asked(**{"from": "1.5", "to": "1.6", "last": "1h"})
    assert (some["from"], some["to"], some["step"]) == ("1.500", "1.600", "1ms")
    assert asked(**{"from": "1", "to": "9e9"})["step"] == "28d"
    for faulty in ({"from": "9", "to": "2"}, {"from": "x", "to": "2"}, {"from": "1", "to": "inf"},
                   {"from": "nan", "to": "nan"}, {"last": "1m"}):  # fmt: skip
        assert asked(**faulty) == asked()
    for nothing in ("", " , "):
        assert first_question("a", {"fields": nothing}, 1.0) is None
        assert b'rel="preload"' not in render_chart("a", {"fields": nothing}, 1.0, signed_in=False)


def test_it_is_asked_in_the_head_of_the_page() -> None:
    (link,) = [
        a
        for tag, a in read(render_chart("a&b", {"last": "7d"}, 1e6, signed_in=False)).tags
        if a.get("rel") == "preload"
    ]
    assert link["href"] == first_question("a&b", {"last": "7d"}, 1e6) and link["as"] == "fetch"


def test_a_name_that_is_none_is_escaped() -> None:
    evil = '"><script>alert(1)</script>'
    harmless = read(render_chart("a", {}, 1.0, signed_in=False))
    page = read(render_chart(evil, {"fields": evil}, 1.0, signed_in=False))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in harmless.tags]
    assert any(evil in word for word in page.words)


def test_without_script_there_is_a_way_to_the_figures() -> None:
    assert b"/api/query?stream=a/1&amp;format=csv" in render_chart("a/1", {}, 1.0, signed_in=False)
