from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from edge_agent.forward.lanes.windows import OpeningTimes
from tests.manual_clock import ManualClock


def at(text: str) -> int:
    """That time in UTC, in ns."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000_000


def waits(windows: list[str], text: str, *, synced: bool = True) -> str:
    clock = ManualClock(at(text), synced=synced)
    return OpeningTimes(windows, time.gmtime).waits_for(clock.read())


@pytest.mark.parametrize(
    "text, waits_for",
    [
        ("2026-11-29T00:59:59", "01:00"),
        ("2026-11-29T01:00:00", ""),
        ("2026-11-29T03:59:59", ""),
        ("2026-11-29T04:00:00", "01:00"),
        ("2026-11-29T23:30:00", "01:00"),
    ],
)
def test_a_window_of_each_day(text: str, waits_for: str) -> None:
    assert waits(["01:00-04:00"], text) == waits_for


@pytest.mark.parametrize(
    "text, waits_for",
    [
        ("2026-11-29T21:00:00", "22:00"),  # a Sunday
        ("2026-11-29T23:00:00", ""),
        ("2026-11-30T05:59:00", ""),  # Monday, still Sunday's
        ("2026-11-30T06:00:00", "Sun 22:00"),
        ("2026-11-29T20:59:00", "22:00"),
    ],
)
def test_a_window_over_midnight_and_the_end_of_the_week(text: str, waits_for: str) -> None:
    assert waits(["sun 22:00-06:00"], text) == waits_for


def test_of_several_windows_the_next_one_is_told() -> None:
    windows = ["mon-fri 12:00-13:00", "sat,sun 00:00-24:00"]
    assert waits(windows, "2026-11-29T12:30:00") == ""
    assert waits(windows, "2026-11-30T11:00:00") == "12:00"
    assert waits(windows, "2026-11-27T13:00:00") == "00:00"
    assert waits(["sat 10:00-11:00"], "2026-11-30T11:00:00") == "Sat 10:00"


def test_without_windows_and_with_a_clock_that_is_not_set_nothing_waits() -> None:
    assert waits([], "2026-11-29T12:00:00") == ""
    assert waits(["01:00-04:00"], "1970-01-01T12:00:00", synced=False) == ""


def test_times_are_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        times = OpeningTimes(["01:00-04:00"])
        assert times.waits_for(ManualClock(at("2026-11-29T00:30:00")).read()) == ""
        assert times.waits_for(ManualClock(at("2026-07-29T02:30:00")).read()) == "01:00"
        # Summer begins: from 02:00 it is 03:00 at once.
        assert times.waits_for(ManualClock(at("2026-03-29T01:30:00")).read()) == ""
        assert times.waits_for(ManualClock(at("2026-03-29T02:00:00")).read()) == "01:00"
    finally:
        monkeypatch.undo()
        time.tzset()
