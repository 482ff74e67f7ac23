"""`Copies` counts sources that came back with a history that is not the one stored of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from edge_agent.metrics import Metrics
from edge_agent.system.clock import Clock

logger = logging.getLogger(__name__)

#: A source that keeps coming back gets one line of the journal in so long,
TELL_AGAIN_S = 600
#: and no more sources than that are remembered as told: those told longest ago are forgotten.
TOLD_MAX = 256


@dataclass(frozen=True, slots=True)
class CopiesSeen:
    """How often since the start, and which source the last time, when (ns, wall clock)."""

    times: int = 0
    source: str = ""
    when_ns: int = 0


class Copies:
    """Counts them, and tells the journal."""

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock, self._metrics = clock, metrics
        self.seen = CopiesSeen()
        self._told: dict[str, int] = {}

    def note(self, source: str) -> None:
        """``source`` has come back as a copy."""
        now = self._clock.read()
        self.seen = CopiesSeen(self.seen.times + 1, source, now.wall_ns)
        self._metrics.add("sources_copied_total", 1)
        told_ns = self._told.get(source)
        if told_ns is not None and now.boot_ns - told_ns < TELL_AGAIN_S * 10**9:
            return
        self._told.pop(source, None)
        self._told[source] = now.boot_ns
        if len(self._told) > TOLD_MAX:
            del self._told[next(iter(self._told))]
        logger.warning(
            "%s: what is stored of it came from another copy of its store; it goes on behind that,"
            " and what it had not seen acknowledged comes again",
            source,
        )
