"""One HTTP/1.1 connection: h11 on a Trio stream, below an ASGI application.

One connection is one task, which reads a head, calls the application, and reads the next head. What
bounds it, so that no peer can hold more than its own place:

- a head has `HEAD_BYTES_MAX`, and `HEAD_TIMEOUT_S` from accept, or from the end of the last answer;
- a body is read as the application asks for it, never ahead, and as a whole has `BODY_BYTES_MAX`
  and `BODY_TIMEOUT_S`;
- a write has `WRITE_TIMEOUT_S` for every `WRITE_BYTES`: a reader that takes nothing is dropped,
  however much it still has to get. The application waits meanwhile, so nothing piles up.

The end of an answer of up to `AT_ONCE_BYTES` goes to the socket in one call, without a round of the
scheduler, if the kernel has room for it and the peer has sent nothing more yet. Who sends requests
ahead has each answer followed by a round, so that others get their turn.

Of ASGI there is what is used: requests, ``http.disconnect``, answers with and without a length.
An application that knows who asks says so with ``scope[CALLER]`` (`Caller`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

import h11
import msgspec
import trio

from edge_agent.net.accepting import LINGER_S, linger
from edge_agent.net.http_framing import framing_fault, origin_form
from edge_agent.output.printable import without_repr

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An ASGI application, and what it is called with."""

logger = logging.getLogger(__name__)

HEAD_BYTES_MAX = 16 * 1024
HEAD_TIMEOUT_S = 10.0
BODY_BYTES_MAX = 1024 * 1024
#: Pieces that h11 takes apart in one go, some 3 ms: a body in chunks of a byte has ten thousand of
#: them in one read.
_EVENTS_PER_TURN = 64
BODY_TIMEOUT_S = 20.0
WRITE_BYTES = 64 * 1024
WRITE_TIMEOUT_S = 20.0
#: Some 50 µs of copying, and more than the newest thousand records of a stream need.
AT_ONCE_BYTES = 256 * 1024
#: The key in a scope under which the application finds its `Caller`.
CALLER = "edge_agent.caller"

_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


class Caller(Protocol):
    """What the port knows of who asks, and learns from the application."""

    @property
    def address(self) -> str:
        """Where it is."""
        ...

    def proved(self, identity: str, still: Callable[[], bool]) -> bool:
        """It is ``identity``; False where there is no place for it. ``still`` is asked again when
        tokens change: False ends the connection.
        """
        ...


