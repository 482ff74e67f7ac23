"""A lane sends one log's records to one upstream; it is the loop behind every forwarder.

::

    run ─▶ open the sink ─▶ send, send … ─▶ (SinkUnavailable) ─▶ back off ─▶ open the sink …
                              └ settle ─▶ acknowledge

The position moves only when the upstream has acknowledged, and lazily: after a power cut some of
it is asked for or sent again, under the same stable ids. It goes back only where the upstream has
less than it acknowledged: what is held is sent again, the rest a gap, both counted. What a keyed
upstream does not take is looked into first (``keyed_trouble.py``).

A failure counts towards a longer wait until something is acknowledged or a connection has lasted.
"""

from __future__ import annotations

import logging
import random
from contextlib import suppress
from dataclasses import replace

import trio

from edge_agent.commit import Closed, Trace
from edge_agent.config import Upstream
from edge_agent.errors import EdgeAgentError, Obstacle, SinkRefused, SinkUnavailable, StoreError
from edge_agent.forward.batches.open_reader import OpenBatches
from edge_agent.forward.batches.planned_reader import PlannedBatches, SinkMisconfigured
from edge_agent.forward.lanes.diagnosis import Diagnosis
from edge_agent.forward.lanes.failures import leaves, without_frames
from edge_agent.forward.lanes.journal import Journal, cause_of
from edge_agent.forward.lanes.keyed_trouble import KeyedTrouble
from edge_agent.forward.lanes.lane_phases import Event, Phase
from edge_agent.forward.lanes.lane_state import (
    FailureKind,
    LaneStatistics,
    Standing,
    held_up,
    report_of,
    waiting,
)
from edge_agent.forward.lanes.pause import Holding
from edge_agent.forward.lanes.split import LaneLog, Split
from edge_agent.forward.link.tls_clock import rest
from edge_agent.forward.sink import CLOSE_S, Acknowledged, Batch, LaneResume, Resumed, Sink
from edge_agent.log import Log
from edge_agent.metrics import Metrics
from edge_agent.net.backoff import Backoff
from edge_agent.store import Position
from edge_agent.supervise import in_a_word
from edge_agent.system.clock import Clock
from edge_agent.values.stream_names import compile_patterns

logger = logging.getLogger(__name__)
_LASTING_S = 60.0  # A connection of this length was good, also without anything to acknowledge.
_OWN_DISK_S = 10.0  # Longest wait for our own store: nobody is spared by a longer one.


