"""The bridge: how far the upstream has come for which acknowledgements to other agents wait.

A hub acknowledges what other agents send it once that is synced on its own disk. With ``bridge =
true`` on one of its upstreams it acknowledges later: once that upstream has it, too. So a hub whose
disk goes with its machine loses nothing that anybody else has thrown away.

`UpstreamBridge` is what the forwarder (which tells how far the upstream has come, `reached`) and
the sessions of agents (which wait for that) know of one another. All of it is in memory: after a
start the forwarder tells the durable position, which is what the upstream has acknowledged.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Protocol

import trio

Marks = Mapping[str, int]
"""By log: the seq that the upstream has to have come to."""


class Waiting(Protocol):
    """Somebody who waits for the upstream."""

    def come(self) -> None:
        """The upstream has come to what was waited for, or another one is to. Called once for each
        `UpstreamBridge.call`.
        """
        ...


class UpstreamBridge:
    """See the module. One for the agent, whether or not it bridges.

    Attributes:
        upstream: name of the upstream that bridges; "" while none does.
        is_whole: whether it is sent everything, so that what is acknowledged outlives this store.
        records: how many numbers of other agents are stored here and not acknowledged for it.
        turned_away: how many agents were asked to come back since the upstream last got on.
    """

    def __init__(self) -> None:
        self.upstream, self.is_whole = "", False
        self.records = self.turned_away = 0
        self._logs: frozenset[str] = frozenset()
        self._floors: dict[str, int] = {}
        #: By log: (seq, order, who), the least seq first.
        self._waiting: dict[str, list[tuple[int, int, Waiting]]] = {}
        self._order = count()
        self._newcomers = trio.lowlevel.ParkingLot()

    def choose(self, upstream: str, logs: Sequence[str] = (), *, is_whole: bool = False) -> None:
        """From now on this upstream bridges these logs; "" for none. Who waited for another one
        waits for this one, or no longer.
        """
        self.is_whole = is_whole
        if (upstream, frozenset(logs)) == (self.upstream, self._logs):
            # How far it has come is known: one that rests would not tell it again.
            return
        self.upstream, self._logs, self.turned_away = upstream, frozenset(logs), 0
        self._floors = {}
        waiting, self._waiting = self._waiting, {}
        for heap in waiting.values():
            for _, _, who in heap:
                who.come()
        self._newcomers.unpark_all()

    def reached(self, log: str, floor: int) -> None:
        """The forwarder's: the upstream has everything of ``log`` up to ``floor``. It may be less
        than before, where a person has moved the position or the upstream has lost something.
        """
        if floor == self._floors.get(log):
            return
        self._floors[log] = floor
        self.turned_away = 0
        heap = self._waiting.get(log, [])
        while heap and heap[0][0] <= floor:
            heapq.heappop(heap)[2].come()
        self._newcomers.unpark_all()

    def lacks(self, marks: Marks) -> tuple[str, int] | None:
        """One log, with its mark, that the upstream has not come to; None where it has come to all.
        A log that it is not sent is waited for by nobody.
        """
        for log, seq in marks.items():
            if log in self._logs and self._floors.get(log, 0) < seq:
                return log, seq
        return None

    def call(self, log: str, seq: int, who: Waiting) -> None:
        """Call ``who.come`` when the upstream has come to that seq."""
        heapq.heappush(self._waiting.setdefault(log, []), (seq, next(self._order), who))

    async def passed(self, marks: Marks, within_s: float) -> bool:
        """Wait until the upstream has come to all of them; False where it has not in that time."""
        with trio.move_on_after(within_s):
            while self.lacks(marks) is not None:
                await self._newcomers.park()
        if self.lacks(marks) is None:
            return True
        self.turned_away += 1
        return False
