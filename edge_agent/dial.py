"""From host and port to a byte stream: TCP, and TLS where a context is given.

Whoever connects is given a `Dial`, so that a simulation connects in memory; `dial_tcp` is the
ordinary one.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable

import trio

Dial = Callable[[str, int, ssl.SSLContext | None], Awaitable[trio.abc.Stream]]
"""``(host, port, tls)`` → a connected stream; raises OSError. The caller sets the deadline."""


async def dial_tcp(host: str, port: int, tls: ssl.SSLContext | None) -> trio.abc.Stream:
    """A TCP connection, with TLS if there is a context.

    Raises:
        OSError: no connection. Where TLS refused, its cause is ssl's own reason.
    """
    stream = await trio.open_tcp_stream(host, port)
    return stream if tls is None else await secure(stream, host, tls)


async def secure(stream: trio.abc.Stream, host: str, tls: ssl.SSLContext) -> trio.abc.Stream:
    """TLS over ``stream``, for a server of that name.

    Raises:
        OSError: its cause is ssl's own reason. The stream is closed then.
    """
    over = trio.SSLStream(stream, tls, server_hostname=host, https_compatible=True)
    try:
        await over.do_handshake()
    except BaseException as error:
        # Also on Cancelled: nobody else holds this socket yet.
        await trio.aclose_forcefully(stream)
        if isinstance(error, trio.BrokenResourceError) and error.__cause__ is not None:
            raise OSError(f"TLS: {error.__cause__}") from error.__cause__
        raise
    return over
