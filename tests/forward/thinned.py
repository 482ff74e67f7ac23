"""Blocks as a full log leaves them, made by what makes them there."""

from __future__ import annotations

from edge_agent.store import Block, ConsumerSettings, LogSettings, StoreSettings, encode_runs
from edge_agent.store.thinning.aggregate import aggregate
from edge_agent.values.record import Origin, Run
from tests.forward.support import NOW_NS, Station, make_run
from tests.manual_clock import ManualClock

BOOT = bytes(16)
THIN = StoreSettings(
    size=1024 * 1024,
    logs=(LogSettings("main", share=0.3, when_full="thin-oldest"),),
    consumers=(ConsumerSettings("upstream/hub", "main"),),
)


async def fill(station: Station, *, blocks: int = 500) -> None:
    """Thirty records a second, until the older ones have been thinned."""
    assert isinstance(station.clock, ManualClock)
    for n in range(blocks):
        station.clock.advance(1.0)
        await station.arrive(60, start=60 * n)
    while (result := station.engine.trim()).thinned:
        assert not result.discarded


def plain_block(first: int, *runs: Run, origin: Origin | None = None) -> Block:
    """As it was committed."""
    raw = encode_runs(runs)
    count = sum(run.count for run in runs)
    return Block(
        "main", first, count, 0, len(raw), raw, BOOT, 7, NOW_NS, True, NOW_NS, NOW_NS, origin
    )


def thinned_block(first: int, *runs: Run, origin: Origin | None = None) -> Block:
    """What a block of these runs became."""
    made = aggregate([plain_block(first, *runs, origin=origin)], 256 * 1024)
    assert made is not None
    return Block(
        "main", first, made.count, 0, len(made.raw), made.raw, BOOT, 7, NOW_NS, True,
        made.time_min_ns, made.time_max_ns, made.origin, made.covers,
    )  # fmt: skip


def ten_of_two_streams(first: int, *, origin: Origin | None = None) -> Block:
    """Ten numbers, two aggregates: the fourth stands for four records, the tenth for six."""
    return thinned_block(first, make_run("t/1", 4), make_run("t/2", 6, 4), origin=origin)
