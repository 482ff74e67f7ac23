"""Messages of a batch that are being packed while the first of them are published already.

Packing is a thread's work, and the server stores meanwhile what it has got: the two together take
little longer than the longer of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import trio

from edge_agent.commit import RunBlocking
from edge_agent.errors import SinkRefused
from edge_agent.forward.sinks.nats.packing import PackedMessage, PackedPart


class MessagesAhead:
    """See the module. Made by `packing_ahead`.

    Attributes:
        messages: those that are packed.
        records: how many they hold, with those that are refused.
        refused: by its seq each record that is too large for any message, with a sentence.
        refusal: why there are no more messages, though there are more records.
    """

    def __init__(self) -> None:
        self.messages: list[PackedMessage] = []
        self.records = 0
        self.refused: dict[int, str] = {}
        self.refusal: SinkRefused | None = None
        self._whole = False
        self._news = trio.Event()

    def settled(self, count: int) -> bool:
        """Whether there are ``count`` messages, and it is known whether one follows."""
        return self._whole or len(self.messages) > count

    async def until(self, count: int) -> None:
        """Wait until they are `settled`. There is no deadline: packing waits for nobody."""
        while not self.settled(count):
            await self._news.wait()

    async def run(self, parts: Iterator[PackedPart], run_blocking: RunBlocking) -> None:
        """Pack part by part, each in a thread."""
        try:
            while (part := await run_blocking(next, parts, None)) is not None:
                self._add(part)
        except SinkRefused as refusal:
            self.refusal = refusal
        self._whole = True
        self._tell()

    def _add(self, part: PackedPart) -> None:
        self.messages += part.messages
        self.records += part.records
        self.refused |= part.refused
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()


@asynccontextmanager
async def packing_ahead(
    parts: Iterator[PackedPart], run_blocking: RunBlocking
) -> AsyncIterator[MessagesAhead]:
    """Pack them while the block runs; what the block raises is raised as it is."""
    ahead, failure = MessagesAhead(), None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ahead.run, parts, run_blocking)
        try:
            yield ahead
        except Exception as error:  # noqa: BLE001 - raised below, out of the nursery
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        try:
            raise failure
        finally:
            # Its traceback holds this frame, which would hold it.
            del failure
