from __future__ import annotations

import pytest

from edge_agent.config import DAY, parse_window


def test_a_window_without_days_is_each_days() -> None:
    spans = parse_window("01:00-04:00")
    assert spans == [(day * DAY + 60, day * DAY + 240) for day in range(7)]


def test_a_window_over_midnight_ends_on_the_next_day() -> None:
    assert parse_window("sun 22:30-06:00") == [(6 * DAY + 1350, 7 * DAY + 360)]


@pytest.mark.parametrize(
    "text, days",
    [
        ("mon-fri 00:00-24:00", [0, 1, 2, 3, 4]),
        ("Sat,Sun 00:00 - 24:00", [5, 6]),
        ("sat-mon 00:00-24:00", [0, 5, 6]),
        ("wed 00:00-24:00", [2]),
    ],
)
def test_days_are_named_one_by_one_or_from_to(text: str, days: list[int]) -> None:
    assert parse_window(text) == [(day * DAY, day * DAY + DAY) for day in days]


@pytest.mark.parametrize(
    "text", ["", "1:00-2:00", "01:00", "25:00-26:00", "24:00-01:00", "01:00-01:00", "00:00-24:30",
             "01:60-02:00", "mo 01:00-02:00", "mon- 1", "foo,mon 01:00-02:00"]
)  # fmt: skip
def test_what_is_no_window_is_told_with_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError, match="such as"):
        parse_window(text)
