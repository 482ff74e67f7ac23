"""One HTTP/1.1 connection to an upstream sends POST after POST, and waits while bytes move.

h11 knows the protocol; here are the byte stream, the bounds and the deadlines. What the server may
send is bounded in bytes, in answers before the answer, and in time; whatever it sends ends in an
`HttpAnswer` or an exception, and then the connection is not used again. The answer is read while
the request is sent: who refuses a body by its head does so before it has all of it.

Deadlines: ``timeout`` since the last byte that moved, in either direction. A byte that goes has
moved when it leaves the kernel's queue, so that 800 kB over 16 kB/s are 50 s of movement. An answer
that drips is given 1 kB a second and not for ever.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from urllib.parse import quote, urlsplit

import h11
import trio

from edge_agent.forward.lanes.failures import http_words, innermost
from edge_agent.forward.link.progress_stream import PIECE_BYTES, ProgressStream, socket_of
from edge_agent.forward.link.proxy import INTERIM_MAX, Proxy, dial_proxy, tunnel
from edge_agent.forward.sinks.http.answer import ANSWER_BYTES_MAX, REFUSAL_BYTES_MAX, HttpAnswer
from edge_agent.net.dial import Dial

_RECEIVE_BYTES = 64 * 1024
_HEAD_BYTES_MAX = 64 * 1024
#: Other tasks get their turn after so many events out of one read: chunks may have a byte each.
_EVENTS_PER_TURN = 128
#: What an answer must come to on the whole, bytes a second, beyond twice the timeout.
_SLOWEST = 1000.0
_LOOK_S = 1.0
#: What a path and a query may hold as it is.
_SAFE = "/?%:@!$&'()*+,;=~-._"

#: What the network and a server may do to a connection.
CONNECTION_ERRORS = (
    OSError,
    ssl.SSLError,
    h11.RemoteProtocolError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)


class HttpClientConnection:
    """See the module's docstring; `open_connection` makes one.

    Attributes:
        tls: the context that it was opened with.
        has_begun: whether the request's body is, or was, on its way.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        url: str,
        tls: ssl.SSLContext | None,
        proxy: Proxy | None = None,
    ) -> None:
        parts = urlsplit(url)
        self.tls = tls
        self.has_begun = False
        self._stream = ProgressStream(stream)
        self._stream.is_opening = False
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES_MAX)
        self._host = parts.netloc.rpartition("@")[2].encode("idna").decode()
        path = quote(parts.path or "/", safe=_SAFE)
        query = "?" + quote(parts.query, safe=_SAFE) if parts.query else ""
        # To a proxy the whole URL is said, unless it has opened a tunnel.
        origin = f"http://{self._host}" if proxy is not None and tls is None else ""
        self._target = f"{origin}{path}{query}"
        self._more = proxy.headers if proxy is not None and tls is None else []
        self._is_good = True
        self._is_sent = False
        self._handed = self._received = 0

    @property
    def is_good(self) -> bool:
        """Whether another request may be sent over it, as far as is known."""
        socket = socket_of(self._stream.inner)
        return self._is_good and not (socket is not None and socket.is_readable())

    @property
    def gone_bytes(self) -> int:
        """About how much of the body has left this machine."""
        self._stream.look()
        return max(self._handed - self._stream.queued, 0)

    async def post(
        self,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        timeout: float,
        method: str = "POST",
        most: int = ANSWER_BYTES_MAX,
    ) -> HttpAnswer | None:
        """The answer to one POST (or PUT), of which ``most`` bytes are read; None where nothing
        moved for ``timeout`` seconds.

        Raises:
            CONNECTION_ERRORS: whatever ended it before the answer was whole.
        """
        self._is_good = self._is_sent = self.has_begun = False
        self._handed = self._received = 0
        answer: HttpAnswer | None = None
        failure: Exception | None = None
        fixed = [("Host", self._host), ("Content-Length", str(len(body))), *self._more]
        request = h11.Request(method=method, target=self._target, headers=[*fixed, *headers])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, timeout, nursery.cancel_scope)
            nursery.start_soon(self._send, request, body)
            try:
                answer = await self._receive(most)
            except CONNECTION_ERRORS as error:
                failure = error
            nursery.cancel_scope.cancel("the request has ended")
        try:
            if failure is not None:
                raise failure
        finally:
            del failure  # Its traceback holds this frame, which must not hold it.
        if answer is not None:
            self._next_cycle()
        return answer

    async def aclose(self) -> None:
        """Close it; at once, should the other side not take part."""
        self._is_good = False
        await trio.aclose_forcefully(self._stream)

    async def _send(self, request: h11.Request, body: bytes) -> None:
        http, stream = self._http, self._stream
        try:
            await stream.send_all(http.send(request) or b"")
            self.has_begun = True
            for start in range(0, len(body), PIECE_BYTES):
                piece = body[start : start + PIECE_BYTES]
                await stream.send_all(http.send(h11.Data(data=piece)) or b"")
                self._handed += len(piece)
            http.send(h11.EndOfMessage())
            self._is_sent = True
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # Its answer may be there all the same; if not, `_receive` meets the same end.

    async def _receive(self, most: int) -> HttpAnswer:
        head: h11.Response | None = None
        pieces: list[bytes] = []
        size = limit = interim = events = 0
        complete = True
        try:
            while not isinstance(event := await self._event(), h11.EndOfMessage):
                events += 1
                if events % _EVENTS_PER_TURN == 0:
                    await trio.lowlevel.checkpoint()
                if isinstance(event, h11.Response):
                    head = event
                    is_2xx = 200 <= head.status_code < 300
                    limit = most if is_2xx else REFUSAL_BYTES_MAX
                elif isinstance(event, h11.Data):
                    pieces.append(bytes(event.data))
                    size += len(event.data)
                elif not isinstance(event, h11.InformationalResponse) or event.status_code == 101:
                    raise h11.RemoteProtocolError("it changes to another protocol")
                elif (interim := interim + 1) > INTERIM_MAX:
                    raise h11.RemoteProtocolError("it does not come to an answer")
                # What does not count towards the body (chunk heads) is bounded, too.
                if head is not None and max(size, self._received // 16) > limit:
                    complete = False
                    break
        except CONNECTION_ERRORS:
            # Who refuses a body need not take all of it, nor say goodbye.
            if head is None or head.status_code < 300:
                raise
            complete = False
        assert head is not None
        return HttpAnswer(head.status_code, _headers(head), b"".join(pieces), complete, most)

    async def _event(self) -> h11.Event | type[h11.PAUSED]:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            data = await self._stream.receive_some(_RECEIVE_BYTES)
            self._received += len(data)
            if not data and self._http.their_state is h11.SEND_RESPONSE:
                raise ConnectionResetError("the server hung up before it answered")
            self._http.receive_data(bytes(data))
        assert event is not h11.NEED_DATA
        return event  # type: ignore[return-value]  # h11 names its sentinels as classes of their own

    def _next_cycle(self) -> None:
        http = self._http
        # More than the answer to what was asked would be taken for the answer to what comes next.
        if http.our_state is http.their_state is h11.DONE and not http.trailing_data[0]:
            http.start_next_cycle()
            self._is_good = True

    async def _watch(self, timeout: float, scope: trio.CancelScope) -> None:
        """End the request once nothing has moved for ``timeout`` seconds."""
        began, stream = trio.current_time(), self._stream
        while True:
            stream.look()
            deadline = max(began, stream.moved_at) + timeout
            if self._is_sent:
                dripping = max(began, stream.gone_at) + 2 * timeout + self._received / _SLOWEST
                deadline = min(deadline, dripping)
            now = trio.current_time()
            if now >= deadline:
                scope.cancel("nothing moves any more")
                return
            await trio.sleep_until(min(deadline, now + min(_LOOK_S, timeout / 4)))


async def open_connection(
    dial: Dial, url: str, tls: ssl.SSLContext | None, proxy: Proxy | None
) -> HttpClientConnection:
    """Connect to the host of ``url``, through ``proxy`` where there is one.

    Raises:
        OSError: no connection.
        SinkUnavailable: the proxy refuses.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (80 if tls is None else 443)
    if proxy is None:
        stream = await dial(host, port, tls)
    elif tls is None:
        stream = await dial_proxy(dial, proxy)
    else:
        stream = await tunnel(dial, proxy)(host, port, tls)
    return HttpClientConnection(stream, url, tls, proxy)


def reason_of(error: Exception) -> str:
    """What ended a request, for people."""
    if isinstance(error, h11.RemoteProtocolError):
        return http_words(str(error))
    return innermost(error)


def _headers(head: h11.Response) -> dict[str, str]:
    """By name in lower case; what comes twice is joined, as HTTP has it."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in head.headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
