"""The scrub: a slow pass over the whole store, again and again, so that damage is found early.

Checksums are checked on every read, but what nobody reads may lie damaged for weeks. One pass takes
``store.scrub_interval``; it reads a piece, then rests for as long as that piece is of the interval.
A block that fails is counted once, told once, and its facts and first bytes are put in quarantine
(code ``damaged_block``); readers get a gap there. Progress is kept in memory: after a restart a
pass begins anew, and what quarantine already tells of is not told again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import trio

from edge_agent.errors import StoreError
from edge_agent.log import Log
from edge_agent.metrics import Metrics
from edge_agent.store import DamagedBlock, Entry, Quarantined, ScrubStep
from edge_agent.system.clock import Clock

logger = logging.getLogger(__name__)

#: What one step reads: 10 ms of a small board, with the disk.
STEP_BYTES = 256 * 1024
#: Between two steps, in seconds: no busy loop on a full store, and a small one is not read at once.
REST_MIN, REST_MAX = 0.05, 3600.0
#: After the disk refused.
RETRY_S = 60.0
CODE = "damaged_block"
#: Damaged blocks that are remembered, so that each is told once.
_KNOWN_MAX = 10_000
_PAGE_OF_ENTRIES = 100


@dataclass(frozen=True, slots=True)
class ScrubStatus:
    """``finished_ns``: when the last whole pass ended, 0 before. ``blocks`` were checked since then
    or, with ``last_blocks``, in it. ``damaged`` since the start of the agent.
    """

    finished_ns: int = 0
    last_blocks: int = 0
    blocks: int = 0
    damaged: int = 0


class Scrubber:
    """The task, and what it has found so far."""

    def __init__(self, log: Log, interval_s: float, clock: Clock, metrics: Metrics) -> None:
        self.status = ScrubStatus()
        self._log, self._interval_s = log, interval_s
        self._clock, self._metrics = clock, metrics
        self._known: set[str] | None = None

    async def run(self) -> None:
        """Pass after pass, until cancelled; returns at once where the scrub is off."""
        while self._interval_s > 0:
            began = trio.current_time()
            try:
                await self._pass()
            except StoreError as error:
                logger.info("the scrub waits: %s", error)
                await trio.sleep(RETRY_S)
                continue
            # What is left of the interval; a whole step's rest for a store without anything.
            await trio.sleep(max(began + self._interval_s - trio.current_time(), REST_MIN))

    async def _pass(self) -> None:
        size = max((await self._log.store_statistics()).used_bytes, STEP_BYTES)
        after = b""
        blocks = 0
        while True:
            await trio.sleep(self._rest(STEP_BYTES, size))
            step = await self._log.scrub(after, STEP_BYTES)
            blocks += step.blocks
            await self._tell(step)
            now = self.status
            self.status = ScrubStatus(now.finished_ns, now.last_blocks, blocks, now.damaged)
            after = step.after
            if not after and step.read_bytes:
                break
        now_ns = self._clock.read().wall_ns
        self.status = ScrubStatus(now_ns, blocks, 0, self.status.damaged)

    def _rest(self, read_bytes: int, size: int) -> float:
        return min(max(self._interval_s * read_bytes / size, REST_MIN), REST_MAX)

    async def _tell(self, step: ScrubStep) -> None:
        for block in step.damaged:
            reason = (
                f"log {block.log}: block {block.first} to {block.last} fails its checksum"
                f" ({block.value_bytes} bytes)"
            )
            known = await self._already_told()
            if reason in known or len(known) >= _KNOWN_MAX:
                continue
            await self._set_aside(block, reason)
            known.add(reason)

    async def _set_aside(self, block: DamagedBlock, reason: str) -> None:
        """Put it in quarantine; it is counted and told once it is there, and until then found again
        by the next pass.
        """
        stored_ns = self._clock.read().wall_ns
        entry = Quarantined(CODE, reason, "", "", block.first, stored_ns, block.begin)
        ticket = await self._log.append(Entry(quarantine=(entry,)))
        await ticket.wait()
        now, records = self.status, block.last - block.first + 1
        self.status = ScrubStatus(now.finished_ns, now.last_blocks, now.blocks, now.damaged + 1)
        self._metrics.add("records_damaged_total", records, block.log)
        logger.error("%s; it is set aside, everything else can be read", reason)

    async def _already_told(self) -> set[str]:
        """The reasons of entries that earlier runs put in quarantine."""
        if self._known is None:
            known: set[str] = set()
            after = 0
            while found := await self._log.quarantine(after, _PAGE_OF_ENTRIES):
                known |= {entry.reason for _, entry in found if entry.code == CODE}
                after = found[-1][0]
            # Only when all is read: half of it would tell the other half's blocks again.
            self._known = known
        return self._known
