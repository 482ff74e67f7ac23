"""A lane's first steps where a keyed upstream does not take a batch, before it waits.

The reason may lie in one record, in the compression, or in the size: `got_past` finds out which
(``diagnosis.py`` tries others), and makes the batch smaller or sends it uncompressed from then on.
"""

from __future__ import annotations

from edge_agent.config import Upstream
from edge_agent.errors import SinkRefused, SinkUnavailable
from edge_agent.forward.batches.open_reader import OpenBatches
from edge_agent.forward.batches.planned_reader import PlannedBatches, SinkMisconfigured
from edge_agent.forward.lanes.diagnosis import Blame, Diagnosis, is_cut, may_be_content
from edge_agent.forward.lanes.journal import Journal
from edge_agent.forward.lanes.lane_state import Standing
from edge_agent.forward.sink import Batch


class KeyedTrouble:
    """One lane's; of a lane that is not keyed nobody asks it anything."""

    def __init__(
        self,
        upstream: Upstream,
        batches: OpenBatches | PlannedBatches,
        diagnosis: Diagnosis,
        journal: Journal,
        standing: Standing,
    ) -> None:
        self._upstream, self._some_batches, self._diagnosis = upstream, batches, diagnosis
        self._journal, self._standing = journal, standing

    async def got_past(self, batch: Batch, error: SinkUnavailable) -> bool | SinkRefused:
        """Whether there is a way on at once, after a batch did not get through; or that it is the
        content of the batch which is refused.
        """
        batches = self._batches
        if is_cut(error):
            if await batches.cut(batch, error.sent_bytes, at_once=error.halve):
                self._standing.failures = 0
                text = f"{batch.last - batch.first + 1} records ({error.sent_bytes} bytes) do not"
                self._journal.noted("halved", f"{text} get through, so less is sent: {error}")
                return error.halve
            if not batches.suspects():
                return False
            refusal = SinkRefused(f"cut off again and again: {error}", "cut")
        elif may_be_content(error):
            refusal = SinkRefused(str(error))
        else:
            return False
        refusal.status, refusal.sent_bytes = error.status, error.sent_bytes
        floor, streams = self._standing.floor, batches.streams_of(batch)
        verdict = await self._diagnosis.judge(batch, floor, streams, plain=batches.plain)
        if verdict is Blame.CONTENT:
            return refusal
        if verdict is Blame.COMPRESSION:
            await self.use_plain()
            return True
        error.args = (f"{batches.named(batch, str(error))}; {self._diagnosis.tried}",)
        return False

    async def acquit(self, error: SinkMisconfigured) -> None:
        """So many single records were refused in a row that the configuration must be wrong, unless
        others are taken.

        Raises:
            SinkMisconfigured: no other is taken.
        """
        batches, floor = self._batches, self._standing.floor
        refused = batches.refused_streams
        verdict = await self._diagnosis.judge(None, floor, refused, plain=batches.plain)
        if verdict is Blame.UNKNOWN:
            raise SinkMisconfigured(f"{error}; {self._diagnosis.tried}") from error
        if verdict is Blame.COMPRESSION:
            await self.use_plain()
        batches.acquit()

    async def use_plain(self) -> None:
        """The upstream takes what is not compressed, and refuses the same compressed."""
        await self._batches.use_plain()
        how = self._upstream.compression
        text = f'takes no {how}: sent uncompressed from now on (compression = "none" says the same)'
        self._journal.noted("plain", text)

    @property
    def _batches(self) -> PlannedBatches:
        assert isinstance(self._some_batches, PlannedBatches)
        return self._some_batches
