"""The page of one stream: what its script is told."""

from __future__ import annotations

import json

from edge_agent.ops.page.chart_page import render_chart
from edge_agent.ops.units import HINTED, UNITS
from tests.ops.page.test_page import read


def test_its_script_is_told_stream_time_and_units() -> None:
    (main,) = [
        a for tag, a in read(render_chart("a/1", 12.5, signed_in=False)).tags if tag == "main"
    ]
    assert main["data-stream"] == "a/1" and main["data-now"] == "12.500"
    told = json.loads(main["data-units"] or "")
    assert told == json.loads(json.dumps([UNITS, HINTED]))


def test_a_name_that_is_none_is_escaped() -> None:
    evil = '"><script>alert(1)</script>'
    harmless = read(render_chart("a", 1.0, signed_in=False))
    page = read(render_chart(evil, 1.0, signed_in=False))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in harmless.tags]
    assert any(evil in word for word in page.words)


def test_without_script_there_is_a_way_to_the_figures() -> None:
    assert b"/api/query?stream=a/1&amp;format=csv" in render_chart("a/1", 1.0, signed_in=False)
