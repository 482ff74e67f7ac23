"""A forwarder sends everything that goes to one upstream, with one lane for each log.

A session counts in one log's seqs, so each log has a connection of its own (`lanes/lane.py`):
alarms do not wait behind bulk telemetry, and a log that fails does not hold another one up. The
agent's logs are forwarded, all or those that the upstream names; its patterns select streams within
them. Where the link is narrow, logs of a higher ``priority`` go first (`lanes/turns.py`). Outside
of its windows the lanes rest, but for those of logs that are always sent.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import trio

from edge_agent.commit import Trace
from edge_agent.config import Upstream, shown_url
from edge_agent.errors import Obstacle
from edge_agent.forward.lanes.lane import Lane
from edge_agent.forward.lanes.lane_phases import HELD, WAITING, Phase
from edge_agent.forward.lanes.lane_state import LaneStatistics
from edge_agent.forward.lanes.log_lanes import LogLanes, MakeAgain
from edge_agent.forward.lanes.resend import LogRecall, Resend, ResendProgress
from edge_agent.forward.lanes.turns import LaneTurns
from edge_agent.forward.lanes.windows import LOOK_S, OpeningTimes
from edge_agent.forward.link.proxy import unused
from edge_agent.forward.sink import Sink
from edge_agent.log import Log
from edge_agent.metrics import Metrics
from edge_agent.supervise import supervised
from edge_agent.system.clock import Clock

logger = logging.getLogger(__name__)

#: From the phase that a person should hear of first to the one that needs nobody.
_WORST_FIRST = (
    Phase.STOPPED.value,
    HELD,
    Phase.BACKING_OFF.value,
    Phase.PAUSED.value,
    WAITING,
    Phase.HALVING.value,
    Phase.SENDING.value,
    Phase.CAUGHT_UP.value,
)


@dataclass(frozen=True, slots=True)
class ForwarderStatistics:
    """One upstream, at one moment; sums and extremes over its lanes.

    Attributes:
        name, url: as configured, the URL without what may be a secret.
        phase: of the lane that is worst off.
        connected: whether all lanes are.
        backlog_records, backlog_bytes: sums.
        backlog_seconds: age of the oldest record not acknowledged.
        error, error_ns, obstacle: the newest failure of a lane that still fails; "", 0 and None
            where none does.
        records, size, refused, rewinds: sums since the start.
        lanes: in the order of the logs; of each its backlog's behind the other, where it has one.
        resends: what is sent once more, which is in no other sum but ``records`` to ``rewinds``.
    """

    name: str
    url: str
    phase: str
    connected: bool
    backlog_records: int
    backlog_bytes: int
    backlog_seconds: float
    error: str
    error_ns: int
    records: int
    size: int
    refused: int
    rewinds: int
    lanes: tuple[LaneStatistics, ...]
    obstacle: Obstacle | None = None
    resends: tuple[ResendProgress, ...] = ()


class Forwarder:
    """One upstream.

    Args:
        upstream: its configuration.
        log: the waist; of its ``names()`` those that the upstream wants are the lanes.
        make: the sink of a log, by the log's name.
        clock, dice, metrics, trace: as everywhere.
        priorities: of logs, by name; 0 where it is not there.
        make_again: as in `LogLanes`; where not given, nothing can be sent once more.
        recall: as in `LogLanes`; where not given, what the log no longer has cannot be either.
        reached: as in `LogLanes`.
    """

    def __init__(
        self,
        upstream: Upstream,
        log: Log,
        make: Callable[[str], Sink],
        *,
        clock: Clock,
        dice: random.Random,
        metrics: Metrics,
        trace: Trace | None = None,
        priorities: Mapping[str, int] | None = None,
        make_again: MakeAgain | None = None,
        recall: LogRecall | None = None,
        reached: Callable[[str, int], None] | None = None,
    ) -> None:
        self._upstream, self._metrics = upstream, metrics
        self._clock, self._times = clock, OpeningTimes(upstream.windows)
        self._told_unset = False
        turns = LaneTurns()
        self._logs = {
            name: LogLanes(
                upstream,
                log,
                name,
                make,
                clock=clock,
                dice=dice,
                metrics=metrics,
                trace=trace,
                turns=turns,
                priority=(priorities or {}).get(name, 0),
                make_again=make_again,
                recall=recall,
                reached=reached,
            )
            for name in log.names()
            if name in (upstream.logs or (name,))
        }

    async def run(self) -> None:
        """Forward until cancelled, or until `stop` and what was in flight is acknowledged."""
        if (hint := unused(self._upstream, os.environ)) is not None:
            logger.warning("%s", hint)
        self._keep_to_windows()
        async with trio.open_nursery() as nursery:
            if self._upstream.windows:
                what = f"windows of upstream {self._upstream.name}"
                watch = partial(supervised, what, self._watch_windows, metrics=self._metrics)
                nursery.start_soon(watch)
            async with trio.open_nursery() as running:
                for lanes in self._logs.values():
                    running.start_soon(lanes.run)
            nursery.cancel_scope.cancel("all lanes have ended")

    async def _watch_windows(self) -> None:
        while True:
            await trio.sleep(LOOK_S)
            self._keep_to_windows()

    def _keep_to_windows(self) -> None:
        now = self._clock.read()
        if self._upstream.windows and not now.synced and not self._told_unset:
            self._told_unset = True
            logger.warning(
                "upstream %s is sent to at any time: the clock has not been set, and so says"
                " nothing of its windows",
                self._upstream.name,
            )
        waits_for = self._times.waits_for(now)
        for name, lanes in self._logs.items():
            if name not in self._upstream.always:
                lanes.keep_to(waits_for)

    def stop(self) -> None:
        """Take up nothing new. `run` returns when what is in flight is acknowledged; the caller
        cancels it at the deadline.
        """
        for lanes in self._logs.values():
            lanes.stop()

    def online(self) -> None:
        """The network is back: cut waits short that the upstream did not ask for."""
        for lanes in self._logs.values():
            for lane in lanes:
                lane.online()

    def lane(self, consumer: str, log: str) -> Lane | None:
        """The lane that is this consumer of that log, where it is one of ours."""
        return next((lane for lane in self._logs.get(log, ()) if lane.consumer == consumer), None)

    def resend(self, consumer: str, log: str) -> Resend | None:
        """What is sent once more of a log, where this upstream is that consumer."""
        lanes = self._logs.get(log) if consumer == self._upstream.consumer else None
        return None if lanes is None else lanes.resend

    def statistics(self) -> ForwarderStatistics:
        """A snapshot; sets the gauges of this upstream too."""
        lanes = tuple(one for lanes in self._logs.values() for one in lanes.statistics())
        resending = [lanes.resending() for lanes in self._logs.values()]
        # What is sent once more says nothing of how far behind the upstream is.
        every = [*lanes, *(lane for _, lane in resending if lane is not None)]
        failing = [lane for lane in lanes if lane.failing]
        newest = max(failing, key=lambda lane: lane.error_ns, default=None)
        phases = {lane.phase for lane in lanes}
        statistics = ForwarderStatistics(
            name=self._upstream.name,
            url=shown_url(self._upstream.url),
            phase=next((one for one in _WORST_FIRST if one in phases), Phase.CAUGHT_UP.value),
            connected=all(lane.connected for lane in lanes),
            backlog_records=sum(lane.backlog_records for lane in lanes),
            backlog_bytes=sum(lane.backlog_bytes for lane in lanes),
            backlog_seconds=max((lane.backlog_seconds for lane in lanes), default=0.0),
            error=newest.error if newest else "",
            error_ns=newest.error_ns if newest else 0,
            obstacle=newest.obstacle if newest else None,
            records=sum(lane.records for lane in every),
            size=sum(lane.size for lane in every),
            refused=sum(lane.refused for lane in every),
            rewinds=sum(lane.rewinds for lane in every),
            lanes=lanes,
            resends=tuple(progress for progress, _ in resending if progress is not None),
        )
        name = self._upstream.name
        self._metrics.set("forward_backlog_records", statistics.backlog_records, name)
        self._metrics.set("forward_connected", float(statistics.connected), name)
        return statistics
