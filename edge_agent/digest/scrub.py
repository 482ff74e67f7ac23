"""A slow pass over all of history's file, again and again, so that damage is found early.

As `edge_agent.scrubber` does for the store: answers check each part that they read, but what nobody
asks for may lie damaged for weeks. A damaged part is told once, with where it is; answers leave it
out and say so.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from edge_agent.digest.file import HistoryFile
from edge_agent.history import keys

logger = logging.getLogger(__name__)

#: What one step reads, and how long it rests between two at least and at most.
STEP_BYTES = 256 * 1024
REST_MIN_S, REST_MAX_S = 0.05, 3600.0
#: Damaged parts that are remembered, so that each is told once.
_KNOWN_MAX = 10_000
_UNITS = {keys.HOURS: "day", keys.MONTHS: "month"}

Ask = Callable[[Callable[[], tuple[bytes, list[bytes]]]], Awaitable[tuple[bytes, list[bytes]]]]
"""Runs a step in a thread."""


class HistoryScrub:
    """The passes, and how many parts were found damaged since the start."""

    def __init__(self, interval_s: float) -> None:
        self.damaged = 0
        self._interval_s = interval_s
        self._known: set[bytes] = set()

    async def run(self, file: HistoryFile, ask: Ask) -> None:
        """Pass after pass, until cancelled; returns at once where the scrub is off."""
        after = b""
        while self._interval_s > 0:
            used = max(file.usage().used_bytes, STEP_BYTES)
            rest_s = self._interval_s * STEP_BYTES / used
            await trio.sleep(min(max(rest_s, REST_MIN_S), REST_MAX_S))
            after, damaged = await ask(partial(file.scrub, after, STEP_BYTES))
            for key in damaged:
                self._tell(key, file)

    def _tell(self, key: bytes, file: HistoryFile) -> None:
        if key in self._known or len(self._known) >= _KNOWN_MAX:
            return
        self._known.add(key)
        self.damaged += 1
        place = keys.split_key(key)
        logger.error(
            "history: a part of %s (%s %d) fails its checksum; answers leave it out, everything"
            " else can be read",
            file.names.get(place.series, f"series {place.series}"),
            _UNITS.get(place.level, "hour"),
            place.bucket,
        )
