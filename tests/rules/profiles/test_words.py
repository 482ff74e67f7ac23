"""Words and names that devices use."""

from __future__ import annotations

import pytest

from edge_agent.rules.profiles.words import number_or, part_of_stream, switched


def test_on_and_off_are_true_and_false() -> None:
    assert [switched(value) for value in ("ON", "OFF", "on", 1, None)] == [
        True, False, "on", 1, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text, value", [("21.5", 21.5), ("-7", -7), ("1e3", 1000.0), (".5", 0.5), ("ON", "ON"),
                    ("1 2", "1 2"), ("", ""), ("9" * 50, "9" * 50), ("0x10", "0x10"),
                    ("007", "007"), ("0", 0), ("0.50", 0.5)]
)  # fmt: skip
def test_a_text_that_is_a_number_is_one(text: str, value: object) -> None:
    assert number_or(text) == value and type(number_or(text)) is type(value)


@pytest.mark.parametrize(
    "name, part", [("urn:dev:ow:10e2", "urn-dev-ow-10e2"), ("DS18B20-1", "DS18B20-1"), ("..", ""),
                   (":/", ""), ("a b/c", "a-b-c"), ("ü", "")]
)  # fmt: skip
def test_a_name_becomes_a_part_of_a_stream(name: str, part: str) -> None:
    assert part_of_stream(name) == part
