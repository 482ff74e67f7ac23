"""Forgetting sources that have not been heard for long, so that their number stays bounded."""

from __future__ import annotations

import lmdb

from edge_agent.errors import StoreDamaged
from edge_agent.store import keys
from edge_agent.store.settings import Moment, StoreSettings
from edge_agent.store.stamp import writing
from edge_agent.store.values import SourceValue, decode

#: Between two sweeps on the boot clock; each reads every source's value once.
SWEEP_EVERY_NS = 600 * 1_000_000_000
#: Sources that one sweep forgets at most, in one transaction.
SWEEP_MAX = 1_000


def forget(env: lmdb.Environment, settings: StoreSettings, moment: Moment) -> int:
    """Forget the sources unseen for ``source_forgotten_s``; how many those were.

    Only by clocks that were synced when the source was last heard; the caller knows that the
    clock is right now. A source that comes back is new, and its numbering starts where it says.
    """
    limit_ns = moment.wall_ns - int(settings.source_forgotten_s * 1e9)
    old: list[bytes] = []
    with env.begin() as txn:
        cursor = txn.cursor()
        cursor.set_range(keys.SOURCE)
        for key, raw in cursor.iternext():
            if not key.startswith(keys.SOURCE) or len(old) >= SWEEP_MAX:
                break
            try:
                value = decode(key, raw, SourceValue)
            except StoreDamaged:
                old.append(key)
                continue
            if value.synced and value.seen_ns < limit_ns:
                old.append(key)
    if old:
        with writing(env) as txn:
            for key in old:
                txn.delete(key)
    return len(old)
