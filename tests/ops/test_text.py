"""Numbers as people read them."""

from __future__ import annotations

import pytest

from edge_agent.ops.text import (
    ago,
    amount,
    bridging,
    duration,
    percent,
    resending,
    rough,
    size,
    taken,
)


@pytest.mark.parametrize(
    "value,text",
    [
        (0, "0"), (0.25, "0.25"), (9.96, "10"), (12.4, "12"), (4711, "4 711"), (9999, "9 999"),
        (12_345, "12.3 k"), (999_400, "999 k"), (999_600, "1 M"), (4_560_000, "4.56 M"),
        (1.5e9, "1.5 G"), (2e12, "2e+03 G"),
    ],
)  # fmt: skip
def test_amounts(value: float, text: str) -> None:
    assert amount(value) == text


@pytest.mark.parametrize(
    "value,text",
    [(0, "0 B"), (512, "512 B"), (1024, "1 KiB"), (12_600, "12.3 KiB"), (1 << 30, "1 GiB"),
     (1 << 40, "1 TiB")],
)  # fmt: skip
def test_sizes(value: float, text: str) -> None:
    assert size(value) == text


@pytest.mark.parametrize(
    "seconds,text",
    [(0, "0 s"), (0.00085, "850 µs"), (0.012, "12 ms"), (3.2, "3.2 s"), (119, "119 s"),
     (240, "4 min"),
     (5 * 3600 + 720, "5 h 12 min"), (7200, "2 h"), (3 * 86_400 + 4 * 3600, "3 d 4 h"),
     (86_400 * 2, "2 d")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_sizes_of_cards_are_in_thousands() -> None:
    assert [size(value, 1000) for value in (999, 2e9, 30e12, 5e16)] == [
        "999 B", "2 GB", "30 TB", "5e+04 TB",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "seconds,text",
    [(0, "0 s"), (119, "119 s"), (840, "14 min"), (7200, "2 h"), (61 * 3600, "61 h"),
     (9 * 86_400, "9 days"), (3e7, "11 months"), (14 * 3.156e7, "14 years"),
     (1e11, "more than 100 years")],
)  # fmt: skip
def test_what_is_to_come_is_said_roughly(seconds: float, text: str) -> None:
    assert rough(seconds) == text


def test_a_clock_that_was_set_back_does_not_show_a_negative_age() -> None:
    assert ago(-5_000_000_000) == "just now"
    assert ago(3_000_000_000) == "3 s ago"


def test_small_parts_keep_a_digit() -> None:
    assert (percent(0.004), percent(0.07), percent(1)) == ("0.4 %", "7 %", "100 %")


def test_what_an_upstream_takes_is_records_and_bytes() -> None:
    assert taken(None, None) == "–"
    assert taken(120.0, 3482.0) == "120/s  3.4 KiB/s"


def test_a_resend_in_words() -> None:
    one = {
        "log": "main", "first": 101, "last": 300, "floor": 150, "drains_in_s": 240.0,
        "gone_records": 7, "error": None, "phase": "sending",
    }  # fmt: skip
    told = "resend of log main 25 %, 150 left, 4 min, 7 no longer there: sending"
    assert resending(one) == told
    assert resending(one | {"error": "no route", "drains_in_s": None, "gone_records": 0}) == (
        "resend of log main 25 %, 150 left: no route"
    )
    # Numbers that a restore passed over are neither done nor left.
    counted = one | {"last": 2**20 + 300, "done_records": 150, "left_records": 50}
    assert resending(counted).startswith("resend of log main 75 %, 50 left,")


def test_what_waits_for_an_upstream_that_bridges_in_words() -> None:
    assert bridging({}) is bridging({"bridge": None}) is None
    assert bridging({"bridge": {"records": 0, "turned_away": 0}}) is None
    waits = "acknowledgements to agents wait for it (bridge): 12.3 k records"
    assert bridging({"bridge": {"records": 12_345, "turned_away": 0}}) == waits
    assert bridging({"bridge": {"records": 12_345, "turned_away": 2}}) == (
        f"{waits}; agents were asked to come back later 2 times"
    )
