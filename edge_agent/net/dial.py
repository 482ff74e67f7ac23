"""Opening a byte stream to a host and port: TCP, and TLS where a context is given.

Whoever connects is given a `Dial`, so that a simulation connects in memory; `dial_tcp` is the
ordinary one.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from edge_agent.output.printable import why

Dial = Callable[[str, int, ssl.SSLContext | None], Awaitable[trio.abc.Stream]]
"""``(host, port, tls)`` → a connected stream; raises OSError. The caller sets the deadline."""


#: ``[SSL: WRONG_VERSION_NUMBER] `` before OpenSSL's words, ``(_ssl.c:1006)`` behind them.
_OPENSSL_PLACE = re.compile(r"^\[[A-Z0-9_: ]+\] |^_ssl\.c:\d+: | \(_ssl\.c:\d+\)$")
_AUTHORITY = ": its authority is not known here (ca_file)"
_NAME = ": it has to name the host of the URL"
#: OpenSSL's X509_V_ERR_… of self-signed certificates, missing issuers, and other names.
_LOOK_AT = dict.fromkeys((18, 19, 20, 21), _AUTHORITY) | dict.fromkeys((62, 63, 64), _NAME)
#: Alerts with which a server tells that it is our certificate that it lacks, or does not take.
_OURS = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": ": it wants one of ours (tls_certificate and tls_key)",
    "TLSV1_ALERT_UNKNOWN_CA": ": it does not know the authority of ours (tls_certificate)",
}
#: What a server that speaks something else, or hangs up, looks like to OpenSSL.
_NO_TLS = (
    "WRONG_VERSION_NUMBER",
    "RECORD_LAYER_FAILURE",
    "HTTP_REQUEST",
    "UNEXPECTED_EOF_WHILE_READING",
    None,
)

#: Threads that may look one name up at a time.
_LOOKUPS = 2


class NameLookup(trio.abc.HostnameResolver):
    """Looks names up in a few threads for each name.

    A name for which no server answers keeps a thread for half a minute. Trio's own threads are
    forty for all: some dead names, asked for by each log, would take those that the store needs.
    """

    def __init__(self) -> None:
        self._limits: dict[object, trio.CapacityLimiter] = {}

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002 - it is called by that name
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """As `socket.getaddrinfo`."""
        limit = self._limits.setdefault(host, trio.CapacityLimiter(_LOOKUPS))
        return await trio.to_thread.run_sync(
            socket.getaddrinfo, host, port, family, type, proto, flags,
            limiter=limit, abandon_on_cancel=True,
        )  # fmt: skip

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        """As `socket.getnameinfo`."""
        return await trio.to_thread.run_sync(socket.getnameinfo, sockaddr, flags)


async def dial_tcp(host: str, port: int, tls: ssl.SSLContext | None) -> trio.abc.Stream:
    """A TCP connection, with TLS if there is a context.

    Raises:
        OSError: no connection: its words are ``HOST:PORT: REASON``. Where TLS refused, its cause is
            ssl's own reason.
    """
    try:
        stream = await trio.open_tcp_stream(host, port)
    except OSError as error:
        raise _in_words(error, f"{host}:{port}") from error
    except UnicodeError as error:
        # What the resolver says before it asks anybody, as of "a..b".
        raise OSError(f"{host}:{port}: is no name of a host ({error})") from None
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
            raise OSError(f"TLS: {tls_reason(error.__cause__)}") from error.__cause__
        raise
    return over


def tls_reason(error: BaseException) -> str:
    """Why there is no TLS, in words that say where to look: of OpenSSL's own the places in its
    source are left out.
    """
    reason = _OPENSSL_PLACE.sub("", why(error)).rstrip(".")
    if isinstance(error, ssl.SSLCertVerificationError):
        return reason + _LOOK_AT.get(error.verify_code, "")
    if isinstance(error, ssl.SSLError) and not may_be_no_tls(error):
        return reason + _OURS.get(error.reason, "")
    return f"{reason}: does this port speak TLS?"


def may_be_no_tls(error: BaseException) -> bool:
    """Whether a handshake that ended so may have met a port without TLS. An alert comes from a
    server that speaks it.
    """
    if isinstance(error, ssl.SSLError):
        return error.reason in _NO_TLS
    return isinstance(error, ConnectionResetError)


def _in_words(error: OSError, where: str) -> OSError:
    """``where`` and the first reason: of several addresses Trio's own words name no reason."""
    inner = error.__cause__
    if isinstance(inner, ExceptionGroup):
        inner = inner.exceptions[0]
    if isinstance(inner, OSError) and (inner.errno or 0) > 0:
        return OSError(inner.errno, f"{where}: {os.strerror(inner.errno or 0)}")
    return OSError(error.errno, f"{where}: {why(error)}")
