"""Common parts of sinks whose ``send`` waits until the upstream has its batch.

Most kinds are like that: one batch at a time, known upstream by its range or by its records' ids,
and nothing under way between two sends. The agent sink is the other way: it numbers what it sends,
goes on sending, and is told later.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Protocol

import trio

from edge_agent.errors import SinkError, SinkUnavailable
from edge_agent.forward.sink import Acknowledged, Batch, LaneResume, Resumed, Sink, SinkParts
from edge_agent.output.printable import printable, why
from edge_agent.values.stream_names import compile_patterns

logger = logging.getLogger(__name__)


class Closable(Protocol):
    """A connection, as far as that matters here."""

    async def aclose(self) -> None:
        """Close it."""


class KeyedSink(ABC):
    """One log's way to an upstream that has nothing in flight between two sends.

    What a kind adds is ``_send``; ``open`` and ``aclose`` where it has more to agree on or to end
    than the one connection that ``_send`` makes. What it is made of is said in `SinkParts`.
    """

    #: After these the connection is not used again.
    _broken_by: ClassVar[tuple[type[SinkError], ...]] = (SinkError,)

    def __init__(self, parts: SinkParts) -> None:
        self._upstream, self._log, self._identity = parts.upstream, parts.log, parts.identity
        self._clock, self._dial, self._run_blocking = parts.clock, parts.dial, parts.run_blocking
        self._matches: Callable[[str], bool] = compile_patterns(parts.upstream.streams)
        self._connection: Closable | None = None

    async def open(self, nursery: trio.Nursery, resume: LaneResume) -> Resumed:
        """Nothing to agree on: go on behind the floor. The connection is made by `send`."""
        await trio.lowlevel.checkpoint()
        self._identity = resume.identity or self._identity
        return Resumed(resume.floor + 1)

    async def send(self, batch: Batch) -> Acknowledged:
        """Hand the batch over, and wait until the upstream has it.

        Raises:
            SinkUnavailable: it cannot be reached, or does not take it now.
            SinkRefused: for what records hold.
        """
        try:
            return await self._send(batch)
        except SinkError as error:
            if isinstance(error, self._broken_by):
                await self.aclose()
            raise
        except Exception as error:
            raise await given_up(self, self._upstream.name, error, self._reason(error)) from error

    @abstractmethod
    async def _send(self, batch: Batch) -> Acknowledged:
        """As `send`; whatever else it raises is a mistake that ends the attempt alone."""

    def _reason(self, error: Exception) -> str:
        """What people are told of an error that was not expected; "": what that says."""
        return ""

    async def aclose(self) -> None:
        """Close the connection; a new one is made when it is needed."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()
        else:
            await trio.lowlevel.checkpoint()

    @property
    def keyed(self) -> bool:
        """A batch is fixed before it is sent, and sent again as it was."""
        return True

    async def settle(self, floor: int) -> Acknowledged:
        """Until it is cancelled: there is nothing to wait for."""
        await trio.sleep_forever()
        raise AssertionError("unreachable: sleep_forever ends by cancellation only")

    @property
    def drained(self) -> bool:
        """Always."""
        return True


async def given_up(sink: Sink, upstream: str, error: Exception, said: str = "") -> SinkUnavailable:
    """What to raise for an ``error`` that ``sink`` did not expect: it is in the journal, and the
    sink is closed. ``said`` is what people are told, if not what the error says.

    The border: nothing that an upstream says, and no mistake of ours about it, may end more than
    this attempt.
    """
    logger.error("an unexpected error on the way to %s", upstream, exc_info=error)
    await sink.aclose()
    return SinkUnavailable(said or printable(why(error)) or type(error).__name__)
