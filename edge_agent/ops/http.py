"""The people's port: HTTP through Hypercorn's Trio worker, one connection at a time.

Hypercorn's own `serve` lets an exception in one connection, such as a path with a byte beyond
ASCII, end all of them, and shields its writes from cancellation, so that one reader that stops
reading holds up the shutdown for ever. So the accept loop here is ours: each connection has its
own guard, there are at most `CONNECTIONS`, and `PatientStream` gives every write a deadline.
Hypercorn keeps the protocol, Starlette (in `app`) the routes.

Imported only where ``http.address`` is not ``"off"``.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import hypercorn
import trio
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState
from hypercorn.utils import wrap_app

App = Callable[..., Awaitable[None]]
"""An ASGI application."""

logger = logging.getLogger(__name__)

#: Open at once. A browser holds up to six, a Prometheus one.
CONNECTIONS = 64
#: How long one write may take: a reader that takes nothing for so long is gone or hostile.
WRITE_TIMEOUT_S = 20.0
#: From the head's first byte to its last, and between requests of one connection.
IDLE_TIMEOUT_S = 10.0
#: What answers in progress get at shutdown.
GRACE_S = 1.0
_HEAD_BYTES_MAX = 16 * 1024
_ACCEPT_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class Serving:
    """Where the port listens, as ``(host, port)`` of each socket."""

    addresses: tuple[tuple[str, int], ...]


class PatientStream(trio.abc.HalfCloseableStream):
    """A socket whose writes end: in time, or with the connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        #: Hypercorn asks it for the addresses of both ends.
        self.socket = stream.socket

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write everything, or break."""
        with trio.move_on_after(WRITE_TIMEOUT_S) as scope:
            await self._stream.send_all(data)
        if scope.cancelled_caught:
            await self._break()
            raise trio.BrokenResourceError("the reader takes nothing")

    async def wait_send_all_might_not_block(self) -> None:
        """As `trio.abc.SendStream` says."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """As `trio.abc.ReceiveStream` says."""
        return await self._stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        """Say that nothing more comes."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close the socket; at once, there is nothing to wait for."""
        await self._stream.aclose()

    async def _break(self) -> None:
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self._stream)


async def serve(
    app: App,
    listeners: Sequence[trio.SocketListener],
    *,
    tls: ssl.SSLContext | None = None,
    task_status: trio.TaskStatus[Serving] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer until cancelled; then answers in progress get `GRACE_S`.

    Args:
        app: the ASGI application.
        listeners: bound and listening; closed when this ends.
        tls: where the port speaks https.
        task_status: started with where it listens, once it does.
    """
    port = _Port(app, tls)
    async with trio.open_nursery() as connections:
        try:
            async with trio.open_nursery() as accepting:
                for listener in listeners:
                    accepting.start_soon(port.accept, listener, connections)
                task_status.started(Serving(tuple(_address(listener) for listener in listeners)))
        finally:
            with trio.CancelScope(shield=True):
                for listener in listeners:
                    await listener.aclose()
                await port.end()


class _Connection(TCPServer):
    async def _read_data(self) -> None:
        await super()._read_data()
        # Hypercorn leaves its timer for idle peers running when the peer has gone, which would
        # keep the connection's place taken for the rest of `IDLE_TIMEOUT_S`.
        await self.idle_task.stop()


class _Port:
    def __init__(self, app: App, tls: ssl.SSLContext | None) -> None:
        self._app = wrap_app(cast("ASGIFramework", app), 64 * 1024, "asgi")
        self._tls = tls
        self._config = _hypercorn_config()
        self._context = WorkerContext(None)
        self._open: dict[trio.SocketStream, trio.CancelScope] = {}
        self._all_closed = trio.Event()

    async def accept(self, listener: trio.SocketListener, connections: trio.Nursery) -> None:
        """Take connections for ever; what one of them does is its own affair."""
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                # Out of descriptors, most likely; the connection waits in the kernel's queue.
                logger.warning("the people's port cannot accept: %s", error)
                await trio.sleep(_ACCEPT_PAUSE_S)
                continue
            if len(self._open) >= CONNECTIONS:
                await trio.aclose_forcefully(stream)
                continue
            # Shielded: the end comes through `end`, which lets answers in progress finish.
            scope = self._open[stream] = trio.CancelScope(shield=True)
            connections.start_soon(self._guarded, stream, scope)

    async def end(self) -> None:
        """Idle connections end now, the others within `GRACE_S`."""
        await self._context.terminated.set()
        if self._open:
            with trio.move_on_after(GRACE_S):
                await self._all_closed.wait()
        for stream, scope in list(self._open.items()):
            # Hypercorn shields its writes, so that cancelling alone would wait for the peer.
            await trio.aclose_forcefully(stream)
            scope.cancel("the port is closed")

    async def _guarded(self, stream: trio.SocketStream, scope: trio.CancelScope) -> None:
        try:
            with scope:
                await self._serve_one(stream)
        except* Exception as group:  # noqa: BLE001 - one peer must not harm another: whatever
            # went wrong, in this code or a library's, ends with this connection.
            logger.debug("a connection to the people's port failed: %r", group.exceptions)
        finally:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)
            del self._open[stream]
            if not self._open and self._context.terminated.is_set():
                self._all_closed.set()

    async def _serve_one(self, stream: trio.SocketStream) -> None:
        patient: Any = PatientStream(stream)
        if self._tls is not None:
            patient = trio.SSLStream(patient, self._tls, server_side=True, https_compatible=True)
        server = _Connection(self._app, self._config, self._context, ConnectionState({}), patient)
        await server.run()


def _hypercorn_config() -> hypercorn.Config:
    config = hypercorn.Config()
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    config.include_server_header = False
    config.keep_alive_timeout = IDLE_TIMEOUT_S
    config.ssl_handshake_timeout = IDLE_TIMEOUT_S
    config.h11_max_incomplete_size = _HEAD_BYTES_MAX
    return config


def _address(listener: trio.SocketListener) -> tuple[str, int]:
    name = listener.socket.getsockname()
    return str(name[0]), int(name[1])
