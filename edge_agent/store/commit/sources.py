"""This module keeps the sources: whose they are, how many each identity has, which give way.

Nobody may take all places: an identity has a share of them (`share_of`), and at its share the
oldest unused of its own give way to new ones. What gives way has not been heard for `REST_S` and is
not connected, by a clock that is set; nobody's numbers are forgotten while they are in use. Where
an identity that is below its share finds no place at all, those give way that are above theirs.

Forgetting costs little: a source that comes back is new, its numbering starts where it says, and
what it has not seen acked it sends again. Rather twice than lost. Names that begin with ``$`` are
those of other agents (``server/agent_session.py``). Forgotten, an agent would be asked for all that
it still holds, so they never give way; like every source they go after ``source_forgotten_s``.

Where no tokens are asked for, nobody can be told from anybody else: all sources belong to nobody,
all places are for everyone, and the oldest unused of all give way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import lmdb
import msgspec

from edge_agent.errors import StoreDamaged, StoreFull
from edge_agent.store.commit.stamp import writing
from edge_agent.store.format import keys
from edge_agent.store.format.values import SourceValue, decode, encode
from edge_agent.store.settings import Moment, StoreSettings
from edge_agent.store.types import SourceOrder

#: Under this and its id lies to whom an agent belongs that forwards here, or whose records come by
#: one that does. It has no numbers of its own.
AGENT_PREFIX = "$agent/"
#: Under this, AGENT/UPSTREAM/LOG/LANE, lie the numbers of the lanes of agents that forward here.
LANE_PREFIX = "$forward/"
#: Under this lie idempotency keys; whoever posts keeps few (``server/posting/posted_keys.py``).
POSTED_PREFIX = "$post/"
#: Between two sweeps on the boot clock; each reads every source's value once.
SWEEP_EVERY_NS = 600 * 1_000_000_000
#: Sources that one sweep forgets at most, in one transaction.
SWEEP_MAX = 1_000
#: A source that has not been heard for so long is unused, unless it is connected.
REST_S = 3600.0
#: How many give way at a time. Each look for them reads every source's value.
GIVE_WAY_MAX = 100
#: Where a look found none, the next one is so much later on the boot clock.
LOOK_EVERY_NS = 60 * 1_000_000_000
#: An identity may have at least this part of all places.
SHARES = 4
#: When to come back: for a place, and for a name that belongs to somebody else.
PLACE_RETRY_S = 60.0
FORBIDDEN_RETRY_S = 5.0


@dataclass(frozen=True, slots=True)
class SourceView:
    """One source, for people; see `values.SourceValue`."""

    name: str
    next: int
    seen_ns: int
    synced: bool
    owner: str | None


@dataclass(frozen=True, slots=True)
class Lacking:
    """An identity that found no place for a source: ``owner`` is "" for nobody's."""

    owner: str
    share: int


