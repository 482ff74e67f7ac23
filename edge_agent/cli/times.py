"""Times as people write them in files, made into moments that mean the same everywhere.

A time without a zone means nothing on another machine, so it is refused unless the caller says
which zone was meant. Where clocks were put forward or back, RFC 5545 section 3.3.5 decides: a
local time that occurs twice is the first of the two, one that does not occur is read with the
offset from before the gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from edge_agent.errors import ConfigError, ProtocolError
from edge_agent.record import resolve_time

#: Divisors of the unix formats, per second.
_UNIX = {"unix": 1, "unix-ms": 1_000, "unix-us": 1_000_000, "unix-ns": 1_000_000_000}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class TimeReader:
    """How the times of one file are written.

    Attributes:
        column: name of the column or key that holds the time.
        form: ``iso``, ``unix``, ``unix-ms``, ``unix-us``, ``unix-ns`` or a strptime format.
        zone: zone of times that name none; None refuses those.
    """

    column: str = "time"
    form: str = "iso"
    zone: tzinfo | None = None

    @classmethod
    def parse(cls, column: str | None, form: str | None, zone: str | None) -> TimeReader:
        """From command line options.

        Raises:
            ConfigError: no such zone, or a format that is none.
        """
        if form is not None and form != "iso" and form not in _UNIX and "%" not in form:
            raise ConfigError(
                "--time-format", "iso, unix, unix-ms, unix-us, unix-ns or a strptime format", form
            )
        return cls(column or "time", form or "iso", None if zone is None else find_zone(zone))

    def read(self, value: object) -> datetime | float:
        """The moment that ``value`` means; numbers stay seconds since 1970.

        Raises:
            ValueError: with a sentence that does not name the column; the caller does.
        """
        if self.form in _UNIX:
            return _EPOCH + timedelta(microseconds=_microseconds(value, _UNIX[self.form]))
        if isinstance(value, str):
            moment = self._from_text(value.strip())
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and self.form == "iso":
            return self._checked(value)
        else:
            raise ValueError(f"expected a time, found {value!r}")
        if moment.tzinfo is None:
            if self.zone is None:
                raise ValueError(f"{value!r} has no time zone: say which is meant with --tz")
            moment = moment.replace(tzinfo=self.zone)
        self._checked(moment)
        return moment.astimezone(UTC)

    def _from_text(self, text: str) -> datetime:
        if self.form != "iso":
            try:
                return datetime.strptime(text, self.form)  # noqa: DTZ007 - the zone is added by read
            except ValueError:
                raise ValueError(f"{text!r} does not match the format {self.form!r}") from None
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(
                f"expected a time like 2026-11-22T10:00:00Z, found {text!r}; --time-format says "
                "how other times are written"
            ) from None

    def _checked(self, moment: datetime | float) -> datetime | float:
        # What the agent would refuse is told here, with the line.
        try:
            resolve_time(moment, 0)
        except ProtocolError as error:
            raise ValueError(error.message) from None
        return moment


def find_zone(name: str) -> tzinfo:
    """The zone that ``name`` (IANA, or ``UTC``, or ``local``) stands for.

    Raises:
        ConfigError: there is none.
    """
    if name.upper() in ("UTC", "Z"):
        return UTC
    if name == "local":
        return _Local()
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError("--tz", "a zone like Europe/Berlin, UTC or local", repr(name)) from None


class _Local(tzinfo):
    """This machine's zone, whose offset depends on the date."""

    def utcoffset(self, moment: datetime | None) -> timedelta:
        assert moment is not None
        offset = moment.replace(tzinfo=None).astimezone().utcoffset()
        assert offset is not None
        return offset

    def dst(self, _moment: datetime | None) -> timedelta | None:
        return None

    def tzname(self, _moment: datetime | None) -> str:
        return "local"


def _microseconds(value: object, per_second: int) -> int:
    try:
        number = _number(value)
        return int(number * 1_000_000 // per_second)
    except (ValueError, OverflowError):
        raise ValueError(f"expected a number since 1970, found {value!r}") from None


def _number(value: object) -> int | float:
    if isinstance(value, str):
        # Whole numbers go without floats, so that nanoseconds keep their microseconds.
        return int(value) if value.strip().lstrip("-").isdecimal() else float(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    raise ValueError(value)
