from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio
import trustme
from trio_websocket import ConnectionClosed, serve_websocket

from edge_agent.client.dial import Address, Unreachable, close_websocket, open_websocket
from edge_agent.errors import ConfigError

Handler = Callable[[trio.SocketStream], Awaitable[None]]


@pytest.mark.parametrize(
    "url, host, port, path, header",
    [
        ("ws://h:8765/ingest/s", "h", 8765, "/ingest/s", "h:8765"),
        ("ws://h/ingest/s?ack=1", "h", 80, "/ingest/s?ack=1", "h:80"),
        ("wss://[::1]/x", "::1", 443, "/x", "[::1]:443"),
    ],
)
def test_a_url_is_taken_apart(url: str, host: str, port: int, path: str, header: str) -> None:
    address = Address.parse(url)
    assert (address.host, address.port, address.path) == (host, port, path)
    assert address.host_header == header
    assert (address.tls is not None) == url.startswith("wss")


@pytest.mark.parametrize(
    "url",
    ["", "h:1", "ftp://h/x", "ws:///x", "ws://h:99999/x", "ws://a..b/x", f"ws://{'a' * 64}/x"],
)
def test_what_is_no_url_is_told_with_an_example(url: str) -> None:
    with pytest.raises(ConfigError, match=r"ws://127\.0\.0\.1:8765/ingest"):
        Address.parse(url)


def test_a_missing_ca_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ca_file"):
        Address.parse("wss://h/x", ca_file=str(tmp_path / "none.pem"))


async def serve(nursery: trio.Nursery, handler: Handler) -> int:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, handler, listeners)
    port: int = listeners[0].socket.getsockname()[1]
    return port


async def why_not(nursery: trio.Nursery, port: int, timeout: float = 2.0) -> Unreachable:
    address = Address.parse(f"ws://127.0.0.1:{port}/ingest/s")
    with pytest.raises(Unreachable) as caught:
        await open_websocket(nursery, address, ["a"], timeout=timeout)
    return caught.value


def answering(head: bytes) -> Handler:
    async def handler(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(head)
        await stream.aclose()

    return handler


async def test_nobody_there(nursery: trio.Nursery) -> None:
    error = await why_not(nursery, 1)
    assert str(error) == "127.0.0.1:1: Connection refused"
    assert (error.status, error.slow) == (None, False)


@pytest.mark.parametrize(
    "status, slow", [(400, True), (401, True), (403, True), (404, True), (426, True), (503, False)]
)
async def test_a_refused_upgrade_gives_the_agents_sentence_status_and_pace(
    nursery: trio.Nursery, status: int, slow: bool
) -> None:
    head = f"HTTP/1.1 {status} No\r\nRetry-After: 7\r\nContent-Length: 9\r\n\r\nsay why !"
    error = await why_not(nursery, await serve(nursery, answering(head.encode())))
    assert str(error) == f"HTTP {status}: say why !"
    assert (error.status, error.slow, error.retry_after) == (status, slow, 7)


async def test_a_page_of_html_is_not_shown_as_the_reason(nursery: trio.Nursery) -> None:
    head = b"HTTP/1.1 403 No\r\nContent-Length: 6\r\n\r\n<html>"
    error = await why_not(nursery, await serve(nursery, answering(head)))
    assert str(error) == "HTTP 403: the token does not allow this stream or source"


async def test_a_peer_that_hangs_up_in_the_handshake_is_noticed_at_once(
    nursery: trio.Nursery,
) -> None:
    error = await why_not(nursery, await serve(nursery, answering(b"")), timeout=30)
    assert str(error) == "the agent hung up during the upgrade"


async def test_a_peer_that_speaks_another_protocol_is_noticed_at_once(
    nursery: trio.Nursery,
) -> None:
    error = await why_not(nursery, await serve(nursery, answering(b"220 mail\r\n")), timeout=30)
    assert str(error) == "the agent hung up during the upgrade"


async def test_a_silent_peer_costs_the_timeout_and_no_more(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    near, _far = trio.testing.memory_stream_pair()

    async def dial(host: str, port: int, tls: ssl.SSLContext | None) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return near

    began, address = trio.current_time(), Address.parse("ws://127.0.0.1:1/ingest/s")
    with pytest.raises(Unreachable, match=r"^no answer to the upgrade within 5 s$"):
        await open_websocket(nursery, address, ["a"], timeout=5.0, dial=dial)
    assert trio.current_time() - began == 5.0


async def echo_over_tls(
    nursery: trio.Nursery, ca: trustme.CA, name: str, not_before: datetime | None = None
) -> int:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert(name, not_before=not_before).configure_cert(context)

    async def echo(request):  # type: ignore[no-untyped-def] # trio-websocket has no annotations
        connection = await request.accept()
        try:
            await connection.send_message(await connection.get_message())
            await connection.get_message()
        except ConnectionClosed:
            pass

    server = await nursery.start(serve_websocket, echo, "127.0.0.1", 0, context)
    port: int = server.port
    return port


async def test_tls_with_an_own_ca(nursery: trio.Nursery, tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    port = await echo_over_tls(nursery, ca, "127.0.0.1")
    address = Address.parse(f"wss://127.0.0.1:{port}/x", ca_file=str(tmp_path / "ca.pem"))
    connection = await open_websocket(nursery, address, [])
    await connection.send_message("hello")
    assert await connection.get_message() == "hello"
    await close_websocket(connection)
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "name, trusted, not_before",
    [
        ("127.0.0.1", False, None),
        ("elsewhere.example", True, None),
        # It passes once this machine's clock is set.
        ("127.0.0.1", True, datetime(2200, 1, 1, tzinfo=UTC)),
    ],
)
async def test_a_wrong_certificate_is_told_and_tried_slowly(
    nursery: trio.Nursery, tmp_path: Path, name: str, trusted: bool, not_before: datetime | None
) -> None:
    ca = trustme.CA()
    (ca if trusted else trustme.CA()).cert_pem.write_to_path(str(tmp_path / "ca.pem"))

    async def swallow() -> None:
        # The library's server lets a failed TLS handshake end its nursery.
        async with trio.open_nursery() as inner:
            port = await echo_over_tls(inner, ca, name, not_before)
            address = Address.parse(f"wss://127.0.0.1:{port}/x", ca_file=str(tmp_path / "ca.pem"))
            with pytest.raises(Unreachable, match="certificate verify failed") as caught:
                await open_websocket(nursery, address, [])
            assert caught.value.slow == (not_before is None)
            inner.cancel_scope.cancel()

    await swallow()