class HttpServerConnection:
    """See the module. `run` is called once.

    Args:
        stream: the socket, or TLS over it.
        app: answers.
        scope: what is the same in every scope: ``scheme``, ``client``, ``server``, `CALLER`.
        waits: called with True when it begins to wait for a head, with False when it has one.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        app: App,
        scope: MutableMapping[str, Any],
        waits: Callable[[bool], None],
    ) -> None:
        self._stream = stream
        self._app = app
        self._scope = scope
        self._waits = waits
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        self._writing = trio.StrictFIFOLock()
        self._request: h11.Request
        # The head of the answer, until the first piece of its body goes out with it.
        self._head: list[bytes] = []
        self._ahead = self._body = self._raw = self._events = 0
        self._body_deadline = 0.0
        self._gone = False
        #: Whether it waits for its peer, to send the rest of a body or to take what is written.
        self.waits_for_peer = False

    async def run(self) -> None:
        """Answer one request after another, until either side has had enough."""
        while await self._read_head():
            self._waits(False)
            await self._answer()
            if self._gone or not self._is_complete():
                break
            self._http.start_next_cycle()
            self._ahead = self._body = self._raw = 0
            self._waits(True)
        await self._leave()

    def _is_complete(self) -> bool:
        """Whether both sides have said all of this request and its answer."""
        http = self._http
        try:
            # A body that nobody wanted, as far as it is here already, and short.
            for _ in range(_EVENTS_PER_TURN):
                if http.their_state is not h11.SEND_BODY:
                    break
                if not isinstance(http.next_event(), h11.Data):
                    break
        except h11.RemoteProtocolError:
            return False
        return http.our_state is h11.DONE and http.their_state is h11.DONE

    async def _read_head(self) -> bool:
        """Whether there is a request now; one that cannot be read is answered here."""
        with trio.move_on_after(HEAD_TIMEOUT_S):
            try:
                event = await self._next_event()
                if isinstance(event, h11.Request):
                    self._request = event
                    self._body_deadline = trio.current_time() + BODY_TIMEOUT_S
                    why_not = _why_not(event)
                    return why_not is None or await self._refuse(*why_not)
            except h11.RemoteProtocolError as error:
                await self._refuse(error.error_status_hint, "bad_request", _about(error))
            except _GONE:
                pass
        self._gone = True
        return False

    async def _next_event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            data = await self._receive()
            if data and self._http.their_state is h11.IDLE and not self._http.trailing_data[0]:
                # Empty lines before a request are left over from a body (RFC 9112, 2.2).
                data = data.lstrip(b"\r\n")
                if not data:
                    continue
            if self._http.their_state is h11.SEND_BODY:
                # The heads of chunks count, too: they may be most of what comes.
                self._raw += len(data)
            self._http.receive_data(data)
        self._events += 1
        if self._events % _EVENTS_PER_TURN == 0:
            await trio.lowlevel.checkpoint()
        return event

    async def _receive(self) -> bytes:
        return bytes(await self._stream.receive_some(WRITE_BYTES))

    async def _refuse(self, status: int, code: str, message: str) -> bool:
        """Answer what never reaches the application; False."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await self._write(error_answer(status, code, message))
            await linger(self._stream)
        self._gone = True
        return False

    async def _answer(self) -> None:
        try:
            await self._app(self._scope_of(self._request), self._ask, self._send)
        except* Exception as group:
            if not self._gone:
                # A mistake of ours, which ends with this connection.
                logger.exception("an answer over HTTP failed", exc_info=group)
        if self._http.our_state is h11.SEND_RESPONSE and not self._gone:
            await self._refuse(500, "failed", "the agent made a mistake; its journal says which")
        if self._http.our_state is not h11.DONE:
            self._gone = True

    def _scope_of(self, request: h11.Request) -> dict[str, Any]:
        path, _, query = origin_form(request.target).partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": request.http_version.decode(),
            "method": request.method.decode(),
            "path": unquote_to_bytes(path).decode(errors="replace"),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": list(request.headers),
            **self._scope,
        }

    async def _ask(self) -> Message:
        """ASGI's ``receive``: the body, as far as it is asked for, then the end of the peer."""
        try:
            if self._http.their_state is h11.SEND_BODY and not self._gone:
                return await self._piece_of_body()
            while not self._gone and self._ahead < HEAD_BYTES_MAX:
                data = await self._receive()
                self._http.receive_data(data)
                self._ahead += len(data)
                self._gone = not data
        except (*_GONE, h11.RemoteProtocolError):
            self._gone = True
        if not self._gone:
            # It has sent so many requests ahead that its end can only be seen behind them.
            await trio.sleep_forever()
        return {"type": "http.disconnect"}

    async def _piece_of_body(self) -> Message:
        if self._http.they_are_waiting_for_100_continue:
            await self._write(
                self._http.send(h11.InformationalResponse(status_code=100, headers=[]))
            )
        with trio.move_on_at(self._body_deadline) as deadline:
            self.waits_for_peer = True
            event = await self._next_event()
            self.waits_for_peer = False
        if not deadline.cancelled_caught:
            if isinstance(event, h11.Data):
                self._body += len(event.data)
                if self._body <= BODY_BYTES_MAX and self._raw <= 2 * BODY_BYTES_MAX:
                    return {"type": "http.request", "body": bytes(event.data), "more_body": True}
            if isinstance(event, h11.EndOfMessage):
                return {"type": "http.request", "body": b"", "more_body": False}
        self._gone = True
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        """ASGI's ``send``; raises `trio.BrokenResourceError` where the peer is gone."""
        try:
            self._writing.acquire_nowait()
        except trio.WouldBlock:
            await self._writing.acquire()
        try:
            encode = self._http.send_with_data_passthrough
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                event = h11.Response(status_code=message["status"], headers=headers)
                self._head = [b"".join(encode(event) or ())]
                return
            parts, self._head = self._head, []
            body = message.get("body", b"")
            if body and self._request.method != b"HEAD":
                parts += encode(h11.Data(data=body)) or ()
            if message.get("more_body", False):
                await self._write(b"".join(parts))
                return
            parts += encode(h11.EndOfMessage()) or ()
            rest = self._written_at_once(parts)
            if rest is not None:
                await self._write(rest)
        finally:
            self._writing.release()

    def _written_at_once(self, parts: list[bytes]) -> bytes | None:
        """What the socket did not take of the end of an answer; None where there is nothing left to
        do, not even to let others have their turn.
        """
        stream = self._stream
        if not isinstance(stream, trio.SocketStream) or self._http.trailing_data[0]:
            return b"".join(parts)
        if not 0 < (size := sum(map(len, parts))) <= AT_ONCE_BYTES:
            return b"".join(parts)
        try:
            sent = os.writev(stream.socket.fileno(), parts)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._gone = True
            raise trio.BrokenResourceError from error
        return b"".join(parts)[sent:] if sent < size else None

    async def _write(self, data: bytes) -> None:
        try:
            with trio.move_on_after(WRITE_TIMEOUT_S) as deadline, memoryview(data) as view:
                self.waits_for_peer = True
                for begin in range(0, len(view), WRITE_BYTES):
                    if begin:
                        deadline.deadline = trio.current_time() + WRITE_TIMEOUT_S
                    await self._stream.send_all(view[begin : begin + WRITE_BYTES])
                self.waits_for_peer = False
            if deadline.cancelled_caught:
                raise trio.BrokenResourceError("the reader takes nothing")
        except _GONE:
            self._gone = True
            raise

    async def _leave(self) -> None:
        if self._gone:
            return
        with trio.move_on_after(LINGER_S):
            if self._http.their_state is not h11.DONE or self._ahead:
                await linger(self._stream)
            try:
                await self._stream.aclose()
            except _GONE:
                pass


def error_answer(status: int, code: str, message: str) -> bytes:
    """A whole answer that says what is wrong, after which the connection is closed."""
    body = msgspec.json.encode({"error": {"code": code, "message": message}}) + b"\n"
    lines = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode() + body


def _why_not(request: h11.Request) -> tuple[int, str, str] | None:
    """Why a request is refused unread: status, code and sentence."""
    if request.http_version not in (b"1.0", b"1.1"):
        return 505, "bad_version", "this port speaks HTTP/1.1"
    fault = framing_fault(request.headers, request.http_version)
    if fault is not None:
        return 400, "bad_request", fault
    if _length(request) > BODY_BYTES_MAX:
        return 413, "too_big", f"a request has at most {BODY_BYTES_MAX} bytes"
    return None


def _length(request: h11.Request) -> int:
    return next((int(value) for name, value in request.headers if name == b"content-length"), 0)


def _about(error: h11.RemoteProtocolError) -> str:
    return f"this is no HTTP/1.1 request: {without_repr(str(error))}"[:200]
