"""Forecasts: how long the room and the card last, and how soon a backlog drains.

The page, the terminal and the verdict on health say it in the same words (`about_log` and its
like), which are None where nothing can be said yet, or nothing needs saying.

Positions are sampled with the time (`PositionSample`), so that rates need nothing of the data path.
A lane is one log on its way to one upstream. It is *behind* when something waits that should have
gone: the upstream is out of reach, or the oldest record is older than it takes in the ordinary
course. Only of lanes that are behind anything is said.

**Loss.** A log gives up first what every upstream has, however young; so there is room for the
share less what is undelivered. It fills at the rate at which records come in ("today's rate": over
the last hour), less the rate at which the lane takes them, both at the mean size that a record has
in this log. What an upstream need not have (``required = false``) also goes by age.

**Drain.** The backlog over what goes out more than comes in, over the last two minutes. What an
upstream acknowledges a second is the mean of the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from edge_agent.config import Config, Upstream
from edge_agent.log import Log
from edge_agent.metrics import Metrics
from edge_agent.ops.status import LogStatus, ResendStatus, UpstreamStatus
from edge_agent.ops.text import amount, duration, rough, size
from edge_agent.store.thinning import CROWDED
from edge_agent.wear import Stretch, Wear
from edge_agent.wear.meter import TimedValues

#: What happens to the oldest undelivered record when a log's share is used up, by ``when_full``.
_WHEN_FULL = {
    "discard-oldest": "until the oldest undelivered record is lost",
    "refuse": "until senders are told to wait",
    "thin-oldest": "until the oldest undelivered records are thinned",
}
_NOW = {
    "discard-oldest": "the oldest undelivered records are being lost",
    "refuse": "senders are told to wait",
}
#: A log that thins has no loss ahead but that of detail, as long as there is something to thin.
_THINNING = "the oldest undelivered records are being thinned"
_THINNING_S = 60.0


def about_log(loss: Loss | None, when_full: str, *, now: bool) -> str | None:
    """``at today's rate 61 h until the oldest undelivered record is lost``.

    ``now``: it has come to that within the last minutes.
    """
    if now:
        return _NOW.get(when_full, _NOW["discard-oldest"])
    if loss is None:
        return None
    if when_full == "thin-oldest" and loss.ending == "share" and loss.seconds < _THINNING_S:
        return _THINNING
    if loss.ending == "age":
        what = "until the oldest undelivered record is too old to be kept"
    else:
        what = _WHEN_FULL.get(when_full, _WHEN_FULL["discard-oldest"])
    return f"at today's rate {rough(loss.seconds)} {what}"


def about_upstream(drain: Drain | None, waits_for: str | None = None) -> str | None:
    """``the backlog drains in 14 min at this link``; ``waits for 01:00`` outside of its windows."""
    if waits_for is not None:
        return f"waits for {waits_for}"
    if drain is None:
        return None
    if drain.seconds is None:
        return (
            "the backlog does not drain at this link:"
            f" {amount(drain.out_per_s)} records/s go out, {amount(drain.into_per_s)} come in"
        )
    return f"the backlog drains in {rough(drain.seconds)} at this link"


def about_wear(wear: Wear) -> tuple[str, ...]:
    """Everything there is to say about the card and the budget."""
    return tuple(told for told in (about_card(wear), about_budget(wear)) if told is not None)


def about_card(wear: Wear) -> str | None:
    """``the card lasts about 14 years at today's rate``."""
    if wear.life_s is None or wear.endurance_bytes is None:
        return None
    stated = size(wear.endurance_bytes, 1000)
    if wear.life_s <= 0:
        return f"the {stated} that the card is made for have been written"
    return f"the {stated} that the card is made for last about {rough(wear.life_s)} at today's rate"


def about_budget(wear: Wear) -> str | None:
    """``commits are spread to 12 s to keep 2 GB a day``; where that cannot be, why not."""
    budget = wear.budget
    if budget is None:
        return None
    allowed = f"{size(budget.bytes_per_day_max, 1000)} a day"
    if not budget.kept:
        written = wear.hour.written_per_day or wear.hour.card_per_day or 0.0
        told = (
            f"{size(written, 1000)} a day are written, more than the budget of {allowed}, though"
            f" commits are spread to {duration(budget.interval_s)}"
        )
        blocks = _blocks_per_day(wear.hour)
        if blocks is not None and blocks >= budget.bytes_per_day_max:
            told += f"; the records alone are {size(blocks, 1000)}, so no interval can keep it"
        return told
    if budget.factor > 1:
        return f"commits are spread to {duration(budget.interval_s)} to keep {allowed}"
    return None


def _blocks_per_day(hour: Stretch) -> float | None:
    """Bytes of the blocks alone, by the hour's rate."""
    per_day, ours, blocks = hour.written_per_day, hour.amplification, hour.block_amplification
    return None if per_day is None or not ours or blocks is None else per_day / ours * blocks


Ending = Literal["share", "age"]


