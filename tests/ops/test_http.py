"""The people's port on a real socket: one peer never harms another, and it stops in time."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
import trustme

from edge_agent.config import Http
from edge_agent.ops import http, http_connection
from tests.patience import PATIENCE_S, receive_until

Asgi = Callable[[Any, Any, Any], Awaitable[None]]


async def hello(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    if scope["path"] == "/endless":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
    if scope["path"] == "/raise":
        raise ValueError("a mistake of ours")
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]}
    )
    await send({"type": "http.response.body", "body": b"hello"})


@asynccontextmanager
async def serving(
    app: Asgi = hello, tls: ssl.SSLContext | None = None, **more: Any
) -> AsyncIterator[tuple[str, int]]:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:

        async def run(*, task_status: trio.TaskStatus[http.Serving]) -> None:
            await http.serve(app, listeners, tls=tls, **more, task_status=task_status)

        running = await nursery.start(run)
        yield running.addresses[0]
        nursery.cancel_scope.cancel()


async def ask(address: tuple[str, int], head: bytes) -> bytes:
    """Everything that the port answers until it closes, resets or has said hello."""
    stream = await trio.open_tcp_stream(*address)
    answer = b""
    async with stream:
        with trio.move_on_after(PATIENCE_S):
            try:
                await stream.send_all(head)
                async for piece in stream:
                    answer += piece
                    if answer.endswith(b"hello"):
                        break
            except trio.BrokenResourceError:
                pass
    return answer


HELLO = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def test_it_answers_on_the_port_that_it_told() -> None:
    async with serving() as address:
        assert address[1] != 0
        answer = await ask(address, HELLO)
    assert answer.startswith(b"HTTP/1.1 200") and b"server:" not in answer.lower()


@pytest.mark.parametrize(
    "head",
    [
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS to a port without
        b"GET /raise HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00" * 100,
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 70_000,
    ],
)
async def test_whatever_one_peer_says_another_is_served(head: bytes) -> None:
    async with serving() as address:
        patient = await trio.open_tcp_stream(*address)
        stream = await trio.open_tcp_stream(*address)
        await stream.send_all(head)
        await stream.send_eof()
        with trio.move_on_after(0.2):
            while await stream.receive_some(65536):
                pass
        await stream.aclose()
        await patient.send_all(HELLO)
        assert (await patient.receive_some(1000)).startswith(b"HTTP/1.1 200")
        await patient.aclose()
        assert (await ask(address, HELLO)).startswith(b"HTTP/1.1 200")


async def test_a_peer_that_resets_at_once_harms_nobody() -> None:
    async with serving() as address:
        for _ in range(20):
            with socket.create_connection(address) as raw:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raw.sendall(HELLO[:10])
        assert (await ask(address, HELLO)).startswith(b"HTTP/1.1 200")


class Names:
    """An application that calls whoever asks by the name that it gives, and holds the answer."""

    def __init__(self) -> None:
        self.release = trio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        who = dict(scope["headers"])[b"who"].decode()
        if scope[http_connection.CALLER].proved(who, lambda: who != "revoked"):
            if scope["path"] == "/hold":
                await self.release.wait()
            await hello(scope, receive, send)
        else:
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b""})


def named(who: str, path: str = "/") -> bytes:
    lines = (f"GET {path} HTTP/1.1", "Host: localhost", f"Who: {who}", "Connection: close", "", "")
    return "\r\n".join(lines).encode()


async def test_who_has_taken_every_place_leaves_one_for_another() -> None:
    app = Names()
    places = Http(connections=4)
    async with serving(app, places=places) as address:
        greedy = [await trio.open_tcp_stream(*address) for _ in range(4)]
        for stream in greedy:
            await stream.send_all(named("greedy", "/hold"))
        with trio.fail_after(PATIENCE_S):
            while not (await ask(address, named("greedy"))).startswith(b"HTTP/1.1 503"):
                await trio.sleep(0.01)
        assert (await ask(address, named("other"))).startswith(b"HTTP/1.1 200")
        # The newest of the greedy one's was closed for it; the others get their answer.
        app.release.set()
        answers = [await first_bytes(stream) for stream in greedy]
        assert [answer[:12] for answer in answers] == [b"HTTP/1.1 200"] * 3 + [b""]


async def test_readers_that_take_nothing_leave_a_place_for_their_own_kind() -> None:
    async with serving(Names(), places=Http(connections=4)) as address:
        deaf = [await refuse_to_read(address) for _ in range(12)]
        with trio.fail_after(PATIENCE_S):
            while not (await ask(address, named("everybody"))).startswith(b"HTTP/1.1 200"):
                pass  # The kernel's buffers of one before it are not full yet.
        for stream in deaf:
            await trio.aclose_forcefully(stream)


async def refuse_to_read(address: tuple[str, int]) -> trio.SocketStream:
    """Take the head of an endless answer, and nothing more."""
    with trio.fail_after(PATIENCE_S):
        while True:
            stream = await trio.open_tcp_stream(*address)
            await stream.send_all(named("everybody", "/endless"))
            if (await stream.receive_some(1000)).startswith(b"HTTP/1.1 200"):
                return stream
            await stream.aclose()


async def first_bytes(stream: trio.SocketStream) -> bytes:
    try:
        with trio.fail_after(PATIENCE_S):
            return bytes(await stream.receive_some(1000))
    except trio.BrokenResourceError:
        return b""
    finally:
        await stream.aclose()


async def test_when_tokens_change_who_may_no_longer_see_is_cut_off() -> None:
    app, news = Names(), trio.Event()

    async def changed() -> None:
        nonlocal news
        await news.wait()
        news = trio.Event()

    async with serving(app, tokens_changed=changed) as address:
        revoked = await trio.open_tcp_stream(*address)
        other = await trio.open_tcp_stream(*address)
        await revoked.send_all(named("revoked", "/hold"))
        await other.send_all(named("other", "/hold"))
        await trio.testing.wait_all_tasks_blocked(0.05)
        news.set()
        assert await first_bytes(revoked) == b""
        app.release.set()
        assert (await first_bytes(other)).startswith(b"HTTP/1.1 200")


async def test_a_reader_that_takes_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "WRITE_TIMEOUT_S", 0.1)
    monkeypatch.setattr(http, "GRACE_S", 0.1)
    async with serving() as address:
        stream = await trio.open_tcp_stream(*address)
        await stream.send_all(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await trio.sleep(0.2)
        with trio.fail_after(PATIENCE_S):
            try:
                while await stream.receive_some(65536):
                    pass
            except trio.BrokenResourceError:
                pass  # an orderly end will do as well
        await stream.aclose()


async def test_a_reader_that_takes_nothing_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "GRACE_S", 0.2)
    # Nothing but the grace ends the answer.
    monkeypatch.setattr(http_connection, "WRITE_TIMEOUT_S", 2 * PATIENCE_S)
    async with serving() as address:
        stream = await trio.open_tcp_stream(*address)
        await stream.send_all(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await stream.receive_some(12)).startswith(b"HTTP/1.1 200")
        began = trio.current_time()
    assert 0.2 <= trio.current_time() - began < PATIENCE_S
    await stream.aclose()


async def test_an_answer_in_progress_is_finished_and_an_idle_peer_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # For whoever is held up by it.
    monkeypatch.setattr(http, "GRACE_S", 2 * PATIENCE_S)
    monkeypatch.setattr(http_connection, "HEAD_TIMEOUT_S", 2 * PATIENCE_S)
    started, release = trio.Event(), trio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            started.set()
            await release.wait()
        await hello(scope, receive, send)

    answers: list[bytes] = []
    began = trio.current_time()
    async with trio.open_nursery() as nursery, serving(slow) as address:
        idle = await trio.open_tcp_stream(*address)
        await idle.send_all(HELLO)
        assert (await idle.receive_some(1000)).startswith(b"HTTP/1.1 200")

        async def ask_slowly() -> None:
            answers.append(await ask(address, HELLO.replace(b"GET /", b"GET /slow")))

        nursery.start_soon(ask_slowly)
        await started.wait()
        nursery.start_soon(release_soon, release)
    assert answers[0].endswith(b"hello")
    assert trio.current_time() - began < PATIENCE_S
    await idle.aclose()


async def release_soon(release: trio.Event) -> None:
    await trio.sleep(0.1)
    release.set()


async def test_it_speaks_https_where_it_has_a_certificate() -> None:
    server, client = certified()
    told: list[str] = []

    def refused(address: str, reason: str, sentence: str, times: int) -> None:
        told.append(reason)

    async with serving(tls=server, refused=refused) as (_, port):
        raw = await trio.open_tcp_stream("127.0.0.1", port)
        stream = trio.SSLStream(raw, client, server_hostname="localhost", https_compatible=True)
        await stream.send_all(HELLO)
        assert (await stream.receive_some(1000)).startswith(b"HTTP/1.1 200")
        await stream.aclose()
        # Somebody who speaks plain HTTP to it is no harm, and is told.
        assert b"This port speaks TLS" in await ask(("127.0.0.1", port), HELLO)
    assert told == ["no_tls"]


def certified() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context and that of a client who trusts it."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


async def test_a_body_in_tiny_chunks_does_not_hold_the_loop() -> None:
    passes = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def count() -> None:
        nonlocal passes
        while True:
            await trio.lowlevel.checkpoint()
            passes += 1

    chunks = 5000
    async with serving(app) as address, trio.open_nursery() as nursery:
        stream = await trio.open_tcp_stream(*address)
        nursery.start_soon(count)
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        await stream.send_all(head + b"1\r\na\r\n" * chunks + b"0\r\n\r\n")
        await receive_until(stream, b"HTTP/1.1 200")
        assert passes >= chunks // 64
        nursery.cancel_scope.cancel()
        await stream.aclose()
