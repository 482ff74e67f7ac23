"""The lanes by which one log goes to one upstream: one for good, and at times one for a backlog.

The second one is made when the log has been divided (``split.py``) and gone when its backlog is:
an upstream that is never far behind has one lane, and what that costs. It has a sink and so a
connection of its own; neither waits for the other.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial

import trio

from edge_agent.clock import Clock
from edge_agent.commit import Trace
from edge_agent.config import Upstream
from edge_agent.forward.lane import Lane
from edge_agent.forward.lane_state import LaneStatistics, waiting_backlog
from edge_agent.forward.sink import Part, Sink
from edge_agent.forward.split import LaneLog, Split
from edge_agent.forward.turns import LanePlace, LaneTurns
from edge_agent.log import Log
from edge_agent.metrics import Metrics
from edge_agent.supervise import supervised


class LogLanes:
    """``make`` gives a sink for the log; ``turns`` are the upstream's, ``priority`` is the log's.
    The rest is as for a `Lane`.
    """

    def __init__(
        self,
        upstream: Upstream,
        log: Log,
        name: str,
        make: Callable[[str], Sink],
        *,
        clock: Clock,
        dice: random.Random,
        metrics: Metrics,
        trace: Trace | None = None,
        turns: LaneTurns | None = None,
        priority: int = 0,
    ) -> None:
        self._what, self._metrics = f"upstream {upstream.name}, log {name}", metrics
        self._split = split = Split(upstream, log, name, clock)
        turns = turns or LaneTurns()

        def made(part: Part) -> Lane:
            place = LanePlace(turns, priority, is_backlog=part == "backlog")
            view = LaneLog(log, split, part, place)
            sink = make(name)
            return Lane(
                upstream, view, name, sink, clock=clock, dice=dice, metrics=metrics, trace=trace
            )

        self._make = made
        self._live = made("live")
        self._backlog: Lane | None = None
        self._stopping, self._waits_for = False, ""
        self._wait = trio.CancelScope()

    def __iter__(self) -> Iterator[Lane]:
        """Those that there are."""
        yield self._live
        if self._backlog is not None:
            yield self._backlog

    def statistics(self) -> list[LaneStatistics]:
        """Where each lane stands; a backlog counts as soon as it is divided off, though its lane
        begins only when newer records are agreed on.
        """
        found = [lane.statistics() for lane in self]
        first, end = self._split.span
        if end and self._backlog is None:
            found.append(waiting_backlog(found[0], first - self._split.waiting, end))
        return found

    async def run(self) -> None:
        """Forward until cancelled, or until `stop` and what was in flight is acknowledged.

        A lane that fails on a mistake of ours begins anew from what is durable, after a wait; the
        others and the agent go on.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run, self._live, "")
            nursery.start_soon(self._run_backlogs)

    def stop(self) -> None:
        """Take up nothing new."""
        self._stopping = True
        self._wait.cancel()
        for lane in self:
            lane.stop()

    def keep_to(self, waits_for: str) -> None:
        """Rest until that window of the upstream, in words; "" where one is open."""
        self._waits_for = waits_for
        for lane in self:
            lane.keep_to(waits_for)

    async def _run_backlogs(self) -> None:
        while not self._stopping:
            with trio.CancelScope() as self._wait:
                await self._split.ready()
            if self._wait.cancel_called:
                return
            self._backlog = self._make("backlog")
            self._backlog.keep_to(self._waits_for)
            try:
                await self._run(self._backlog, ", backlog")
            finally:
                self._backlog = None

    async def _run(self, lane: Lane, which: str) -> None:
        run = partial(supervised, metrics=self._metrics, rest=lane.mistaken)
        await run(self._what + which, lane.run)
