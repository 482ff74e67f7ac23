from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import ConfigError
from edge_agent.values.time_format import TimeFormat, find_zone, parse_format


def written(form: str | None = None, zone: str | None = None) -> TimeFormat:
    return parse_format(form, zone, form_key="--time-format", zone_key="--tz")


def read(value: object, form: str | None = None, zone: str | None = None) -> object:
    moments = written(form, zone).moments(value)
    assert len(moments) == 1
    return moments[0]


@pytest.mark.parametrize(
    "value, form, zone, expected",
    [
        ("2026-07-01T12:00:00Z", None, None, "2026-07-01T12:00:00+00:00"),
        ("2026-07-01t12:00:00z", None, None, "2026-07-01T12:00:00+00:00"),
        ("2026-07-01 12:00:00+02:00", None, None, "2026-07-01T10:00:00+00:00"),
        ("2026-07-01T12:00", None, "UTC", "2026-07-01T12:00:00+00:00"),
        ("2026-07-01 12:00", None, "Europe/Berlin", "2026-07-01T10:00:00+00:00"),
        ("2026-07-01 12:00", None, "+02:00", "2026-07-01T10:00:00+00:00"),
        # A zone in the text wins over --tz.
        ("2026-07-01T12:00Z", None, "Europe/Berlin", "2026-07-01T12:00:00+00:00"),
        ("01.07.2026 12:00", "%d.%m.%Y %H:%M", "Europe/Berlin", "2026-07-01T10:00:00+00:00"),
        ("2026/07/01 12:00 +0000", "%Y/%m/%d %H:%M %z", None, "2026-07-01T12:00:00+00:00"),
        ("1782907200", "unix", None, "2026-07-01T12:00:00+00:00"),
        ("1782907200.25", "unix", None, "2026-07-01T12:00:00.250000+00:00"),
        (1782907200250, "unix-ms", None, "2026-07-01T12:00:00.250000+00:00"),
        ("1782907200250001", "unix-us", None, "2026-07-01T12:00:00.250001+00:00"),
        ("1782907200250001999", "unix-ns", None, "2026-07-01T12:00:00.250001+00:00"),
    ],
)
def test_times_become_moments(
    value: object, form: str | None, zone: str | None, expected: str
) -> None:
    moment = read(value, form, zone)
    assert isinstance(moment, datetime)
    assert moment.isoformat() == expected
    assert moment.tzinfo is UTC


def test_numbers_stay_seconds() -> None:
    assert read(1782907200.5) == 1782907200.5


@pytest.mark.parametrize("zone", ["Europe/Berlin", "local"])
def test_a_local_time_that_occurs_twice_is_two_moments_the_earlier_first(
    zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    import time

    time.tzset()
    try:
        moments = written(zone=zone).moments("2026-10-25 02:30")
    finally:
        monkeypatch.undo()
        time.tzset()
    assert [moment.isoformat() for moment in moments if isinstance(moment, datetime)] == [
        "2026-10-25T00:30:00+00:00",
        "2026-10-25T01:30:00+00:00",
    ]


def test_a_local_time_that_does_not_occur_is_no_time() -> None:
    with pytest.raises(ValueError, match="does not occur in Europe/Berlin"):
        read("2026-03-29 02:30", zone="Europe/Berlin")
    assert read("2026-03-29 03:00", zone="Europe/Berlin") == datetime(2026, 3, 29, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "value, form, says",
    [
        ("2026-07-01T12:00", None, "has no time zone: say which is meant with --tz"),
        ("noon", None, "expected a time like"),
        ("noon", "%H:%M", "does not match the format"),
        ("noon", "unix", "expected a number since 1970"),
        (True, "unix", "expected a number since 1970"),
        (True, None, "expected a time"),
        (None, None, "expected a time"),
        ("", None, "expected a time"),
        (1782907200000, None, "milliseconds"),
        ("1782907200000", "unix", "beyond the year 2262"),
        (1782907200000, "unix", "beyond the year 2262"),
        (-1782907200000, "unix", "beyond the year 2262"),
        ("9" * 30, "unix-ns", "beyond the year 2262"),
        ("9" * 5000, "unix-ns", "expected a number"),
        (10**400, "unix-ns", "beyond the year 2262"),
        (float("nan"), "unix", "expected a number"),
        (float("inf"), "unix-ms", "expected a number"),
        ("1e400", "unix", "expected a number"),
        ("9999-12-31T23:59:59-05:00", None, "beyond the years"),
        ("0001-01-01T00:00:00+05:00", None, "beyond the years"),
        ("9999-12-31T23:59:59Z", None, "between the years 1678 and 2262"),
        ("1600-01-01T00:00:00Z", None, "between the years 1678 and 2262"),
    ],
)
def test_what_is_no_time_is_told(value: object, form: str | None, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        read(value, form)
    assert len(str(caught.value)) < 300


@given(
    value=st.one_of(
        st.integers(), st.floats(), st.text(max_size=40), st.datetimes().map(str), st.none(),
        st.datetimes(timezones=st.timezones()).map(lambda moment: moment.isoformat()),
        st.integers(min_value=10**9).map(str), st.lists(st.none()), st.booleans(),
    ),
    form=st.sampled_from(["iso", "unix", "unix-ms", "unix-us", "unix-ns", "%Y %j", "%d.%m.%y"]),
    zone=st.sampled_from([None, "UTC", "local", "Europe/Berlin", "-11:30", "Australia/Lord_Howe"]),
)  # fmt: skip
def test_whatever_is_given_is_a_moment_or_an_error(
    value: object, form: str, zone: str | None
) -> None:
    try:
        moments = written(form, zone).moments(value)
    except ValueError:
        return
    assert 1 <= len(moments) <= 2


def test_the_local_zone_is_a_zone() -> None:
    expected = datetime(2026, 7, 1, 12).astimezone(UTC)
    assert read("2026-07-01T12:00:00", None, "local") == expected


@pytest.mark.parametrize("zone", ["Europe/Nowhere", "../etc/passwd", "", "+25:00", "+2"])
def test_a_zone_that_does_not_exist_is_told(zone: str) -> None:
    with pytest.raises(ConfigError, match="--tz"):
        find_zone(zone, "--tz")


@pytest.mark.parametrize("form", ["YYYY-MM-DD", "%Y %Y", "%", "%Q"])
def test_a_format_that_is_none_is_told(form: str) -> None:
    with pytest.raises(ConfigError, match="--time-format"):
        written(form)


def test_a_reason_does_not_name_the_column() -> None:
    """The caller names it: twice would be "time: time: expected …"."""
    for value in (float("nan"), 1e300, -1e300, 1_795_341_600_000):
        with pytest.raises(ValueError, match="expected") as caught:
            parse_format(None, None, form_key="f", zone_key="z").moments(value)
        assert not str(caught.value).startswith("time")


def test_a_time_in_another_format_is_answered_with_where_to_say_which() -> None:
    with pytest.raises(ValueError, match=r"found '29\.11\.2026'; --time-format says how other"):
        written().moments("29.11.2026")
