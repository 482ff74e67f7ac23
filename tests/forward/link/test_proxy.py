"""Tunnels through a real proxy on loopback, and the proxies that an environment names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio

from edge_agent.errors import SinkUnavailable
from edge_agent.forward.credentials import basic_authorization
from edge_agent.forward.link.proxy import Proxy, proxy_of, tunnel, unused
from edge_agent.net.dial import dial_tcp
from tests.forward.support import upstream


@dataclass
class ProxyServer:
    """Answers ``CONNECT``, and passes on what comes then; other requests get ``answer``."""

    port: int = 0
    #: In place of the tunnel.
    answer: bytes | None = None
    heads: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            head = b""
            while b"\r\n\r\n" not in head:
                if not (data := await stream.receive_some(4096)):
                    return
                head += data
            self.heads.append(head.partition(b"\r\n\r\n")[0].decode() + "\r\n")
            if self.answer is not None:
                await stream.send_all(self.answer)
                return
            port = int(head.split()[1].rpartition(b":")[2])
            async with await trio.open_tcp_stream("127.0.0.1", port) as far:
                await stream.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(pump, stream, far, nursery.cancel_scope)
                    await pump(far, stream, nursery.cancel_scope)


async def pump(here: trio.SocketStream, there: trio.SocketStream, scope: trio.CancelScope) -> None:
    try:
        while data := await here.receive_some(65536):
            await there.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    scope.cancel()


@asynccontextmanager
async def proxying() -> AsyncIterator[ProxyServer]:
    server = ProxyServer()
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server.port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server.serve, listeners)
        yield server
        nursery.cancel_scope.cancel()


async def echo(stream: trio.SocketStream) -> None:
    async with stream:
        await stream.send_all(await stream.receive_some())


async def test_what_is_said_through_a_tunnel_arrives() -> None:
    async with proxying() as server, trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, echo, 0)
        port = listeners[0].socket.getsockname()[1]
        dial = tunnel(dial_tcp, Proxy("127.0.0.1", server.port, "Basic eDp5"))
        async with await dial("localhost", port, None) as stream:
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"hello"
        (head,) = server.heads
        assert head.startswith(f"CONNECT localhost:{port} HTTP/1.1\r\n")
        assert "Proxy-Authorization: Basic eDp5\r\n" in head
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "answer, text, slow",
    [
        (b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n", "HTTP 407 .*proxy_auth_file", True),
        (b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", "HTTP 403", True),
        (b"HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n", "HTTP 502", False),
    ],
)
async def test_a_proxy_that_refuses(answer: bytes, text: str, slow: bool) -> None:
    async with proxying() as server:
        server.answer = answer
        with pytest.raises(SinkUnavailable, match=text) as caught:
            await tunnel(dial_tcp, Proxy("127.0.0.1", server.port, None))("h", 1, None)
        assert caught.value.slow is slow


@pytest.mark.parametrize(
    "answer, told",
    [
        (b"", "it hung up"),
        (b"nonsense\r\n\r\n", "does not speak HTTP/1.1: illegal status line: 'nonsense'"),
        (b"HTTP/1.1 99999 x\r\n\r\n", "does not speak HTTP/1.1"),
        (b"HTTP/1.1 100 x\r\n\r\n" * 50, "does not come to an answer"),
        (b"HTTP/1.1 200 " + b"x" * 200_000, "the head of the answer is too long"),
    ],
)
async def test_a_proxy_that_is_none(answer: bytes, told: str) -> None:
    async with proxying() as server:
        server.answer = answer
        with pytest.raises(OSError, match=f"proxy 127.0.0.1:{server.port}: .*{told}"):
            await tunnel(dial_tcp, Proxy("127.0.0.1", server.port, None))("h", 1, None)


async def test_nobody_there_is_told_of_the_proxy() -> None:
    with pytest.raises(OSError, match=r"proxy 127\.0\.0\.1:1: "):
        await tunnel(dial_tcp, Proxy("127.0.0.1", 1, None))("h", 1, None)


def test_the_environment_is_asked_where_the_configuration_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://me:p%40ss@proxy.example:8080")
    monkeypatch.setenv("no_proxy", "inside.example")
    asks = {"proxy": "environment"}
    assert proxy_of(upstream("https://h/in", **asks), None) == Proxy(
        "proxy.example", 8080, basic_authorization("me:p@ss")
    )
    assert proxy_of(upstream("wss://h/forward", **asks), None) is not None
    assert proxy_of(upstream("https://a.inside.example/in", **asks), None) is None
    assert proxy_of(upstream("http://h/in", **asks), None) is None
    assert proxy_of(upstream("https://h/in"), None) is None
    monkeypatch.setenv("https_proxy", "socks5://me:s3cret@proxy.example")
    with pytest.raises(SinkUnavailable, match=r"expected http://") as caught:
        proxy_of(upstream("https://h/in", **asks), None)
    assert caught.value.slow and "s3cret" not in str(caught.value)


def test_a_proxy_that_nobody_asks_is_told_of() -> None:
    env = {"HTTPS_PROXY": "http://p", "NO_PROXY": "x", "http_proxy": ""}
    hint = unused(upstream("https://h/in"), env) or ""
    assert "HTTPS_PROXY is set and not used" in hint
    assert unused(upstream("https://h/in", proxy="http://p:1"), env) is None
    assert unused(upstream("https://h/in"), {"NO_PROXY": "x"}) is None
    assert unused(upstream("postgresql://me@h/db"), env) is None
