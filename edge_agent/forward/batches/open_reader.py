"""This module reads the log for a lane, in batches of ``batch_bytes``, in order, without a hole.

`OpenBatches` reads on from a cursor and forgets: for sinks whose upstream keeps the numbers itself.
For keyed sinks there is `planned_reader.PlannedBatches`, with the same methods.
"""

from __future__ import annotations

from edge_agent.config import Upstream
from edge_agent.errors import SinkRefused
from edge_agent.forward.batch_wait import wait_for_batch
from edge_agent.forward.max_age import without_expired
from edge_agent.forward.sink import Batch
from edge_agent.log import Log
from edge_agent.system.clock import Clock

#: One read of the store; what a read transaction may copy at a time. Some three messages to a hub:
#: a larger read would be a longer wait between two of them, and more memory.
READ_BYTES = 256 * 1024


class OpenBatches:
    """Reads on from a cursor."""

    def __init__(
        self, upstream: Upstream, log: Log, name: str, clock: Clock, consumer: str = ""
    ) -> None:
        self._upstream, self._log, self._name, self._clock = upstream, log, name, clock
        self._consumer = consumer or upstream.consumer
        self._cursor = 0

    def resume(self, next_seq: int) -> None:
        """Begin at ``next_seq``."""
        self._cursor = next_seq - 1

    async def next(self) -> Batch:
        """The next batch, at most ``batch_bytes`` as stored."""
        limit = min(READ_BYTES, self._upstream.batch_bytes)
        while True:
            await wait_for_batch(self._log, self._name, self._cursor, self._upstream, self._clock)
            self._log.note_handed(self._consumer, self._name, self._cursor)
            items = await self._log.read(self._name, self._cursor, limit)
            if items:
                items = without_expired(items, self._clock.read(), self._upstream.max_age)
                self._log.note_handed(self._consumer, self._name, items[-1].last)
                return Batch(self._name, self._cursor + 1, items[-1].last, tuple(items))

    def sent(self, batch: Batch, sent_bytes: int = 0) -> None:
        """The sink has taken the batch: the next one follows it."""
        self._cursor = batch.last

    async def refused(self, batch: Batch, refusal: SinkRefused) -> tuple[int, int]:
        """Not for these sinks: their upstream sets aside what it cannot use, and says so."""
        raise AssertionError(f"a sink that is not keyed refused {batch.first}: {refusal}")

    @property
    def exhausted(self) -> bool:
        """Never: see `refused`."""
        return False
