"""The people's port: HTTP/1.1 for an ASGI application, one task for each connection.

`http_connection` has the protocol, Starlette (in `app`) the routes; here is who may be connected:

- Who connects faster than ``unproved_per_address`` a second for long, and is let in for nothing, is
  reset before anything is spent on it (`edge_agent.net.accepting`).
- Who waits for a head, because it has just come or because its last answer is sent, is *unproved*
  and competes with its like alone: at most ``unproved``, and ``unproved_per_address`` of one
  address; the one that has waited longest is closed for a newcomer. TLS counts as waiting.
- Who has been let in for a request has one of ``connections`` places while it is answered; how they
  are shared among identities is in `edge_agent.net.connection_quota`. One that does not send its
  body, or does not take its answer, is the first to give way.
- Each connection has its own guard: what goes wrong in it ends with it.

HTTP/2 is not spoken: it lets one peer hold a hundred answers at the cost of one socket, and nothing
here needs it. Imported only where ``http.address`` is not ``"off"``.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import trio

from edge_agent.config import Http
from edge_agent.net.accepting import LINGER_S, Refused, Sieve, linger, next_connection
from edge_agent.net.connection_quota import Arrivals, Place, ProvedQuota, UnprovedQuota
from edge_agent.net.refused_peers import tls_trouble
from edge_agent.ops.http_connection import (
    CALLER,
    HEAD_TIMEOUT_S,
    App,
    HttpServerConnection,
    error_answer,
)

logger = logging.getLogger(__name__)

#: What answers in progress get at shutdown.
GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class Serving:
    """Where the port listens, as ``(host, port)`` of each socket."""

    addresses: tuple[tuple[str, int], ...]


async def serve(
    app: App,
    listeners: Sequence[trio.SocketListener],
    *,
    tls: ssl.SSLContext | None = None,
    places: Http | None = None,
    tokens_changed: Callable[[], Awaitable[None]] | None = None,
    refused: Refused = lambda address, reason, sentence, times: None,
    task_status: trio.TaskStatus[Serving] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer until cancelled; then answers in progress get `GRACE_S`.

    Args:
        app: the ASGI application.
        listeners: bound and listening; closed when this ends.
        tls: where the port speaks https.
        places: how many may be connected; the rest of it does not count here.
        tokens_changed: waits until tokens have changed, after which everybody is judged again.
        refused: is told of peers with whom there is no TLS, and of those that are not heard.
        task_status: started with where it listens, once it does.
    """
    port = _Port(app, tls, places or Http(), refused)
    doors = [port.door(listener) for listener in listeners]
    async with trio.open_nursery() as connections:
        try:
            async with trio.open_nursery() as accepting:
                if tokens_changed is not None:
                    accepting.start_soon(port.follow, tokens_changed)
                for door in doors:
                    accepting.start_soon(port.accept, door, connections)
                task_status.started(Serving(tuple(_address(listener) for listener in listeners)))
        finally:
            with trio.CancelScope(shield=True):
                for door in doors:
                    await door.aclose()
                await port.end()


