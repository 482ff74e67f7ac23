"""This module gathers what the store tells about itself, as one frozen snapshot."""

from __future__ import annotations

from dataclasses import dataclass, field

import lmdb

from edge_agent.store.clock.timekeeper import Timekeeper
from edge_agent.store.commit.state import State
from edge_agent.store.read.cursor import oldest_ns
from edge_agent.store.settings import StoreSettings

#: For so long health tells of who found no place for a source.
LACKING_NS = 600 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class LogStatistics:
    """One log. ``bytes`` of the file, of which it may have ``share_bytes``; ``trimmed``,
    ``discarded`` and ``thinned`` (to ``aggregates``) are records since the store was made;
    ``oldest_stored_ns`` is 0 when empty.
    """

    records: int
    bytes: int
    share_bytes: int
    first: int
    last: int
    oldest_stored_ns: int
    trimmed: int
    discarded: int
    thinned: int
    aggregates: int


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """The store: ``size`` bytes reserved, ``used_bytes`` in pages that hold something.

    ``clock_steps``: steps of the wall clock noticed since the start. ``clock_doubt_ns``: by how
    much the clock, said to be set, contradicts what is known; 0 while it does not. ``sources_of``:
    how many sources each identity has, "" for those that belong to nobody; ``lacking``: identities
    that found no place for one more in the last `LACKING_NS`, with what each may have. ``key_id``:
    of the key that seals, "" where nothing is sealed. ``page_bytes``: what the file is written in,
    a page of memory where it was made.
    """

    size: int
    used_bytes: int
    logs: dict[str, LogStatistics]
    quarantine_entries: int
    quarantine_bytes: int
    quarantine_dropped: int
    sources: int
    clock_steps: int
    clock_doubt_ns: int = 0
    sources_max: int = 0
    sources_of: dict[str, int] = field(default_factory=dict)
    lacking: dict[str, int] = field(default_factory=dict)
    key_id: str = ""
    page_bytes: int = 0


def statistics_of(
    txn: lmdb.Transaction[memoryview],
    state: State,
    settings: StoreSettings,
    page_bytes: int,
    keeper: Timekeeper,
    lacking: dict[str, int],
) -> StoreStatistics:
    """The snapshot; reads one page per log and the root."""
    logs: dict[str, LogStatistics] = {}
    for name, header in state.logs.items():
        logs[name] = LogStatistics(
            header.records,
            header.bytes,
            settings.share_bytes(name),
            header.first,
            header.last,
            oldest_ns(txn, header, state.clocks.offsets),
            header.trimmed,
            header.discarded,
            header.thinned,
            header.aggregates,
        )
    pages = txn.stat()
    used = pages["branch_pages"] + pages["leaf_pages"] + pages["overflow_pages"] + 2
    quarantine = state.quarantine
    return StoreStatistics(
        settings.map_size,
        used * page_bytes,
        logs,
        quarantine.entries,
        quarantine.bytes,
        quarantine.dropped,
        state.sources,
        keeper.watch.steps,
        keeper.doubt_ns,
        settings.sources_max,
        {owner: held for owner, held in state.shares.items() if held > 0},
        lacking,
        settings.keys.current.hex(),
        page_bytes,
    )
