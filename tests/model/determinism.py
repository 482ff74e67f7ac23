"""The same run twice: Trio's scheduler seeded, its clock mocked, and everything else passed in.

Trio shuffles the tasks that are ready in one tick on purpose, with a generator of its own. The
two names touched here are not public, but they are the ones that Trio offers for exactly this
(its pytest and Hypothesis plugins set them too); `run_seeded` is the only place that knows them.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

import trio
import trio._core._run as scheduler
from trio.testing import MockClock

from edge_agent.system.clock import Reading

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

EPOCH_NS = 1_795_341_600_000_000_000


class SimulatedClock:
    """The agent's clocks, all of them driven by Trio's mock clock."""

    def read(self) -> Reading:
        """Wall and boot clock move with Trio's; always the same boot, always synced."""
        elapsed_ns = round(trio.current_time() * 1e9)
        return Reading(EPOCH_NS + elapsed_ns, 1_000_000_000 + elapsed_ns, b"\x01" * 16, True)


async def run_inline(function: Callable[[*Ts], T], /, *arguments: *Ts) -> T:
    """In place of a worker thread: the store is called on the spot, after one checkpoint."""
    await trio.lowlevel.checkpoint()
    return function(*arguments)


def run_seeded(seed: int, main: Callable[[random.Random], Awaitable[T]]) -> T:
    """``trio.run`` with an autojump clock and a scheduler whose choices follow from ``seed``."""
    before = scheduler._ALLOW_DETERMINISTIC_SCHEDULING
    state = scheduler._r.getstate()
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]  # Final, but for this
    scheduler._r.seed(seed)
    try:
        return trio.run(main, random.Random(seed), clock=MockClock(autojump_threshold=0))
    finally:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = before  # type: ignore[misc]  # as above
        scheduler._r.setstate(state)