class _Guarded:
    """One connection as its port sees it; the `Caller` of what is asked over it."""

    def __init__(self, stream: trio.SocketStream, port: _Port) -> None:
        self.stream = stream
        self.address = _peer(stream)[0]
        self.is_waiting = True
        self._port = port
        # Shielded: the end comes through `_Port.end`, which lets answers in progress finish.
        self._scope = trio.CancelScope(shield=True)
        self._unproved: Place | None = None
        self._proved: Place | None = None
        self._still: Callable[[], bool] | None = None
        self._is_known = False
        self._http: HttpServerConnection

    def close(self) -> None:
        """End it now."""
        self._scope.cancel("closed by the port")

    def waits(self, is_waiting: bool) -> None:
        """It waits for a head, or no longer does."""
        self.is_waiting = is_waiting
        if is_waiting:
            self._leave()
            if self._port.ending:
                self.close()
            self._unproved = self._port.unproved.enter(self.address, self.close)

    def proved(self, identity: str, still: Callable[[], bool]) -> bool:
        """As `Caller` says."""
        self._proved = self._port.proved.enter(identity, self.close, self._waits_for_peer)
        if self._proved is None:
            return False
        if self._unproved is not None:
            self._port.unproved.leave(self._unproved)
            self._unproved = None
        if not self._is_known:
            self._is_known = True
            self._port.arrivals.give_back(self.address)
        self._still = still
        return True

    def judge_again(self) -> None:
        """Tokens have changed."""
        if self._still is not None and not self._still():
            self.close()

    async def run(self, app: App, tls: ssl.SSLContext | None) -> None:
        """From accept to the end, whatever happens."""
        try:
            with self._scope:
                self.waits(True)
                await self._run(app, tls)
        except* (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass  # It left.
        except* Exception:
            # Whatever it was, it was about this peer; the others must not hear of it.
            logger.exception("a connection to the people's port ended in a mistake of ours")
        finally:
            self._leave()
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(self.stream)

    async def _run(self, app: App, tls: ssl.SSLContext | None) -> None:
        stream: trio.abc.Stream = self.stream
        if tls is not None:
            stream = trio.SSLStream(self.stream, tls, server_side=True, https_compatible=True)
            with trio.move_on_after(HEAD_TIMEOUT_S) as deadline:
                try:
                    await stream.do_handshake()
                except trio.BrokenResourceError as error:
                    await self._tell_trouble(error)
                    return
            if deadline.cancelled_caught:
                return
        scope = {
            "scheme": "http" if tls is None else "https",
            "client": _peer(self.stream),
            "server": _address_of(self.stream.socket.getsockname()),
            CALLER: self,
        }
        self._http = HttpServerConnection(stream, app, scope, self.waits)
        await self._http.run()

    async def _tell_trouble(self, error: BaseException) -> None:
        if (trouble := tls_trouble(error)) is None:
            return
        reason, sentence = trouble
        self._port.refused(self.address, reason, sentence, 1)
        if reason == "no_tls":
            # It speaks HTTP, and so understands why not.
            with trio.move_on_after(LINGER_S):
                await self.stream.send_all(error_answer(400, reason, sentence))
                await linger(self.stream)

    def _waits_for_peer(self) -> bool:
        return self._http.waits_for_peer

    def _leave(self) -> None:
        if self._unproved is not None:
            self._port.unproved.leave(self._unproved)
        if self._proved is not None:
            self._port.proved.leave(self._proved)
        self._unproved = self._proved = self._still = None


class _Port:
    def __init__(
        self, app: App, tls: ssl.SSLContext | None, places: Http, refused: Refused
    ) -> None:
        self.refused = refused
        self._app = app
        self._tls = tls
        self.arrivals = Arrivals(places.unproved_per_address, trio.current_time)
        self.unproved = UnprovedQuota(
            places.unproved, places.unproved_per_address, trio.current_time
        )
        self.proved = ProvedQuota(places.connections)
        self.ending = False
        self._open: set[_Guarded] = set()
        self._all_closed = trio.Event()

    def door(self, listener: trio.SocketListener) -> Sieve:
        """The way in by ``listener``; closes it."""
        return Sieve(listener, self.arrivals, self.refused, "http.unproved_per_address")

    async def accept(self, door: Sieve, connections: trio.Nursery) -> None:
        """Take connections for ever; what one of them does is its own affair."""
        while True:
            # Where nobody can connect any more the port is opened anew (`edge_agent.supervise`).
            stream = await next_connection(door, "the people's port")
            connections.start_soon(self._guarded, _Guarded(stream, self))

    async def follow(self, tokens_changed: Callable[[], Awaitable[None]]) -> None:
        """Whoever may no longer see what it is being shown is disconnected."""
        while True:
            await tokens_changed()
            for connection in tuple(self._open):
                connection.judge_again()

    async def end(self) -> None:
        """Idle connections end now, the others within `GRACE_S`."""
        self.ending = True
        for connection in tuple(self._open):
            if connection.is_waiting:
                connection.close()
        if self._open:
            with trio.move_on_after(GRACE_S):
                await self._all_closed.wait()
        for connection in tuple(self._open):
            connection.close()

    async def _guarded(self, connection: _Guarded) -> None:
        self._open.add(connection)
        try:
            await connection.run(self._app, self._tls)
        finally:
            self._open.discard(connection)
            if not self._open and self.ending:
                self._all_closed.set()


def _peer(stream: trio.SocketStream) -> tuple[str, int]:
    try:
        return _address_of(stream.socket.getpeername())
    except OSError:
        return "", 0  # It reset the connection before we looked.


def _address(listener: trio.SocketListener) -> tuple[str, int]:
    return _address_of(listener.socket.getsockname())


def _address_of(name: tuple[object, ...]) -> tuple[str, int]:
    return str(name[0]), int(str(name[1]))
