"""The socket, as trio-websocket sees it.

`Transport` first plays a head that we wrote ourselves (nothing of the peer's but its key, so that
no strange header can upset the library), then waits until the upgrade was accepted, then passes on
what the frame gate lets through. It also knows how long the peer has been silent.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from edge_agent.server.gate import FrameGate


async def abort(stream: trio.abc.Stream) -> None:
    """Close the socket itself, whatever else is going on above it."""
    inner = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    await trio.aclose_forcefully(inner)


class Transport(trio.abc.Stream):
    """See the module.

    Args:
        transport: the socket, or TLS over it.
        gate: what may pass.
        too_big: called while the gate holds a message back.
    """

    def __init__(
        self, transport: trio.abc.Stream, gate: FrameGate, too_big: Callable[[], None]
    ) -> None:
        self.accepted = trio.Event()
        self._transport = transport
        self._gate = gate
        self._too_big = too_big
        self._head = b""
        self._early = b""
        self._last_byte = trio.current_time()
        self._reading = False

    def replay(self, head: bytes, early: bytes) -> None:
        """What `receive_some` answers first."""
        self._head, self._early = head, early

    def silence(self) -> float:
        """Seconds that the peer has left us waiting; 0 while we are not reading."""
        return trio.current_time() - self._last_byte if self._reading else 0.0

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What passes the gate, b"" at the end."""
        if self._head:
            head, self._head = self._head, b""
            return head
        # The library reads on before the upgrade was accepted, and would lose what it got then.
        await self.accepted.wait()
        while True:
            data = await self._receive_raw(max_bytes)
            if not data:
                return b""
            passed = self._gate.feed(data)
            if self._gate.too_big is not None:
                self._too_big()
            if passed:
                return passed

    async def _receive_raw(self, max_bytes: int | None) -> bytes:
        if self._early:
            early, self._early = self._early, b""
            return early
        # Silence is counted from here on: what came before, we were not listening to.
        self._last_byte = trio.current_time()
        self._reading = True
        try:
            return bytes(await self._transport.receive_some(max_bytes))
        finally:
            self._reading = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As the socket does."""
        await self._transport.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """As the socket does."""
        await self._transport.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """As the socket does."""
        await self._transport.aclose()
