"""This module says when an upstream may be sent to, by its ``windows`` and the local clock.

A clock that was not set says nothing of what time it is, so it closes no window: what may cost
money late is worth less than what never arrives. The clock is looked at every few seconds, not
slept by: it may jump, and summer may begin.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from edge_agent.config import DAY, DAYS, WEEK, parse_window
from edge_agent.system.clock import Reading
from edge_agent.values.record import NANOSECONDS

#: How often the clock is looked at.
LOOK_S: Final = 5.0


class OpeningTimes:
    """The windows of one upstream; none are always open.

    Args:
        windows: as configured.
        local: seconds since 1970 as local time.
    """

    def __init__(
        self, windows: Sequence[str], local: Callable[[float], time.struct_time] = time.localtime
    ) -> None:
        self._spans = [span for window in windows for span in parse_window(window)]
        self._local = local

    def waits_for(self, now: Reading) -> str:
        """When the next window begins, ``01:00`` or ``Mon 01:00``; "" while one is open."""
        if not self._spans or not now.synced:
            return ""
        local = self._local(now.wall_ns / NANOSECONDS)
        minute = local.tm_wday * DAY + local.tm_hour * 60 + local.tm_min
        if any((minute - begin) % WEEK < end - begin for begin, end in self._spans):
            return ""
        ahead = min((begin - minute) % WEEK for begin, _ in self._spans)
        begin = (minute + ahead) % WEEK
        day = f"{DAYS[begin // DAY].capitalize()} " if ahead >= DAY else ""
        return f"{day}{begin % DAY // 60:02}:{begin % 60:02}"
