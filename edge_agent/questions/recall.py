"""Gives the log's records back from history, for an upstream that is sent them once more.

A log is trimmed long before history is, and history keeps whole records: who sent them, when, their
seq and their number. So what `edge_agent.forward.lanes.resend` no longer finds in its log, it is
given by this module as blocks like the log's, which say of each record what they said the first
time. Only when it was stored is not kept: a block's newest record stands for that.

History is read by the process that answers questions (`edge_agent.questions.asking`), in steps of a
second and pieces of some hundred KB, between which people's questions come; here they are only
wrapped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import trio

from edge_agent.errors import ProtocolError, StoreFailed
from edge_agent.forward import RecallSurvey, ResendOrder
from edge_agent.history import Recall, RecalledBlock
from edge_agent.questions.asking import Asker, HistoryAnswer
from edge_agent.store import Block, Correction, Gap
from edge_agent.values.record import Origin

_BLOCKS = msgspec.msgpack.Decoder(list[RecalledBlock])
#: Of no boot is it known when what history keeps was stored.
_NO_BOOT = bytes(16)


class HistoryRecall:
    """What one agent's history gives back."""

    def __init__(self, asker: Asker) -> None:
        self._digester, self._asker = asker.digester, asker

    async def survey(
        self, log: str, upto: int, order: ResendOrder, within_s: float
    ) -> RecallSurvey | None:
        """What history has of an order's records up to a seq; None where that is not known after so
        many seconds: whoever asks again goes on from there.

        Raises:
            StoreFailed: history cannot be read; the text says why.
        """
        wanted = await self._wanted(log, 0, upto, order, 0)
        until = trio.current_time() + within_s
        while True:
            answer = await self._step(wanted)
            if answer is not None:
                return RecallSurvey(**answer.rest)
            if trio.current_time() > until:
                return None

    async def read(
        self, log: str, after: int, upto: int, order: ResendOrder, limit_bytes: int
    ) -> list[Block | Gap]:
        """The order's records from behind ``after`` on, as `edge_agent.log.Log.read` gives them: at
        least one item, none beyond ``upto``, with gaps in the place of what is not meant.

        Raises:
            StoreFailed: history cannot be read; the text says why.
        """
        wanted = await self._wanted(log, after, upto, order, max(limit_bytes, 1))
        answer = None
        while answer is None:
            answer = await self._step(wanted)
        blocks = [block for piece in answer.pieces for block in _BLOCKS.decode(piece)]
        return list(_items(log, after, answer.rest["upto"], blocks))

    async def _wanted(
        self, log: str, after: int, upto: int, order: ResendOrder, limit_bytes: int
    ) -> Recall:
        if self._digested(log) < upto:
            # Only then: who waits for history lets it work through, whatever comes in.
            await self._digester.catch_up()
        digested = self._digested(log)
        if digested < upto:
            raise StoreFailed(
                f"history has taken up log {log} to {digested} of {upto}; the rest waits for the"
                " clock to be set, or to be read"
            )
        history = self._digester.history
        written = 0 if history is None else history.file.header.positions.get(log, 0)
        if limit_bytes and after < written < upto:
            # What is not written yet has to be sent along with each question about it.
            upto = written
        span = (order.from_ns, order.to_ns)
        return Recall(log, after, upto, order.streams, *span, limit_bytes)

    def _digested(self, log: str) -> int:
        history = self._digester.history
        return 0 if history is None else history.digested.get(log, 0)

    async def _step(self, wanted: Recall) -> HistoryAnswer | None:
        """The answer; None where it is to be asked for again."""
        try:
            answer = await self._asker.recall(wanted)
        except ProtocolError as error:
            raise StoreFailed(f"history: {error.message}") from error
        return None if "unfinished" in answer.rest else answer


def _items(
    log: str, after: int, upto: int, blocks: Sequence[RecalledBlock]
) -> Iterator[Block | Gap]:
    """Blocks and gaps without a hole, from behind ``after`` to ``upto``."""
    for found in blocks:
        if found.first > after + 1:
            yield Gap(log, after + 1, found.first - 1, "filtered")
        block = as_block(log, found)
        yield block
        after = block.last
    if after < upto:
        yield Gap(log, after + 1, upto, "filtered")


def as_block(log: str, found: RecalledBlock) -> Block:
    """A block as a log's reader gets it."""
    stored_ns = max(found.time_max_ns, 0)
    # What was not set then and has been put right since is right as it stands.
    is_right = found.synced or found.corrected
    origin = None
    if found.origin is not None:
        agent, epoch, at, first = found.origin
        # By which other agents it came is not kept.
        origin = Origin(agent, epoch, at, first, _NO_BOOT, 0, stored_ns, is_right, (agent,))
    return Block(
        log,
        found.first,
        found.count,
        found.codec,
        found.raw_len,
        found.payload,
        _NO_BOOT,
        0,
        stored_ns,
        is_right,
        found.time_min_ns,
        found.time_max_ns,
        origin,
        correction=None if found.synced or not found.corrected else Correction(0, 0, stored_ns),
        recalled=True,
    )