@dataclass(frozen=True, slots=True)
class PositionSample:
    """Positions at one moment: the newest of each log, and each lane's floor by upstream and log;
    with them what each log had discarded and refused, and how many records and bytes each upstream
    had acknowledged.
    """

    last: Mapping[str, int]
    floors: Mapping[tuple[str, str], int]
    discarded: Mapping[str, int]
    refused: Mapping[str, int]
    taken: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LogRates:
    """What happened over one stretch: records a second into each log, out by each lane; how many
    records each log discarded and refused in it; and records and bytes a second that each upstream
    acknowledged. ``seconds`` is 0 where nothing is known.
    """

    seconds: float
    into: Mapping[str, float]
    out: Mapping[tuple[str, str], float]
    discarded: Mapping[str, int]
    refused: Mapping[str, int]
    taken: Mapping[str, tuple[float, float]] = field(default_factory=dict)


NOTHING = LogRates(0.0, {}, {}, {}, {})


@dataclass(frozen=True, slots=True)
class LaneBacklog:
    """One log on its way to one upstream, now. ``age_s``: of its oldest undelivered record, 0 where
    that is not known; ``late_s``: how old that may become in the ordinary course. ``part`` is
    ``backlog`` for what is sent beside newer records: nothing comes in there, and ``holds`` is what
    the log keeps for its sake, newer records included.
    """

    upstream: str
    log: str
    connected: bool
    required: bool
    backlog: int
    age_s: float
    late_s: float
    part: str = "live"
    holds: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """As in `PositionSample.floors`."""
        return lane_key(self.upstream, self.log, self.part)

    @property
    def behind(self) -> bool:
        """Whether something waits that should have gone."""
        return self.backlog > 0 and (not self.connected or self.age_s > self.late_s)


def lane_key(upstream: str, log: str, part: str) -> tuple[str, str]:
    """What a lane is known by among all of them."""
    return upstream, log if part == "live" else f"{log}/{part}"


@dataclass(frozen=True, slots=True)
class Room:
    """One log's room. ``held`` are positions from its oldest to its newest; ``keep_s`` is how long
    it keeps records at most, None while the clock may not decide that.
    """

    log: str
    bytes: int
    share_bytes: int
    held: int
    keep_s: float | None


@dataclass(frozen=True, slots=True)
class Loss:
    """In how many seconds the oldest undelivered record is due, and why."""

    seconds: float
    ending: Ending


@dataclass(frozen=True, slots=True)
class Drain:
    """A backlog on its way out. ``seconds`` is None where it does not drain at this rate."""

    seconds: float | None
    out_per_s: float
    into_per_s: float


def between(old: PositionSample, new: PositionSample, seconds: float) -> LogRates:
    """What happened from ``old`` to ``new``. A floor that was rewound counts as standing still; of
    a lane that was not there nothing is said.
    """
    if seconds <= 0:
        return NOTHING
    return LogRates(
        seconds,
        {log: max(0, last - old.last.get(log, last)) / seconds for log, last in new.last.items()},
        {
            lane: max(0, floor - old.floors[lane]) / seconds
            for lane, floor in new.floors.items()
            if lane in old.floors
        },
        _more(old.discarded, new.discarded),
        _more(old.refused, new.refused),
        {
            name: (max(0, records - before[0]) / seconds, max(0, size - before[1]) / seconds)
            for name, (records, size) in new.taken.items()
            for before in [old.taken.get(name, (records, size))]
        },
    )


def loss(
    room: Room, lanes: Iterable[LaneBacklog], today: LogRates, recent: LogRates
) -> Loss | None:
    """The first loss that the log's lanes lead to; None where none is in sight, or nothing can be
    said yet.
    """
    into = today.into.get(room.log, 0.0)
    if not into or not recent.seconds or room.held <= 0 or room.bytes <= 0:
        return None
    found = []
    for lane in lanes:
        if lane.log != room.log or not lane.behind:
            continue
        out = recent.out.get(lane.key, 0.0) if lane.connected else 0.0
        growing = into - out
        if growing <= 0 or (lane.connected and out >= recent.into.get(room.log, 0.0)):
            continue
        each = room.bytes / room.held
        left = room.share_bytes - min(max(lane.backlog, lane.holds), room.held) * each
        found.append(Loss(max(0.0, left / (growing * each)), "share"))
        if not lane.required and room.keep_s is not None and lane.age_s > 0:
            # The oldest undelivered one ages more slowly where some still go out.
            found.append(Loss(max(0.0, (room.keep_s - lane.age_s) / (growing / into)), "age"))
    return min(found, key=lambda each: each.seconds, default=None)


def drain(lanes: Iterable[LaneBacklog], recent: LogRates) -> Drain | None:
    """How the backlog of one upstream's ``lanes`` drains; None where none is behind and connected,
    or nothing can be said yet.
    """
    behind = [lane for lane in lanes if lane.behind and lane.connected]
    if not behind or not recent.seconds:
        return None
    if any(lane.key not in recent.out for lane in behind):
        return None  # A new upstream, or a backlog that has just been divided off.
    out = sum(recent.out[lane.key] for lane in behind)
    into = sum(recent.into.get(lane.log, 0.0) for lane in behind if lane.part == "live")
    backlog = sum(lane.backlog for lane in behind)
    return Drain(backlog / (out - into) if out > into else None, out, into)


