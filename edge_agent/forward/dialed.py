"""HTTP over the byte streams that a `Dial` opens, for the sink whose network is not the machine's.

httpx2 opens its own sockets. Whoever gives the agent a ``dial`` (a simulation, a tunnel, a socket
of a container's) means every upstream with it, so httpcore2, which does the work below httpx2, is
given a network backend that dials. TLS is laid over the stream here, as httpcore2 asks for it.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore2
import httpx2
import trio

from edge_agent.dial import Dial
from edge_agent.forward.progress import socket_of


class DialedTransport(httpx2.AsyncBaseTransport):
    """One connection at a time, kept open between two requests until either side closes it.

    Args:
        dial: opens the byte stream.
        tls: for ``https``; None where it is not asked for.
    """

    def __init__(self, dial: Dial, tls: ssl.SSLContext | None) -> None:
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=1,
            max_keepalive_connections=1,
            # By a clock of its own, which a simulated one does not turn.
            keepalive_expiry=None,
            network_backend=_Dialing(dial),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """See httpx2. Raises TransportError for whatever the network did."""
        assert isinstance(request.stream, httpx2.AsyncByteStream)
        url = request.url
        with _translated():
            response = await self._pool.handle_async_request(
                httpcore2.Request(
                    request.method,
                    httpcore2.URL(
                        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        return httpx2.Response(
            response.status,
            headers=response.headers,
            stream=_Body(response),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close the connection."""
        with _translated():
            await self._pool.aclose()


class _Body(httpx2.AsyncByteStream):
    def __init__(self, response: httpcore2.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _translated():
            async for piece in self._response.aiter_stream():
                yield piece

    async def aclose(self) -> None:
        with _translated():
            await self._response.aclose()


class _Dialing(httpcore2.AsyncNetworkBackend):
    def __init__(self, dial: Dial) -> None:
        self._dial = dial

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        # The deadline around the whole request is the sink's; httpcore2 is given none.
        try:
            return _Stream(await self._dial(host, port, None))
        except OSError as error:
            raise httpcore2.ConnectError(str(error)) from error

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


class _Stream(httpcore2.AsyncNetworkStream):
    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _raising(httpcore2.ReadError):
            return bytes(await self._stream.receive_some(max_bytes))

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if buffer:
            with _raising(httpcore2.WriteError):
                await self._stream.send_all(buffer)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        secure = trio.SSLStream(
            self._stream, ssl_context, server_hostname=server_hostname, https_compatible=True
        )
        try:
            with _raising(httpcore2.ConnectError):
                await secure.do_handshake()
        except BaseException:
            # Also on Cancelled: nobody else holds this stream yet.
            await trio.aclose_forcefully(self._stream)
            raise
        return _Stream(secure)

    def get_extra_info(self, info: str) -> Any:
        """The socket, where it is one. Not whether it can be read: that a stream that rests was
        closed shows when it is used again.
        """
        return socket_of(self._stream) if info == "socket" else None


@contextmanager
def _raising(kind: Callable[[str], Exception]) -> Iterator[None]:
    """What a stream raises, as httpcore2 wants it."""
    try:
        yield
    except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
        said = error.__cause__ if isinstance(error, trio.BrokenResourceError) else None
        raise kind(str(said or error) or type(error).__name__) from error


@contextmanager
def _translated() -> Iterator[None]:
    """httpcore2's errors as httpx2's, of which the sink knows."""
    try:
        yield
    except (
        httpcore2.NetworkError,
        httpcore2.ProtocolError,
        httpcore2.TimeoutException,
        httpcore2.ConnectionNotAvailable,
        httpcore2.UnsupportedProtocol,
    ) as error:
        raise httpx2.TransportError(str(error) or type(error).__name__) from error
