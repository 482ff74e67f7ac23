"""A `Writer` makes transactions of a group, or of a pass of retention.

It makes room first, then writes the group, and once more after an emergency trim where the file
itself was full.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import lmdb

from edge_agent.errors import StoreFull
from edge_agent.store.clock.timekeeper import Dating
from edge_agent.store.commit.group import GROUP_OVERHEAD_BYTES, Group, estimate, with_pages
from edge_agent.store.commit.sources import (
    LOOK_EVERY_NS,
    SWEEP_EVERY_NS,
    Lacking,
    forget,
    make_room,
)
from edge_agent.store.commit.stamp import writing
from edge_agent.store.commit.state import Counts, State
from edge_agent.store.format import keys
from edge_agent.store.format.codec import Compressor
from edge_agent.store.retention.trim import Trimmer
from edge_agent.store.settings import Moment, StoreSettings
from edge_agent.store.thinning import HandedOut, Thinner
from edge_agent.store.types import Entry, Stored

logger = logging.getLogger(__name__)


def _nobody(source: str) -> bool:
    return False


@dataclass(slots=True)
class Tools:
    """What stays the same over an engine's life. ``swept_boot_ns``: the last sweep of sources.
    ``lacking``: when an identity last found no place for a source, by the boot clock; ``looked``:
    when one was looked for in vain. ``in_use``: whether a source is connected; it is called in the
    thread that commits.
    """

    settings: StoreSettings
    route: Callable[[str], str]
    compressor: Compressor
    page_bytes: int
    swept_boot_ns: int | None = None
    handed: HandedOut = field(default_factory=HandedOut)
    lacking: dict[Lacking, int] = field(default_factory=dict)
    looked: dict[Lacking, int] = field(default_factory=dict)
    in_use: Callable[[str], bool] = _nobody


class Writer:
    """One call of the engine: `commit` or `trim`. Changes ``state`` and ``counts`` only by what
    a synced transaction did. Raises what lmdb raises.
    """

    def __init__(
        self,
        env: lmdb.Environment,
        state: State,
        tools: Tools,
        moment: Moment,
        counts: Counts,
        dating: Dating,
        *,
        clock_trusted: bool,
    ) -> None:
        self._env = env
        self._state = state
        self._tools = tools
        self._moment = moment
        self._counts = counts
        self._dating = dating
        self._clock_trusted = clock_trusted
        common = (env, state.logs, tools.settings, tools.page_bytes, counts)
        self._thinner = Thinner(*common, tools.compressor, tools.handed)
        self._trimmer = Trimmer(*common, self._thinner)
        self._lacking: set[Lacking] = set()

    def commit(self, entries: Sequence[Entry]) -> list[Stored | StoreFull]:
        """One group, answered in order."""
        try:
            return self._commit(entries)
        except lmdb.MapFullError:
            # Not even room to trim; what comes later may make some.
            for entry in entries:
                if entry.numbering is not None and entry.numbering.restart:
                    self._state.stopped.add(entry.numbering.source)
            return [StoreFull("the store is full") for _ in entries]

    def _commit(self, entries: Sequence[Entry]) -> list[Stored | StoreFull]:
        tools = self._tools
        incoming = {
            log: with_pages(size, tools.settings, tools.page_bytes)
            for log, size in estimate(entries, tools.route, self._state.logs).items()
        }
        tight = self._trimmer.lacks_room(incoming)
        if tight:
            self._positions_first(entries)
            self._trimmer.for_room(incoming)
            tight = self._trimmer.lacks_room(incoming)
        if self._state.sources >= self._tools.settings.sources_max:
            self._forget_sources()
        try:
            answers = self._placed(entries, self._attempt(entries, tight=tight), tight=tight)
            self._counts.crowded = sum(map(self._thinner.crowded, self._state.logs))
            return answers
        except lmdb.MapFullError:
            # Shares and headroom should prevent this.
            self._trimmer.in_need(sum(incoming.values()) + GROUP_OVERHEAD_BYTES)
            self._age_free_pages()
        return self._attempt(entries, tight=tight)

    def trim(self) -> list[Stored | StoreFull]:
        """One pass of retention over all logs and sources; nobody waits for an answer."""
        # A backup that was killed would keep the pages that it was reading for ever.
        self._env.reader_check()
        try:
            self._trimmer.for_room(dict.fromkeys(self._state.logs, 0))
            if self._clock_trusted:
                self._trimmer.by_age(self._moment.wall_ns)
            self._counts.crowded = self._trimmer.ahead()
            self._forget_sources()
        except lmdb.MapFullError:
            logger.warning("the store's file has no page left in which to trim")
        return []

    def _attempt(self, entries: Sequence[Entry], *, tight: bool) -> list[Stored | StoreFull]:
        tools = self._tools
        with writing(self._env) as txn:
            group = Group(
                txn,
                self._state,
                tools.settings,
                self._dating,
                tools.route,
                tools.compressor,
                tools.page_bytes,
                tight=tight,
            )
            answers = [group.apply(entry) for entry in entries]
            group.finish()
        self._state.adopt(group.state)
        self._counts.add(group.counts)
        for lacking in group.lacking:
            self._tools.lacking[lacking] = self._moment.boot_ns
        self._lacking = group.lacking
        return answers

    def _placed(
        self, entries: Sequence[Entry], answers: list[Stored | StoreFull], *, tight: bool
    ) -> list[Stored | StoreFull]:
        """The answers, once more for new sources that found no place, where others gave way."""
        waiting = [
            index
            for index, answer in enumerate(answers)
            if isinstance(answer, StoreFull) and answer.code == "too_many_sources"
        ]
        if waiting and self._let_give_way():
            again = self._attempt([entries[index] for index in waiting], tight=tight)
            for index, answer in zip(waiting, again, strict=True):
                answers[index] = answer
        return answers

    def _let_give_way(self) -> bool:
        tools, state, found = self._tools, self._state, False
        for lacking in self._lacking:
            looked = tools.looked.get(lacking)
            if looked is not None and abs(self._moment.boot_ns - looked) < LOOK_EVERY_NS:
                continue
            # How long something was not heard, only a clock that is set can tell.
            gone = (
                []
                if not self._clock_trusted
                else make_room(self._env, lacking, state.shares, self._moment, tools.in_use)
            )
            state.lost_sources(gone)
            self._counts.sources_forgotten += len(gone)
            if gone:
                found = True
            else:
                tools.looked[lacking] = self._moment.boot_ns
        return found

    def _positions_first(self, entries: Sequence[Entry]) -> None:
        """Room may be what this very group brings word of: an upstream has acknowledged records
        that hold the share. The word is made durable before anything is trimmed on its strength;
        without that, a full log would refuse, or count as discarded, what is long delivered.
        """
        told = [entry for entry in entries if entry.positions]
        bare = [entry for entry in told if entry == Entry(positions=entry.positions)]
        if bare:
            self._attempt(bare, tight=False)

    def _age_free_pages(self) -> None:
        """Pages that one transaction frees can be used by the next but one: this is the next."""
        with writing(self._env) as txn:
            txn.put(keys.STORE, txn.get(keys.STORE, b""))

    def _forget_sources(self) -> None:
        swept, now_ns = self._tools.swept_boot_ns, self._moment.boot_ns
        rested = swept is None or abs(now_ns - swept) >= SWEEP_EVERY_NS
        if rested and self._clock_trusted:
            tools = self._tools
            forgotten = forget(self._env, tools.settings, self._moment, tools.in_use)
            tools.swept_boot_ns = now_ns
            self._state.lost_sources(forgotten)
            self._counts.sources_forgotten += len(forgotten)
