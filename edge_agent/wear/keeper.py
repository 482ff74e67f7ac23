"""Counts what is written to the card, over restarts too, and spreads commits to keep the budget."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import msgpack

from edge_agent.commit import LAZY_SECONDS, Closed
from edge_agent.config import Config
from edge_agent.errors import StoreError
from edge_agent.log import Log
from edge_agent.metrics import Metrics
from edge_agent.store import Entry, Position
from edge_agent.system.clock import Clock
from edge_agent.values.record import DAY_S, format_time
from edge_agent.wear import budget
from edge_agent.wear.device import ByteCounter, by_agent, card_of, name_of
from edge_agent.wear.meter import Meter, Stretch, WrittenBytes

#: The name of the position, and the log that it is in.
CONSUMER, LOG = "$wear", "main"


@dataclass(frozen=True, slots=True)
class Ledger:
    """Bytes noted so far: by the agent, and to the card by everybody while the agent ran.

    The note is the state of a position that belongs to nobody: its floor stays 0, it is not
    configured and so holds nothing back. One that cannot be read begins a new one.

    ``since_ns`` is when noting began, by a synced clock; 0 while none was. ``device`` names the
    card that this is about, "" where cards here do not say: a store that was copied or restored to
    another one begins a new note there.
    """

    own: int = 0
    card: int = 0
    since_ns: int = 0
    device: str = ""

    def add(self, own: int, card: int) -> Ledger:
        """With so much more."""
        return replace(self, own=self.own + own, card=self.card + card)

    def encode(self) -> bytes:
        """A msgpack array, which may grow at its end."""
        raw: bytes = msgpack.packb([self.own, self.card, self.since_ns, self.device])
        return raw

    @classmethod
    def decode(cls, raw: bytes | None, device: str = "") -> Ledger:
        """What was noted of ``device``; nothing where that cannot be read."""
        try:
            own, card, since_ns, noted, *_ = msgpack.unpackb(raw or b"\x90")
            if device and noted and noted != device:
                return cls(device=device)
            return cls(int(own), int(card), int(since_ns), device or str(noted))
        except (ValueError, TypeError, msgpack.UnpackException):
            return cls(device=device)


logger = logging.getLogger(__name__)

#: The total is noted in the store at most this often, and when so much was written since.
NOTE_S = 600.0
NOTE_BYTES = 1024 * 1024
#: A life is projected, and a budget called broken, from so much time on.
PROJECTING_S = 600.0


@dataclass(frozen=True, slots=True)
class Budget:
    """The budget, and what it takes to keep it.

    Attributes:
        bytes_per_day_max: as configured.
        factor: by which every log's interval is multiplied at present, within its bound.
        interval_s: the longest interval between commits at present, of all logs.
        at_bound: whether no interval can be spread any further.
        kept: whether the last hour's rate is within the budget, or may still come to be.
    """

    bytes_per_day_max: int
    factor: float
    interval_s: float
    at_bound: bool
    kept: bool


@dataclass(frozen=True, slots=True)
class Wear:
    """What is written, how long the card lasts, and the budget.

    Attributes:
        counted_by, card_counted_by: whose counters these are; None where there is none.
        hour, day, since_start: the last hour, the last 24 hours, and all of this run.
        total_bytes, total_card_bytes: over the store's life, as far as the agent was there.
        total_since: when that began, RFC 3339; None while it is not known.
        endurance_bytes: what the card's maker states; None where it is not configured.
        life_s: how long what is left of it lasts at the last 24 hours' rate; None where nothing
            can be said.
        budget: None without one.
    """

    counted_by: str | None
    card_counted_by: str | None
    hour: Stretch
    day: Stretch
    since_start: Stretch
    total_bytes: int | None
    total_card_bytes: int | None
    total_since: str | None
    endurance_bytes: int | None
    life_s: float | None
    budget: Budget | None


class Keeper:
    """Counts at each `tick`; spreads the commits of ``log`` where there is a budget.

    ``own`` and ``card`` are the counters, those of the machine where not given.
    """

    def __init__(
        self,
        config: Config,
        log: Log,
        clock: Clock,
        metrics: Metrics,
        *,
        own: ByteCounter | None = None,
        card: ByteCounter | None = None,
    ) -> None:
        self._config, self._folder = config.wear, Path(config.store.path)
        self._log, self._clock, self._metrics = log, clock, metrics
        self._own = own or by_agent(Path(config.store.path), lambda: metrics.get("commits_total"))
        self._card: ByteCounter | None = card or card_of(self._folder)
        self._logs = {
            name: (float(one.commit_interval), _bound(one.commit_interval_max, config))
            for name, one in config.log.items()
        }
        self._factor_max = budget.factor_max(self._logs.values())
        self._pace = budget.Pace()
        self._first = self._judged = self._noted = self.count()
        self._meter = Meter(self._first)
        #: What was written before this run; None until the store was asked.
        self._before: Ledger | None = None
        self._noted_bytes = 0

    async def tick(self) -> None:
        """Count, judge, note; called every few seconds. The clock may stand still in between."""
        if self._before is None:
            await self._recall()
        now = self.count()
        self._meter.note(now)
        self._judge(now)
        self._note(now)

    def count(self) -> WrittenBytes:
        """All counters now, which are metrics as well."""
        metrics = self._metrics
        now = WrittenBytes(
            at_s=self._clock.read().boot_ns / 1e9,
            own=self._own.bytes(),
            card=None if self._card is None else self._card.bytes(),
            record_bytes=int(metrics.total("committed_bytes_total")),
            block_bytes=int(metrics.total("block_bytes_total")),
            commits=int(metrics.get("commits_total")),
        )
        for by, counted in (("agent", now.own), ("everybody", now.card)):
            known = metrics.get("device_written_bytes_total", by)
            if counted is not None and counted > known:
                metrics.add("device_written_bytes_total", counted - known, by)
        return now

    def look(self) -> Wear:
        """The figures now."""
        now = self.count()
        hour, day = self._meter.hour(now), self._meter.day(now)
        total = self._total(now)
        return Wear(
            counted_by=None if now.own is None else self._own.source,
            card_counted_by=None if self._card is None or now.card is None else self._card.source,
            hour=hour,
            day=day,
            since_start=self._meter.since_start(now),
            total_bytes=None if total is None or now.own is None else total.own,
            total_card_bytes=None if total is None or now.card is None else total.card,
            total_since=format_time(total.since_ns) if total and total.since_ns else None,
            endurance_bytes=int(self._config.endurance) or None,
            life_s=self._life_s(day, total),
            budget=self._budget(hour),
        )

    def _life_s(self, day: Stretch, total: Ledger | None) -> float | None:
        by_all = day.card_per_day is not None
        per_day = day.card_per_day if by_all else day.written_per_day
        if not self._config.endurance or total is None or not per_day:
            return None
        if day.seconds < PROJECTING_S:
            return None
        used = total.card if by_all else total.own
        return max(0.0, (self._config.endurance - used) / per_day * DAY_S)

    # The budget.

    def _judge(self, now: WrittenBytes) -> None:
        per_day = int(self._config.bytes_per_day_max)
        before = self._judged
        seconds, commits = now.at_s - before.at_s, now.commits - before.commits
        if not per_day or not budget.is_due(seconds, commits):
            return
        self._judged = now
        counter = "card" if now.own is None else "own"
        old, new = getattr(before, counter), getattr(now, counter)
        if old is None or new is None:
            return  # Nobody counts, so nothing can be kept.
        was = self._pace.factor
        self._pace = budget.judge(self._pace, seconds, max(0, new - old), per_day, self._factor_max)
        if self._pace.factor != was:
            self._spread(was)

    def _spread(self, was: float) -> None:
        factor = self._pace.factor
        intervals = self._intervals()
        longest = max(intervals.values())
        self._log.spread(intervals, LAZY_SECONDS if factor == 1 else max(LAZY_SECONDS, longest))
        if (was == 1) != (factor == 1):
            spared = "as configured again" if factor == 1 else f"spread to {longest:.3g} s"
            logger.info("wear: commits are %s to keep the budget of bytes per day", spared)

    def _intervals(self) -> dict[str, float]:
        return {
            name: budget.spread(interval_s, self._pace.factor, bound_s)
            for name, (interval_s, bound_s) in self._logs.items()
        }

    def _budget(self, hour: Stretch) -> Budget | None:
        per_day = int(self._config.bytes_per_day_max)
        if not per_day:
            return None
        at_bound = self._pace.factor >= self._factor_max
        rate = hour.written_per_day if hour.written_per_day is not None else hour.card_per_day
        broken = rate is not None and hour.seconds >= PROJECTING_S and rate > per_day
        return Budget(
            bytes_per_day_max=per_day,
            factor=self._pace.factor,
            interval_s=max(self._intervals().values()),
            at_bound=at_bound,
            kept=not (at_bound and broken),
        )

    # The total over the store's life.

    async def _recall(self) -> None:
        try:
            _, state = await self._log.position(CONSUMER, LOG)
        except StoreError:
            return  # The next tick asks again.
        self._before = Ledger.decode(state, name_of(self._folder))
        self._noted_bytes = self._before.own

    def _total(self, now: WrittenBytes) -> Ledger | None:
        """What was written up to now; None before the store was asked."""
        if self._before is None:
            return None
        # This process wrote all that its counter shows; the card's began before it.
        own, card = now.own or 0, max(0, (now.card or 0) - (self._first.card or 0))
        total = self._before.add(own, card)
        reading = self._clock.read()
        if not total.since_ns and reading.synced:
            # An agent that is new here has noted nothing but what it wrote since it started.
            ran_ns = int((now.at_s - self._first.at_s) * 1e9)
            total = replace(total, since_ns=reading.wall_ns - ran_ns)
            self._before = replace(self._before, since_ns=total.since_ns)
        return total

    def _note(self, now: WrittenBytes) -> None:
        total = self._total(now)
        if total is None or now.at_s - self._noted.at_s < NOTE_S:
            return
        if total.own - self._noted_bytes < NOTE_BYTES:
            return
        position = Position(CONSUMER, LOG, 0, total.encode())
        try:
            taken = self._log.offer(Entry(positions=(position,)), lazy=True)
        except Closed:
            return
        if taken is not None:
            self._noted, self._noted_bytes = now, total.own


def _bound(of_log: float | None, config: Config) -> float:
    return float(config.wear.commit_interval_max if of_log is None else of_log)
