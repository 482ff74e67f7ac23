"""`State` is what the engine keeps in memory besides LMDB; `Counts` is what a transaction did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from edge_agent.errors import StoreFull
from edge_agent.store.clock.boot_offsets import NO_CLOCKS, Clocks
from edge_agent.store.format.values import LogHeader, QuarantineHeader
from edge_agent.store.types import CommitResult, Stored

#: Sources whose next number is kept in memory, less than 1 MB of it.
EXPECTED_MAX = 4096


@dataclass(slots=True)
class State:
    """Always as of the last synced commit.

    ``stopped``: sources whose restart was refused. Until they are welcomed again, what they had
    already sent behind it is refused too; it would otherwise be judged by the old numbering.

    ``expected``: the next numbers of sources heard lately, so that not each entry has to look up,
    check and decode one. Those not in it are in the file.

    ``owners``: to whom the sources in ``expected`` belong; ``openings``: which of its openings the
    sender told, where it did. ``shares``: how many sources each identity has, "" for all that
    belong to nobody. ``gone``: sources that a person has moved or forgotten in a transaction; what
    the state before it says of them does not hold.

    ``clocks``: what is known of the clocks of boots. ``newest_ns``: the latest time that a set
    clock gave a block, in any log, 0 where none did. ``unset_boots``: boots of this agent that
    stored something since while their clock was not set.
    """

    logs: dict[str, LogHeader]
    quarantine: QuarantineHeader
    sources: int
    stopped: set[str] = field(default_factory=set)
    expected: dict[str, int] = field(default_factory=dict)
    clocks: Clocks = NO_CLOCKS
    newest_ns: int = 0
    unset_boots: frozenset[bytes] = frozenset()
    owners: dict[str, str | None] = field(default_factory=dict)
    shares: dict[str, int] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    openings: dict[str, str] = field(default_factory=dict)

    def copy(self) -> State:
        """A copy for one transaction to work on; only its own are in ``expected`` and ``owners``.
        Headers are immutable; ``stopped`` is shared, because a welcome may come while a
        transaction runs.
        """
        clocks = (self.clocks, self.newest_ns, self.unset_boots)
        made = State(dict(self.logs), self.quarantine, self.sources, self.stopped, {}, *clocks)
        made.shares = dict(self.shares)
        return made

    def adopt(self, other: State) -> None:
        """Become what a transaction made of a copy, now that it is synced."""
        self.logs.update(other.logs)
        self.quarantine = other.quarantine
        self.sources = other.sources
        self.clocks, self.newest_ns = other.clocks, other.newest_ns
        self.unset_boots = other.unset_boots
        self.shares = other.shares
        for source in other.gone:
            self.expected.pop(source, None)
            self.owners.pop(source, None)
            self.openings.pop(source, None)
        # Those of which nothing was stored have an owner here, and no number.
        known = len(self.expected) + len(other.expected)
        if max(known, len(self.owners) + len(other.owners)) > EXPECTED_MAX:
            self.expected.clear()
            self.owners.clear()
            self.openings.clear()
        self.expected.update(other.expected)
        self.owners.update(other.owners)
        self.openings.update(other.openings)

    def lost_sources(self, owners: Sequence[str]) -> None:
        """So many sources are no longer in the file, one for each of ``owners``."""
        if owners:
            self.sources -= len(owners)
            for owner in owners:
                self.shares[owner] = self.shares.get(owner, 1) - 1
            self.expected.clear()
            self.owners.clear()
            self.openings.clear()


@dataclass(slots=True)
class Counts:
    """What a transaction did, besides its answers."""

    records: dict[str, int] = field(default_factory=dict)
    record_bytes: dict[str, int] = field(default_factory=dict)
    block_bytes: dict[str, int] = field(default_factory=dict)
    trimmed: dict[str, int] = field(default_factory=dict)
    discarded: dict[str, int] = field(default_factory=dict)
    thinned: dict[str, int] = field(default_factory=dict)
    aggregates: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    restarts: int = 0
    gaps: int = 0
    sources_forgotten: int = 0
    crowded: int = 0

    def add(self, other: Counts) -> None:
        """Count what another did, too."""
        for name in self.__slots__:
            mine, theirs = getattr(self, name), getattr(other, name)
            if isinstance(theirs, dict):
                for key, amount in theirs.items():
                    add(mine, key, amount)
            else:
                setattr(self, name, mine + theirs)

    def result(self, answers: Sequence[Stored | StoreFull], state: State) -> CommitResult:
        """The engine's answer."""
        return CommitResult(
            tuple(answers),
            {name: header.last for name, header in state.logs.items()},
            self.records,
            self.record_bytes,
            self.block_bytes,
            self.trimmed,
            self.discarded,
            self.quarantined,
            self.duplicates,
            self.restarts,
            self.gaps,
            self.sources_forgotten,
            thinned=self.thinned,
            aggregates=self.aggregates,
            crowded=self.crowded > 0,
        )


def add(counts: dict[str, int], name: str, amount: int) -> None:
    """Count ``amount`` more under ``name``."""
    if amount:
        counts[name] = counts.get(name, 0) + amount
