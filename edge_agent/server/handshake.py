"""This module reads the HTTP request that opens a connection, and answers those it refuses.

The head is read with h11 under the caller's deadline and with a bound on its size. What comes out
is an `Upgrade`, a correct WebSocket upgrade request, or a `Post` of records, whose body is still to
be read (`edge_agent.server.posting.posts`); neither has been judged by anybody. Everything else is
a `HandshakeRefusal`: an HTTP status and one sentence for a person, sent by `refuse`, which holds
nothing.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import unquote

import h11
import trio

from edge_agent.net.accepting import LINGER_S, linger
from edge_agent.net.http_framing import framing_fault, origin_form
from edge_agent.output.printable import ended, without_repr
from edge_agent.security.tokens import TOKEN_PATH

#: A head with a bearer token, some cookies and a browser's usual chatter has 2 KiB.
HEAD_BYTES_MAX = 16 * 1024
_TLS_HANDSHAKE = 0x16
_READ_BYTES = 4096
_EVENT = b"ce-"
#: A UUID has 36, a key of our own sink some 60.
KEY_CHARACTERS_MAX = 255


@dataclass(eq=False)
class HandshakeRefusal(Exception):
    """The request is answered with an HTTP status instead of the upgrade.

    Attributes:
        status: HTTP status code.
        sentence: for the person who reads the answer.
        reason: one word for the metric ``connections_refused_total``.
        retry_after: seconds, for the header of that name.
        cure: for the person who looks after the agent; the peer is not told.
        to_head: it answers a HEAD, and so has no body.
    """

    status: int
    sentence: str
    reason: str
    retry_after: int | None = None
    cure: str = ""
    to_head: bool = False

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True, slots=True)
class Head:
    """What every request says of itself.

    Attributes:
        target: path and query as sent, e.g. ``/ingest/greenhouse?ack=1``.
        host, origin, user_agent: headers, None where absent.
        authorization: header, None where absent. Never logged, never shown.
        subprotocols: as offered, in order. May hold a token: never logged, never shown.
        url_secret: of ``/token/SECRET/ingest/STREAM``, which is no part of ``target`` then; never
            logged, never shown.
    """

    target: str
    host: str | None
    origin: str | None
    authorization: str | None = field(repr=False)
    subprotocols: tuple[str, ...] = field(repr=False)
    user_agent: str | None = None
    url_secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Post(Head):
    """A POST to any path, of which the body has not been read.

    Attributes:
        http: has read the head, and reads on.
        content_type, coding: in small letters, without parameters; "" where absent.
        length: of the body, None where it is not said; ``is_chunked``: its end will be said.
        key: ``Idempotency-Key``, "" where absent.
        event: attributes of a CloudEvent in binary mode, whose data the body is; else empty.
    """

    http: h11.Connection = field(repr=False)
    content_type: str
    coding: str
    length: int | None
    is_chunked: bool
    key: str
    event: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade(Head):
    """A correct WebSocket upgrade request. ``early``: bytes that came behind the head."""

    key: bytes = field(repr=False)
    early: bytes = field(repr=False)

    def head(self, subprotocol: str | None) -> bytes:
        """The request as trio-websocket needs it: only what a WebSocket handshake is made of."""
        lines = [
            b"GET / HTTP/1.1",
            b"Host: edge-agent",
            b"Connection: Upgrade",
            b"Upgrade: websocket",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: " + self.key,
        ]
        if subprotocol is not None:
            lines.append(b"Sec-WebSocket-Protocol: " + subprotocol.encode())
        return b"\r\n".join([*lines, b"", b""])


async def read_head(stream: trio.abc.Stream, *, what_this_is: str) -> Upgrade | Post:
    """Read the request head; the caller sets the deadline. ``what_this_is`` is the line for people
    who come with a browser or curl.

    Raises:
        Refusal: not HTTP, too long, or neither a WebSocket upgrade nor a POST.
        trio.BrokenResourceError: the socket broke.
        EOFError: the peer left before it had said anything whole.
    """
    http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
    request = await _request(stream, http)
    if request.method == b"POST":
        return _post(request, http)
    return _upgrade(request, http.trailing_data[0], what_this_is)


async def read_post(stream: trio.abc.Stream, data: bytes) -> Post:
    """The next POST of a connection, of which ``data`` has come (b"": the peer has left); the
    caller sets the deadline.

    Raises:
        Refusal: anything else.
        trio.BrokenResourceError, EOFError: it left.
    """
    if not data:
        raise EOFError("closed between two requests")
    http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
    # Empty lines before a request are to be ignored (RFC 9112, 2.2).
    http.receive_data(data.lstrip(b"\r\n"))
    request = await _request(stream, http)
    if request.method != b"POST":
        raise HandshakeRefusal(405, "Behind a POST, only a POST is expected.", "bad_request")
    return _post(request, http)


async def next_event(
    stream: trio.abc.Stream, http: h11.Connection, most: int = _READ_BYTES
) -> object:
    """What h11 makes of what comes, at most so many bytes at a time.

    Raises:
        Refusal: no HTTP.
        trio.BrokenResourceError: the socket broke.
    """
    try:
        while (event := http.next_event()) is h11.NEED_DATA:
            data = await stream.receive_some(most)
            if http.their_state is h11.IDLE:
                if data[:1] == bytes([_TLS_HANDSHAKE]):
                    raise HandshakeRefusal(
                        400, "This port speaks ws:// and http://, without TLS.", "tls"
                    )
                if data and not http.trailing_data[0]:
                    # Empty lines before a request are to be ignored (RFC 9112, 2.2).
                    data = data.lstrip(b"\r\n")
                    if not data:
                        continue
            http.receive_data(bytes(data))
    except h11.RemoteProtocolError as error:
        sentence = ended(f"This is not an HTTP request: {without_repr(str(error))}")
        raise HandshakeRefusal(error.error_status_hint, sentence, "bad_request") from None
    return event


async def _request(stream: trio.abc.Stream, http: h11.Connection) -> h11.Request:
    event = await next_event(stream, http)
    if not isinstance(event, h11.Request):
        raise EOFError("closed before a whole request")  # noqa: TRY004 - h11 says so with a type
    if event.http_version not in (b"1.0", b"1.1"):
        raise HandshakeRefusal(505, "This port speaks HTTP/1.1.", "bad_request")
    return event


class _Headers:
    """Of a request, by name in small letters."""

    def __init__(self, request: h11.Request) -> None:
        self._all: dict[bytes, list[str]] = {}
        for name, value in request.headers:
            self._all.setdefault(name, []).append(value.decode("latin-1"))

    def words(self, name: bytes) -> list[str]:
        return [word.strip() for value in self._all.get(name, ()) for word in value.split(",")]

    def first(self, name: bytes) -> str | None:
        return next(iter(self._all.get(name, ())), None)

    def one(self, name: bytes) -> str | None:
        values = self._all.get(name, ())
        if len(values) > 1:
            raise HandshakeRefusal(400, f"The header {name.decode()} came twice.", "bad_request")
        return values[0] if values else None

    def event(self) -> dict[str, str]:
        """The attributes of a CloudEvent in binary mode, by name."""
        if b"ce-specversion" not in self._all:
            return {}
        found = {name.decode(): self.one(name) for name in self._all if name.startswith(_EVENT)}
        return {name[len(_EVENT) :]: unquote(value or "") for name, value in found.items()}


def _target(request: h11.Request) -> tuple[str, str | None]:
    """The target, and the secret that stood before it, if one did."""
    target = origin_form(request.target).decode("latin-1")
    if not target.startswith(TOKEN_PATH):
        return target, None
    secret, slash, rest = target.removeprefix(TOKEN_PATH).partition("/")
    return slash + rest, secret


def _check_framing(request: h11.Request, *, may_have_body: bool) -> None:
    fault = framing_fault(request.headers, request.http_version, may_have_body=may_have_body)
    if fault is not None:
        raise HandshakeRefusal(400, fault, "bad_request")


def _post(request: h11.Request, http: h11.Connection) -> Post:
    _check_framing(request, may_have_body=True)
    headers = _Headers(request)
    one, length = headers.one, headers.one(b"content-length")
    target, secret = _target(request)
    key = one(b"idempotency-key")
    # One that is empty is a variable that nobody has set: it would promise nothing.
    if key is not None and not 0 < len(key) <= KEY_CHARACTERS_MAX:
        text = f"Idempotency-Key: 1 to {KEY_CHARACTERS_MAX} characters are expected."
        raise HandshakeRefusal(400, text, "bad_request")
    return Post(
        target=target,
        url_secret=secret,
        host=one(b"host"),
        origin=one(b"origin"),
        authorization=one(b"authorization"),
        subprotocols=(),
        user_agent=headers.first(b"user-agent"),
        http=http,
        content_type=(one(b"content-type") or "").partition(";")[0].strip().lower(),
        coding=(one(b"content-encoding") or "").strip().lower(),
        length=int(length) if length and length.isdigit() else None,
        is_chunked="chunked" in (word.lower() for word in headers.words(b"transfer-encoding")),
        key=key or "",
        event=headers.event(),
    )


def _upgrade(request: h11.Request, early: bytes, what_this_is: str) -> Upgrade:
    headers = _Headers(request)
    words, one = headers.words, headers.one
    if request.method not in (b"GET", b"HEAD"):
        # Also a browser's question before it lets a page of elsewhere POST: nothing allows it.
        raise HandshakeRefusal(405, what_this_is, "no_upgrade")
    if (
        (to_head := request.method == b"HEAD")
        or "websocket" not in (word.lower() for word in words(b"upgrade"))
        or "upgrade" not in (word.lower() for word in words(b"connection"))
    ):
        raise HandshakeRefusal(426, what_this_is, "no_upgrade", to_head=to_head)
    _check_framing(request, may_have_body=False)
    if one(b"sec-websocket-version") != "13":
        raise HandshakeRefusal(
            426, "This port speaks WebSocket version 13 (RFC 6455).", "no_upgrade"
        )
    target, secret = _target(request)
    return Upgrade(
        target=target,
        url_secret=secret,
        host=one(b"host"),
        origin=one(b"origin"),
        authorization=one(b"authorization"),
        subprotocols=tuple(word for word in words(b"sec-websocket-protocol") if word),
        key=_key(one(b"sec-websocket-key")),
        early=early,
        user_agent=headers.first(b"user-agent"),
    )


def _key(text: str | None) -> bytes:
    try:
        key = (text or "").encode("ascii")
        if len(base64.b64decode(key, validate=True)) == 16:
            return key
    except (UnicodeEncodeError, binascii.Error):
        pass
    raise HandshakeRefusal(400, "Sec-WebSocket-Key: expected 16 bytes in base64.", "bad_request")


def response(refusal: HandshakeRefusal) -> bytes:
    """The whole HTTP response of ``refusal``."""
    body = refusal.sentence.encode() + b"\n"
    lines = [
        f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    if refusal.status == HTTPStatus.UPGRADE_REQUIRED:
        lines += ["Upgrade: websocket", "Sec-WebSocket-Version: 13"]
    if refusal.status == HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, POST")
    if refusal.status == HTTPStatus.UNAUTHORIZED:
        lines.append('WWW-Authenticate: Bearer realm="edge-agent"')
    if refusal.retry_after is not None:
        lines.append(f"Retry-After: {refusal.retry_after}")
    return "\r\n".join([*lines, "", ""]).encode() + (b"" if refusal.to_head else body)


async def refuse(stream: trio.abc.Stream, answer: bytes) -> None:
    """Send a refusal's whole response and wait, within bounds, until the peer has seen it."""
    with trio.move_on_after(LINGER_S):
        try:
            await stream.send_all(answer)
            await linger(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # It is gone; so is our answer's reader.
