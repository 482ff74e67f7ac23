"""One WebSocket, as the pumps see it: lists of messages in, messages out, always with a deadline.

trio-websocket keeps the protocol (`trio_websocket.wrap_server_stream`); this module keeps it away
from everybody else. It raises where a peer misbehaves (upstream #184: a ping after our close), so
it runs in a nursery of its own, whose end is just the end of the connection: what was accepted
until then is still committed by the pump, which never sees trio-websocket's exceptions.

A `WebSocket` ends once, for the first reason that comes: `WebSocket.end`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream
from wsproto.utilities import LocalProtocolError

from edge_agent.server.gate import FrameGate
from edge_agent.server.transport import Transport, abort

logger = logging.getLogger(__name__)

#: Bytes asked of the socket at a time; the library's default of 4 KiB costs three times the CPU.
RECEIVE_BYTES = 64 * 1024
#: What may wait between the socket and the pump: one message of any size, or this much.
INBOX_BYTES = 64 * 1024
INBOX_MESSAGES = 1024
#: How long the pump lets messages gather after the first one. Every list then becomes one entry of
#: one commit; 2 ms are nothing beside a commit interval and save most of the work per message.
GATHER_S = 0.002
#: A peer that sends but never answers a ping is not a WebSocket; the library remembers each ping.
UNANSWERED_PINGS = 16
#: A close frame's reason has 123 bytes at most (RFC 6455 section 5.5).
_REASON_BYTES = 123

End = Literal["peer", "broken", "protocol", "too_big", "idle", "taken_over", "refused", "closing"]
"""Why a connection ended. The peer closed it; the socket broke; the peer violated RFC 6455;
it sent a message over the limit; it fell silent; a newer hello took over; what it sent was refused;
the agent stops."""


class WebSocket:
    """One accepted WebSocket connection.

    Attributes:
        end: why it ended, None while it has not. `take` still hands out what a peer sent before it
            closed; after an end of our own making nothing more is read.
        too_big: size that a message over the limit had reached, None without one.
    """

    def __init__(
        self,
        transport: trio.abc.Stream,
        *,
        idle_timeout: float,
        limit: int,
        on_closed: Callable[[], None],
    ) -> None:
        self.end: End | None = None
        self._socket = transport
        self._on_closed = on_closed
        self._gate = FrameGate(limit)
        self._transport = Transport(transport, self._gate, self._check_size)
        self._limit = limit
        self._idle_timeout = idle_timeout
        self._connection: WebSocketConnection
        self._inbox: list[str | bytes] = []
        self._inbox_bytes = 0
        self._received = 0
        self._news = trio.Event()  # something came, or the connection ended
        self._full = trio.Event()  # nothing more can gather, or the connection ended
        self._room = trio.Event()
        self._waiting: set[trio.CancelScope] = set()

    @property
    def violation(self) -> int | None:
        """Close code where trio-websocket found a violation of RFC 6455 (1002, 1007)."""
        if self.end != "protocol" or self._connection.closed is None:
            return None
        return int(self._connection.closed.code)

    @property
    def too_big(self) -> int | None:
        """Size that a message over the limit had reached; None without one."""
        return self._gate.too_big

    async def run(
        self,
        head: bytes,
        early: bytes,
        subprotocol: str | None,
        pump: Callable[[WebSocket], Awaitable[None]],
    ) -> None:
        """Accept the upgrade and call ``pump``; when that returns, the connection is gone.

        Args:
            head: the HTTP request head for trio-websocket.
            early: bytes that came behind the peer's head.
            subprotocol: what to agree on.
            pump: reads with `take`, answers with `send`, says goodbye with `close`.
        """
        async with trio.open_nursery() as nursery:
            await nursery.start(self._keep_protocol, head, early, subprotocol)
            if self.end is None:
                nursery.start_soon(self._watch_silence)
                await pump(self)
            nursery.cancel_scope.cancel()

    def interrupt(self, end: End) -> None:
        """End it for a reason of our own: `take` answers ``[]`` from now on. Idempotent."""
        self._ended(end)
        self._inbox, self._inbox_bytes = [], 0

    async def take(self) -> list[str | bytes]:
        """All messages that have gathered, at least one; ``[]`` once the connection has ended."""
        if not self._inbox and self.end is None:
            await self._news.wait()
            with trio.move_on_after(GATHER_S):
                await self._full.wait()
        else:
            await trio.lowlevel.checkpoint()
        messages, self._inbox, self._inbox_bytes = self._inbox, [], 0
        self._room.set()
        if self.end is None:
            self._news, self._full = trio.Event(), trio.Event()
        return messages

    @contextmanager
    def until_end(self) -> Iterator[trio.CancelScope]:
        """A scope that is cancelled once the connection has ended."""
        with trio.CancelScope() as scope:
            self._waiting.add(scope)
            if self.end is not None:
                scope.cancel()
            try:
                yield scope
            finally:
                self._waiting.remove(scope)

    async def wait_end(self) -> None:
        """Until the connection has ended; for pumps that only send."""
        while self.end is None:
            # Whatever a peer says to a pump that only sends has no meaning; it is read, so that
            # the peer's close is seen, and thrown away.
            await self.take()

    async def send(self, message: str | bytes) -> bool:
        """Send one message; False where the connection is gone.

        A peer that does not read for the idle timeout is taken for gone.
        """
        with trio.move_on_after(self._idle_timeout) as deadline:
            try:
                await self._connection.send_message(message)
            except (ConnectionClosed, LocalProtocolError):
                return False
        if deadline.cancelled_caught:
            self._ended("idle")
            return False
        return True

    async def close(self, code: int, reason: str, timeout: float) -> None:
        """Close with ``code`` and wait for the peer's close at most ``timeout`` seconds."""
        self._gate.close()
        self._ended("closing")
        text = reason.encode()[:_REASON_BYTES].decode(errors="ignore")
        with trio.move_on_after(timeout):
            try:
                await self._connection.aclose(code, text or None)
            except (ConnectionClosed, LocalProtocolError):
                pass  # The peer was faster, which is what we wanted.
        await abort(self._socket)
        self._on_closed()

    async def _keep_protocol(
        self,
        head: bytes,
        early: bytes,
        subprotocol: str | None,
        task_status: trio.TaskStatus[None],
    ) -> None:
        try:
            async with trio.open_nursery() as nursery:
                self._transport.replay(head, early)
                request = await wrap_server_stream(
                    nursery,
                    self._transport,
                    max_message_size=self._limit,
                    receive_buffer_size=RECEIVE_BYTES,
                )
                self._connection = await request.accept(subprotocol=subprotocol)
                self._transport.accepted.set()
                task_status.started()
                await self._receive()
        except* Exception as group:  # noqa: BLE001 - see the next line
            # Only trio-websocket, wsproto and the socket run in there; none of them can tell us
            # anything but that this connection is over.
            logger.debug("a connection ended in %r", group.exceptions)
            self._ended("broken")
        if self.end is None:
            self._ended(self._why())
        if not self._transport.accepted.is_set():
            task_status.started()

    async def _receive(self) -> None:
        while True:
            try:
                message = await self._connection.get_message()
            except ConnectionClosed:
                return
            if self.end is not None:
                continue
            self._inbox.append(message)
            self._inbox_bytes += len(message)
            self._received += 1
            self._news.set()
            self._check_size()
            while self._inbox_bytes >= INBOX_BYTES or len(self._inbox) >= INBOX_MESSAGES:
                self._full.set()
                self._room = trio.Event()
                await self._room.wait()

    async def _watch_silence(self) -> None:
        # Half the time without a byte: a ping. The whole time: gone. While we ourselves are not
        # reading (a full inbox), the peer cannot be blamed for silence.
        half = self._idle_timeout / 2
        unanswered = 0
        while unanswered < UNANSWERED_PINGS:
            silence = self._transport.silence()
            if silence >= self._idle_timeout:
                break
            if silence < half:
                await trio.sleep(half - silence)
                continue
            unanswered += 1
            with trio.move_on_after(self._idle_timeout - silence):
                try:
                    await self._connection.ping()
                    unanswered = 0
                except (ConnectionClosed, LocalProtocolError):
                    return
        self._ended("idle")

    def _check_size(self) -> None:
        # What the gate let through before the big message may still be on its way through the
        # library; only when the pump can have it all does the connection end.
        if self._gate.too_big is not None and self._received == self._gate.messages:
            self._ended("too_big")

    def _ended(self, end: End) -> None:
        if self.end is None:
            self.end = end
        for scope in self._waiting:
            scope.cancel()
        self._news.set()
        self._full.set()
        self._room.set()

    def _why(self) -> End:
        closed = self._connection.closed
        if closed is None or closed.code == 1006:
            return "broken"
        return "peer" if self._gate.close_seen else "protocol"