def _more(old: Mapping[str, int], new: Mapping[str, int]) -> dict[str, int]:
    return {name: max(0, count - old.get(name, count)) for name, count in new.items()}


#: "Today's rate" looks back so far …
TODAY_S = 3600.0
#: … and "this link" so far.
LINK_S = 120.0
#: Nothing is said before so much time has passed.
TELLING_S = 20.0
#: A record that waits so much longer than its commit and its batch may take is late.
LATE_S = 30.0


class Projections:
    """Remembers positions, at most once in ten seconds, and projects them; ``configured`` are the
    upstreams by now.
    """

    def __init__(
        self,
        config: Config,
        log: Log,
        metrics: Metrics,
        configured: Callable[[], Sequence[Upstream]] | None = None,
    ) -> None:
        self._config, self._log, self._metrics = config, log, metrics
        self._configured = configured or (lambda: config.upstream)
        self._link: TimedValues[PositionSample] = TimedValues(LINK_S, 10.0)
        self._today: TimedValues[PositionSample] = TimedValues(TODAY_S, 60.0)

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
        lanes: Sequence[LaneBacklog],
        today: LogRates,
        recent: LogRates,
        clock_synced: bool,
    ) -> LogStatus:
        configured = self._config.log.get(log.name)
        # Thinning begins ahead of need.
        part = CROWDED if log.when_full == "thin-oldest" else 1.0
        room = Room(
            log=log.name,
            bytes=log.bytes,
            share_bytes=int(part * log.share_bytes),
            held=log.last_seq - log.first_seq + 1,
            keep_s=float(configured.keep) if configured and clock_synced else None,
        )
        coming = loss(room, lanes, today, recent)
        lately = recent.refused if log.when_full == "refuse" else recent.discarded
        now = lately.get(log.name, 0) > 0
        return replace(
            log,
            refused_lately=recent.refused.get(log.name, 0),
            loss_in_s=0.0 if now else None if coming is None else coming.seconds,
            outlook=about_log(coming, log.when_full, now=now),
        )

    def _lanes(
        self, upstreams: Sequence[UpstreamStatus], interval_s: float
    ) -> tuple[LaneBacklog, ...]:
        ages: Mapping[str, float] = {one.name: one.batch_wait for one in self._configured()}
        return tuple(
            LaneBacklog(
                upstream=one.name,
                log=lane.log,
                # One that rests takes nothing, whatever its link could do.
                connected=lane.connected and lane.phase not in ("paused", "waiting"),
                required=one.required,
                backlog=lane.backlog_records,
                age_s=lane.backlog_s,
                late_s=LATE_S + interval_s + ages.get(one.name, 0.0),
                part=lane.part,
                holds=self._log.given(lane.log, lane.floor, self._log.last_seq(lane.log)),
            )
            for one in upstreams
            for lane in one.lanes
        )

    def _moment(self, upstreams: Sequence[UpstreamStatus]) -> PositionSample:
        names = self._log.names()
        get = self._metrics.get
        given = self._log.given  # A restore passes numbers over: nobody is that quick.
        return PositionSample(
            last={name: given(name, 0, self._log.last_seq(name)) for name in names},
            floors={
                lane_key(one.name, lane.log, lane.part): given(lane.log, 0, lane.floor)
                for one in upstreams
                for lane in one.lanes
            }
            | {
                lane_key(one.name, resend.log, "resend"): resend.done_records
                for one in upstreams
                for resend in one.resends
            },
            discarded={name: int(get("records_discarded_total", name)) for name in names},
            refused={name: int(get("records_refused_total", name)) for name in names},
            taken={
                one.name: (one.acknowledged_records, one.acknowledged_bytes) for one in upstreams
            },
        )

    def _rates(
        self,
        history: TimedValues[PositionSample],
        at_s: float,
        now: PositionSample,
        span_s: float,
    ) -> LogRates:
        found = history.before(at_s - span_s)
        if found is None or at_s - found[0] < TELLING_S:
            return NOTHING
        return between(found[1], now, at_s - found[0])


def _about_upstream(
    one: UpstreamStatus, lanes: Sequence[LaneBacklog], recent: LogRates
) -> UpstreamStatus:
    mine = [lane for lane in lanes if lane.upstream == one.name]
    found = drain(mine, recent)
    waits_for = next((lane.waits_for for lane in one.lanes if lane.waits_for), None)
    records_per_s, bytes_per_s = recent.taken.get(one.name, (None, None))
    return replace(
        one,
        records_per_s=records_per_s,
        bytes_per_s=bytes_per_s,
        drains_in_s=None if found is None else found.seconds,
        outlook=about_upstream(found, waits_for),
        resends=tuple(_about_resend(one.name, resend, recent) for resend in one.resends),
    )


def _about_resend(upstream: str, now: ResendStatus, recent: LogRates) -> ResendStatus:
    per_s = recent.out.get(lane_key(upstream, now.log, "resend"), 0.0)
    return replace(now, drains_in_s=now.left_records / per_s) if per_s else now
