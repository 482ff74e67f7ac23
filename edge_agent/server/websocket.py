"""A `WebSocket` is what pumps see of a connection: messages in and out, all with a deadline.

trio-websocket keeps the protocol (`trio_websocket.wrap_server_stream`), behind the frame lane of
`transport`; this module keeps it away from everybody else. It raises where a peer misbehaves
(upstream #184: a ping after our close), so its task is guarded, and its end is just the end
of the connection: what was accepted until then is still committed by the pump, which never sees
trio-websocket's exceptions.

Messages reach the pump through an `Inbox`. A `WebSocket` ends once, for the first reason that
comes: `WebSocket.end`.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Awaitable, Callable, Sequence

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream
from wsproto.utilities import LocalProtocolError

from edge_agent.server.closing import End, Ending
from edge_agent.server.fair_turns import Turns
from edge_agent.server.keepalive import SilenceWatch
from edge_agent.server.poller import SharedReader
from edge_agent.server.receive_queue import Inbox, Push
from edge_agent.server.transport import RECEIVE_BYTES, Transport
from edge_agent.wire import FrameLane, close_frame, cut_reason, data_frame

logger = logging.getLogger(__name__)

#: What the library finds; a peer's close may say the same codes, but that is answered with one.
_VIOLATIONS = (1002, 1007)
_GONE = (ConnectionClosed, LocalProtocolError)


class WebSocket(Ending):
    """One accepted WebSocket connection.

    Args:
        stream: the socket, or TLS over it, its request head already read.
        idle_timeout: seconds.
        limit: bytes that a message may have.
        silence: watches this connection while it runs.
        turns: of all connections.
        reader: the shared reader of plain sockets, if there is one.
        on_closed: called when the socket is gone.

    Attributes:
        end: why it ended, None while it has not. `take` still hands out what a peer sent before it
            closed; after an end of our own making nothing more is read.
        on_unclogged: called when `can_be_told` may have become true: the socket takes what was
            sent, after a time when it did not; or it never will.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        idle_timeout: float,
        limit: int,
        silence: SilenceWatch,
        turns: Turns,
        on_closed: Callable[[], None],
        reader: SharedReader | None = None,
    ) -> None:
        super().__init__()
        self.on_unclogged: Callable[[], None] | None = None
        self._on_closed = on_closed
        self._lane = FrameLane(limit)
        # What we own does not keep us alive: a cycle would wait for the next search for cycles.
        me = weakref.proxy(self)
        self._inbox = Inbox(lambda error: me.fail(error))  # noqa: PLW0108 - `me.fail` would be bound to us
        self._transport = Transport(stream, self._lane, self._inbox, me, reader, turns)
        self._limit = limit
        self._idle_timeout = idle_timeout
        self._silence = silence
        self._connection: WebSocketConnection
        self._tasks: trio.Nursery
        self._fault: Exception | None = None
        self._is_receiving = self._is_last = False

    @property
    def violation(self) -> int | None:
        """Close code where trio-websocket found a violation of RFC 6455 (1002, 1007)."""
        closed = self._connection.closed
        if closed is None or closed.code not in _VIOLATIONS or self._transport.close_sent:
            return None
        return int(closed.code)

    @property
    def has_peer_closed(self) -> bool:
        """Whether the peer's close frame has come, such as it is."""
        return self._lane.close_seen

    @property
    def keeps_open(self) -> bool:
        """The transport's: the library would close without a word after a violation; RFC 6455
        (section 7.1.7) asks for a close frame, and our protocol for the acks before it.
        """
        return self.violation is not None

    @property
    def too_big_bytes(self) -> int | None:
        """Size that a message over the limit had reached; None without one."""
        return self._lane.too_big

    async def run(
        self,
        head: bytes,
        early: bytes,
        subprotocol: str | None,
        pump: Callable[[WebSocket], Awaitable[None]],
    ) -> None:
        """Accept the upgrade and call ``pump``; when that returns, the connection is gone.

        ``head`` is the request for trio-websocket, ``early`` what came behind the peer's own. The
        pump reads with `take` or `divert`, answers with `send`, says goodbye with `close`.
        """
        self._transport.replay(head, early)
        # They are small, but there may be a thousand of us, for weeks.
        del head, early
        async with trio.open_nursery() as self._tasks:
            if await self._accept(subprotocol):
                self._silence.add(self)
                try:
                    await pump(self)
                finally:
                    self._silence.discard(self)
            self._tasks.cancel_scope.cancel()
        self._inbox.end(throw_away=True)
        # The pump and the nursery know us.
        self.on_unclogged = None
        del self._tasks
        if self._fault is not None:
            raise self._fault

    def interrupt(self, end: End) -> None:
        """End it for a reason of our own: `take` answers ``[]`` from now on. Idempotent."""
        self._ended(end, throw_away=True)

    async def take(self) -> list[str | bytes]:
        """All messages that have gathered, at least one; ``[]`` once the connection has ended."""
        return await self._inbox.take()

    def divert(self, push: Push, taken: Sequence[str | bytes] = ()) -> None:
        """From now on messages are pushed as they are read; see `Inbox`."""
        self._inbox.divert(push, taken)

    def resume(self) -> None:
        """There is room again for more messages."""
        self._inbox.resume()

    async def wait_end(self) -> None:
        """Until the connection has ended; for pumps that only send."""
        # Whatever a peer says to a pump that only sends has no meaning; it is read, so that the
        # peer's close is seen, and thrown away.
        self.divert(lambda messages: True)
        with self.until_end():
            await trio.sleep_forever()

    def fail(self, error: Exception) -> None:
        """Something that nobody expected: the connection ends, and `run` raises it."""
        if self._fault is None:
            self._fault = error
        self._ended("broken")

    @property
    def can_be_told(self) -> bool:
        """Whether `send_soon` makes sense: the socket takes what it is given, or it is over."""
        return self.end is not None or not self._transport.outgoing.is_clogged

    def send_soon(self, *messages: str | bytes) -> None:
        """Send messages without waiting: what the socket does not take now follows later."""
        if self._connection.closed is None or self.keeps_open:
            self._transport.outgoing.send_soon(b"".join(map(data_frame, messages)))

    def too_big(self) -> None:
        """The transport's: a message over the limit came, and all before it was delivered."""
        self._ended("too_big")

    def flush_soon(self) -> None:
        """The transport's: something waits for the socket."""
        self._tasks.start_soon(self._flush)

    async def _flush(self) -> None:
        with trio.move_on_after(self._idle_timeout) as deadline:
            try:
                await self._transport.outgoing.flush()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # The reading side learns it too, as soon as it reads on.
        if deadline.cancelled_caught:
            self._ended("idle")
        else:
            self._unclogged()

    def _unclogged(self) -> None:
        if self.on_unclogged is not None:
            self.on_unclogged()

    async def send(self, message: str | bytes) -> bool:
        """Send one message; False where the connection is gone.

        A peer that does not read for the idle timeout is taken for gone.
        """
        with trio.move_on_after(self._idle_timeout) as deadline:
            try:
                await self._connection.send_message(message)
            except _GONE:
                return False
        if deadline.cancelled_caught:
            self._ended("idle")
            return False
        return True

    async def close(self, code: int, reason: str, timeout: float) -> None:
        """Close with ``code`` and wait for the peer's close at most ``timeout`` seconds."""
        violation = self.violation
        self._lane.close()
        self._ended("closing")
        text = cut_reason(reason)
        with trio.move_on_after(timeout):
            try:
                if violation is not None:
                    await self._transport.outgoing.send_all(close_frame(violation, text))
                    await self._transport.linger()
                await self._connection.aclose(code, text or None)
            except (*_GONE, trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # The peer was faster, which is what we wanted.
        await self._transport.abort()
        self._on_closed()

    async def _accept(self, subprotocol: str | None) -> bool:
        try:
            with self.until_end():
                request = await wrap_server_stream(
                    Guarded(self._tasks, self._library_ended),  # type: ignore[arg-type]  # see there
                    self._transport,
                    max_message_size=self._limit,
                    receive_buffer_size=RECEIVE_BYTES,
                )
                self._connection = await request.accept(subprotocol=subprotocol)
                self._transport.accept()
        except Exception as error:  # noqa: BLE001 - the library's, as below
            self._library_ended(error)
        return self._transport.is_accepted

    def _library_ended(self, error: Exception | None) -> None:
        # Only the library and the socket are in there, and neither can tell us anything but that
        # this connection is over.
        if error is not None or not self._transport.is_accepted:
            logger.debug("a connection ended in %r", error)
            self._ended("broken")
        elif self._is_receiving:
            self._is_last = True
        else:
            self._ended(self._why())

    def receive_soon(self) -> None:
        """The transport's: the library was given a message in fragments, and will give it out."""
        if not self._is_receiving:
            self._is_receiving = True
            self._tasks.start_soon(self._receive)

    async def _receive(self) -> None:
        try:
            while (left := self._lane.passed - self._inbox.heard) > 0:
                message = await self._connection.get_message()
                await self._inbox.deliver_passed(message, more=left > 1)
        except ConnectionClosed:
            # What it was given was no message after all: its text was not UTF-8. The library may
            # not know yet that it is over, and what was lifted behind it must wait no longer.
            self._is_last = True
            self._inbox.flush_passed()
        self._is_receiving = False
        if self._is_last:
            self._ended(self._why())

    def silence(self) -> float:
        """Seconds; while we do not read, the peer cannot be blamed for it."""
        return self._transport.silence() if self.end is None else 0.0

    async def ping(self) -> bool:
        """Wait for the pong; False where it is all over, or as good as."""
        try:
            await self._connection.ping()
        except Exception:  # noqa: BLE001 - whatever it is, the connection's own task learns it too
            return False
        return True

    def fell_silent(self) -> None:
        """It is taken for gone."""
        self._ended("idle")

    def _ended(self, end: End, *, throw_away: bool = False) -> None:
        self.set_end(end)
        self._inbox.end(throw_away=throw_away)
        # What a clogged socket kept from being settled is settled now, told or not.
        self._unclogged()

    def _why(self) -> End:
        closed = self._connection.closed
        if closed is None or closed.code == 1006:
            return "broken"
        return "peer" if self._transport.close_sent else "protocol"


class Guarded:
    """Stands for a nursery: starts the library's tasks in ``nursery``, and when one ends calls
    ``ended`` with what it raised. A nursery for each connection would cost 4 KB of memory more.
    """

    def __init__(self, nursery: trio.Nursery, ended: Callable[[Exception | None], None]) -> None:
        self._nursery = nursery
        self._ended = ended

    def start_soon(self, function: Callable[[], Awaitable[None]]) -> None:
        """As a nursery does; this is all that the library asks for."""
        self._nursery.start_soon(self._run, function)

    async def _run(self, function: Callable[[], Awaitable[None]]) -> None:
        error: Exception | None = None
        try:
            await function()
        except Exception as raised:  # noqa: BLE001 - told to the owner of the connection
            error = raised
        self._ended(error)
