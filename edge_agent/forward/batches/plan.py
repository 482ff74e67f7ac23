"""A plan says which ranges a keyed sink sends next; it is fixed before their first byte goes.

An upstream that knows a batch by its ``Idempotency-Key`` (and so by its range) may have taken a
batch whose answer was lost, in the network or by a kill of the agent. Sent again under the same
key, the batch must therefore be byte for byte the same. So ranges are planned, made durable in
the consumer's state, and only then sent; halving replaces the first range by its two halves,
durable again before they are sent. A range leaves the plan when it has been acknowledged. Changes
are made on a copy, which takes the plan's place once the store has it.

What is known of clocks that were not set (`edge_agent.store.Offsets`) is part of the bytes, and
may become known between two sends. So the plan keeps what was known of the boots concerned when it
was made, and its ranges are rendered by that alone.

A person may order that records are sent again. Their ranges may come out as they did the first
time, and their bytes may not (a clock is known by now), so how often the floor was moved by order
is kept beside the plan, and belongs to the key.

Pure: what is planned depends on the blocks given, nothing else.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import msgspec

from edge_agent.config import Upstream
from edge_agent.forward.batches.batch_limit import BatchLimit
from edge_agent.forward.sinks.http.body import RENDERING
from edge_agent.store import Boot
from edge_agent.store.thinning import cut_beside

#: Ranges planned with one commit. A commit per batch would tie forwarding to the commit interval …
RANGES_MAX = 8
#: … and where each is answered at once, even its 50 ms would be a fifth of the time.
RANGES_MAX_QUICK = 32
#: By how much a batch may be larger than the one before it, until a link's speed is known.
GROWTH = 4
#: Single records refused in a row after which the configuration must be wrong.
SINGLES_MAX = 16

#: Boots of clocks not set in one plan; it ends before the block that would bring one more.
BOOTS_MAX = 256

Range = tuple[int, int]
"""First and last seq, both included."""

Again = tuple[int, int]
"""The seq of a record, and its number in quarantine."""
#: As many may wait to be sent again: a consumer's state stays small.
AGAIN_MAX = 5000


class Extent(NamedTuple):
    """A block or a gap, as far as planning cares: its seqs, and its bytes, 0 for a gap. ``records``
    of a thinned block, which is not cut: who has had a part of it cannot be given the rest.
    """

    first: int
    last: int
    size: int
    records: int = 0


@dataclass(slots=True)
class Plan:
    """What is to be sent next.

    Attributes:
        shape: checksum of everything that decides how a range is rendered. A plan of another
            shape cannot be repeated byte for byte.
        ranges: adjoining, ascending, not acknowledged.
        singles: single records refused since the last acknowledgement.
        offsets: of clocks that were not set, as far as they were known.
        begun: first seq of a thinned block that had to be cut, so that the rest of it may go, too.
        moves: how often a person has moved the floor.
        limit: how large a batch gets through.
        plain: whether the upstream takes only what is not compressed.
        again: records that a person wants sent once more, each with its number in quarantine.
        expired: blocks up to this seq were too old to be sent when they were planned.
    """

    shape: int
    ranges: list[Range] = field(default_factory=list)
    singles: int = 0
    offsets: dict[Boot, int] = field(default_factory=dict)
    begun: int = 0
    moves: int = 0
    limit: BatchLimit = field(default_factory=BatchLimit)
    plain: bool = False
    again: list[Again] = field(default_factory=list)
    expired: int = 0

    def copy(self) -> Plan:
        """One that can be changed, made durable, and only then put in this one's place."""
        return replace(
            self,
            ranges=list(self.ranges),
            offsets=dict(self.offsets),
            again=list(self.again),
        )

    def halve(self, whole: Sequence[Range] = ()) -> None:
        """Replace the first range, of at least two records, by its halves; what is ``whole`` is
        cut only where there is nothing else.
        """
        first, last = self.ranges[0]
        assert first < last
        middle, begun = cut_beside(first, last, whole)
        self.begun = begun or self.begun
        self.ranges[0:1] = [(first, middle), (middle + 1, last)]

    def drop_first(self) -> None:
        """The first range has been dealt with."""
        del self.ranges[0]


