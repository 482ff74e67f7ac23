"""The uplink of a test: a relay that can be cut, as the demo's, run beside the test's own tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from edge_agent.cli.demo.relay import Relay


@asynccontextmanager
async def uplink(target_port: int) -> AsyncIterator[Relay]:
    """A relay to ``target_port`` for as long as the block lasts."""
    relay = Relay(target_port)
    async with trio.open_nursery() as nursery:
        await nursery.start(relay.run)
        yield relay
        nursery.cancel_scope.cancel()


async def cut_for(relay: Relay, seconds: float) -> None:
    """Reset everything, let nothing through for a while, restore."""
    relay.cut()
    await trio.sleep(seconds)
    relay.restore()
