from __future__ import annotations

import math
from xml.etree import ElementTree as ET

import pytest

from benchmarks.plot import LEFT, RIGHT, WIDTH, Group, axis_of, bar_chart, place

SVG = "{http://www.w3.org/2000/svg}"
GROUPS = [
    Group("ours & <fast>", (("1 connection", 452_000.0), ("4 connections", 4520.0)), "ours"),
    Group("theirs", (("1 connection", 3_450.0),), "same"),
]
KINDS = {"ours": "us", "same": "the same promise"}


def chart() -> ET.Element:
    return ET.fromstring(bar_chart("How many", "per second", GROUPS, KINDS))


def test_a_bar_is_as_long_as_the_logarithm_of_its_value() -> None:
    bars = [rect for rect in chart().iter(f"{SVG}rect") if float(rect.get("height", 0)) > 0]
    wide = [float(rect.get("width", 0)) for rect in bars if rect.get("x") == "20"][-3:]

    assert wide[0] > wide[1] > wide[2] > 0
    # Two powers of ten lie between the first two.
    assert wide[0] - wide[1] == pytest.approx(2 * wide[0] / math.log10(452), abs=0.2)


def test_everything_that_is_said_stands_there_as_text() -> None:
    texts = ["".join(text.itertext()) for text in chart().iter(f"{SVG}text")]

    for expected in (
        "How many", "per second", "us", "the same promise", "ours & <fast>", "theirs",
        "452,000 · 1 connection", "3,450 · 1 connection", "1,000", "100,000",
    ):  # fmt: skip
        assert expected in texts


def test_nothing_lies_outside_of_the_picture() -> None:
    drawn = chart()
    _, _, width, height = map(float, drawn.get("viewBox", "").split())

    for element in drawn.iter():
        if element.tag in (f"{SVG}rect", f"{SVG}text"):
            assert 0 <= float(element.get("x", -1)) < width
            assert 0 <= float(element.get("y", -1)) < height


def test_both_grounds_have_colours_for_every_kind() -> None:
    style = next(chart().iter(f"{SVG}style")).text or ""
    light, _, dark = style.partition("prefers-color-scheme: dark")

    for kind in (".ours", ".same", ".weaker", "text", ".grid"):
        assert f"{kind} {{" in light and f"{kind} {{" in dark


@pytest.mark.parametrize(
    "values, low", [([2000.0, 500_000.0], 3), ([1000.0, 1000.0], 2), ([1.0, 12_000_000.0], -1)]
)
def test_the_axis_holds_all_values_and_the_smallest_still_has_a_bar(
    values: list[float], low: int
) -> None:
    ends = axis_of(values)

    assert ends[0] == low
    places = [place(value, *ends) for value in values]
    assert min(places) > LEFT and max(places) == pytest.approx(WIDTH - RIGHT)