class _State(msgspec.Struct, array_like=True):
    shape: int
    ranges: list[Range]
    singles: int
    offsets: list[tuple[str, bytes, int]] = []
    begun: int = 0
    moves: int = 0
    limit: BatchLimit = BatchLimit()
    plain: bool = False
    again: list[Again] = []
    expired: int = 0


class MovedState(msgspec.Struct, array_like=True, frozen=True):
    """A consumer's state that is no plan: with an agent the epochs of both stores when the
    numbering was agreed on, and the number of our newest clock note that the hub is known to have.
    Where a person has moved the floor it stands in a plan's place: how often that was, ``again``.
    """

    hub: str
    own: str
    moved: bool = False
    noted: int = 0
    moves: int = 0
    again: list[Again] = []


_decoder = msgspec.msgpack.Decoder(_State)
_moved_decoder = msgspec.msgpack.Decoder(MovedState)


def shape_of(upstream: Upstream) -> int:
    """Checksum of what decides how a range is rendered."""
    how: tuple[object, ...] = (upstream.format, upstream.compression, RENDERING)
    # Nothing more where nothing is: the plans of earlier versions still hold.
    how += ("saves",) * upstream.saves_bytes
    tables = [(name, getattr(upstream, name)) for name in upstream.tables]
    facts = (upstream.url, *how, tuple(upstream.streams), *tables)
    return zlib.crc32(repr(facts).encode())


def encode_plan(plan: Plan) -> bytes:
    """The consumer's state."""
    offsets = [(*boot, offset_ns) for boot, offset_ns in plan.offsets.items()]
    state = _State(
        plan.shape,
        plan.ranges,
        plan.singles,
        offsets,
        plan.begun,
        plan.moves,
        plan.limit,
        plan.plain,
        plan.again,
        plan.expired,
    )
    return msgspec.msgpack.encode(state)


def decode_plan(state: bytes | None, shape: int, floor: int) -> Plan:
    """The plan to go on with after a start.

    Ranges up to ``floor`` are done. A plan of another ``shape`` is redone, except that its first
    range loses a record, so that no key is used again for other bytes. A state that is not a plan
    (the upstream was of another kind before) counts as none.
    """
    try:
        stored = _decoder.decode(state or b"")
    except msgspec.MsgspecError:
        return Plan(shape, moves=moves_of(state), again=again_of(state))
    plan = Plan(shape, moves=stored.moves, again=stored.again)
    if stored.shape == shape:
        # Another upstream, or another way of writing, has limits of its own.
        plan.limit, plan.plain = stored.limit, stored.plain
    plan.expired = stored.expired
    ranges = [(max(first, floor + 1), last) for first, last in stored.ranges if last > floor]
    if not _adjoining(ranges, floor):
        return plan
    if stored.shape == shape:
        # One refusal more is enough to stop again, so that restarts do not eat the backlog.
        plan.offsets = {(agent, boot_id): offset_ns for agent, boot_id, offset_ns in stored.offsets}
        plan.ranges, plan.begun = ranges, stored.begun
        plan.singles = min(stored.singles, SINGLES_MAX - 1)
    elif ranges and ranges[0][0] < ranges[0][1]:
        plan.ranges = [(ranges[0][0], ranges[0][1] - 1)]
    else:
        plan.ranges = ranges[:1]
    return plan


def moves_of(state: bytes | None) -> int:
    """How often a person has moved the floor that this state belongs to."""
    found = _decoded(state)
    return 0 if found is None else found.moves


def again_of(state: bytes | None) -> list[Again]:
    """What a person wants sent once more, which outlasts every move of the floor."""
    found = _decoded(state)
    return [] if found is None else found.again


def _decoded(state: bytes | None) -> _State | MovedState | None:
    for decoder in (_decoder, _moved_decoder):
        try:
            return decoder.decode(state or b"")
        except msgspec.MsgspecError:
            continue
    return None


def with_moves(state: bytes | None, moves: int) -> bytes | None:
    """A plan that says how often the floor was moved; a state that is none stays as it is."""
    try:
        stored = _decoder.decode(state or b"")
    except msgspec.MsgspecError:
        return state
    stored.moves = moves
    return msgspec.msgpack.encode(stored)


