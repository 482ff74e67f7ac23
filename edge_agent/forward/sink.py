"""A sink is what a forwarder needs of an upstream, whatever the upstream speaks.

A sink speaks for one log of one upstream. Its life is ``open`` → ``send``, ``send`` … ``settle``
→ ``aclose``, and again from ``open`` after a failure. What every sink promises (and
``tests/forward/test_sink_contract.py`` checks on each):

- A seq is acknowledged only after the far side has said that it and all below are durable there.
- Batches are handed over in order; an acknowledgement covers everything up to its seq.
- `SinkUnavailable` means that nothing beyond what was acknowledged may be taken as delivered: the
  forwarder opens again and sends the same records again, under the same stable id.
- `SinkRefused` is about the content of the batch that was given to this very ``send``.
- Cancelling any call leaves a sink that can be closed and opened again.
- ``aclose`` may be called at any time, any number of times, and takes two seconds at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import mul
from typing import Literal, Protocol

import trio

from edge_agent.commit import RunBlocking
from edge_agent.config import Upstream
from edge_agent.forward.max_age import expired_numbers
from edge_agent.net.dial import Dial
from edge_agent.store import Block, Gap, Identity
from edge_agent.store.thinning import as_owed, thinned_numbers, whole_ranges, withheld_numbers
from edge_agent.system.clock import Clock
from edge_agent.values.clock_note import ClockNote
from edge_agent.values.record import Record

#: Newer records, or all of them; the backlog, where it is sent beside them; and what a person wants
#: sent once more (`edge_agent.forward.lanes.resend`).
Part = Literal["live", "backlog", "resend"]
#: How long a goodbye may take.
CLOSE_S = 2.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Records [first, last] of a log, everything that was examined.

    ``items`` cover the range without a hole, in order; the first and the last block may reach
    beyond it.

    Of a thinned block that begins before the range nothing is given, unless it is the one that
    begins with ``begun`` (`edge_agent.store.thinning`). ``moves`` is how often a person has ordered
    what is sent again or left out: the same range may hold other bytes since.

    ``plain``: to be sent uncompressed, whatever the configuration says. ``again`` is the number in
    quarantine of a record that goes out a second time by order, ``probe`` marks one that is sent
    to learn whether the upstream takes anything; ``resent`` is the number of an order that sends a
    range once more. All three lie outside the order of the log.
    """

    log: str
    first: int
    last: int
    items: tuple[Block | Gap, ...]
    begun: int = 0
    moves: int = 0
    plain: bool = False
    again: int = 0
    probe: int = 0
    resent: int = 0
    #: `stored_bytes` and `stored_records`, once they were asked for: they are so several times.
    _stored: tuple[int, int] | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "items", as_owed(self.items, self.first, self.begun))

    @property
    def out_of_order(self) -> bool:
        """Whether it says nothing of how far the upstream is."""
        return bool(self.again or self.probe or self.resent)

    @property
    def variant(self) -> str:
        """What a key has behind the range, where that range may hold other bytes as well."""
        parts = {
            # Other bytes than the range had before its records were thinned.
            "thinned": self.thinned,
            # Made of what history keeps, which writes the same records in its own way.
            "recalled": self.recalled,
            # By order, and rendered by what is known today: not what it was before.
            "moved": self.moves,
            "again": self.again,
            "probe": self.probe,
            "resent": self.resent,
        }
        named = "".join(f"/{name}-{number}" for name, number in parts.items() if number)
        return named + "/plain" * self.plain

    @property
    def stored_bytes(self) -> int:
        """About what its records have as they are encoded in the store; see `plan.plan_ranges`."""
        return self._sizes()[0]

    @property
    def stored_records(self) -> int:
        """How many of the range's numbers are records, filtered ones included."""
        return self._sizes()[1]

    @property
    def thinned(self) -> int:
        """How many of the range's numbers lie in thinned blocks."""
        return thinned_numbers(self.items, self.first, self.last)

    @property
    def recalled(self) -> int:
        """How many of them come from history."""
        blocks = (item for item in self.items if isinstance(item, Block) and item.recalled)
        return sum(map(self._overlap, blocks))

    @property
    def withheld(self) -> int:
        """How many of them are not given."""
        return withheld_numbers(self.items, self.first, self.last)

    @property
    def expired(self) -> int:
        """How many are not given because they are too old."""
        return expired_numbers(self.items, self.first, self.last)

    @property
    def whole(self) -> list[tuple[int, int]]:
        """Ranges in it that should not be cut."""
        return whole_ranges(self.items)

    def _sizes(self) -> tuple[int, int]:
        found = self._stored
        if found is None:
            blocks = [item for item in self.items if isinstance(item, Block)]
            numbers = [self._overlap(one) for one in blocks]
            each = [max(1, one.raw_len // one.count) for one in blocks]
            found = sum(map(mul, each, numbers)), sum(numbers)
            object.__setattr__(self, "_stored", found)
        return found

    def _overlap(self, block: Block) -> int:
        return min(block.last, self.last) - max(block.first, self.first) + 1

    def records(self, matches: Callable[[str], bool]) -> Iterator[Record]:
        """The records of the range whose stream matches."""
        for item in self.items:
            if isinstance(item, Block):
                for record in item.records(matches):
                    if self.first <= record.seq <= self.last:
                        yield record


@dataclass(frozen=True, slots=True)
class LaneResume:
    """Where the forwarder stands when it opens a sink.

    ``first`` is the oldest seq still held (``last + 1`` where nothing is), ``last`` the newest,
    ``floor`` the highest acknowledged, ``state`` what the sink last asked to be kept. ``identity``
    is who we are from now on; None for the same as before.

    ``part``: which of the lanes this is, where a backlog is sent beside newer records (`split`).
    What is not above ``base`` is the other one's; so is what an upstream lacks of it.
    """

    floor: int
    first: int
    last: int
    state: bytes | None
    identity: Identity | None = None
    part: Part = "live"
    base: int = 0


@dataclass(frozen=True, slots=True)
class Resumed:
    """What the upstream answered.

    ``next`` is the seq from which to send; below ``floor + 1`` the upstream has lost data.
    ``state`` is to be durable before anything is sent; None keeps what is stored. ``gap`` records
    are lost to the upstream and no longer held here. ``forked``: why its numbers cannot be of this
    store's history, "" where they may be; then this store is to become another one, and nothing was
    agreed on.
    """

    next: int
    state: bytes | None = None
    gap: int = 0
    forked: str = ""

    def loss(self, resume: LaneResume) -> str:
        """What a person is told of an upstream that goes back."""
        return (
            f"the upstream has lost records from {self.next} on that it had acknowledged up to"
            f" {resume.floor}; sent again from {max(resume.first, self.next)},"
            f" {self.gap} are no longer here"
        )


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The upstream has everything up to and including ``upto``.

    ``records`` and ``size`` (bytes as sent) are what this acknowledgement added; filtered records
    are not among them. ``refused`` records were final losses at the upstream, told in its words
    by ``refusal``. ``state`` is to be kept together with the position; None keeps what is stored.
    ``status`` is the answer's, where it has one.
    """

    upto: int
    records: int = 0
    size: int = 0
    refused: int = 0
    refusal: str = ""
    state: bytes | None = None
    status: int = 0


class ClockNews(Protocol):
    """Where what is known of clocks comes from; `edge_agent.log.Log` is one."""

    def clock_notes(self, after: int) -> tuple[int, list[tuple[int, ClockNote]]]:
        """The newest note's number, and those above ``after`` that others need."""
        ...

    async def wait_clocks(self, number: int) -> None:
        """Wait until there is a note with a higher number."""
        ...


@dataclass(frozen=True, slots=True)
class SinkParts:
    """What a sink may be made of: each module of a kind has a ``make`` that takes this.

    Attributes:
        upstream: its configuration, checked.
        log: name of the log.
        identity: who we are.
        clock: for dates that an upstream names.
        run_blocking: where long computations go.
        dial: opens byte streams.
        news: of clocks that were not set, for upstreams that can be told later.
    """

    upstream: Upstream
    log: str
    identity: Identity
    clock: Clock
    run_blocking: RunBlocking
    dial: Dial
    news: ClockNews | None = None


class Sink(Protocol):
    """One log's way to one upstream."""

    @property
    def keyed(self) -> bool:
        """Whether a batch is known upstream by its range alone.

        The range of such a batch must be durable before its first send and stay as it is until
        it has been acknowledged or halved.
        """
        ...

    async def open(self, nursery: trio.Nursery, resume: LaneResume) -> Resumed:
        """Get ready to send; background work runs in ``nursery`` and raises there.

        Raises:
            SinkUnavailable: not now.
        """
        ...

    async def send(self, batch: Batch) -> Acknowledged:
        """Hand over the batch; waits while too much is in flight.

        The answer is what has been acknowledged by now, which may be less than this batch.

        Raises:
            SinkUnavailable: back off, open again, same batch again.
            SinkRefused: halve this batch.
        """
        ...

    async def settle(self, floor: int) -> Acknowledged:
        """Wait until more than ``floor`` is acknowledged.

        A sink that has nothing in flight between two sends waits until it is cancelled.
        """
        ...

    @property
    def drained(self) -> bool:
        """Whether every record handed over is acknowledged; empty ranges may wait."""
        ...

    async def aclose(self) -> None:
        """Say goodbye and let go of everything."""
        ...
