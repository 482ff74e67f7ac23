"""Written times: what a text or number from a file or a sensor means, given its format and zone.

A time without a zone means nothing on another machine, so it is refused unless somebody says which
zone was meant. A local time need not name one moment: where clocks go back it occurs twice, where
they go forward it does not occur. `TimeFormat.moments` gives both, or says so; which of the two was
meant is decided by whoever knows more (the order of a file, the time of arrival).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from edge_agent.errors import ConfigError, ProtocolError
from edge_agent.values.record import TIME_NS_MAX, datetime_to_ns, resolve_time

#: Divisors of the unix formats, per second.
_UNIX = {"unix": 1, "unix-ms": 1_000, "unix-us": 1_000_000, "unix-ns": 1_000_000_000}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OFFSET = re.compile(r"([+-])([01]\d|2[0-3]):([0-5]\d)")
_FORMATS = "iso, unix, unix-ms, unix-us, unix-ns or a strptime format"
#: What strptime needs to have been given once: it compiles a format at its first use.
_SAMPLE = datetime(2026, 11, 22, 10, 0, 0, 250_000, UTC)

Moments = tuple[datetime | float, ...]
"""One moment, or the two that a local time may mean, the earlier first. A float is seconds since
1970 as a record's ``time`` may be (`edge_agent.values.record.resolve_time`)."""


@dataclass(frozen=True, slots=True)
class TimeFormat:
    """How times are written.

    Attributes:
        form: ``iso``, ``unix``, ``unix-ms``, ``unix-us``, ``unix-ns`` or a strptime format.
        zone: zone of times that name none; None refuses those.
        how: how a person gives a zone, for the sentence that asks for one.
        how_form: the same for the format.
    """

    form: str = "iso"
    zone: tzinfo | None = None
    how: str = "--tz"
    how_form: str = "--time-format"

    def moments(self, value: object) -> Moments:
        """What ``value`` may mean; numbers in the form ``iso`` stay seconds since 1970.

        Raises:
            ValueError: with a sentence that does not name the column; the caller does.
        """
        try:
            return self._moments(value)
        except OverflowError:
            raise ValueError(f"{value!r:.60} is beyond the years that a date can have") from None

    def _moments(self, value: object) -> Moments:
        if self.form in _UNIX:
            return (self._from_unix(value),)
        if isinstance(value, str):
            moment = self._from_text(value.strip())
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and self.form == "iso":
            _check_seconds(value)
            return (value,)
        elif isinstance(value, datetime) and self.form == "iso":
            moment = value
        else:
            raise ValueError(f"expected a time, found {value!r:.60}")
        if moment.tzinfo is None:
            return tuple(map(_checked, self._in_zone(moment, f"{value!r:.60}")))
        return (_checked(moment.astimezone(UTC)),)

    def _in_zone(self, local: datetime, shown: str) -> tuple[datetime, ...]:
        if self.zone is None:
            raise ValueError(f"{shown} has no time zone: say which is meant with {self.how}")
        found = [local.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
        # A local time that does not occur comes back as another one.
        real = [each for each in found if each.astimezone(self.zone).replace(tzinfo=None) == local]
        if not real:
            raise ValueError(
                f"{shown} does not occur in {self.zone}: clocks were put forward there"
            )
        return tuple(sorted(set(real)))

    def _from_unix(self, value: object) -> datetime:
        per_second = _UNIX[self.form]
        try:
            number = _number(value)
            microseconds = int(number * 1_000_000 // per_second)
        except (ValueError, OverflowError):
            raise ValueError(f"expected a number since 1970, found {value!r:.60}") from None
        if abs(microseconds) * 1000 > TIME_NS_MAX:
            raise ValueError(
                f"{value!r:.60} is beyond the year 2262 in the format {self.form}: "
                "is it another of unix, unix-ms, unix-us and unix-ns?"
            )
        return _EPOCH + timedelta(microseconds=microseconds)

    def _from_text(self, text: str) -> datetime:
        if self.form != "iso":
            try:
                return datetime.strptime(text, self.form)  # noqa: DTZ007 - the zone is added later
            except ValueError:
                raise ValueError(f"{text!r:.60} does not match the format {self.form!r}") from None
        try:
            return datetime.fromisoformat(text[:-1] + "Z" if text[-1:] == "z" else text)
        except ValueError:
            raise ValueError(
                f"expected a time like 2026-11-22T10:00:00Z, found {text!r:.60}; "
                f"{self.how_form} says how other times are written"
            ) from None


def parse_format(form: str | None, zone: str | None, *, form_key: str, zone_key: str) -> TimeFormat:
    """From what a person gave; the keys are named in errors.

    Raises:
        ConfigError: no such zone, or a format that is none.
    """
    if form is not None and form != "iso" and form not in _UNIX:
        try:
            if "%" not in form:
                raise ValueError(form)
            datetime.strptime(_SAMPLE.strftime(form), form)  # noqa: DTZ007 - only whether it works
        except (ValueError, re.error):
            raise ConfigError(form_key, _FORMATS, form) from None
    meant = None if zone is None else find_zone(zone, zone_key)
    return TimeFormat(form or "iso", meant, zone_key, form_key)


def find_zone(name: str, key: str) -> tzinfo:
    """The zone that ``name`` stands for: IANA, ``UTC``, ``local``, or an offset like ``+02:00``.

    Raises:
        ConfigError: there is none.
    """
    if name.upper() in ("UTC", "Z"):
        return UTC
    if name == "local":
        return _Local()
    if offset := _OFFSET.fullmatch(name):
        size = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
        return timezone(size if offset[1] == "+" else -size)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        expected = "a zone like Europe/Berlin, +02:00, UTC or local"
        raise ConfigError(key, expected, repr(name)) from None


class _Local(tzinfo):
    """This machine's zone, whose offset depends on the date."""

    def utcoffset(self, moment: datetime | None) -> timedelta:
        assert moment is not None
        try:
            offset = moment.replace(tzinfo=None).astimezone().utcoffset()
        except (ValueError, OSError) as error:  # What the C library cannot say.
            raise OverflowError(str(error)) from None
        assert offset is not None
        return offset

    def fromutc(self, moment: datetime) -> datetime:
        local = moment.replace(tzinfo=UTC).astimezone()
        return local.replace(tzinfo=self)

    def dst(self, _moment: datetime | None) -> timedelta | None:
        return None

    def tzname(self, _moment: datetime | None) -> str:
        return "local"

    def __str__(self) -> str:
        return "this machine's zone"


def _checked(moment: datetime) -> datetime:
    # What the agent would refuse is told here, with the line.
    if abs(datetime_to_ns(moment)) > TIME_NS_MAX:
        raise ValueError(f"{moment.isoformat()!r} is not between the years 1678 and 2262")
    return moment


def _check_seconds(value: float) -> None:
    try:
        resolve_time(value, 0)
    except ProtocolError as error:
        raise ValueError(error.message.removeprefix("time: ")) from None


def _number(value: object) -> int | float:
    if isinstance(value, str):
        # Whole numbers go without floats, so that nanoseconds keep their microseconds.
        return int(value) if value.strip().lstrip("-").isdecimal() else float(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    raise ValueError(value)
