"""Deriving records from stored ones by rules, each result once: `derive` drives any such rule.

A rule that acts after storing is a consumer of each log, called ``rule/NAME``. It reads what is
durable, hands it to a `Derivation`, and appends what that gives back.

**Exactly once.** Results, the position behind the last record used and the derivation's state then
are one entry of the log: they commit together or not at all. After a crash what follows that
position is read again and gives the same results; or better ones, where a clock was set meanwhile
and what it had said before is now read corrected. While there are no results, position and state
are written every 10,000 records only, so that rules add little to what is written.

**A backlog of another agent** that comes beside newer records is marked (`Block.historical`), and
no alarm goes on or off for it: what it says is over. Windows take what belongs to them by its time.

**No loops.** A rule never sees its own records, those of other rules only with ``derived``, and
never an aggregate that a full log has put in the place of records.

Where a log refuses the results (`StoreFull`), the rule waits with them. It reads each log by
itself: streams are expected to stay in one log.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, TypeVarTuple

import msgpack
import trio

from edge_agent.commit import Closed
from edge_agent.config import Rule
from edge_agent.errors import StoreDamaged, StoreError, StoreFailed, StoreFull
from edge_agent.log import Log
from edge_agent.store import Block, Boot, Entry, Gap, Position
from edge_agent.system.clock import Clock, Reading
from edge_agent.values.aggregates import THINNED_SOURCE
from edge_agent.values.record import NANOSECONDS, Record, Run, as_sent
from edge_agent.values.stream_names import STREAM_BYTES_MAX, compile_patterns

logger = logging.getLogger(__name__)

#: Records after which position and state are written although there are no results.
SAVE_RECORDS = 10_000
#: Results that are written before more is read.
WRITE_RESULTS = 1000
#: A piece of reading with fewer records is done in the event loop: a thread would cost more.
_INLINE_RECORDS = 200
_READ_BYTES = 256 * 1024
#: Between attempts to read while the disk refuses; the committer reopens the store.
_RETRY_SECONDS = 1.0
_RULES = "$rule/"
#: What stands before the name of a consumer that is a rule.
RULE = "rule/"

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@dataclass(frozen=True, slots=True)
class Now:
    """Now: on Trio's clock, which only runs on, and on the agent's own."""

    trio_s: float
    reading: Reading


class Derivation(Protocol):
    """What one rule makes of one log. The same records in the same order give the same results."""

    @property
    def ready(self) -> int:
        """Results that nobody has taken yet."""
        ...

    def take_up(self, state: bytes | None, now: Now) -> None:
        """Begin from what `encode` gave, None at the very first."""
        ...

    def add(self, record: Record, committed: Reading, boot: Boot | None) -> None:
        """The next record; may be called in a thread. ``committed``: the agent's clocks when it was
        committed, as well as is known by now. ``boot``: the boot whose clock was not set when it
        came, None where it was.
        """
        ...

    def look(self, now: Now) -> None:
        """Some records were added, or some results taken: show it in metrics."""
        ...

    def wake_in(self, now: Now) -> float:
        """Seconds until `pass_time` should be called although no record comes; inf for never."""
        ...

    def pass_time(self, now: Now) -> None:
        """Nothing is left to read, and time has passed."""
        ...

    def encode(self) -> bytes:
        """The state, at most `STATE_BYTES_MAX`; called in a thread. What does not fit may become
        results.
        """
        ...

    def take(self, now: Now) -> tuple[Run, ...]:
        """The results, as runs to append; called in a thread."""
        ...


def rule_consumer(rule: str) -> str:
    """Name of the consumer that a rule is, in every log."""
    return f"{RULE}{rule}"


def derived_source(rule: str) -> str:
    """The source of what a rule derives, which is how derived records are told."""
    return f"{_RULES}{rule}"


def derived_stream(into: str, stream: str) -> str:
    """``into`` with ``{stream}`` put in; ``$`` stays in front of a name only."""
    name = into.replace("{stream}", stream.removeprefix("$"))
    if len(name) > STREAM_BYTES_MAX:
        name = f"{name[: STREAM_BYTES_MAX - 9].rstrip('/')}-{zlib.crc32(name.encode()):08x}"
    return name


Result = tuple[str, int, Mapping[str, object]]
"""The stream that it is about, its time in ns, and its fields."""


def derived_runs(rule: Rule, results: Iterable[Result], now: Reading) -> tuple[Run, ...]:
    """The results as runs to append, one for each derived stream, in their order.

    Streams are the rule's ``into``, by default ``$rule/NAME/{stream}``; the source is
    ``$rule/NAME``.
    """
    source = derived_source(rule.name)
    into = rule.into or source + "/{stream}"
    by_stream: dict[str, list[tuple[int, bytes]]] = {}
    for about, given_ns, fields in results:
        # Whoever reads it knows dates to the microsecond; what the run says of it has to be that.
        time_ns = given_ns // 1000 * 1000
        moment = as_sent(time_ns, msgpack.Timestamp(*divmod(time_ns, NANOSECONDS)))
        body = msgpack.packb({"time": moment, **fields})
        by_stream.setdefault(derived_stream(into, about), []).append((time_ns, body))
    return tuple(
        Run(
            stream=stream,
            source=source,
            source_seq=0,
            arrival_ns=now.wall_ns,
            synced=now.synced,
            count=len(found),
            body=b"".join(body for _, body in found),
            time_min_ns=min(time_ns for time_ns, _ in found),
            time_max_ns=max(time_ns for time_ns, _ in found),
        )
        for stream, found in by_stream.items()
    )


async def derive(log: Log, rule: Rule, make: Callable[[str], Derivation], *, clock: Clock) -> None:
    """Do what a rule says, until cancelled or the log takes nothing more. ``make`` gives the
    derivation for a log of that name.
    """
    async with trio.open_nursery() as nursery:
        for name in log.names():
            nursery.start_soon(_Task(log, rule, name, make(name), clock).run)


class _Task:
    """One rule over one log."""

    def __init__(self, log: Log, rule: Rule, name: str, made: Derivation, clock: Clock) -> None:
        self._log = log
        self._rule = rule
        self._name = name
        self._made = made
        self._clock = clock
        self._matches = compile_patterns(rule.streams)
        self._own = derived_source(rule.name)
        #: Everything up to it is in the derivation; everything up to the other is durably done.
        self._after = 0
        self._saved = 0

    async def run(self) -> None:
        try:
            await self._take_up()
            while True:
                await self._read_on()
                if self._made.ready or self._after - self._saved >= SAVE_RECORDS:
                    await self._save()
                await self._wait()
        except (Closed, StoreFailed):
            # Of appends alone: the agent is stopping. What was not written is read again after the
            # next start.
            return

    def _now(self) -> Now:
        return Now(trio.current_time(), self._clock.read())

    async def _take_up(self) -> None:
        consumer = rule_consumer(self._rule.name)
        floor, state = await _patiently(self._log.position, consumer, self._name)
        last = self._log.last_seq(self._name)
        self._after = self._saved = min(floor, last)
        if floor > last:
            # The store was read back from a damaged one and has lost its newest records.
            back = Position(consumer, self._name, last, rewind=True)
            await self._log.acknowledge(back)
        self._made.take_up(state, self._now())

    async def _read_on(self) -> None:
        """Hand over what there is, until the end or until there are enough results."""
        while self._log.last_seq(self._name) > self._after:
            items = await _patiently(self._log.read, self._name, self._after, _READ_BYTES)
            if not items:
                return
            if items[-1].last - self._after <= _INLINE_RECORDS:
                self._process(items)
                await trio.lowlevel.checkpoint()
            else:
                await self._log.run_blocking(self._process, items)
            self._after = items[-1].last
            self._made.look(self._now())
            if self._made.ready >= WRITE_RESULTS or self._after - self._saved >= SAVE_RECORDS:
                return

    def _process(self, items: Sequence[Block | Gap]) -> None:
        add, after = self._made.add, self._after
        for item in items:
            if isinstance(item, Gap):
                if after:
                    logger.warning(
                        "rule %s: records %d to %d of log %s are %s; what it makes lacks them",
                        self._rule.name,
                        item.first,
                        item.last,
                        item.log,
                        item.reason,
                    )
                continue
            if item.historical and self._rule.alarm is not None:
                continue
            is_dated = item.synced or item.correction is not None
            committed = Reading(item.when_ns, item.boot_ns, item.boot_id, is_dated)
            boot = item.unset_boot
            try:
                for record in item.records(self._matches):
                    if record.seq > after and not self._is_derived(record.source):
                        add(record, committed, boot)
            except StoreDamaged:
                # Its checksum was right, so it was written like this; what follows is sound.
                continue

    def _is_derived(self, source: str) -> bool:
        if not source.startswith("$"):
            return False
        if source.startswith(THINNED_SOURCE):
            # The sums over a minute are no measurement, and it may have seen some of these before.
            return True
        return source == self._own or (source.startswith(_RULES) and not self._rule.derived)

    async def _save(self) -> None:
        """Write position and state, in one entry with the results that there are."""
        # Thousands of windows take tens of milliseconds, for which nobody else has to wait.
        entry = await self._log.run_blocking(self._entry, self._now())
        if entry.runs:
            await self._append(entry)
        else:
            await self._log.acknowledge(*entry.positions)
        self._saved = self._after
        self._made.look(self._now())

    def _entry(self, now: Now) -> Entry:
        # First the state: what it has no room for is among the results then.
        state = self._made.encode()
        position = Position(rule_consumer(self._rule.name), self._name, self._after, state)
        return Entry(runs=self._made.take(now), positions=(position,))

    async def _append(self, entry: Entry) -> None:
        while True:
            ticket = await self._log.append(entry)
            try:
                await ticket.wait()
                return
            except StoreFull as full:
                await trio.sleep(full.retry_after)

    async def _wait(self) -> None:
        """Until there is more to read, or the derivation wants to be woken."""
        with trio.move_on_after(max(0.0, self._made.wake_in(self._now()))) as patience:
            await self._log.wait_past(self._name, self._after)
        if patience.cancelled_caught:
            self._made.pass_time(self._now())


async def _patiently(question: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
    """What the log says, once the disk lets it."""
    while True:
        try:
            return await question(*args)
        except StoreError:
            await trio.sleep(_RETRY_SECONDS)
