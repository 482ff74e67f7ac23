"""Windows of the week in which an upstream may be sent to, as people write them. Pure.

``"01:00-04:00"`` is each day's, ``"mon-fri 22:00-06:00"`` begins on five days and ends on the next,
``"sat,sun 00:00-24:00"`` is two whole days. Times are local.
"""

from __future__ import annotations

import re
from typing import Final

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY: Final = 24 * 60
WEEK: Final = 7 * DAY
_TIME = r"([01]\d|2[0-4]):([0-5]\d)"
_WINDOW: Final = re.compile(rf"(?:(?P<days>[a-z,-]+)\s+)?{_TIME}\s*-\s*{_TIME}")
EXPECTED: Final = 'a window such as "01:00-04:00" or "mon-fri 22:00-06:00"'

Span = tuple[int, int]
"""Minutes since Monday 00:00: where a window begins, and where it ends, which may be in the week
that follows.
"""


def parse_window(text: str) -> list[Span]:
    """``"mon-fri 22:00-06:00"`` to a span for each day that it names.

    Raises:
        ValueError: with what was expected.
    """
    found = _WINDOW.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError(EXPECTED)
    begin, end = (60 * int(found[i]) + int(found[i + 1]) for i in (2, 4))
    if begin >= DAY or end > DAY or begin == end:
        raise ValueError(EXPECTED)
    length = end - begin if end > begin else end - begin + DAY
    days = _days(found["days"] or "mon-sun")
    return [(day * DAY + begin, day * DAY + begin + length) for day in sorted(days)]


def _days(text: str) -> set[int]:
    days: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first not in DAYS or (last or first) not in DAYS:
            raise ValueError(f"days such as mon-fri or sat,sun: {', '.join(DAYS)}")
        begin, end = DAYS.index(first), DAYS.index(last or first)
        # From Saturday to Monday, too.
        days |= {day % 7 for day in range(begin, end + 1 if end >= begin else end + 8)}
    return days
