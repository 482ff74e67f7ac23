"""A network in memory: listeners and dials without a socket, for simulations under a mock clock.

Addresses are the texts of the configuration. Cutting the network aborts every open connection
between the two sides and refuses new ones until it is restored.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence

import trio
from trio.testing import MemoryReceiveStream, MemorySendStream, memory_stream_pair

MemoryStream = trio.StapledStream[MemorySendStream, MemoryReceiveStream]

BACKLOG = 64


class MemoryListener(trio.abc.Listener[MemoryStream]):
    """Accepts what `MemoryNetwork.dial` connects to its address."""

    def __init__(self, network: MemoryNetwork, address: str) -> None:
        self._network = network
        self._address = address
        self.arrivals, self._incoming = trio.open_memory_channel[MemoryStream](BACKLOG)

    async def accept(self) -> MemoryStream:
        try:
            return await self._incoming.receive()
        except trio.EndOfChannel:
            raise trio.ClosedResourceError from None

    async def aclose(self) -> None:
        self._network.listeners.pop(self._address, None)
        self._incoming.close()
        self.arrivals.close()
        await trio.lowlevel.checkpoint()


class MemoryNetwork:
    """All addresses of one simulation."""

    def __init__(self) -> None:
        self.listeners: dict[str, MemoryListener] = {}
        self._cut: set[str] = set()
        self._open: dict[str, list[MemoryStream]] = {}

    async def listen(
        self, address: str, ssl_context: ssl.SSLContext | None = None
    ) -> Sequence[trio.abc.Listener[trio.abc.Stream]]:
        """A listener on ``address``; in the shape of the agent's own ``listen``."""
        assert ssl_context is None, "there is nobody to eavesdrop in memory"
        await trio.lowlevel.checkpoint()
        self.listeners[address] = MemoryListener(self, address)
        return [self.listeners[address]]

    async def dial(
        self, host: str, port: int, ssl_context: ssl.SSLContext | None = None
    ) -> trio.abc.Stream:
        """Connect to whoever listens on ``host:port``; OSError where nobody does or the cut is."""
        address = f"{host}:{port}"
        await trio.lowlevel.checkpoint()
        if address not in self.listeners or address in self._cut:
            raise ConnectionRefusedError(f"nobody listens on {address}")
        ours, theirs = memory_stream_pair()
        self._open.setdefault(address, []).extend((ours, theirs))
        await self.listeners[address].arrivals.send(theirs)
        return ours

    async def cut(self, address: str) -> None:
        """Abort every connection to ``address`` and refuse new ones."""
        self._cut.add(address)
        for stream in self._open.pop(address, []):
            await trio.aclose_forcefully(stream)

    def restore(self, address: str) -> None:
        """Let connections through again."""
        self._cut.discard(address)
