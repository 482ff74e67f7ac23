"""One connection from accept to the end: TLS, head, judgement, upgrade, and then its pump.

`Connection.serve` never lets one peer harm another: every wait has a deadline, and whatever it
raises is caught by the listener's guard, for this connection alone.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from edge_agent.errors import ProtocolError
from edge_agent.server.admission import Peer, admit, is_loopback
from edge_agent.server.forwarded import serve_forward
from edge_agent.server.handshake import Refusal, Upgrade, read_upgrade, refuse
from edge_agent.server.ingest import serve_session
from edge_agent.server.parts import ConnectionView, Parts, Visitor
from edge_agent.server.plain import serve_plain
from edge_agent.server.reading import serve_query, serve_subscription
from edge_agent.server.transport import abort
from edge_agent.server.websocket import WebSocket
from edge_agent.wire import (
    FORWARD_MESSAGE_BYTES,
    HTTP_STATUS,
    choose_subprotocol,
    parse_target,
)

logger = logging.getLogger(__name__)


class Connection:
    """One connection. `serve` is called once.

    Args:
        stream: as accepted; TLS not yet begun.
        parts: what all connections share.
        on_closed: called once, when the socket is gone. The task may go on after that, until what
            the connection appended has settled.
    """

    def __init__(
        self, stream: trio.abc.Stream, parts: Parts, on_closed: Callable[[], None]
    ) -> None:
        self._stream = stream
        self._parts = parts
        self._on_closed = on_closed
        self._peer = peer_of(stream)
        self._since_ns = parts.clock.read().wall_ns
        self._socket: WebSocket | None = None
        self._upgrade: Upgrade | None = None
        self._visitor: Visitor | None = None
        self._closing = False
        self._handshake = trio.CancelScope()

    def view(self) -> ConnectionView | None:
        """A snapshot; None before the upgrade."""
        return self._visitor.view() if self._visitor is not None else None

    def say_goodbye(self) -> None:
        """The agent stops: tell the peer and end."""
        self._closing = True
        self._handshake.cancel()
        if self._socket is not None:
            self._socket.interrupt("closing")

    async def serve(self) -> None:
        """From the first byte to the last answer."""
        try:
            if await self._shake_hands():
                await self._run()
        finally:
            await abort(self._stream)
            self._on_closed()

    async def _shake_hands(self) -> bool:
        """Read and judge the request; False where it came to nothing."""
        refusal: Refusal | None = None
        self._handshake.deadline = trio.current_time() + self._parts.listen.handshake_timeout
        with self._handshake:
            try:
                if isinstance(self._stream, trio.SSLStream):
                    await self._stream.do_handshake()
                what_this_is = self._parts.what_this_is
                self._upgrade = await read_upgrade(self._stream, what_this_is=what_this_is)
                self._visitor = self._judge(self._upgrade)
            except Refusal as reason:
                refusal = reason
            except (trio.BrokenResourceError, EOFError):
                self._refused("left")
                return False
        if self._handshake.cancelled_caught:
            self._refused("closing" if self._closing else "timeout")
            return False
        if refusal is not None:
            self._refused(refusal.reason)
            await refuse(self._stream, refusal)
            return False
        return True

    def _judge(self, upgrade: Upgrade) -> Visitor:
        parts = self._parts
        try:
            choice = choose_subprotocol(upgrade.subprotocols)
            grant = admit(upgrade, choice.token, self._peer, parts.listen, parts.tokens)
            target = parse_target(upgrade.target)
        except ProtocolError as error:
            raise Refusal(HTTP_STATUS.get(error.code, 400), error.message, error.code) from None
        if target.kind == "ingest":
            grant.require_write(target.name)
        elif target.kind == "forward":
            grant.require_forward()
            if choice.mode != "msgpack":
                raise Refusal(
                    400, "/forward speaks the subprotocol edge-agent.v1+msgpack.", "bad_subprotocol"
                )
        else:
            grant.require_read()
        self._subprotocol = choice.subprotocol
        return Visitor(self._peer, grant, target, choice.mode, self._since_ns)

    def _run(self) -> Awaitable[None]:
        upgrade, visitor = self._upgrade, self._visitor
        assert upgrade is not None and visitor is not None
        # The request has served its purpose; the connection may stay for weeks.
        self._upgrade = None
        is_forward = visitor.target.kind == "forward"
        self._socket = WebSocket(
            self._stream,
            idle_timeout=self._parts.listen.idle_timeout,
            limit=FORWARD_MESSAGE_BYTES if is_forward else self._parts.limits.message_bytes,
            silence=self._parts.silence,
            turns=self._parts.turns,
            reader=self._parts.reader,
            on_closed=self._on_closed,
        )
        if self._closing:
            self._socket.interrupt("closing")
        head = upgrade.head(self._subprotocol)
        return self._socket.run(head, upgrade.early, self._subprotocol, self._pump)

    def _pump(self, socket: WebSocket) -> Awaitable[None]:
        parts, visitor = self._parts, self._visitor
        assert visitor is not None
        if visitor.target.kind == "forward":
            return serve_forward(socket, parts, visitor)
        if visitor.target.kind == "subscribe":
            return serve_subscription(socket, parts, visitor)
        if visitor.target.kind == "query":
            return serve_query(socket, parts, visitor)
        if visitor.mode == "plain":
            return serve_plain(socket, parts, visitor)
        return serve_session(socket, parts, visitor, visitor.mode)

    def _refused(self, reason: str) -> None:
        self._parts.metrics.add("connections_refused_total", 1, reason)
        logger.debug("refused a connection from %s: %s", self._peer.address, reason)


def peer_of(stream: trio.abc.Stream) -> Peer:
    """Who is at the other end of an accepted stream; in-memory streams count as loopback."""
    inner = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    if not isinstance(inner, trio.SocketStream):
        return Peer("", True)
    try:
        remote = inner.socket.getpeername()[0]
        local = inner.socket.getsockname()[0]
    except OSError:
        # It reset the connection before we looked.
        return Peer("", False)
    return Peer(str(remote), is_loopback(str(local)))
