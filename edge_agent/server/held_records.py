"""Leaves out of what an agent sends once more what is here already.

``edge-agent upstream resend`` sends records of a time that has gone by, to a hub that may have had
minute means of them, or some of them, or all. Its session is a source of its own, so the numbers of
that session make it exactly once in itself, and say nothing of what came before under another name:
live, as a backlog, from a stick, or by an earlier order. What says it is the origin of each block.
So the log is read from where the first such record can be, once for each session, and what is found
of the agent that sends is not stored a second time. Aggregates (`edge_agent.store.thinning`) and
what rules made of the records are other records, and no reason to leave one out.

It costs one pass over the blocks of that time and of what came since: a second for some 30,000
blocks. Only blocks that passed the agent that sends are opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from edge_agent.errors import StoreDamaged
from edge_agent.log import READ_BYTES, Log
from edge_agent.store import Block, Gap, HeldRanges
from edge_agent.values.record import ForeignBlock

#: Ranges that one session may have found: some 100 MB in the worst case.
RANGES_MAX: Final = 1_000_000


class TooManyRanges(Exception):
    """What is here lies scattered over too many ranges: a shorter time would do."""


class HeldRecords:
    """What is here of what ``agent`` has sent or passed on; for one session."""

    def __init__(self, log: Log, agent: str) -> None:
        self._log, self._agent = log, agent
        self._ranges = HeldRanges()
        #: By log: what is behind this was looked at.
        self._from: dict[str, int] = {}

    async def look(self, blocks: Sequence[ForeignBlock]) -> None:
        """Look for what is here of the times of ``blocks``, as far as that was not done yet.

        Raises:
            StoreFailed: the log cannot be read.
            TooManyRanges: as it says.
        """
        if not blocks:
            return
        begin_ns = min(block.time_min_ns for block in blocks)
        for name in self._log.names():
            cursor = begin = max(await self._log.read_near(name, begin_ns) - 1, 0)
            end = self._from.get(name, self._log.last_seq(name))
            while cursor < end:
                items = await self._log.read(name, cursor, READ_BYTES)
                if not items:
                    break
                await self._log.run_blocking(self._note, items, end)
                cursor = items[-1].last
                if self._ranges.count > RANGES_MAX:
                    raise TooManyRanges
            self._from[name] = min(begin, end)

    def lacking(self, block: ForeignBlock) -> ForeignBlock | None:
        """What is not here of a checked block that was looked for; None where all is."""
        return self._ranges.lacking(block)

    def _note(self, items: Sequence[Block | Gap], end: int) -> None:
        for item in items:
            if isinstance(item, Gap) or item.origin is None or item.first > end:
                continue
            if self._agent in item.origin.path:
                try:
                    self._ranges.note(item)
                except StoreDamaged:
                    continue  # It cannot be read here, so it is not here.
