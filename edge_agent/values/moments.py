"""Times, positions and steps as people write them in `from`, `to` and `step` of a question.

A moment is RFC 3339 text, seconds since 1970, ``now``, or an age such as ``-1h`` or ``-30``
(seconds). A position is ``log:seq``. A step is a length such as ``10s``. Unlike a record's own
``time`` moments are never a sensor's: early dates are meant.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from edge_agent.errors import ProtocolError
from edge_agent.values.record import NANOSECONDS, TIME_NS_MAX, UNSET_CLOCK_BEFORE_NS, datetime_to_ns

# Digits are ASCII and so few that no number is larger than what it is multiplied with can hold.
_LENGTH = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*(ms|s|m|h|d|w)?")
_SECONDS = re.compile(r"[0-9]{1,20}(?:\.[0-9]{0,100})?")
_POSITION = re.compile(r"([A-Za-z0-9._-]{1,64}):([0-9]{1,19})")
_UNITS_NS = {
    "ms": 1_000_000, "s": NANOSECONDS, "m": 60 * NANOSECONDS, "h": 3600 * NANOSECONDS,
    "d": 86_400 * NANOSECONDS, "w": 7 * 86_400 * NANOSECONDS,
}  # fmt: skip

Position = tuple[str, int]
"""Name of a log and a seq in it."""


def bad_query(message: str) -> ProtocolError:
    """The error for a question that cannot be answered as it was asked."""
    return ProtocolError("bad_query", message)


def parse_moment(
    text: str, now_ns: int, *, what: str = "time", lowest_ns: int = 0, words: str = "'now'"
) -> int:
    """Ns since 1970, not before ``lowest_ns``. The error names the parameter, ``what``, and the
    ``words`` that it takes.

    Raises:
        ProtocolError: ``bad_query``, which says what was expected.
    """
    text = text.strip()
    if text == "now":
        return now_ns
    if text.startswith("-") and (age := _LENGTH.fullmatch(text, 1)):
        time_ns = now_ns - _length_ns(age)
    elif _SECONDS.fullmatch(text):
        whole, _, part = text.partition(".")
        time_ns = int(whole) * NANOSECONDS + int(part[:9].ljust(9, "0"))
    else:
        time_ns = datetime_to_ns(_parse_date(text, what, words))
    # On a board that woke in 1970 an age reaches back before it.
    if now_ns < UNSET_CLOCK_BEFORE_NS:
        lowest_ns = -TIME_NS_MAX
    if not lowest_ns <= time_ns <= TIME_NS_MAX:
        raise bad_query(f"{what}: {text!r} is not between 1970 and 2262")
    return time_ns


def parse_step(text: str, least: str, most: str, *, words: str = "") -> int:
    """Ns of a step of ``least`` to ``most``, which are written as steps are. The error names what
    else is taken, ``words``.

    Raises:
        ProtocolError: ``bad_query``, which says what was expected.
    """
    length, *limits = (_LENGTH.fullmatch(one.strip()) for one in (text, least, most))
    low_ns, high_ns = (_length_ns(limit) for limit in limits if limit)
    step_ns = _length_ns(length) if length and length[2] else 0
    if not low_ns <= step_ns <= high_ns:
        raise bad_query(
            f'step: expected a length of {least} to {most}, such as "10s" or "1.5h"'
            f" (units are {', '.join(_UNITS_NS)}){words}, got {text.strip()[:60]!r}"
        )
    return step_ns


def _length_ns(length: re.Match[str]) -> int:
    """Without a unit it is seconds."""
    return round(float(length[1]) * _UNITS_NS[length[2] or "s"])


def parse_position(text: str) -> Position | None:
    """``log:seq``; None where the text is not of that shape."""
    found = _POSITION.fullmatch(text.strip())
    return (found[1], int(found[2])) if found else None


def format_position(position: Position) -> str:
    """What `parse_position` reads."""
    return f"{position[0]}:{position[1]}"


def _parse_date(text: str, what: str, words: str) -> datetime:
    # A "+" of a zone arrives as a blank where somebody forgot to escape it in a URL.
    shown = text
    if re.fullmatch(r".*\d \d\d:\d\d", text):
        text = "+".join(text.rsplit(" ", 1))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise bad_query(
            f"{what}: expected RFC 3339 text, a date, seconds since 1970, {words} or an age such as"
            f" '-1h' (units are {', '.join(_UNITS_NS)}), got {shown[:60]!r}"
        ) from None
    if moment.tzinfo is None:
        if len(text) == 10:
            return moment.replace(tzinfo=UTC)
        raise bad_query(f"{what}: {shown!r} has no zone; add 'Z' or an offset such as '+02:00'")
    return moment