class Lane:
    """See the module's docstring. ``run`` is called again only after `mistaken`."""

    def __init__(
        self,
        upstream: Upstream,
        log: Log,
        name: str,
        sink: Sink,
        *,
        clock: Clock,
        dice: random.Random,
        metrics: Metrics,
        trace: Trace | None = None,
    ) -> None:
        if not isinstance(log, LaneLog):
            log = LaneLog(log, Split(upstream, log, name, clock), "live")
        self.consumer = log.consumer
        self._upstream, self._log, self._name, self._sink = upstream, log, name, sink
        self._clock, self._dice, self._trace = clock, dice, trace
        matches = compile_patterns(upstream.streams)
        self._batches: OpenBatches | PlannedBatches
        if sink.keyed:
            self._batches = PlannedBatches(upstream, log, name, self.consumer, matches, clock)
            self._batches.resent = log.resent
        else:
            self._batches = OpenBatches(upstream, log, name, clock, self.consumer)
        # What it tries may be newer than a backlog: all the better for what that proves.
        self._diagnosis = Diagnosis(upstream, log.whole, name, sink, matches, clock)
        self._diagnosis.consumer = self.consumer
        self._journal = Journal(logger, f"{self.consumer}, log {name}")
        base, longest = float(upstream.backoff_base), float(upstream.backoff_max)
        self._backoff = Backoff(base, longest, slow=longest)
        self._standing = Standing(upstream.name, metrics)
        tools = (upstream, self._batches, self._diagnosis, self._journal, self._standing)
        self._trouble = KeyedTrouble(*tools)
        #: What a person's orders pass through.
        self.holding = log.split.holdings[log.part] = Holding()
        self._state: bytes | None = None
        # A keyed sink sends nothing that was not planned durably before.
        self._stopping, self._waits_for_disk, self._epoch = False, sink.keyed, ""
        #: Whether the upstream is known to take records, so that the log may be divided for it.
        self._may_divide = not sink.keyed
        # Around every wait that `stop` ends, and `online` where the upstream did not ask for it.
        self._wait, self._asked_to_wait = trio.CancelScope(), False
        self._progress = trio.Event()

    async def run(self) -> None:
        """Forward until `stop` or cancelled."""
        while not self._stopping:
            with self.holding.working():
                error = await self._attempt()
                if isinstance(error, SinkMisconfigured):
                    await self._give_up(error)
                elif error is not None:
                    await self._back_off(error)
            if self.holding.engaged and not self._stopping:
                await self._rest()

    async def mistaken(self, error: Exception, wait: float) -> None:
        """`run` has failed on a mistake of ours: say so, and wait before it is called again.

        What is in memory may be half of something, so that the next run begins with what the store
        has. That costs at most some batches sent twice, under the same keys and numbers.
        """
        standing = self._standing
        standing.mistaken()
        self.holding.stale = True
        self._failed("mistake", f"failed on a mistake of the agent's own: {in_a_word(error)}")
        # By the same pace as other failures: it is the same upstream that may be met again.
        wait = max(wait, self._backoff.delay(standing.failures, self._dice))
        self._asked_to_wait = False
        with self.holding.working():
            await self._pause(wait)

    def stop(self) -> None:
        """Take up nothing new; what is on its way may still be acknowledged until cancelled."""
        self._stopping = True
        self._wait.cancel()

    def keep_to(self, waits_for: str) -> None:
        """Rest until that window of the upstream, in words; "" where one is open."""
        if self.holding.keep_to(waits_for, self._upstream.timeout):
            self._wait.cancel()

    def online(self) -> None:
        """The network is back: try now, unless the upstream itself asked for this wait."""
        self._standing.failures = 0
        if self._standing.phase is Phase.BACKING_OFF and not self._asked_to_wait:
            self._wait.cancel()

    def statistics(self) -> LaneStatistics:
        """A snapshot."""
        last, clocks = self._log.last_seq(self._name), self._clock.read()
        behind = self._log.given(self._name, self._standing.floor, last)
        now = self._standing.snapshot(self._name, behind, clocks, trio.current_time())
        now = replace(now, part=self._log.part, backlog_records=behind + self._log.waiting)
        if isinstance(self._batches, PlannedBatches):
            limit = self._batches.limit
            now = replace(now, plain=self._batches.plain, passed=limit.passed, failed=limit.failed)
        now = waiting(now, "" if self.holding.paused else self.holding.waits_for)
        trouble = self._log.trouble if self._waits_for_disk else None
        return now if trouble is None else held_up(now, trouble, clocks.wall_ns)

    async def _restore(self) -> None:
        self.holding.paused, floor, self._state = await self._log.take_up(self._name)
        self._standing.floor = floor
        if isinstance(self._batches, PlannedBatches):
            self._batches.restore(self._state, floor)
        self.holding.stale = False

    async def _attempt(self) -> EdgeAgentError | None:
        """Open the sink and send until it fails (the answer) or until stopped (None)."""
        failures: list[EdgeAgentError] = []
        began = trio.current_time()
        try:
            async with trio.open_nursery() as nursery:
                # Nothing is in flight before it is open: `stop` need not wait for that.
                with trio.CancelScope() as self._wait:
                    is_open = await self._open(nursery)
                if self._wait.cancelled_caught or not is_open:
                    nursery.cancel_scope.cancel()
                    return None
                nursery.start_soon(self._settle)
                waits = await self._pump()
                if self._log.is_over(self._standing.floor):
                    self.holding.stale = True  # Another part may follow, or all of it once more.
                    self._stopping = await self._log.finish(keyed=self._sink.keyed)
                elif waits:
                    await self._finish()
                nursery.cancel_scope.cancel()
        except* Closed:
            self._stopping = True
        except* (SinkMisconfigured, SinkUnavailable, StoreError) as group:
            failures.extend(leaves(group))
        finally:
            if self._standing.open and trio.current_time() - began >= _LASTING_S:
                self._standing.failures = 0
            self._log.place.leave()
            self._standing.closed()
            await self._sink.aclose()
        # Two tasks can fail at once; that a person is needed outweighs the rest.
        failures.sort(key=lambda error: not isinstance(error, SinkMisconfigured))
        return failures[0] if failures else None

    async def _open(self, nursery: trio.Nursery) -> bool:
        """Agree on where to go on; False where it is held, or this store was found to be a copy."""
        if self.holding.stale:
            await self._restore()
        if self.holding.engaged:
            return False
        if self._log.is_gone:
            self._stopping = True
            return False
        if self._standing.phase is Phase.PAUSED:
            self._standing.enter(Event.RETRY)
        floor, identity = self._standing.floor, self._log.identity
        first, last = self._log.first_seq(self._name), self._log.last_seq(self._name)
        part, base = self._log.part, self._log.base
        resume = LaneResume(floor, first, last, self._state, identity, part, base)
        resumed = await self._sink.open(nursery, resume)
        if resumed.forked:
            self._failed("copied", resumed.forked)
            await self._log.become_another(resumed.forked, identity.epoch)
            return False
        self._epoch = identity.epoch
        begin = resumed.next - 1
        keyed, may_divide = self._sink.keyed, self._may_divide
        # A connection that breaks now leaves nobody to learn what of it will be durable.
        self.holding.stale = True
        if await self._log.rearrange(resume, resumed, keyed=keyed, may_divide=may_divide):
            self._tell("rearranged", span=self._log.split.span)
            return False
        self.holding.stale = False
        if begin < floor:
            self._report_rewind(resume, resumed)
        position = Position(self.consumer, self._name, begin, resumed.state, rewind=begin < floor)
        first = position.rewind or position.state is not None
        if first or begin > floor:
            # Durable before anything is sent: the state says what the numbers there refer to. Word
            # of what the upstream had acknowledged before needs no disk.
            self._waits_for_disk = first or self._sink.keyed
            await self._log.acknowledge(position, durable=first, soon=first)
            self._state = resumed.state or self._state
        self._waits_for_disk = self._sink.keyed
        self._standing.opened(begin, proven=not self._sink.keyed)
        self._batches.resume(resumed.next)
        self._tell("opened", next=resumed.next)
        self._enter_drained()
        if self._log.part == "live":
            self._log.split.agree()
        return True

    async def _pump(self) -> bool:
        """Send until there is a reason to open again; whether what is in flight is waited for."""
        while not self._is_through():
            batch = None
            with trio.CancelScope() as self._wait:
                await self._log.turn(self._standing.floor)
                batch = await self._next()
                await self._log.place.take()
            if batch is None or self._wait.cancelled_caught:
                continue
            if self._may_divide and not batch.again and self._log.falls_behind(batch.items[0]):
                return False  # Where the upstream says what it has, the log may be divided.
            if self._log.identity.epoch != self._epoch:
                return True  # This store has become another one: open again as that.
            self._standing.enter(Event.RECORDS)
            if withheld := self._standing.read(batch):
                self._tell("withheld", records=withheld)
            await self._send(batch)
        return True

    def _is_through(self) -> bool:
        return self._stopping or self.holding.engaged or self._log.is_over(self._standing.floor)

    async def _next(self) -> Batch | None:
        try:
            return await self._batches.next()
        except SinkMisconfigured as error:
            await self._trouble.acquit(error)
            return None

    async def _send(self, batch: Batch) -> None:
        began = trio.current_time()
        try:
            acknowledged = await self._sink.send(batch)
        except SinkRefused as refusal:
            self._report(batch, began, without_frames(refusal))
            await self._refused(batch, refusal)
        except SinkUnavailable as error:
            self._report(batch, began, without_frames(error))
            if not self._sink.keyed:
                raise
            past = await self._trouble.got_past(batch, error)
            if isinstance(past, SinkRefused):
                await self._refused(batch, past)
            elif not past:
                raise
        else:
            self._report(batch, began, acknowledged)
            self._batches.sent(batch, acknowledged.size if acknowledged.records else 0)
            if not batch.again:
                await self._acknowledge(acknowledged)
                return
            # A person wanted it sent once more; the position stays.
            await self._planned().sent_again(release=True)
            self._standing.acknowledged(replace(acknowledged, upto=self._standing.floor))
            self._enter_drained()

    async def _finish(self) -> None:
        # No deadline of its own: the agent, which knows how long it may take to stop, cancels.
        while not self._sink.drained:
            await self._progress.wait()
        with trio.move_on_after(CLOSE_S):
            await self._sink.aclose()

    async def _settle(self) -> None:
        while True:
            await self._acknowledge(await self._sink.settle(self._standing.floor))

    async def _acknowledge(self, acknowledged: Acknowledged) -> None:
        if acknowledged.refused:
            self._standing.refused(acknowledged.refused)
            self._failed("refused", acknowledged.refusal)
        if acknowledged.upto <= self._standing.floor:
            return
        if not self._sink.keyed:
            # It answers for what was sent some time ago.
            first, now_ns = self._standing.floor + 1, self._clock.read().wall_ns
            self._standing.met(report_of(first, acknowledged.upto, acknowledged, 0.0, now_ns))
        self._standing.acknowledged(acknowledged)
        self._journal.recovered()
        self._tell("acknowledged", upto=acknowledged.upto)
        self._log.acknowledged(acknowledged.records, acknowledged.upto)
        self._enter_drained()
        upto, self._state = acknowledged.upto, acknowledged.state or self._state
        await self._log.acknowledge(Position(self.consumer, self._name, upto, acknowledged.state))
        self._may_divide = True
        if self._log.is_over(upto):
            self._wait.cancel()
        self._progress.set()
        self._progress = trio.Event()

    async def _refused(self, batch: Batch, refusal: SinkRefused) -> None:
        self._standing.enter(Event.REFUSED)
        self._failed("refused", str(refusal))
        if (
            isinstance(self._batches, PlannedBatches)
            and refusal.code != "too_big"
            and self._batches.is_first_single(batch)
            and await self._diagnosis.only_plain_passes(batch)
        ):
            # It is not the record, but how it is sent.
            await self._trouble.use_plain()
            return
        set_aside, taken = await self._batches.refused(batch, refusal)
        if set_aside:
            first = str(min(refusal.records, default=batch.first))
            more = f" and {set_aside - 1} more" if set_aside > 1 else ""
            text = f"refuses {self._name} {first}{more} for good (in quarantine): {refusal}"
            self._journal.noted(f"aside {cause_of(refusal)}", text)
            others = Acknowledged(batch.last, taken, taken and refusal.sent_bytes)
            self._standing.refused(set_aside, others)
            self._log.acknowledged(taken, self._standing.floor)
        if (set_aside or batch.again) and not self._batches.exhausted:
            self._enter_drained()

    async def _give_up(self, error: EdgeAgentError) -> None:
        self._standing.enter(Event.GAVE_UP)
        self._failed("misconfigured", str(error))
        self._journal.failed(f"stopped {cause_of(error)}", f"stopped: {error}", logging.ERROR)
        if not self._stopping:
            with trio.CancelScope() as self._wait:
                # Until a person has changed the configuration and restarts the agent, or there is
                # something else to try it with.
                await trio.sleep(self._backoff.delay(1, self._dice, slow=True))
                await self._diagnosis.wait_for_another(self._planned().refused_streams)
                self._standing.enter(Event.RETRY)

    async def _back_off(self, error: EdgeAgentError) -> None:
        await self._look_at_backlog()  # Before it shows that it backs off: until when shows, too.
        standing = self._standing
        standing.failures += 1
        asked = error.retry_after if isinstance(error, SinkUnavailable) else None
        slow = isinstance(error, SinkUnavailable) and error.slow
        wait = self._backoff.delay(standing.failures, self._dice, retry_after=asked, slow=slow)
        wait = min(wait, _OWN_DISK_S) if isinstance(error, StoreError) else wait
        standing.enter(Event.UNAVAILABLE)
        self._may_divide = not self._sink.keyed
        self._failed("slow" if slow else "unavailable", str(error), error.obstacle)
        self._journal.failed(cause_of(error), f"{error} (next try in {wait:.1f} s)")
        self._tell("backing_off", wait=wait)
        self._asked_to_wait = asked is not None
        await self._pause(wait, error)

    async def _pause(self, wait: float, error: Exception | None = None) -> None:
        self._standing.next_try_at = trio.current_time() + wait
        if not self._stopping:
            with trio.move_on_after(wait) as self._wait:
                await rest(self._clock, error)
        self._standing.next_try_at = None
        self._standing.enter(Event.RETRY)

    async def _rest(self) -> None:
        """Paused, or held while a person moves the position."""
        self._standing.rests()
        # Interrupted before it could say goodbye, as it may have been.
        await self._sink.aclose()
        await self._look_at_backlog()
        with trio.CancelScope() as self._wait:
            if not self._stopping:
                await self.holding.rest()

    async def _look_at_backlog(self) -> None:
        """How old the oldest record is shows in status, also before anything could be sent."""
        standing = self._standing
        if standing.unsettled or standing.floor >= self._log.last_seq(self._name):
            return
        with suppress(StoreError):  # the next attempt meets it again, and reports it
            standing.waiting(await self._log.read(self._name, standing.floor, 1))

    def _report_rewind(self, resume: LaneResume, resumed: Resumed) -> None:
        self._standing.rewound(resumed.gap)
        self._failed("rewind", message := resumed.loss(resume))
        logger.error("%s, log %s: %s", self.consumer, self._name, message)

    def _enter_drained(self) -> None:
        caught_up = self._standing.floor >= self._log.last_seq(self._name)
        if caught_up and self._standing.phase is not Phase.BACKING_OFF:
            self._standing.enter(Event.DRAINED)

    def _report(
        self, batch: Batch, began: float, outcome: Acknowledged | SinkRefused | SinkUnavailable
    ) -> None:
        """Keep what the batch met, for status; nothing where none of it was sent."""
        if self._sink.keyed:
            took, now_ns = trio.current_time() - began, self._clock.read().wall_ns
            self._standing.met(report_of(batch.first, batch.last, outcome, took, now_ns))

    def _planned(self) -> PlannedBatches:
        assert isinstance(self._batches, PlannedBatches)
        return self._batches

    def _failed(self, kind: FailureKind, message: str, obstacle: Obstacle = "here") -> None:
        self._standing.failed(kind, message, self._clock.read().wall_ns, obstacle)

    def _tell(self, event: str, **facts: object) -> None:
        if self._trace is not None:
            names = {"upstream": self._upstream.name, "log": self._name}
            self._trace(f"forward.{event}", names | facts)
