"""Opening a WebSocket to an agent by its URL; each failure becomes a sentence.

`Address` is the URL taken apart once, so that a typing error is told at start and not at the
first attempt. `open_websocket` adds a WebSocket to the byte stream that a `Dial` opens, under the
caller's deadline.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import unquote, urlsplit

import trio
from trio_websocket import ConnectionRejected, WebSocketConnection, wrap_client_stream

from edge_agent.errors import ConfigError, EdgeAgentError
from edge_agent.net.dial import Dial, dial_tcp
from edge_agent.output.printable import why
from edge_agent.system.files import refuse_pipes

logger = logging.getLogger(__name__)

_RECEIVE_BYTES = 65536
#: How long it is tried whether a port that hung up on a plain request speaks TLS.
_TRY_TLS_S = 3.0
#: What OpenSSL says of an answer that is none of TLS.
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"})
#: Answers that stay the same until a person changes something.
_SLOW_STATUS = frozenset({301, 308, 400, 401, 403, 404, 405, 426})
#: X509_V_ERR_CERT_NOT_YET_VALID: a board whose clock is not set yet says so of every certificate.
_NOT_YET_VALID = 9
#: What the people's port, a proxy or a web server answers to an upgrade.
_NO_SENSORS_PORT = frozenset({400, 403, 404, 405})
_SENTENCES = {
    400: "the agent does not understand the request",
    401: "the agent wants a token, or does not know this one",
    403: "the token does not allow this stream or source",
    404: "there is nothing at this path",
    426: "this port speaks WebSocket only",
    503: "the agent has too many connections",
}


class Unreachable(EdgeAgentError):
    """No connection this time.

    Attributes:
        status: HTTP status where the agent answered with one, else None.
        slow: a person has to change something first; do not hurry.
        retry_after: seconds the agent asked for, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        slow: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.slow = slow
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Address:
    """A WebSocket URL, taken apart."""

    host: str
    port: int
    path: str
    tls: ssl.SSLContext | None

    @classmethod
    def parse(cls, url: str, *, ca_file: str | Path | None = None) -> Address:
        """Take ``ws[s]://HOST[:PORT]/PATH`` apart; the port is 80 or 443 if none is given.

        Raises:
            ConfigError: not such a URL, a password in it, or an unusable ``ca_file``.
        """
        expected = "a URL like ws://127.0.0.1:8765/ingest/greenhouse/1"
        try:
            parts = urlsplit(url)
            port = parts.port
            # As the resolver does it: what has no such form is no name of a machine.
            (parts.hostname or "").encode("idna")
        except ValueError as error:
            raise ConfigError("url", expected, f"{url!r} ({error})") from error
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise ConfigError("url", expected, repr(url))
        if parts.username is not None:
            raise ConfigError("url", "the token beside the URL (token=…)", "one in the URL")
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        tls = _tls_context(ca_file) if parts.scheme == "wss" else None
        return cls(parts.hostname, port or (443 if tls else 80), path or "/", tls)

    @property
    def host_header(self) -> str:
        """What goes into ``Host``, with the port, and brackets around IPv6."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def stream(self) -> str:
        """The stream of an ``/ingest/STREAM`` path.

        Raises:
            ConfigError: another path.
        """
        path = unquote(self.path.partition("?")[0])
        if not path.startswith("/ingest/") or path == "/ingest/":
            raise ConfigError("url", "a path /ingest/STREAM", repr(path))
        return path.removeprefix("/ingest/")


async def open_websocket(
    nursery: trio.Nursery,
    address: Address,
    subprotocols: Sequence[str],
    *,
    token: str | None = None,
    message_bytes: int = 4 * 1024 * 1024,
    timeout: float = 10.0,
    dial: Dial = dial_tcp,
) -> WebSocketConnection:
    """An open WebSocket, read by a task in ``nursery``; close it with `close_websocket`.

    Whatever goes wrong with it later shows as ``ConnectionClosed`` from its methods, never as an
    exception in the nursery. ``timeout`` (seconds) covers everything from name look-up on.

    Raises:
        Unreachable: no connection, or the agent refused the upgrade.
    """
    deadline = trio.current_time() + timeout
    stream = await _connect(address, deadline, timeout, dial)
    reader = _GuardedReader(nursery, stream)
    connection: WebSocketConnection | None = None
    try:
        with trio.CancelScope(deadline=deadline) as reader.handshake:
            connection = await wrap_client_stream(
                cast("trio.Nursery", reader),  # start_soon is all that is called
                cast("trio.SocketStream", stream),  # any Stream will do, say its docs
                address.host_header,
                address.path,
                subprotocols=subprotocols or None,
                extra_headers=_headers(token),
                max_message_size=message_bytes,
                receive_buffer_size=_RECEIVE_BYTES,
            )
    finally:
        if connection is None:
            await trio.aclose_forcefully(stream)
    if connection is None:
        raise await _explained(reader.unreachable(timeout), address, deadline, dial)
    return connection


async def close_websocket(connection: WebSocketConnection, *, timeout: float = 1.0) -> None:
    """Say goodbye, wait ``timeout`` seconds at most for the answer, close the stream."""
    with trio.move_on_after(timeout):
        await connection.aclose()


class _GuardedReader:
    """Stands between trio-websocket's reader task and the nursery.

    The library raises refusals (and, on some malformed input, errors of its own) out of that
    task, and where the peer hangs up during the handshake it never wakes whoever waits for it.
    Here such an end is kept, and wakes the handshake by cancelling its scope; and whatever the
    end was, the socket is closed.
    """

    def __init__(self, nursery: trio.Nursery, stream: trio.abc.Stream) -> None:
        self._nursery = nursery
        self._stream = stream
        self.handshake: trio.CancelScope | None = None
        self.ended = False
        self.failure: Exception | None = None

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        """What `wrap_client_stream` calls on a nursery."""
        self._nursery.start_soon(self._run, task)

    async def _run(self, task: Callable[[], Awaitable[None]]) -> None:
        try:
            await task()
        except Exception as error:  # noqa: BLE001 - the guard of a connection
            # A guard: the connection is over, which its users see as ConnectionClosed.
            logger.debug("the reader of a connection ended: %r", error)
            self.failure = error
        finally:
            self.ended = True
            if self.handshake is not None:
                self.handshake.cancel()
            # After a loss the library leaves the socket to the garbage collector.
            await trio.aclose_forcefully(self._stream)

    def unreachable(self, timeout: float) -> Unreachable:
        """Why the handshake did not succeed."""
        if isinstance(self.failure, ConnectionRejected):
            return _refused(self.failure)
        if self.ended:
            return Unreachable("the agent hung up during the upgrade")
        return Unreachable(f"no answer to the upgrade within {timeout:g} s")


async def _connect(
    address: Address, deadline: float, timeout: float, dial: Dial
) -> trio.abc.Stream:
    where = f"{address.host}:{address.port}"
    try:
        with trio.fail_at(deadline):
            return await dial(address.host, address.port, address.tls)
    except trio.TooSlowError:
        raise Unreachable(f"{where}: no connection within {timeout:g} s") from None
    except OSError as error:
        cause = error.__cause__
        # A wrong certificate or host name stays wrong until a person changes something.
        slow = (
            isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code != _NOT_YET_VALID
        )
        if isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS:
            text = f"{where}: this port speaks no TLS: ws://{where}"
            raise Unreachable(text, slow=True) from error
        raise Unreachable(error.strerror or f"{where}: {error}", slow=slow) from error


async def _explained(
    problem: Unreachable, address: Address, deadline: float, dial: Dial
) -> Unreachable:
    """``problem``, or that the port speaks TLS, where that is why a plain request failed."""
    # Our own port answers a plain request with 400 where it speaks TLS; others say nothing.
    if address.tls is not None or problem.status not in (None, 400):
        return problem
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with trio.CancelScope(deadline=min(deadline, trio.current_time() + _TRY_TLS_S)):
        try:
            stream = await dial(address.host, address.port, context)
        except (OSError, trio.BrokenResourceError):
            return problem
        await trio.aclose_forcefully(stream)
        secure = f"wss://{address.host_header}"
        return Unreachable(f"{address.host_header}: this port speaks TLS: {secure}", slow=True)
    return problem


def _refused(rejected: ConnectionRejected) -> Unreachable:
    status = rejected.status_code
    text = (rejected.body or b"").decode("utf-8", "replace").strip()
    if not text or len(text) > 500 or text.startswith("<"):
        text = _SENTENCES.get(status, "the upgrade to WebSocket was refused")
    if status in _NO_SENSORS_PORT and (not rejected.body or text.startswith('{"error":')):
        # The sensors' port says why, in a sentence.
        text += "; no sensors' port answers so: is it the people's? The other is listen.address"
    retry_after = None
    for name, value in rejected.headers or ():
        if name.lower() == b"retry-after" and value.strip().isdigit():
            retry_after = float(value)
    return Unreachable(
        f"HTTP {status}: {text}",
        status=status,
        slow=status in _SLOW_STATUS,
        retry_after=retry_after,
    )


def _headers(token: str | None) -> list[tuple[bytes, bytes]]:
    return [] if token is None else [(b"Authorization", f"Bearer {token}".encode("ascii"))]


def _tls_context(ca_file: str | Path | None) -> ssl.SSLContext:
    try:
        if ca_file is not None:
            refuse_pipes(Path(ca_file))
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            "ca_file", "a PEM file with certificates", f"{ca_file}: {why(error)}"
        ) from error
