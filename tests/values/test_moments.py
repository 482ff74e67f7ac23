from __future__ import annotations

import pytest

from edge_agent.errors import ProtocolError
from edge_agent.values.moments import format_position, parse_moment, parse_position, parse_step
from tests.waist import NOW_NS, SECOND


@pytest.mark.parametrize(
    "text, expected",
    [
        ("now", NOW_NS),
        ("-1h", NOW_NS - 3600 * SECOND),
        ("-30", NOW_NS - 30 * SECOND),
        ("-1.5m", NOW_NS - 90 * SECOND),
        ("-250ms", NOW_NS - SECOND // 4),
        ("-2w", NOW_NS - 14 * 86_400 * SECOND),
        ("1795341600.25", 1_795_341_600_250_000_000),
        ("1262304000", 1_262_304_000 * SECOND),
        ("0", 0),
        ("2010-01-01T00:00:00Z", 1_262_304_000 * SECOND),
        ("2010-01-01", 1_262_304_000 * SECOND),
        ("2010-01-01T02:00:00+02:00", 1_262_304_000 * SECOND),
        ("2010-01-01T02:00:00 02:00", 1_262_304_000 * SECOND),
    ],
)
def test_moments_are_read(text: str, expected: int) -> None:
    assert parse_moment(text, NOW_NS) == expected


@pytest.mark.parametrize(
    "text, says",
    [
        ("noon", "expected RFC 3339"),
        ("2026-11-22T10:00:00", "has no zone"),
        ("-9999999999", "between 1970 and 2262"),
        ("99999999999", "between 1970 and 2262"),
        ("", "expected RFC 3339"),
    ],
)
def test_other_text_is_refused_with_a_sentence(text: str, says: str) -> None:
    with pytest.raises(ProtocolError, match=says) as caught:
        parse_moment(text, NOW_NS, what="from")
    assert caught.value.code == "bad_query"
    assert caught.value.message.startswith("from: ")


@pytest.mark.parametrize(
    "text, seconds",
    [("1s", 1), ("100ms", 0.1), ("1.5m", 90), ("1d", 86_400), (" 5 s", 5), ("0.1w", 60_480)],
)
def test_a_step_is_a_length_with_a_unit(text: str, seconds: float) -> None:
    assert parse_step(text, "100ms", "1d") == seconds * SECOND


@pytest.mark.parametrize("text", ["", "1", "s", "-1s", "0s", "99ms", "2d", "9" * 400 + "s", "1us"])
def test_what_is_no_step_is_refused_with_what_would_be_one(text: str) -> None:
    with pytest.raises(ProtocolError, match="step: expected a length of 100ms to 1d") as caught:
        parse_step(text, "100ms", "1d", words=' or "all"')
    assert caught.value.code == "bad_query" and 'or "all", got' in caught.value.message


def test_positions_are_read_back() -> None:
    assert parse_position(format_position(("main", 4711))) == ("main", 4711)
    assert parse_position("main") is None
    assert parse_position("-1h") is None


def test_on_a_board_that_woke_in_1970_an_age_reaches_back_before_it() -> None:
    assert parse_moment("-10m", 7 * SECOND) == -593 * SECOND
