"""Common parts of sinks whose ``send`` waits until the upstream has its batch.

Most kinds are like that: one batch at a time, known upstream by its range or by its records' ids,
and nothing under way between two sends. The agent sink is the other way: it numbers what it sends,
goes on sending, and is told later.
"""

from __future__ import annotations

import logging

import trio

from edge_agent.errors import SinkUnavailable
from edge_agent.forward.sink import Acknowledged, Sink
from edge_agent.printable import printable, why

logger = logging.getLogger(__name__)


class KeyedSink:
    """Nothing is in flight between two sends; ``open``, ``send``, ``aclose`` are each kind's."""

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
