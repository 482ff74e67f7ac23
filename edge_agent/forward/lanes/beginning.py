"""This module says where a lane begins: where it was, or where its upstream wants to begin.

What ``start`` says is decided once, durably, when the upstream is there for the first time; after
that there is a position, and the key means nothing any more.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from edge_agent.config import Upstream
from edge_agent.forward.sinks.agent.resume import moved
from edge_agent.log import Log
from edge_agent.store import ConsumerView, Position
from edge_agent.system.clock import Clock
from edge_agent.values.moments import parse_moment
from edge_agent.values.record import TIME_NS_MAX

logger = logging.getLogger(__name__)


async def beginning(
    upstream: Upstream, log: Log, name: str, consumer: str, clock: Clock
) -> ConsumerView:
    """What is durable of a consumer of the log ``name``, or is from now on.

    Raises:
        StoreError: the store cannot be read, or would have to be written.
    """
    for held in await log.consumers():
        if (held.consumer, held.log) != (consumer, name):
            continue
        return replace(held, floor=await not_past_end(log, name, consumer, held.floor))
    floor, state = 0, None
    if upstream.start == "oldest":
        await log.acknowledge(Position(consumer, name, 0))
    else:
        floor = last = log.last_seq(name)
        if upstream.start != "now":
            # An age may reach back before 1970.
            now_ns = clock.read().wall_ns
            moment = parse_moment(upstream.start, now_ns, lowest_ns=-TIME_NS_MAX)
            floor = min(await log.read_near(name, moment) - 1, last)
        state = moved(None)
        position = Position(consumer, name, floor, state)
        await log.acknowledge(position, durable=True, soon=True)
        logger.info("%s begins behind %s %d", consumer, name, floor)
    return ConsumerView(consumer, name, floor, state, False, 0)


async def not_past_end(log: Log, name: str, consumer: str, floor: int) -> int:
    """``floor``, or the end of the log ``name`` where that is before it: made durable then.

    The store was salvaged and lost its end, and what comes now takes those numbers again.
    """
    last = log.last_seq(name)
    if floor <= last:
        return floor
    logger.warning("%s: the log %s ends at %d, before %d", consumer, name, last, floor)
    await log.acknowledge(Position(consumer, name, last, rewind=True), durable=True)
    return last
