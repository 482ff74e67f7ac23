"""The requests of one connection: heads and bodies, each judged, one after the other.

A sensor that posts sends the same head again and again, byte for byte but for the length of the
body. So the heads of requests that came in one piece are remembered, and one that is the same but
for the digits of its length is not parsed anew, which takes longer than storing a hundred records.
It is not judged anew either, but once in `JUDGED_S`; what a token may no longer is taken back by
`Posts.end`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import h11
import trio

from edge_agent.server.context import Parts, Visitor
from edge_agent.server.handshake import HandshakeRefusal, Post, next_event, read_post
from edge_agent.server.posting.post_bodies import type_fault

#: What may be read of all bodies at one time, as a part of ``limits.in_flight_bytes``.
_SHARE: Final = 4
_BUSY_S: Final = (1, 5)
#: Asked of a socket at a time.
READ_BYTES: Final = 64 * 1024
#: Heads of one connection that are remembered: it may send some streams in turn.
HEADS_MAX: Final = 8
#: How long the same head means the same sender.
JUDGED_S: Final = 10.0
_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)\r\n", re.IGNORECASE)
_LENGTH_NAME: Final = b"content-length"
#: Of what comes in one read.
_DIGITS_MAX: Final = 6

Judge = Callable[[Post], Awaitable[Visitor]]
"""Says who sends a request. Raises HandshakeRefusal."""


@dataclass(slots=True)
class PostRequest:
    """A whole request. ``is_last``: its sender wants no other one answered.

    Who reads the ``body`` takes it out, so that it is gone once it is stored.
    """

    post: Post
    visitor: Visitor
    body: bytes
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class KnownHead:
    """A head ``before`` and ``behind`` its length's digits, and what it says ``until`` when."""

    before: bytes
    behind: bytes
    post: Post
    visitor: Visitor
    until: float

    @classmethod
    def of(cls, head: bytes, post: Post, visitor: Visitor, until: float) -> KnownHead | None:
        """Of a ``head`` that was judged; None where it is not plain which digits are its length."""
        found = _LENGTH.search(head)
        if found is None or head.lower().count(_LENGTH_NAME) != 1:
            return None
        return cls(head[: found.start(1)], head[found.end(1) :], post, visitor, until)

    def body_at(self, data: bytes) -> int:
        """Where in ``data`` the body begins, if that is a whole request with this head; or 0."""
        begin = len(self.before)
        if not data.startswith(self.before):
            return 0
        end = data.find(b"\r", begin, begin + _DIGITS_MAX)
        if end <= begin or not data.startswith(self.behind, end):
            return 0
        digits, body = data[begin:end], end + len(self.behind)
        # Else it may be a request that is not there as a whole, or two.
        return body if digits.isdigit() and int(digits) == len(data) - body else 0


class PostRequests:
    """See the module. ``first``: the request whose head was read and judged before."""

    def __init__(
        self, stream: trio.abc.Stream, first: Post, visitor: Visitor, parts: Parts, judge: Judge
    ) -> None:
        self._stream, self._parts, self._judge = stream, parts, judge
        self._first: tuple[Post, Visitor] | None = (first, visitor)
        self._rest = b""
        self._known: list[KnownHead] = []
        self._most = int(parts.limits.message_bytes)

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing of a next request is at hand."""
        return self._first is None and not self._rest

    def known(self, data: bytes, now: float) -> tuple[KnownHead, bytes] | None:
        """Head and body, if ``data`` is a whole request whose head is known."""
        for head in self._known:
            begin = head.body_at(data)
            if begin:
                body = data[begin:]
                return (head, body) if now < head.until and len(body) <= self._most else None
        return None

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
            head, body = known
            try:
                self._count(len(body))
            except HandshakeRefusal:
                self._parts.posted.reading -= len(body)
                raise
            return PostRequest(head.post, head.visitor, body)
        post = await read_post(self._stream, data)
        return await self._whole(post, await self._judge(post), data)

    async def _whole(self, post: Post, visitor: Visitor, data: bytes) -> PostRequest:
        body = await self._body(post)
        self._rest = post.http.trailing_data[0]
        is_last = post.http.their_state is h11.MUST_CLOSE
        if not (is_last or post.key or post.is_chunked or post.event):
            self._remember(data, len(body), post, visitor)
        return PostRequest(post, visitor, body, is_last)

    def _remember(self, data: bytes, body: int, post: Post, visitor: Visitor) -> None:
        head = data[: data.find(_HEAD_END) + len(_HEAD_END)]
        # It all came in one piece: nobody waited for a word before sending the body.
        if not head.startswith(b"POST ") or len(head) + body != len(data):
            return
        known = KnownHead.of(head, post, visitor, trio.current_time() + JUDGED_S)
        if known is None:
            return
        others = [
            one for one in self._known if (one.before, one.behind) != (known.before, known.behind)
        ]
        self._known = [known, *([] if len(others) >= HEADS_MAX else others)]

    async def _body(self, post: Post) -> bytes:
        most = self._most
        if post.coding not in ("", "identity"):
            raise HandshakeRefusal(415, "A body without Content-Encoding is expected.", "coding")
        # The data of an event in binary mode may be anything.
        if not post.event and (fault := type_fault(post.content_type)) is not None:
            raise HandshakeRefusal(415, fault, "type")
        if post.length is None and not post.is_chunked:
            raise HandshakeRefusal(411, "Content-Length, or chunks, are expected.", "no_length")
        if (post.length or 0) > most:
            raise _too_long(most)
        if post.http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
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
