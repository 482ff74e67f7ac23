"""The requests of one connection: heads and bodies, each judged, one after the other.

A sensor that posts sends the same head again and again, byte for byte, or one of a few that differ
in the length of the body. So the heads of requests that came in one piece are remembered, and one
that begins with the same bytes is not parsed anew, which takes longer than storing a record. It is
not judged anew either, but once in `JUDGED_S`; what a token may no longer is taken back by
`Posts.end`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import h11
import trio

from edge_agent.server.context import Parts, Visitor
from edge_agent.server.handshake import HandshakeRefusal, Post, next_event, read_post

#: What may be read of all bodies at one time, as a part of ``limits.in_flight_bytes``.
_SHARE: Final = 4
_BUSY_S: Final = (1, 5)
#: Asked of a socket at a time.
READ_BYTES: Final = 64 * 1024
#: Heads of one connection that are remembered: the lengths of bodies differ by some digits.
HEADS_MAX: Final = 8
#: How long the same head means the same sender.
JUDGED_S: Final = 10.0
_HEAD_END: Final = b"\r\n\r\n"

Judge = Callable[[Post], Awaitable[Visitor]]
"""Says who sends a request. Raises HandshakeRefusal."""


@dataclass(frozen=True, slots=True)
class PostRequest:
    """A whole request. ``is_last``: its sender wants no other one answered."""

    post: Post
    visitor: Visitor
    body: bytes
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class _KnownHead:
    """How long a head and its body are together, and what it says until when."""

    size: int
    post: Post
    visitor: Visitor
    until: float


class PostRequests:
    """See the module. ``first``: the request whose head was read and judged before."""

    def __init__(
        self, stream: trio.abc.Stream, first: Post, visitor: Visitor, parts: Parts, judge: Judge
    ) -> None:
        self._stream, self._parts, self._judge = stream, parts, judge
        self._first: tuple[Post, Visitor] | None = (first, visitor)
        self._rest = b""
        self._known: dict[bytes, _KnownHead] = {}

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing of a next request is at hand."""
        return self._first is None and not self._rest

    def known(self, data: bytes, now: float) -> PostRequest | None:
        """The request that is ``data``, if it is a whole one whose head is known."""
        end = data.find(_HEAD_END) + len(_HEAD_END)
        known = self._known.get(data[:end])
        if known is None or len(data) != known.size or now >= known.until:
            return None
        return PostRequest(known.post, known.visitor, data[end:])

    async def next(self, came: bytes | None = None) -> PostRequest:
        """The next one, of which ``came`` was read already (b"": the peer has left). Its body
        counts in ``Parts.posted.reading`` until the caller takes it out.

        Raises:
            HandshakeRefusal: it is not read on.
            EOFError, trio.BrokenResourceError: the peer left.
        """
        if self._first is not None:
            (post, visitor), self._first = self._first, None
            return await self._whole(post, visitor, b"")
        data, self._rest = self._rest, b""
        if not data:
            data = bytes(await self._stream.receive_some(READ_BYTES)) if came is None else came
        known = self.known(data, trio.current_time())
        if known is not None:
            try:
                self._count(len(known.body))
            except HandshakeRefusal:
                self._parts.posted.reading -= len(known.body)
                raise
            return known
        post = await read_post(self._stream, data)
        return await self._whole(post, await self._judge(post), data)

    async def _whole(self, post: Post, visitor: Visitor, data: bytes) -> PostRequest:
        body = await self._body(post)
        self._rest = post.http.trailing_data[0]
        is_last = post.http.their_state is h11.MUST_CLOSE
        head = data[: data.find(_HEAD_END) + len(_HEAD_END)]
        if head.startswith(b"POST ") and not (is_last or post.key or post.is_chunked):
            size = len(head) + len(body)
            # It all came in one piece: nobody waited for a word before sending the body.
            if size == len(data):
                until = trio.current_time() + JUDGED_S
                if len(self._known) >= HEADS_MAX:
                    self._known.clear()
                self._known[head] = _KnownHead(size, post, visitor, until)
        return PostRequest(post, visitor, body, is_last)

    async def _body(self, post: Post) -> bytes:
        most = int(self._parts.limits.message_bytes)
        if post.coding not in ("", "identity"):
            raise HandshakeRefusal(415, "A body without Content-Encoding is expected.", "coding")
        if post.length is None and not post.is_chunked:
            raise HandshakeRefusal(411, "Content-Length, or chunks, are expected.", "no_length")
        if (post.length or 0) > most:
            raise _too_long(most)
        if post.http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[])
            await self._stream.send_all(post.http.send(go_on) or b"")
        pieces: list[bytes] = []
        size = 0
        try:
            while True:
                event = await next_event(self._stream, post.http, READ_BYTES)
                if isinstance(event, h11.EndOfMessage):
                    return b"".join(pieces)
                if not isinstance(event, h11.Data):
                    raise trio.BrokenResourceError("it left in the middle of a request")
                size += len(event.data)
                pieces.append(bytes(event.data))
                self._count(len(event.data))
                if size > most:
                    raise _too_long(most)
        except BaseException:
            self._parts.posted.reading -= size
            raise

    def _count(self, more: int) -> None:
        posted, limits = self._parts.posted, self._parts.limits
        posted.reading += more
        if posted.reading > limits.in_flight_bytes // _SHARE:
            text = "Too much is being sent at one time."
            raise HandshakeRefusal(503, text, "busy", self._parts.random.randint(*_BUSY_S))


def _too_long(most: int) -> HandshakeRefusal:
    text = f"A body has at most {most} bytes (limits.message_bytes)."
    return HandshakeRefusal(413, text, "too_big")
