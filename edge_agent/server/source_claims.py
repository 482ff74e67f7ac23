"""A claim lets only one connection at a time speak for a source.

A sensor that lost its connection comes back long before we notice that the old one is dead. So a
second hello takes over: the old connection is closed (4409) and nothing more is read from it, what
it had appended settles, and only then may the new one ask for ``next``. `Claim` is the right to
append as a source.

Two senders under one name would take over from each other without end. They are told apart from a
bad network by their pace: each takeover soon after another waits longer, and is logged. It is the
newcomer that waits, and the holder works on meanwhile: were the holder thrown out first, two that
come back at once would throw each other out while they wait, and neither would ever be served.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from edge_agent.metrics import Metrics

logger = logging.getLogger(__name__)

#: A takeover within this time after another one of the same source is a repeated one.
REPEATED_WITHIN_S = 60.0
#: Wait before the second takeover in a row; doubles up to the maximum, which stays below the time
#: that clients wait for a welcome: one that gives up has to wait again.
SLOW_BASE_S = 0.25
SLOW_MAX_S = 5.0
#: Sources whose last takeover is remembered.
REMEMBERED_MAX = 1024


@dataclass(eq=False, slots=True)
class Claim:
    """The right of one connection, of ``identity``, to append as ``source``."""

    source: str
    interrupt: Callable[[], None]
    identity: str = ""
    pause: float = 0.0
    earlier: list[Claim] = field(default_factory=list)
    released: trio.Event = field(default_factory=trio.Event)


class Claims:
    """Who appends as whom."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._holders: dict[str, Claim] = {}
        self._takeovers: dict[str, tuple[int, float]] = {}  # source: how many in a row, when last

    def take(self, source: str, interrupt: Callable[[], None], identity: str = "") -> Claim:
        """Claim ``source``. `settled` has to be awaited before anything is appended, `release`
        called in the end.

        ``interrupt`` is called when a newer claim takes over, maybe more than once; the claim
        should then be released as soon as what was appended under it has settled.
        """
        claim = Claim(source, interrupt, identity)
        old = self._holders.get(source)
        self._holders[source] = claim
        if old is not None:
            claim.earlier = [*old.earlier, old]
            claim.pause = self._pause(source)
        return claim

    async def settled(self, claim: Claim) -> None:
        """Take over, and wait until every earlier claim has been released."""
        if claim.pause:
            with trio.move_on_after(claim.pause):
                await self._released(claim)
        if any(not each.released.is_set() for each in claim.earlier):
            self._note_takeover(claim.source)
            for each in claim.earlier:
                each.interrupt()
        await self._released(claim)

    def is_held(self, source: str) -> bool:
        """Whether somebody appends as ``source``. May be asked from any thread."""
        return source in self._holders

    def holder(self, source: str) -> str | None:
        """The identity that appends as ``source``, or is about to; None for nobody."""
        claim = self._holders.get(source)
        return None if claim is None else claim.identity or None

    def release(self, claim: Claim) -> None:
        """Nothing more will be appended under ``claim``, and all that was has its answer."""
        if self._holders.get(claim.source) is claim:
            del self._holders[claim.source]
            # We may have been interrupted while we waited: whoever comes next waits for them.
            if left := [each for each in claim.earlier if not each.released.is_set()]:
                self._holders[claim.source] = left[-1]
        claim.released.set()

    async def _released(self, claim: Claim) -> None:
        while claim.earlier:
            await claim.earlier[0].released.wait()
            del claim.earlier[0]

    def _pause(self, source: str) -> float:
        count, since = self._takeovers.get(source, (0, 0.0))
        if count == 0 or trio.current_time() - since >= REPEATED_WITHIN_S:
            return 0.0
        return float(min(SLOW_BASE_S * 2 ** min(count - 1, 16), SLOW_MAX_S))

    def _note_takeover(self, source: str) -> None:
        self._metrics.add("takeovers_total")
        now = trio.current_time()
        count, since = self._takeovers.pop(source, (0, now))
        count = count + 1 if now - since < REPEATED_WITHIN_S else 1
        while len(self._takeovers) >= REMEMBERED_MAX:
            del self._takeovers[next(iter(self._takeovers))]
        self._takeovers[source] = (count, now)
        if count > 1:
            logger.warning(
                "source %s was taken over %d times in a row: do two senders use this name? "
                "The next one waits %.2f s",
                source,
                count,
                self._pause(source),
            )
