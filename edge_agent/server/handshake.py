"""This module reads the HTTP request that opens a connection, and answers those it refuses.

The head is read with h11 under the caller's deadline and with a bound on its size. What comes out
is an `Upgrade`: a correct WebSocket upgrade request, not yet judged by anybody. Everything else is
a `HandshakeRefusal`: an HTTP status and one sentence for a person, sent by `refuse`, which holds
nothing.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from http import HTTPStatus

import h11
import trio

from edge_agent.accepting import LINGER_S, linger
from edge_agent.printable import ended, without_repr

#: A head with a bearer token, some cookies and a browser's usual chatter has 2 KiB.
HEAD_BYTES_MAX = 16 * 1024
_TLS_HANDSHAKE = 0x16


@dataclass(eq=False)
class HandshakeRefusal(Exception):
    """The request is answered with an HTTP status instead of the upgrade.

    Attributes:
        status: HTTP status code.
        sentence: for the person who reads the answer.
        reason: one word for the metric ``connections_refused_total``.
        retry_after: seconds, for the header of that name.
        cure: for the person who looks after the agent; the peer is not told.
    """

    status: int
    sentence: str
    reason: str
    retry_after: int | None = None
    cure: str = ""

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A correct WebSocket upgrade request.

    Attributes:
        target: path and query as sent, e.g. ``/ingest/greenhouse?ack=1``.
        host, origin, user_agent: headers, None where absent.
        authorization: header, None where absent. Never logged, never shown.
        subprotocols: as offered, in order. May hold a token: never logged, never shown.
        early: bytes that came behind the head.
    """

    target: str
    host: str | None
    origin: str | None
    authorization: str | None = field(repr=False)
    subprotocols: tuple[str, ...] = field(repr=False)
    key: bytes = field(repr=False)
    early: bytes = field(repr=False)
    user_agent: str | None = None

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


async def read_upgrade(stream: trio.abc.Stream, *, what_this_is: str) -> Upgrade:
    """Read the request head; the caller sets the deadline. ``what_this_is`` is the line for people
    who come with a browser or curl.

    Raises:
        Refusal: not HTTP, too long, or no WebSocket upgrade.
        trio.BrokenResourceError: the socket broke.
        EOFError: the peer left before it had said anything whole.
    """
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
    try:
        while (event := connection.next_event()) is h11.NEED_DATA:
            data = await stream.receive_some(4096)
            if data[:1] == bytes([_TLS_HANDSHAKE]) and connection.their_state is h11.IDLE:
                raise HandshakeRefusal(
                    400, "This port speaks ws:// and http://, without TLS.", "tls"
                )
            if data and not connection.trailing_data[0]:
                # Empty lines before a request are to be ignored (RFC 9112, 2.2).
                data = data.lstrip(b"\r\n")
                if not data:
                    continue
            connection.receive_data(bytes(data))
    except h11.RemoteProtocolError as error:
        sentence = ended(f"This is not an HTTP request: {without_repr(str(error))}")
        raise HandshakeRefusal(error.error_status_hint, sentence, "bad_request") from None
    if not isinstance(event, h11.Request):
        raise EOFError("closed before a whole request")  # noqa: TRY004 - h11 says so with a type
    return _upgrade(event, connection.trailing_data[0], what_this_is)


def _upgrade(request: h11.Request, early: bytes, what_this_is: str) -> Upgrade:
    headers: dict[bytes, list[str]] = {}
    for name, value in request.headers:
        headers.setdefault(name, []).append(value.decode("latin-1"))

    def words(name: bytes) -> list[str]:
        return [word.strip() for value in headers.get(name, ()) for word in value.split(",")]

    def one(name: bytes) -> str | None:
        values = headers.get(name, ())
        if len(values) > 1:
            raise HandshakeRefusal(400, f"The header {name.decode()} came twice.", "bad_request")
        return values[0] if values else None

    if (
        request.method != b"GET"
        or "websocket" not in (word.lower() for word in words(b"upgrade"))
        or "upgrade" not in (word.lower() for word in words(b"connection"))
    ):
        raise HandshakeRefusal(426, what_this_is, "no_upgrade")
    if one(b"sec-websocket-version") != "13":
        raise HandshakeRefusal(
            426, "This port speaks WebSocket version 13 (RFC 6455).", "no_upgrade"
        )
    return Upgrade(
        target=request.target.decode("latin-1"),
        host=one(b"host"),
        origin=one(b"origin"),
        authorization=one(b"authorization"),
        subprotocols=tuple(word for word in words(b"sec-websocket-protocol") if word),
        key=_key(one(b"sec-websocket-key")),
        early=early,
        user_agent=next(iter(headers.get(b"user-agent", ())), None),
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
    if refusal.status == HTTPStatus.UNAUTHORIZED:
        lines.append('WWW-Authenticate: Bearer realm="edge-agent"')
    if refusal.retry_after is not None:
        lines.append(f"Retry-After: {refusal.retry_after}")
    return "\r\n".join([*lines, "", ""]).encode() + body


async def refuse(stream: trio.abc.Stream, refusal: HandshakeRefusal) -> None:
    """Send ``refusal`` and wait, within bounds, until the peer has seen it."""
    with trio.move_on_after(LINGER_S):
        try:
            await stream.send_all(response(refusal))
            await linger(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # It is gone; so is our answer's reader.
