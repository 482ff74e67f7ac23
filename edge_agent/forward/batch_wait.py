"""This module waits until a batch is full, or its first record was stored long enough ago."""

from __future__ import annotations

from math import inf

import trio

from edge_agent.config import Upstream
from edge_agent.log import Log
from edge_agent.store import Block, Gap
from edge_agent.system.clock import Clock, Reading
from edge_agent.values.record import NANOSECONDS


async def wait_for_batch(
    log: Log, name: str, cursor: int, upstream: Upstream, clock: Clock
) -> None:
    """Wait for a record past ``cursor``, then for a full batch or until it is old enough."""
    last = await log.wait_past(name, cursor)
    if last - cursor >= upstream.batch_records or not upstream.batch_wait:
        return
    # How long it has been stored counts, so that nothing of a backlog waits.
    first = (await log.read(name, cursor, 1))[:1]
    wait = upstream.batch_wait - _age_s(first[0], clock.read()) if first else 0.0
    if wait > 0:
        with trio.move_on_after(wait):
            await log.wait_past(name, cursor + upstream.batch_records - 1)


def age_s(item: Block | Gap, now: Reading) -> float | None:
    """Seconds since it was committed; None where the clocks cannot tell, and of a gap."""
    if isinstance(item, Gap):
        return None
    if item.boot_id == now.boot_id:
        return (now.boot_ns - item.boot_ns) / NANOSECONDS
    if now.synced and (item.synced or item.correction is not None):
        return (now.wall_ns - item.when_ns) / NANOSECONDS
    return None


def _age_s(item: Block | Gap, now: Reading) -> float:
    """Since its commit, on the boot clock; what an earlier boot stored is old."""
    if isinstance(item, Gap) or item.boot_id != now.boot_id:
        return inf
    return (now.boot_ns - item.boot_ns) / NANOSECONDS
