"""This module has what a commit takes and what it answers.

An `Entry` is one append: everything in it becomes durable together or not at all, and it gets
one answer, in the order in which entries were given. What a consumer writes back (records, its
new position, its state) is one entry too, which is what makes processing exactly-once.

What is made for each message that arrives is a struct: a dataclass takes ten times as long to make,
a frozen one 0.5 to 0.7 µs, which is a quarter of all that a small message may cost here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from msgspec import Struct

from edge_agent.errors import StoreFull
from edge_agent.values.clock_note import ClockNote
from edge_agent.values.record import ForeignBlock, Run

#: A consumer's state is rewritten whole at each of its commits, so it stays small.
STATE_BYTES_MAX = 256 * 1024
#: What quarantine keeps of something that could not be used.
QUARANTINE_BYTES_MAX = 4096
#: What an entry and its ticket occupy in memory, about; and each of the entry's parts, beside the
#: bytes that it holds. For a single small record that is ten times the record.
ENTRY_BYTES = 400
PART_BYTES = 300
#: Behind an upstream's consumer: the lane that sends its backlog while newer records go out beside
#: it (`edge_agent.forward.lanes.split`). Such a position exists only as long as there is a backlog.
BACKLOG = "/backlog"
#: And what of it waits while its newest part is sent first.
OLDER = "/older"
#: And what a person has ordered to be sent once more (`edge_agent.forward.lanes.resend`).
#: Retention does not wait for it.
RESEND = "/resend"
#: What a part for quarantine counts instead, whatever it holds: to judge it, to write it as a row
#: of its own and to tell of it takes as long as hundreds of records, and what is in flight comes
#: before everybody's next ack. 2,000 of them are 32 MiB.
QUARANTINE_WEIGHT = 16 * 1024


def is_backlog(consumer: str) -> bool:
    """Whether it is an upstream's backlog or resend, which exist at times only."""
    # Names of upstreams have no slash, and may be "backlog".
    return consumer.endswith((BACKLOG, OLDER, RESEND)) and consumer.count("/") == 2


def whole_consumer(consumer: str) -> str:
    """The upstream that a backlog is of; any other consumer is its own."""
    return consumer.rpartition("/")[0] if is_backlog(consumer) else consumer


class Binding(Struct, frozen=True, gc=False):
    """What was judged when a source was welcomed; the transaction sees whether it still holds.

    ``over``: the identity that it belonged to then, and shall no longer. ``share``: how many
    sources the new owner may have; 0 for as many as there are places.
    """

    over: str | None = None
    share: int = 0


class Numbering(Struct, frozen=True, gc=False):
    """An entry's place in its source's numbering: it uses up the numbers [first, next).

    ``restart``: numbering starts anew at ``first`` (the source resumed from an unknown epoch, or
    told of a gap), whatever was stored before; ``moved``: on purpose, and none are missing.
    ``owner``: the identity that sends, None where there are no tokens. What belongs to another one
    is refused whole; ``bind`` may change that. ``opening``: which opening of the sender's store
    sends from here on, "" where it does not say; None for the same as before.
    """

    source: str
    first: int
    next: int
    restart: bool = False
    owner: str | None = None
    bind: Binding | None = None
    opening: str | None = None
    moved: bool = False


@dataclass(frozen=True, slots=True)
class SourceOrder:
    """A person's word about a source. ``move`` gives it to the identity ``owner``; its numbering
    begins anew, unless ``keep_numbers``. ``forget`` removes it.
    """

    source: str
    order: Literal["move", "forget"]
    owner: str | None = None
    keep_numbers: bool = False


@dataclass(frozen=True, slots=True)
class Position:
    """A consumer's word: everything up to and including ``floor`` is done.

    ``state`` is the consumer's own, opaque, at most `STATE_BYTES_MAX`; None keeps the stored one.
    A floor never goes down unless ``rewind`` says so (an upstream lost data, or a person asks).

    ``order`` is a person's: ``pause`` and ``resume`` are kept beside the floor, ``skip`` counts
    what the floor passes as discarded, ``forget`` removes the position.

    ``span``: first and last seq of what a backlog's lane sends; only with it such a position comes
    to be. None keeps what is stored.
    """

    consumer: str
    log: str
    floor: int
    state: bytes | None = None
    rewind: bool = False
    order: Literal["pause", "resume", "skip", "forget"] | None = None
    span: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Input or a record that could not be used, kept with the reason.

    ``number`` is the source's number, 0 where it does not number. The store keeps the first
    `QUARANTINE_BYTES_MAX` bytes of ``body``. A record that an upstream refused has its
    ``consumer``, and where it stands: ``seq`` in ``log``.
    """

    code: str
    reason: str
    stream: str
    source: str
    number: int
    arrival_ns: int
    body: bytes = field(repr=False)
    consumer: str = ""
    log: str = ""
    seq: int = 0


class Entry(Struct):
    """One append. ``released`` are numbers of quarantine entries that go with it; ``clocks`` is
    what other agents know of the clocks of theirs; ``sources`` is what a person orders of sources.
    """

    runs: tuple[Run, ...] = ()
    blocks: tuple[ForeignBlock, ...] = ()
    numbering: Numbering | None = None
    positions: tuple[Position, ...] = ()
    quarantine: tuple[Quarantined, ...] = ()
    clocks: tuple[ClockNote, ...] = ()
    released: tuple[int, ...] = ()
    sources: tuple[SourceOrder, ...] = ()

    @property
    def count(self) -> int:
        """Records to store, duplicates not yet judged."""
        return sum(run.count for run in self.runs) + sum(block.count for block in self.blocks)

    @property
    def size_bytes(self) -> int:
        """Bytes that this entry occupies in memory while it waits, about; what goes to quarantine
        counts `QUARANTINE_WEIGHT`.
        """
        return (
            ENTRY_BYTES
            + sum(len(run.body) + PART_BYTES for run in self.runs)
            + sum(len(block.payload) + PART_BYTES for block in self.blocks)
            # However small: what it costs to write and to tell of is what has to be bounded.
            + len(self.quarantine) * QUARANTINE_WEIGHT
            + len(self.clocks) * PART_BYTES
        )


class Stored(Struct, frozen=True, gc=False):
    """The answer to an entry that is durable.

    Attributes:
        last: log name to the last seq that this entry wrote there; logs it did not write in are
            absent.
        next: the number that its source is expected to send next, 0 without numbering.
        duplicates: records that were stored before and left out now.
    """

    last: dict[str, int]
    next: int
    duplicates: int


@dataclass(frozen=True, slots=True)
class CommitResult:
    """What one transaction did. Counts are by log name, or by code for quarantine.

    ``thinned`` records gave way to ``aggregates``. ``crowded``: a log is so near its share that
    its oldest records should be thinned soon, before a commit has to wait for it.
    """

    answers: tuple[Stored | StoreFull, ...]
    last_seq: dict[str, int]
    records: dict[str, int]
    record_bytes: dict[str, int]
    block_bytes: dict[str, int]
    trimmed: dict[str, int]
    discarded: dict[str, int]
    quarantined: dict[str, int]
    duplicates: int = 0
    restarts: int = 0
    gaps: int = 0
    sources_forgotten: int = 0
    thinned: dict[str, int] = field(default_factory=dict)
    aggregates: dict[str, int] = field(default_factory=dict)
    crowded: bool = False
