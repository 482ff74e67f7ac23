"""A `Connection` is one peer from accept to the end: TLS, head, judgement, upgrade, pump.

`Connection.serve` never lets one peer harm another: every wait has a deadline, and whatever it
raises is caught by the listener's guard, for this connection alone.

Whether it is heard at all was decided before (`edge_agent.net.accepting`). Until it was judged a
connection has a place among those that have proved nothing (``listen.unproved``), which the next
one may take from it; then one of ``listen.connections``, by the name of its token or, without
tokens, its address. See `edge_agent.net.connection_quota`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from edge_agent.errors import ProtocolError
from edge_agent.net.access import is_loopback
from edge_agent.net.connection_quota import Place
from edge_agent.net.refused_peers import tls_trouble
from edge_agent.security.tokens import Tokens
from edge_agent.server.admission import Peer, admit
from edge_agent.server.agent_session import serve_forward
from edge_agent.server.closing import End
from edge_agent.server.context import Parts, Visitor
from edge_agent.server.handshake import (
    HandshakeRefusal,
    Head,
    Post,
    Upgrade,
    read_head,
    refuse,
    response,
)
from edge_agent.server.plain_session import serve_plain
from edge_agent.server.posting.post_answers import refused
from edge_agent.server.posting.post_answers import response as answer
from edge_agent.server.posting.posts import Posts
from edge_agent.server.query_session import serve_query, serve_subscription
from edge_agent.server.sensor_session import serve_session
from edge_agent.server.transport import abort
from edge_agent.server.websocket import WebSocket
from edge_agent.wire import (
    FORWARD_MESSAGE_BYTES,
    HTTP_STATUS,
    choose_subprotocol,
    parse_target,
)

#: A peer that is refused for want of room is asked to come back within these seconds.
_RETRY_AFTER_S = (5, 30)


class _Held:
    """The place that a connection holds. Not the connection itself, which its socket would keep."""

    def __init__(self, parts: Parts, on_closed: Callable[[], None]) -> None:
        self._parts = parts
        self._on_closed = on_closed
        self.place: Place | None = None

    def move_to(self, proved: Place) -> None:
        """It was let in."""
        self._give_back()
        self.place = proved

    def leave(self) -> None:
        """The socket is gone, though the connection's task may go on."""
        self._give_back()
        self._on_closed()

    def _give_back(self) -> None:
        if self.place is not None:
            self._parts.unproved.leave(self.place)
            self._parts.proved.leave(self.place)
        self.place = None


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
        self._peer = peer_of(stream)
        self._since_ns = parts.clock.read().wall_ns
        self._socket: WebSocket | None = None
        self._head: Upgrade | Post | None = None
        self._posts: Posts | None = None
        #: Who it is, once it has been let in.
        self.visitor: Visitor | None = None
        self._closing = self._displaced = False
        self._handshake = trio.CancelScope()
        self._waiting = trio.CancelScope()
        self._held = _Held(parts, on_closed)

    def say_goodbye(self) -> None:
        """The agent stops: tell the peer and end."""
        self._closing = True
        self._handshake.cancel()
        self._interrupt("closing")

    def judge_again(self, tokens: Tokens) -> None:
        """Tokens have changed: it ends where its own was revoked, or allows less now."""
        token = None if self.visitor is None else self.visitor.grant.token
        if token is not None and not tokens.still_allows(token):
            self._interrupt("revoked")

    def _interrupt(self, end: End) -> None:
        if self._socket is not None:
            self._socket.interrupt(end)
        if self._posts is not None:
            self._posts.end()

    async def serve(self) -> None:
        """From the first byte to the last answer."""
        try:
            self._held.place = self._parts.unproved.enter(self._peer.address, self._make_room)
            with self._waiting:
                is_admitted = await self._shake_hands()
            if self._displaced:
                self._refused(
                    "displaced", "It was not let in yet when others came, too many at once."
                )
            elif is_admitted:
                await self._run()
        finally:
            await abort(self._stream)
            self._held.leave()

    async def _shake_hands(self) -> bool:
        """Read and judge the request; False where it came to nothing."""
        refusal: HandshakeRefusal | None = None
        timeout = self._parts.listen.handshake_timeout
        self._handshake.deadline = trio.current_time() + timeout
        with self._handshake:
            try:
                if isinstance(self._stream, trio.SSLStream):
                    await self._stream.do_handshake()
                what_this_is = self._parts.what_this_is
                self._head = await read_head(self._stream, what_this_is=what_this_is)
                self.visitor = await self._judge(self._head)
            except HandshakeRefusal as reason:
                refusal = reason
            except (trio.BrokenResourceError, EOFError) as error:
                await self._left(error)
                return False
        if self._handshake.cancelled_caught and self._closing:
            self._refused("closing")
            return False
        if self._handshake.cancelled_caught:
            sentence = f"It sent no whole request within {timeout:g} s (listen.handshake_timeout)."
            self._refused("timeout", sentence)
            return False
        if refusal is not None:
            self._refused(refusal.reason, f"{refusal.sentence} {refusal.cure}".strip())
            is_post = isinstance(self._head, Post)
            told = answer(refused(refusal), is_last=True) if is_post else response(refusal)
            await refuse(self._stream, told)
            return False
        return True

    async def _left(self, error: BaseException) -> None:
        trouble = tls_trouble(error)
        if trouble is None:
            self._refused("left")
            return
        reason, sentence = trouble
        self._refused(reason, sentence)
        if reason == "no_tls" and isinstance(self._stream, trio.SSLStream):
            # It speaks HTTP, and so understands why not.
            told = response(HandshakeRefusal(400, sentence, reason))
            await refuse(self._stream.transport_stream, told)

    async def _judge(self, head: Head) -> Visitor:
        visitor = await self._known(head)
        # No wait from here on: what was judged is what is served.
        self._prove(visitor)
        return visitor

    async def _known(self, head: Head) -> Visitor:
        try:
            visitor = self._admit(head)
        except HandshakeRefusal as refusal:
            if refusal.reason != "bad_token" or self._parts.tokens is None:
                raise
            # It may have been made a moment ago.
            await self._parts.tokens.refresh()
            visitor = self._admit(head)
        if visitor.grant.identity and self._parts.uses is not None:
            self._parts.uses.note(visitor.grant.identity, self._peer.address)
        return visitor

    def _prove(self, visitor: Visitor) -> None:
        """Move to the places of those that are known."""
        parts = self._parts

        def is_silent() -> bool:
            # A token's bearer may be silent for as long as it likes. Without tokens this could be
            # anybody; a subscription is there to listen.
            may_be = parts.tokens is not None or visitor.target.kind == "subscribe"
            return not may_be and not visitor.has_spoken

        place = parts.proved.enter(visitor.grant.name, self._give_place, is_silent)
        if place is None:
            most = parts.listen.connections
            sentence = f"There are {most} connections already (listen.connections)."
            raise HandshakeRefusal(503, sentence, "full", parts.random.randint(*_RETRY_AFTER_S))
        self._held.move_to(place)
        parts.arrivals.give_back(self._peer.address)

    def _make_room(self) -> None:
        """Another peer takes this place, before this one was let in."""
        self._displaced = True
        self._waiting.cancel()

    def _give_place(self) -> None:
        """Another identity takes this place."""
        self._interrupt("displaced")

    def _admit(self, head: Head) -> Visitor:
        parts = self._parts
        try:
            choice = choose_subprotocol(head.subprotocols)
            grant = admit(head, choice.token, self._peer, parts.listen, parts.tokens)
            target = parse_target(head.target)
        except ProtocolError as error:
            raise HandshakeRefusal(
                HTTP_STATUS.get(error.code, 400), error.message, error.code
            ) from None
        if isinstance(head, Post) and target.kind != "ingest":
            # Else a scope of that path would let its records into a stream of its name.
            sentence = f"POST is for /ingest/STREAM; /{target.kind} is a WebSocket."
            raise HandshakeRefusal(404, sentence, "unknown_path")
        if target.kind == "ingest":
            grant.require_write(target.name)
        elif target.kind == "forward":
            grant.require_forward()
            if choice.mode != "msgpack":
                raise HandshakeRefusal(
                    400, "/forward speaks the subprotocol edge-agent.v1+msgpack.", "bad_subprotocol"
                )
        else:
            grant.require_read()
        self._subprotocol = choice.subprotocol
        return Visitor(self._peer, grant, target, choice.mode, self._since_ns)

    def _run(self) -> Awaitable[None]:
        upgrade, visitor = self._head, self.visitor
        assert upgrade is not None and visitor is not None
        # The request has served its purpose; the connection may stay for weeks.
        self._head = None
        if isinstance(upgrade, Post):
            self._posts = Posts(self._stream, upgrade, visitor, self._parts, self._judge_next)
            if self._closing:
                self._posts.end()
            return self._posts.run()
        is_forward = visitor.target.kind == "forward"
        self._socket = WebSocket(
            self._stream,
            idle_timeout=self._parts.listen.idle_timeout,
            limit=FORWARD_MESSAGE_BYTES if is_forward else self._parts.limits.message_bytes,
            silence=self._parts.silence,
            turns=self._parts.turns,
            reader=self._parts.reader,
            on_closed=self._held.leave,
        )
        if self._closing:
            self._socket.interrupt("closing")
        head = upgrade.head(self._subprotocol)
        return self._socket.run(head, upgrade.early, self._subprotocol, self._pump)

    def _pump(self, socket: WebSocket) -> Awaitable[None]:
        parts, visitor = self._parts, self.visitor
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

    async def _judge_next(self, post: Post) -> Visitor:
        """Who sends a further request of the same connection: by what it says itself."""
        before = self.visitor
        assert before is not None
        try:
            visitor = await self._known(post)
            if visitor.grant.name != before.grant.name:
                # Its place among the others is by that name.
                text = "A connection is for one token; open another one."
                raise HandshakeRefusal(403, text, "forbidden")
        except HandshakeRefusal as refusal:
            self._refused(refusal.reason, f"{refusal.sentence} {refusal.cure}".strip())
            raise
        if (visitor.grant, visitor.target) == (before.grant, before.target):
            # The same sender, whose messages are counted on.
            return before
        visitor.next = visitor.acked = before.next
        self.visitor = visitor
        return visitor

    def _refused(self, reason: str, sentence: str = "") -> None:
        self._parts.metrics.add("connections_refused_total", 1, reason)
        if sentence:
            self._parts.refused.note("listen.address", self._peer.address, reason, sentence)


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
