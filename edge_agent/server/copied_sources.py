"""`Copies` counts sources that came back with a history that is not the one stored of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from edge_agent.clock import Clock
from edge_agent.metrics import Metrics

logger = logging.getLogger(__name__)


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

    def note(self, source: str) -> None:
        """``source`` has come back as a copy."""
        now_ns = self._clock.read().wall_ns
        self.seen = CopiesSeen(self.seen.times + 1, source, now_ns)
        self._metrics.add("sources_copied_total", 1)
        logger.warning(
            "%s: what is stored of it came from another copy of its store; it goes on behind that,"
            " and what it had not seen acknowledged comes again",
            source,
        )
