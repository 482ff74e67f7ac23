from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import msgpack
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from edge_agent.errors import ProtocolError
from edge_agent.values.record import (
    TIME_NS_MAX,
    UNSET_CLOCK_BEFORE_NS,
    ForeignBlock,
    Origin,
    Record,
    Run,
    TimeQuality,
    array_header,
    as_sent,
    datetime_to_ns,
    format_time,
    resolve_time,
)

ARRIVAL = 1_795_341_600_000_000_000
SECOND = 1_000_000_000


@pytest.mark.parametrize(
    "value, expected, quality",
    [
        (None, ARRIVAL, "arrival"),
        (1_795_341_600, ARRIVAL, "sensor"),
        (1_795_341_600.25, ARRIVAL + SECOND // 4, "sensor"),
        (1_795_341_600.1, ARRIVAL + SECOND // 10, "sensor"),
        ("2026-11-22T10:00:00Z", ARRIVAL, "sensor"),
        ("2026-11-22t10:00:00z", ARRIVAL, "sensor"),
        ("2026-11-22 10:00:00Z", ARRIVAL, "sensor"),
        ("2026-11-22T12:00:00+02:00", ARRIVAL, "sensor"),
        ("2026-11-22T10:00:00.123456Z", ARRIVAL + 123_456_000, "sensor"),
        (datetime(2026, 11, 22, 10, tzinfo=UTC), ARRIVAL, "sensor"),
        (0, ARRIVAL, "relative"),
        (-30, ARRIVAL - 30 * SECOND, "relative"),
        (-0.5, ARRIVAL - SECOND // 2, "relative"),
        (1, ARRIVAL, "unset"),
        (0.001, ARRIVAL, "unset"),
        (2**28 - 1, ARRIVAL, "unset"),
        (2**28, ARRIVAL, "unset"),
        ("1970-01-01T00:00:07Z", ARRIVAL, "unset"),
        ("2019-12-31T23:59:59Z", ARRIVAL, "unset"),
        (UNSET_CLOCK_BEFORE_NS // SECOND, UNSET_CLOCK_BEFORE_NS, "sensor"),
        ("2020-01-01T00:00:00Z", UNSET_CLOCK_BEFORE_NS, "sensor"),
    ],
)
def test_a_time_is_resolved(value: object, expected: int, quality: str) -> None:
    assert resolve_time(value, ARRIVAL) == (expected, quality)


@pytest.mark.parametrize(
    "value",
    [
        True, False, "noon", "", "2026-11-22", "2026-11-22T10:00:00", "20261122T100000Z",
        "2026-W47-7T10:00:00Z", "2026-13-01T00:00:00Z", b"x", [], {}, [1], float("nan"),
        float("inf"), float("-inf"), 1e300, -1e300, -10**30, 10**30,
        datetime(2026, 11, 22, 10),  # noqa: DTZ001 - a naive one is what must be refused
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused(value: object) -> None:
    with pytest.raises(ProtocolError) as caught:
        resolve_time(value, ARRIVAL)
    assert caught.value.code == "bad_time"
    assert caught.value.close_code is None
    assert len(caught.value.message) < 200


def test_milliseconds_are_recognised_and_told() -> None:
    with pytest.raises(ProtocolError, match="are these milliseconds"):
        resolve_time(1_795_341_600_000, ARRIVAL)


def test_a_long_value_is_shortened_in_the_message() -> None:
    with pytest.raises(ProtocolError) as caught:
        resolve_time("x" * 10_000, ARRIVAL)
    assert len(caught.value.message) < 150


@hypothesis_settings(max_examples=100)
@given(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=40)
    | st.binary(max_size=8)
    | st.datetimes()
    | st.datetimes(timezones=st.just(UTC))
)
def test_any_value_gives_a_time_that_fits_or_one_clear_error(value: object) -> None:
    quality: str
    try:
        time_ns, quality = resolve_time(value, ARRIVAL)
    except ProtocolError as error:
        time_ns, quality = 0, error.code
    assert abs(time_ns) <= TIME_NS_MAX
    assert quality in ("sensor", "arrival", "relative", "unset", "bad_time")


@hypothesis_settings(max_examples=200)
@given(st.integers(UNSET_CLOCK_BEFORE_NS // 1000, TIME_NS_MAX // 1000))
def test_microseconds_survive_text_and_back(micros: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    assert datetime_to_ns(moment) == micros * 1000
    assert resolve_time(format_time(micros * 1000), ARRIVAL) == (micros * 1000, "sensor")


def test_datetimes_of_other_zones_are_the_same_moment() -> None:
    here = datetime(2026, 11, 22, 12, tzinfo=timezone(timedelta(hours=2)))
    assert datetime_to_ns(here) == ARRIVAL


@pytest.mark.parametrize(
    "time_ns, text",
    [
        (ARRIVAL, "2026-11-22T10:00:00Z"),
        (ARRIVAL + SECOND // 4, "2026-11-22T10:00:00.25Z"),
        (ARRIVAL + 1, "2026-11-22T10:00:00.000000001Z"),
        (0, "1970-01-01T00:00:00Z"),
        (-SECOND, "1969-12-31T23:59:59Z"),
        (TIME_NS_MAX, "2262-04-11T23:47:16.854775807Z"),
        (10**30, str(10**21)),
    ],
)
def test_a_time_is_written_as_rfc_3339_with_as_many_digits_as_needed(
    time_ns: int, text: str
) -> None:
    assert format_time(time_ns) == text


@given(st.integers(-TIME_NS_MAX, TIME_NS_MAX))
def test_any_time_is_written_as_the_calendar_has_it(time_ns: int) -> None:
    seconds, nanos = divmod(time_ns, SECOND)
    day = datetime(1970, 1, 1) + timedelta(seconds=seconds)  # noqa: DTZ001 - no zone in its text
    part = f".{nanos:09}".rstrip("0") if nanos else ""
    assert format_time(time_ns) == f"{day.isoformat()}{part}Z"


def test_runs_and_blocks_do_not_print_what_they_carry() -> None:
    run = Run("a", "s", 1, ARRIVAL, True, 1, b"\x81\xa1t\x01" * 1000, ARRIVAL, ARRIVAL)
    assert len(repr(run)) < 200
    origin = Origin("a1", "e1", "main", 1, bytes(16), 1, ARRIVAL, True, ("a1",))
    block = ForeignBlock(1, 9, 9, 0, 3000, bytes(3000), ARRIVAL, ARRIVAL, origin)
    assert len(repr(block)) < 400


@pytest.mark.parametrize(
    "value, seconds",
    [
        ("2010-01-01T00:00:00Z", 1_262_304_000),
        (1_262_304_000, 1_262_304_000),
        (12.5, 12.5),
        (-86_400, -86_400),
        (datetime(1999, 12, 31, tzinfo=UTC), 946_598_400),
    ],
)
def test_a_historic_time_is_taken_as_it_says(value: object, seconds: float) -> None:
    assert resolve_time({"historic": value}, 7) == (round(seconds * 1e9), "sensor")


@pytest.mark.parametrize(
    "value",
    [{"historic": None}, {"historic": "noon"}, {"historic": True}, {"historic": float("nan")},
     {"historic": 1e30}, {"other": 1}, {"historic": 1, "other": 2}, {}],
)  # fmt: skip
def test_a_map_that_is_no_historic_time_is_a_bad_time(value: object) -> None:
    with pytest.raises(ProtocolError, match="time: expected"):
        resolve_time(value, 7)


def test_what_as_sent_writes_is_read_back() -> None:
    border = UNSET_CLOCK_BEFORE_NS
    for time_ns in (border - 1_000, border, border + 1_000):
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_ns // 1000)

        assert resolve_time(as_sent(time_ns, moment), 7) == (time_ns, "sensor")


def test_array_headers_are_msgpacks_own() -> None:
    for count in (0, 15, 16, 65_535, 65_536):
        assert array_header(count) == msgpack.Packer().pack_array_header(count)


def test_an_age_may_reach_back_before_1970_where_our_own_clock_woke_there() -> None:
    assert resolve_time(-60, 10 * SECOND) == (-50 * SECOND, "relative")
    with pytest.raises(ProtocolError, match="time: expected"):
        resolve_time(-1e12, 10 * SECOND)
    with pytest.raises(ProtocolError, match="time: expected"):
        resolve_time(-2e9, ARRIVAL)


@pytest.mark.parametrize(
    "quality, synced, corrected, expected",
    [
        ("sensor", False, False, "sensor"),
        ("sensor", True, False, "sensor"),
        ("arrival", True, False, "synced"),
        ("relative", False, True, "corrected"),
        ("unset", False, False, "unsynced"),
    ],
)
def test_how_far_a_time_can_be_trusted_is_one_word(
    quality: TimeQuality, synced: bool, corrected: bool, expected: str
) -> None:
    record = Record("main", 1, "a", 0, quality, 0, synced, "s", 0, {}, corrected=corrected)
    assert record.time_quality == expected


@given(st.floats(1_577_836_800, 9_223_372_036))
def test_a_plain_number_of_seconds_takes_a_shorter_way_to_the_same_time(seconds: float) -> None:
    class Seconds(float):
        """No plain one, so that it takes the long way."""

    assert resolve_time(seconds, 5) == resolve_time(Seconds(seconds), 5)