def share_of(places: int, identities: int) -> int:
    """How many sources an identity may have, where so many can send: all where it is alone, then a
    half, a third, and never less than a quarter.
    """
    return max(places // min(max(identities, 1), SHARES), 1)


class SourceCounts(Protocol):
    """What is counted of sources; `state.State` is one."""

    sources: int
    shares: dict[str, int]


def no_place(lacking: Lacking, places: SourceCounts, most: int) -> StoreFull | None:
    """Why there is no place for one more source of an identity; ``most`` of all there may be."""
    owner, held = lacking.owner, places.shares.get(lacking.owner, 0)
    if places.sources < most and (not owner or held < lacking.share):
        return None
    return too_many(owner, held) if held >= lacking.share else too_many("", places.sources)


def too_many(owner: str, held: int) -> StoreFull:
    """The refusal of one more source."""
    whose = f"too many sources of {owner}" if owner else "too many sources"
    return StoreFull(
        f"{whose}: {held} are remembered, all that there may be (limits.sources), and none of them"
        " is unused; `edge-agent source list` shows them",
        PLACE_RETRY_S,
        "too_many_sources",
    )


def forbidden(source: str, owner: str) -> StoreFull:
    """The refusal of a source that belongs to somebody else."""
    return StoreFull(
        f"{source} belongs to {owner!r} now; an owner of this agent moves it:"
        " edge-agent source move",
        FORBIDDEN_RETRY_S,
        "forbidden_source",
    )


def forget(
    env: lmdb.Environment,
    settings: StoreSettings,
    moment: Moment,
    in_use: Callable[[str], bool],
) -> list[str]:
    """Forget the sources unseen for ``source_forgotten_s``; to whom they belonged.

    Only by clocks that were synced when the source was last heard; the caller knows that the
    clock is right now. A source that comes back is new, and its numbering starts where it says.
    """
    limit_ns = moment.wall_ns - int(settings.source_forgotten_s * 1e9)
    old: list[bytes] = []
    with env.begin() as txn:
        for key, value in _values(txn):
            if len(old) >= SWEEP_MAX:
                break
            if value is None or (
                value.synced and value.seen_ns < limit_ns and not in_use(name_of(key))
            ):
                old.append(key)
    return _remove(env, old)


def make_room(
    env: lmdb.Environment,
    lacking: Lacking,
    shares: Mapping[str, int],
    moment: Moment,
    in_use: Callable[[str], bool],
) -> list[str]:
    """Let the oldest unused sources give way, some at a time; to whom they belonged."""
    if shares.get(lacking.owner, 0) >= lacking.share:
        givers = {lacking.owner}
    else:
        givers = {owner for owner, held in shares.items() if held > lacking.share}
    limit_ns = moment.wall_ns - int(REST_S * 1e9)
    unused: list[tuple[int, bytes]] = []
    with env.begin() as txn:
        for key, value in _values(txn):
            if value is None or not value.synced or value.seen_ns >= limit_ns:
                continue
            name = name_of(key)
            if (value.owner or "") in givers and not name.startswith("$") and not in_use(name):
                unused.append((value.seen_ns, key))
    unused.sort()
    return _remove(env, [key for _, key in unused[:GIVE_WAY_MAX]])


def obey(txn: lmdb.Transaction[bytes], given: SourceOrder, held: SourceValue | None) -> None:
    """Do in a transaction what a person orders of a source, which is ``held``."""
    key = keys.source_key(given.source)
    if given.order == "forget":
        txn.delete(key)
        return
    now = SourceValue(1, 0, False) if held is None else held
    # Whose numbers were used up, who knows: the new owner must not believe that they were its own.
    expected = now.next if given.keep_numbers else 1
    moved = msgspec.structs.replace(now, next=expected, owner=given.owner)
    txn.put(key, encode(key, moved))


def read_sources(txn: lmdb.Transaction[Any]) -> list[SourceView]:
    """All sources, in the order of their names; damaged ones left out."""
    return [
        SourceView(name_of(key), value.next, value.seen_ns, value.synced, value.owner)
        for key, value in _values(txn)
        if value is not None
    ]


def name_of(key: bytes) -> str:
    """The source in its key."""
    return key[1:].decode()


def owner_in(key: bytes, raw: bytes | memoryview) -> str:
    """To whom a stored source belongs; "" for nobody, and where it cannot be read."""
    try:
        return decode(key, raw, SourceValue).owner or ""
    except StoreDamaged:
        return ""


def _values(txn: lmdb.Transaction[Any]) -> Iterator[tuple[bytes, SourceValue | None]]:
    """Key and value of every source; None for one that cannot be read."""
    cursor = txn.cursor()
    cursor.set_range(keys.SOURCE)
    for view, raw in cursor.iternext():
        key = bytes(view)
        if not key.startswith(keys.SOURCE):
            return
        try:
            yield key, decode(key, raw, SourceValue)
        except StoreDamaged:
            yield key, None


def _remove(env: lmdb.Environment, old: list[bytes]) -> list[str]:
    owners: list[str] = []
    if old:
        with writing(env) as txn:
            for key in old:
                raw = txn.pop(key)
                if raw is not None:
                    owners.append(owner_in(key, raw))
    return owners
