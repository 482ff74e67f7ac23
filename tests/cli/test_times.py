from __future__ import annotations

from datetime import UTC, datetime

import pytest

from edge_agent.cli.times import TimeReader
from edge_agent.errors import ConfigError


def read(value: object, form: str | None = None, zone: str | None = None) -> object:
    return TimeReader.parse(None, form, zone).read(value)


@pytest.mark.parametrize(
    "value, form, zone, expected",
    [
        ("2026-07-01T12:00:00Z", None, None, "2026-07-01T12:00:00+00:00"),
        ("2026-07-01 12:00:00+02:00", None, None, "2026-07-01T10:00:00+00:00"),
        ("2026-07-01T12:00", None, "UTC", "2026-07-01T12:00:00+00:00"),
        ("2026-07-01 12:00", None, "Europe/Berlin", "2026-07-01T10:00:00+00:00"),
        # A zone in the text wins over --tz.
        ("2026-07-01T12:00Z", None, "Europe/Berlin", "2026-07-01T12:00:00+00:00"),
        ("01.07.2026 12:00", "%d.%m.%Y %H:%M", "Europe/Berlin", "2026-07-01T10:00:00+00:00"),
        ("2026/07/01 12:00 +0000", "%Y/%m/%d %H:%M %z", None, "2026-07-01T12:00:00+00:00"),
        ("1782907200", "unix", None, "2026-07-01T12:00:00+00:00"),
        ("1782907200.25", "unix", None, "2026-07-01T12:00:00.250000+00:00"),
        (1782907200250, "unix-ms", None, "2026-07-01T12:00:00.250000+00:00"),
        ("1782907200250001", "unix-us", None, "2026-07-01T12:00:00.250001+00:00"),
        ("1782907200250001999", "unix-ns", None, "2026-07-01T12:00:00.250001+00:00"),
        # Clocks went back at 3:00 to 2:00: the first of the two half past twos.
        ("2026-10-25 02:30", None, "Europe/Berlin", "2026-10-25T00:30:00+00:00"),
        # Clocks went forward from 2:00 to 3:00: read with the offset from before.
        ("2026-03-29 02:30", None, "Europe/Berlin", "2026-03-29T01:30:00+00:00"),
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
        (1782907200000, None, "milliseconds"),
    ],
)
def test_what_is_no_time_is_told(value: object, form: str | None, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read(value, form)


def test_the_local_zone_is_a_zone() -> None:
    expected = datetime(2026, 7, 1, 12).astimezone(UTC)
    assert read("2026-07-01T12:00:00", None, "local") == expected


@pytest.mark.parametrize("zone", ["Europe/Nowhere", "../etc/passwd", ""])
def test_a_zone_that_does_not_exist_is_told(zone: str) -> None:
    with pytest.raises(ConfigError, match="--tz"):
        TimeReader.parse(None, None, zone)


def test_a_format_that_is_none_is_told() -> None:
    with pytest.raises(ConfigError, match="--time-format"):
        TimeReader.parse(None, "YYYY-MM-DD", None)
