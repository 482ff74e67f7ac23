"""What sinks have in common whose ``send`` waits until the upstream has its batch.

Most kinds are like that: one batch at a time, known upstream by its range or by its records' ids,
and nothing under way between two sends. The agent sink is the other way: it numbers what it sends,
goes on sending, and is told later.
"""

from __future__ import annotations

import trio

from edge_agent.forward.sink import Acknowledged


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
