"""`Questions` are what an open store can be asked; each is one read transaction.

`Engine` is the store; this is the half of it that reads, so that each half is one idea.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import lmdb

from edge_agent.errors import StoreFailed, StoreFull
from edge_agent.store.clock.correction import Offsets
from edge_agent.store.clock.timekeeper import Timekeeper
from edge_agent.store.commit.positions import (
    ConsumerView,
    read_newest_quarantine,
    read_positions,
    read_quarantine,
    state_in,
)
from edge_agent.store.commit.sources import (
    LOOK_EVERY_NS,
    Lacking,
    SourceView,
    no_place,
    read_sources,
)
from edge_agent.store.commit.transaction import Tools
from edge_agent.store.create import DATA, STORE
from edge_agent.store.format import keys
from edge_agent.store.format.block import Block, Gap
from edge_agent.store.format.values import PositionValue, SourceValue, decode
from edge_agent.store.lmdb_file.recheck import check_before_telling
from edge_agent.store.opening import OpenStore
from edge_agent.store.read.cursor import cut_off, near, read_blocks
from edge_agent.store.read.statistics import LACKING_NS, StoreStatistics, statistics_of
from edge_agent.store.settings import StoreClock, StoreSettings
from edge_agent.store.types import Quarantined
from edge_agent.values.clock_note import ClockNote

_Answer = TypeVar("_Answer")


class Questions(ABC):
    """Reads may run beside a commit and beside one another, from any thread."""

    def __init__(
        self,
        path: Path,
        settings: StoreSettings,
        clock: StoreClock,
        tools: Tools,
        opened: OpenStore,
    ) -> None:
        self.path, self.settings = path, settings
        self._clock, self._tools = clock, tools
        self._state = opened.state
        self._keeper = Timekeeper(clock.read())
        #: Why nothing is written at present; None where all is well.
        self._failed: str | None = None
        #: Whether everything in the file is durable though its disk refused at the opening already.
        self._certain = opened.certain

    @abstractmethod
    def _ask(self, question: Callable[[lmdb.Transaction[memoryview]], _Answer]) -> _Answer:
        """``question`` within a read transaction. Raises StoreFailed where the disk refuses."""

    def read(
        self, log: str, after: int, limit_bytes: int, upto: int | None = None
    ) -> list[Block | Gap]:
        """What follows the seq ``after``: blocks and gaps, without a hole between them.

        The first block may begin before ``after + 1``, which it then holds: skip records whose
        seq is not above ``after``. At least one item where there is anything, [] at the end;
        beyond one block, payloads of at most ``limit_bytes`` as stored, and none that begins
        behind ``upto``, unless it is the first. Blocks come with the corrections of their times
        that are known by now.
        """
        offsets = self._state.clocks.offsets

        def question(txn: lmdb.Transaction[memoryview]) -> list[Block | Gap]:
            items = read_blocks(txn, log, after, limit_bytes, offsets, self.settings.keys, upto)
            ends = None
            if any(isinstance(item, Gap) and item.reason == "damaged" for item in items):
                log_id = self._state.logs[log].id
                ends = [keys.block_key(log_id, seq) for seq in (items[0].first, items[-1].last)]
            elif not items and after < self.last_seq(log):
                ends = [keys.log_key(log)] * 2
            if ends is not None:
                check_before_telling(self.path / STORE / DATA, txn.id(), *ends)
            return items

        items = self._ask(question)
        return items if self._failed is None else cut_off(items, self.last_seq(log))

    def read_near(self, log: str, time_ns: int) -> int:
        """A seq from which to read in order to meet every record measured at ``time_ns`` or
        later, corrected as it is read now; ``last_seq + 1`` where there is none.

        Assumes that no sensor's clock runs more than an hour ahead of the agent's, nor that, while
        it was set, more than `timekeeper.HELD_NS_MAX` ahead of the truth.
        """
        offsets = self._state.clocks.offsets
        return self._ask(lambda txn: near(txn, log, time_ns, offsets))

    def first_seq(self, log: str) -> int:
        """Oldest seq still stored; ``last_seq + 1`` where none is; 1 for an unknown log."""
        header = self._state.logs.get(log)
        return 1 if header is None else header.first

    def last_seq(self, log: str) -> int:
        """Newest durable seq, 0 where there never was one."""
        header = self._state.logs.get(log)
        return 0 if header is None else header.last

    def given(self, log: str, after: int, last: int) -> int:
        """How many seqs in ``(after, last]`` records have or had. A restored or salvaged log has
        a million that none ever had: it counts on above them.
        """
        header = self._state.logs.get(log)
        return max(0, last - after) if header is None else header.given(after, last)

    def logs(self) -> tuple[str, ...]:
        """Every log in the store, configured or not."""
        return tuple(self._state.logs)

    def position(self, consumer: str, log: str) -> tuple[int, bytes | None]:
        """A consumer's floor and state; ``(0, None)`` where it has none.

        Raises StoreFailed also where the disk refuses writes: what is seen may not be durable.
        """
        if self._failed is not None and not self._certain:
            raise StoreFailed(self._failed)
        key = keys.position_key(consumer, log)

        def question(txn: lmdb.Transaction[memoryview]) -> tuple[int, bytes | None]:
            raw = txn.get(key)
            value = PositionValue(0, None) if raw is None else decode(key, raw, PositionValue)
            return value.floor, state_in(key, value, self.settings.keys)

        return self._ask(question)

    def consumers(self) -> list[ConsumerView]:
        """Every stored position, those of consumers that are no longer configured included."""
        return self._ask(lambda txn: read_positions(txn, self.settings.keys))

    def next_of(self, source: str) -> int:
        """The number expected next of a source, 0 where it was never seen.

        Asked when a source is welcomed; see `state.State.stopped` for why that matters. Raises
        StoreFailed also where the disk refuses writes: nothing is taken then.
        """
        if self._failed is not None:
            raise StoreFailed(self._failed)
        value = self._source(source)
        self._state.stopped.discard(source)
        return 0 if value is None else value.next

    def history_of(self, source: str) -> tuple[int, str]:
        """The number expected next of a source, 0 where it was never seen, and which opening of
        its sender's store sent what is before that, "" if unknown. Nobody is welcomed by it.
        """
        value = self._source(source)
        return (0, "") if value is None else (value.next, value.opening)

    def owner_of(self, source: str) -> str | None:
        """The identity that alone may use a source; None where it belongs to nobody.

        Raises StoreFailed also where the disk refuses writes: nothing is taken then.
        """
        if self._failed is not None:
            raise StoreFailed(self._failed)
        value = self._source(source)
        return None if value is None else value.owner

    def _source(self, source: str) -> SourceValue | None:
        key = keys.source_key(source)

        def question(txn: lmdb.Transaction[memoryview]) -> SourceValue | None:
            raw = txn.get(key)
            return None if raw is None else decode(key, raw, SourceValue)

        return self._ask(question)

    def places_left(self) -> int:
        """How many more sources there may be, whosever they are."""
        return self.settings.sources_max - self._state.sources

    def lacking_place(self, owner: str | None, share: int) -> StoreFull | None:
        """Why an identity gets no place for one more source, where that was found out lately: it
        is worth no commit to find it out again.
        """
        lacking = Lacking(owner or "", min(share or self.settings.sources_max,
                                           self.settings.sources_max))  # fmt: skip
        looked, now_ns = self._tools.looked.get(lacking), self._clock.read().boot_ns
        if looked is None or abs(now_ns - looked) >= LOOK_EVERY_NS:
            return None
        refusal = no_place(lacking, self._state, self.settings.sources_max)
        if refusal is not None:
            self._tools.lacking[lacking] = now_ns
        return refusal

    def sources(self) -> list[SourceView]:
        """Every source, by name."""
        return self._ask(read_sources)

    def quarantine(self, after: int, limit: int) -> list[tuple[int, Quarantined]]:
        """Up to ``limit`` entries numbered above ``after``, oldest first."""
        return self._ask(lambda txn: read_quarantine(txn, after, limit, self.settings.keys))

    def newest_quarantine(self, limit: int) -> list[tuple[int, Quarantined]]:
        """Up to ``limit`` entries, newest first."""
        return self._ask(lambda txn: read_newest_quarantine(txn, limit, self.settings.keys))

    def clock_number(self) -> int:
        """The number of the newest clock note, 0 before the first."""
        return self._state.clocks.number

    def clock_offsets(self) -> Offsets:
        """What corrections of times are made by, as of now."""
        return self._state.clocks.offsets

    def clock_news(self, notes: Sequence[ClockNote]) -> list[ClockNote]:
        """Those of ``notes`` that say something new, as of now."""
        return self._state.clocks.news(notes)

    def clock_notes(self, after: int) -> list[tuple[int, ClockNote]]:
        """What other agents need to know of clocks: notes numbered above ``after``, in order."""
        return self._state.clocks.after(after)

    def statistics(self) -> StoreStatistics:
        """Sizes and counters now."""
        page_bytes, now_ns = self._tools.page_bytes, self._clock.read().boot_ns
        lacking = {
            one.owner: one.share
            for one, when_ns in list(self._tools.lacking.items())
            if abs(now_ns - when_ns) <= LACKING_NS
        }
        return self._ask(
            lambda txn: statistics_of(
                txn, self._state, self.settings, page_bytes, self._keeper, lacking
            )
        )