def with_again(state: bytes | None, shape: int, again: Sequence[Again]) -> bytes:
    """The state of a keyed upstream's consumer, with records to be sent once more.

    Raises:
        ValueError: too many wait already.
    """
    try:
        stored = _decoder.decode(state or b"")
    except msgspec.MsgspecError:
        stored = _State(shape, [], 0, moves=moves_of(state), again=again_of(state))
    stored.again = [*stored.again, *again]
    if len(stored.again) > AGAIN_MAX:
        raise ValueError(f"{AGAIN_MAX} records wait to be sent again already")
    return msgspec.msgpack.encode(stored)


def divided(state: bytes | None) -> tuple[bytes | None, bytes]:
    """The states of a keyed upstream's lanes where its log is divided: of newer records, and of the
    backlog. What is planned, and may have been sent, is of the backlog, under the keys that it has;
    what a person wants sent again goes out beside it.
    """
    try:
        stored = _decoder.decode(state or b"")
    except msgspec.MsgspecError:
        return state, msgspec.msgpack.encode(MovedState("", "", True, moves=moves_of(state)))
    newer = msgspec.structs.replace(stored, ranges=[], singles=0, offsets=[], begun=0)
    older = msgspec.structs.replace(stored, again=[])
    return msgspec.msgpack.encode(newer), msgspec.msgpack.encode(older)


def planned_end(state: bytes | None) -> int:
    """The last seq that a state has planned; 0 for none."""
    found = _decoded(state)
    return found.ranges[-1][1] if isinstance(found, _State) and found.ranges else 0


def without_ranges(state: bytes | None) -> bytes | None:
    """A plan's state without what is planned; a state that is no plan stays as it is."""
    return divided(state)[0]


def without_records(state: bytes) -> bytes:
    """A consumer's state after records of its log were erased: its ranges would hold other bytes
    now, so the plan is made one of another shape. A state that is not a plan stays as it is.
    """
    try:
        stored = _decoder.decode(state)
    except msgspec.MsgspecError:
        return state
    stored.shape ^= 1
    return msgspec.msgpack.encode(stored)


def plan_ranges(
    extents: Sequence[Extent],
    *,
    records_max: int,
    bytes_max: int,
    ranges_max: int = RANGES_MAX,
    grows_to: tuple[int, int] | None = None,
) -> list[Range]:
    """Cut adjoining extents into ranges of at most so many records and encoded bytes.

    Where they grow, each may have `GROWTH` times as much as the one before, up to that.
    A single record is never cut, whatever its size. Sizes within a block are taken as equal; the
    upstream's own limit is what 413 and halving are for. Gaps cost nothing and join a range.
    A thinned block is never cut either.
    """
    if not extents:
        return []
    ranges: list[Range] = []
    records_cap, bytes_cap = grows_to or (records_max, bytes_max)
    start, count, size = extents[0].first, 0, 0
    for extent in extents:
        if extent.records:
            too_many = count + extent.records > records_max or size + extent.size > bytes_max
            if count and too_many:
                ranges.append((start, extent.first - 1))
                if len(ranges) == ranges_max:
                    return ranges
                start, count, size = extent.first, 0, 0
                records_max = min(records_max * GROWTH, records_cap)
                bytes_max = min(bytes_max * GROWTH, bytes_cap)
            count, size = count + extent.records, size + extent.size
            continue
        each = max(1, extent.size // (extent.last - extent.first + 1))
        at = extent.first if extent.size else extent.last + 1
        while at <= extent.last:
            room = min(records_max - count, (bytes_max - size) // each)
            if room < 1 and count > 0:
                ranges.append((start, at - 1))
                if len(ranges) == ranges_max:
                    return ranges
                start, count, size = at, 0, 0
                records_max = min(records_max * GROWTH, records_cap)
                bytes_max = min(bytes_max * GROWTH, bytes_cap)
                continue
            taken = min(max(room, 1), extent.last - at + 1)
            at, count, size = at + taken, count + taken, size + taken * each
    ranges.append((start, extents[-1].last))
    return ranges


def _adjoining(ranges: Sequence[Range], floor: int) -> bool:
    expected = floor + 1
    for first, last in ranges:
        if first != expected or last < first:
            return False
        expected = last + 1
    return True
