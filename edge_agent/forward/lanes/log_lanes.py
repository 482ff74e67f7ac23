"""The lanes by which one log goes to one upstream: one for good, and at times others beside it.

The second one is made when the log has been divided (``split.py``) and gone when its backlog is,
a third one when a person has something sent once more (``resend.py``): an upstream that is never
far behind has one lane, and what that costs. Each has a sink and so a connection of its own; none
waits for another, but for what is sent once more, which waits for all others.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from functools import partial

import trio
from msgspec import structs

from edge_agent.commit import Trace
from edge_agent.config import Duration, FileTable, Upstream
from edge_agent.errors import StoreError
from edge_agent.forward.lanes.lane import Lane
from edge_agent.forward.lanes.lane_state import LaneStatistics, waiting_backlog
from edge_agent.forward.lanes.resend import (
    LogRecall,
    Resend,
    ResendLog,
    ResendOrder,
    ResendProgress,
)
from edge_agent.forward.lanes.split import LaneLog, Split
from edge_agent.forward.lanes.turns import LanePlace, LaneTurns
from edge_agent.forward.sink import Part, Sink
from edge_agent.log import Log
from edge_agent.metrics import Metrics
from edge_agent.supervise import supervised
from edge_agent.system.clock import Clock

#: How often it is looked whether the other lanes have passed what is to be sent once more.
_LOOK_S = 1.0

MakeAgain = Callable[[Upstream, str], Sink]
"""A sink for what is sent once more, by what of the upstream is meant and the log's name."""


def _meant(upstream: Upstream, order: ResendOrder) -> Upstream:
    """The upstream for what is asked for, whatever it is sent otherwise and how old it may be."""
    at_once = Duration(0)
    file = upstream.file
    if upstream.kind == "file":
        file = structs.replace(file or FileTable(), age=at_once)
    return structs.replace(
        upstream,
        streams=order.streams,
        max_age=None,
        order="in order",
        batch_age=at_once,
        file=file,
    )


class LogLanes:
    """``make`` gives a sink for the log, ``make_again`` one for what is sent once more; ``turns``
    are the upstream's, ``priority`` is the log's; ``recall`` gives back what the log no longer has;
    ``reached`` is told how far the upstream has come. The rest is as for a `Lane`.
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
        make_again: MakeAgain | None = None,
        recall: LogRecall | None = None,
        reached: Callable[[str, int], None] | None = None,
    ) -> None:
        self._what, self._metrics = f"upstream {upstream.name}, log {name}", metrics
        self._split = split = Split(upstream, log, name, clock)
        #: What is ordered to be sent once more.
        self.resend = Resend(upstream, log, name)
        turns = turns or LaneTurns()
        lane = partial(Lane, clock=clock, dice=dice, metrics=metrics, trace=trace)

        def made(part: Part) -> Lane:
            place = LanePlace(turns, priority, is_backlog=part == "backlog")
            told = partial(reached, name) if reached is not None and part == "live" else None
            return lane(upstream, LaneLog(log, split, part, place, told), name, make(name))

        def made_again(order: ResendOrder) -> Lane:
            assert make_again is not None
            meant = _meant(upstream, order)
            place = LanePlace(turns, priority, is_backlog=False, is_resend=True)
            view = ResendLog(log, split, self.resend, place, recall)
            return lane(meant, view, name, make_again(meant, name))

        self._make, self._make_again = made, made_again
        self._may_resend = make_again is not None
        self._live = made("live")
        self._backlog: Lane | None = None
        self._resending: Lane | None = None
        self._stopping, self._waits_for = False, ""
        # Around each wait that `stop` ends.
        self._wait, self._resend_wait = trio.CancelScope(), trio.CancelScope()

    def __iter__(self) -> Iterator[Lane]:
        """Those that there are."""
        yield self._live
        for lane in (self._backlog, self._resending):
            if lane is not None:
                yield lane

    def statistics(self) -> list[LaneStatistics]:
        """Where each lane stands; a backlog counts as soon as it is divided off, though its lane
        begins only when newer records are agreed on.
        """
        found = [lane.statistics() for lane in (self._live, self._backlog) if lane is not None]
        if self._split.span[1] and self._backlog is None:
            found.append(waiting_backlog(found[0], *self._split.undelivered))
        return found

    def resending(self) -> tuple[ResendProgress | None, LaneStatistics | None]:
        """What is sent once more, and where its lane stands, where there is one."""
        lane = None if self._resending is None else self._resending.statistics()
        return self.resend.progress(lane), lane

    async def run(self) -> None:
        """Forward until cancelled, or until `stop` and what was in flight is acknowledged.

        A lane that fails on a mistake of ours begins anew from what is durable, after a wait; the
        others and the agent go on.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run, self._live, "")
            nursery.start_soon(self._run_backlogs)
            if self._may_resend:
                nursery.start_soon(self._run_resends)

    def stop(self) -> None:
        """Take up nothing new."""
        self._stopping = True
        self._wait.cancel()
        self._resend_wait.cancel()
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

    async def _run_resends(self) -> None:
        while not self._stopping:
            with trio.CancelScope() as self._resend_wait:
                order = await self._ordered()
            if self._resend_wait.cancel_called:
                return
            self._resending = self._make_again(order)
            self._resending.keep_to(self._waits_for)
            try:
                await self._run(self._resending, ", resend")
            finally:
                self._resending = None

    async def _ordered(self) -> ResendOrder:
        """The order that is to be obeyed, once nothing of it may still come in the ordinary way."""
        while True:
            try:
                await self.resend.restore()
            except StoreError:
                await trio.sleep(_LOOK_S)
                continue
            order = self.resend.order
            if order is not None and self._has_passed(order.last):
                return order
            with trio.move_on_after(_LOOK_S if order else math.inf):
                await self.resend.changed()

    def _has_passed(self, seq: int) -> bool:
        first, _ = self._split.span
        return self._live.statistics().floor >= seq and not (first and first <= seq)

    async def _run(self, lane: Lane, which: str) -> None:
        run = partial(supervised, metrics=self._metrics, rest=lane.mistaken)
        await run(self._what + which, lane.run)
