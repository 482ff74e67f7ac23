"""The picture's projections: positions sampled over time, and what `capacity` makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edge_agent.config import Config
from edge_agent.log import Log
from edge_agent.metrics import Metrics
from edge_agent.ops.forecast import capacity, sentences
from edge_agent.ops.status import LogStatus, UpstreamStatus
from edge_agent.store.thinning import CROWDED
from edge_agent.wear.history import TimedValues

#: "Today's rate" looks back so far …
TODAY_S = 3600.0
#: … and "this link" so far.
LINK_S = 120.0
#: Nothing is said before so much time has passed.
TELLING_S = 20.0
#: A record that waits so much longer than its commit and its batch may take is late.
LATE_S = 30.0


class Projections:
    """Remembers positions, at most once in ten seconds, and projects them."""

    def __init__(self, config: Config, log: Log, metrics: Metrics) -> None:
        self._config, self._log, self._metrics = config, log, metrics
        self._link: TimedValues[capacity.PositionSample] = TimedValues(LINK_S, 10.0)
        self._today: TimedValues[capacity.PositionSample] = TimedValues(TODAY_S, 60.0)

    def sample(self, at_s: float, upstreams: Sequence[UpstreamStatus]) -> None:
        """Remember where everything stands."""
        moment = self._moment(upstreams)
        self._link.add(at_s, moment)
        self._today.add(at_s, moment)

    def project(
        self,
        at_s: float,
        logs: Sequence[LogStatus],
        upstreams: Sequence[UpstreamStatus],
        *,
        interval_s: float,
        clock_synced: bool,
    ) -> tuple[tuple[LogStatus, ...], tuple[UpstreamStatus, ...]]:
        """The same with their projections. ``interval_s``: how long a commit may take to come."""
        now = self._moment(upstreams)
        today = self._rates(self._today, at_s, now, TODAY_S)
        recent = self._rates(self._link, at_s, now, LINK_S)
        lanes = self._lanes(upstreams, interval_s)
        return (
            tuple(self._about_log(log, lanes, today, recent, clock_synced) for log in logs),
            tuple(_about_upstream(one, lanes, recent) for one in upstreams),
        )

    def _about_log(
        self,
        log: LogStatus,
        lanes: Sequence[capacity.LaneBacklog],
        today: capacity.LogRates,
        recent: capacity.LogRates,
        clock_synced: bool,
    ) -> LogStatus:
        configured = self._config.log.get(log.name)
        # Thinning begins ahead of need.
        part = CROWDED if log.when_full == "thin-oldest" else 1.0
        room = capacity.Room(
            log=log.name,
            bytes=log.bytes,
            share_bytes=int(part * log.share_bytes),
            held=log.last_seq - log.first_seq + 1,
            keep_s=float(configured.keep) if configured and clock_synced else None,
        )
        coming = capacity.loss(room, lanes, today, recent)
        lately = recent.refused if log.when_full == "refuse" else recent.discarded
        now = lately.get(log.name, 0) > 0
        return replace(
            log,
            refused_lately=recent.refused.get(log.name, 0),
            loss_in_s=0.0 if now else None if coming is None else coming.seconds,
            outlook=sentences.about_log(coming, log.when_full, now=now),
        )

    def _lanes(
        self, upstreams: Sequence[UpstreamStatus], interval_s: float
    ) -> tuple[capacity.LaneBacklog, ...]:
        ages: Mapping[str, float] = {
            one.name: float(one.batch_age) for one in self._config.upstream
        }
        return tuple(
            capacity.LaneBacklog(
                upstream=one.name,
                log=lane.log,
                # One that a person paused takes nothing, whatever its link could do.
                connected=lane.connected and lane.phase != "paused",
                required=one.required,
                backlog=lane.backlog_records,
                age_s=lane.backlog_s,
                late_s=LATE_S + interval_s + ages.get(one.name, 0.0),
            )
            for one in upstreams
            for lane in one.lanes
        )

    def _moment(self, upstreams: Sequence[UpstreamStatus]) -> capacity.PositionSample:
        names = self._log.names()
        get = self._metrics.get
        return capacity.PositionSample(
            last={name: self._log.last_seq(name) for name in names},
            floors={(one.name, lane.log): lane.floor for one in upstreams for lane in one.lanes},
            discarded={name: int(get("records_discarded_total", name)) for name in names},
            refused={name: int(get("records_refused_total", name)) for name in names},
        )

    def _rates(
        self,
        history: TimedValues[capacity.PositionSample],
        at_s: float,
        now: capacity.PositionSample,
        span_s: float,
    ) -> capacity.LogRates:
        found = history.before(at_s - span_s)
        if found is None or at_s - found[0] < TELLING_S:
            return capacity.NOTHING
        return capacity.between(found[1], now, at_s - found[0])


def _about_upstream(
    one: UpstreamStatus, lanes: Sequence[capacity.LaneBacklog], recent: capacity.LogRates
) -> UpstreamStatus:
    mine = [lane for lane in lanes if lane.upstream == one.name]
    drain = capacity.drain(mine, recent)
    return replace(
        one,
        drains_in_s=None if drain is None else drain.seconds,
        outlook=sentences.about_upstream(drain),
    )
