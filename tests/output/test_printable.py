"""Foreign text on its way to a terminal, a log, JSON, a page and a table."""

from __future__ import annotations

import json

import pytest

from edge_agent.output.printable import (
    cells_problem,
    counted,
    csv_text,
    ended,
    html_text,
    json_text,
    printable,
    printable_lines,
    why,
)

#: Controls of both sets, line ends of Unicode, direction, nothing to see, half a pair.
BAD = ["\x00", "\x07", "\x1b[2J", "\x7f", "\x9b31m", "\x85", "\r", "\n", "\u2028", "\u2029",
       "\u202e", "\u2066", "\u200b", "\u200d", "\ufeff", "\u00ad", "\U000e0041",
       "\ud800"]  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_nothing_that_a_terminal_obeys_is_left(bad: str) -> None:
    told = f"Wärme {bad} 温度"
    assert printable(told).isprintable()
    assert printable(told).startswith("Wärme ") and printable(told).endswith(" 温度")
    assert len(html_text(told).splitlines()) == 1 and html_text(told).isprintable()
    assert csv_text(told).isprintable()
    assert json_text({told: told}).isprintable()


@pytest.mark.parametrize("bad", [one for one in BAD if one != "\ud800"])
def test_json_says_the_same_as_before(bad: str) -> None:
    value = {"a" + bad: [bad, 1.5, None, {"deep": f"x{bad}"}], "ä": "温"}
    assert json.loads(json_text(value)) == value == json.loads(json_text(value, indent=2))
    assert "温" in json_text(value)


def test_lines_of_our_own_stay_lines() -> None:
    assert printable_lines("one\n\ttwo\x1b\r") == "one\n\ttwo\\x1b\\r"


def test_plain_text_is_left_as_it_is() -> None:
    for text in ("", "a b", "Grüße", "C:\\n", "🌡 21°"):
        assert printable(text) == text == csv_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+cmd|' /C calc'!A0",
        "-2+3",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "＝1",
        "-",
        "+",
        "=",
        "-1-1",
    ],
)
def test_no_cell_begins_a_formula(text: str) -> None:
    assert csv_text(text).startswith("'")


@pytest.mark.parametrize("text", ["-5", "+5", "-0.5e-3", "1e9", "-.5", "21.5"])
def test_numbers_in_a_cell_stay_numbers(text: str) -> None:
    assert csv_text(text) == text


@pytest.mark.parametrize("text", ["It is full", "It is full.", "It is full. "])
def test_a_sentence_has_one_full_stop(text: str) -> None:
    assert ended(text) == "It is full."


def test_a_mark_of_its_own_ends_a_sentence_as_well() -> None:
    assert ended("is it one?") == "is it one?" and ended("cut short…") == "cut short…"


def test_an_error_names_its_file_once() -> None:
    error = FileNotFoundError(2, "No such file or directory", "/x")
    assert why(error) == "No such file or directory"
    assert why(ValueError("no number")) == "no number" and why(OSError("odd")) == "odd"


def test_one_thing_is_told_in_the_singular() -> None:
    told = [counted(count, "stream") for count in (0, 1, 2, 12_345)]
    assert told == ["0 streams", "1 stream", "2 streams", "12 345 streams"]


def test_a_table_of_too_many_cells_is_told() -> None:
    assert cells_problem(100, 100_000) is None
    assert cells_problem(9_999, 9_999) == (
        "9,999 records with 9,999 different fields are a table of 99,980,001 cells, of 10,000,000"
        " that one may have"
    )
