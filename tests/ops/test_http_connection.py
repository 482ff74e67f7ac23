"""One HTTP/1.1 connection: heads, bodies, answers, and the deadlines of each."""

from __future__ import annotations

import logging
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from edge_agent.ops import http_connection
from edge_agent.ops.http_connection import HEAD_BYTES_MAX, HEAD_TIMEOUT_S, HttpServerConnection
from tests.patience import PATIENCE_S

CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
Asgi = Callable[[Any, Any, Any], Awaitable[None]]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """The method, the path, the query and the body of a request."""
    body = b""
    if scope["method"] == "POST":
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        else:
            return
    said = b"%s %s %s %s" % (
        scope["method"].encode(),
        scope["path"].encode(),
        scope["query_string"],
        body,
    )
    length = [] if scope["path"] == "/chunked" else [(b"content-length", b"%d" % len(said))]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": said[:5], "more_body": True})
    await send({"type": "http.response.body", "body": said[5:]})


@asynccontextmanager
async def connected(app: Asgi = echo) -> AsyncIterator[trio.abc.Stream]:
    """The client's end of a connection to ``app``."""
    ours, theirs = trio.testing.memory_stream_pair()
    scope = {"scheme": "http", "client": ("", 0), "server": ("", 0)}
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await HttpServerConnection(ours, app, scope, lambda waits: None).run()
            await ours.aclose()

        nursery.start_soon(run)
        yield theirs
        await theirs.aclose()


async def until_closed(stream: trio.abc.Stream) -> bytes:
    answer = b""
    try:
        async for piece in stream:
            answer += piece
    except trio.BrokenResourceError:
        pass
    return answer


async def said(data: bytes, app: Asgi = echo) -> bytes:
    """Everything that is answered to ``data``, after which nothing more comes."""
    async with connected(app) as stream:
        await stream.send_all(data)
        assert isinstance(stream, trio.StapledStream)
        await stream.send_eof()
        return await until_closed(stream)


async def drip(stream: trio.abc.Stream) -> None:
    """A byte a second, for as long as they are taken."""
    while True:
        await stream.send_all(b"x")
        await trio.sleep(1)


def bodies(answer: bytes) -> list[bytes]:
    """What each answer in ``answer`` says behind its head; none is chunked."""
    found = []
    while answer:
        head, _, rest = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        found.append(rest[:length])
        answer = rest[length:]
    return found


@pytest.mark.parametrize(
    "data, expected",
    [
        (b"GET /a%20b?x=1 HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /a b x=1 "),
        (b"GET http://a.example:80/c?d HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /c d "),
        (b"GET http://a.example HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /  "),
        (b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /  "),
        (b"GET / HTTP/1.0\r\n\r\n", b"GET /  "),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", b"OPTIONS *  "),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", b"POST /  hello"),
        (
            CHUNKED + b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
            b"POST /  hello",
        ),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", b"POST /  "),
        (b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", b"GET /  "),
    ],
)
async def test_requests_in_every_form_reach_the_application(data: bytes, expected: bytes) -> None:
    assert bodies(await said(data)) == [expected]


async def test_requests_that_come_together_are_answered_in_order() -> None:
    one = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
    two = b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
    assert bodies(await said(one + two + one)) == [b"GET /1  ", b"POST /2  hi", b"GET /1  "]


async def test_an_answer_without_a_length_is_chunked_and_old_clients_read_to_the_end() -> None:
    answer = await said(b"GET /chunked HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"transfer-encoding: chunked" in answer.lower()
    assert answer.endswith(b"\r\n\r\n5\r\nGET /\r\n9\r\nchunked  \r\n0\r\n\r\n")
    old = await said(b"GET /chunked HTTP/1.0\r\n\r\n")
    assert old.endswith(b"\r\n\r\nGET /chunked  ") and b"chunked\r\n" not in old


async def test_an_answer_to_head_has_no_body() -> None:
    answer = await said(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"content-length: 8" in answer.lower() and answer.endswith(b"\r\n\r\n")


async def test_who_waits_to_be_asked_for_a_body_is_asked() -> None:
    async with connected() as stream:
        await stream.send_all(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        )
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 100")
        await stream.send_all(b"hi")
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "data, status",
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * HEAD_BYTES_MAX, 431),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (CHUNKED.replace(b"Host: a", b"Host: a\r\nContent-Length: 2"), 400),
        (CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
    ],
)
async def test_what_is_no_request_is_answered_with_a_sentence_and_the_end(
    data: bytes, status: int, autojump_clock: trio.abc.Clock
) -> None:
    answer = await said(data)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b'{"error":{"code":' in answer and b"connection: close" in answer.lower()


async def test_a_body_that_nobody_reads_ends_the_connection_after_the_answer(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def deaf(scope: Any, receive: Any, send: Any) -> None:
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
        )
        await send({"type": "http.response.body", "body": b"no"})

    async with connected(deaf) as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nx")
        assert bodies(await until_closed(stream)) == [b"no"]
    # One that is here as a whole is no hindrance.
    whole = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
    assert bodies(await said(whole + whole, deaf)) == [b"no", b"no"]


@pytest.mark.parametrize("data", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"])
async def test_a_head_has_its_time_and_no_more(data: bytes, autojump_clock: trio.abc.Clock) -> None:
    since = trio.current_time()
    async with connected() as stream:
        await stream.send_all(data)
        await until_closed(stream)
    assert HEAD_TIMEOUT_S <= trio.current_time() - since < HEAD_TIMEOUT_S + 2


async def test_a_head_in_drops_gets_no_more_time(autojump_clock: trio.abc.Clock) -> None:
    since = trio.current_time()
    async with connected() as stream:
        with pytest.raises(trio.BrokenResourceError):
            await drip(stream)
    assert trio.current_time() - since < HEAD_TIMEOUT_S + 2


async def test_a_body_in_drops_ends_in_time_and_leaves_no_trace_in_the_journal(
    autojump_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    since = trio.current_time()
    async with connected() as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
        with pytest.raises(trio.BrokenResourceError):
            await drip(stream)
    assert trio.current_time() - since < http_connection.BODY_TIMEOUT_S + 5
    assert not caplog.records


async def test_more_of_a_body_than_was_announced_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.abc.Clock
) -> None:
    monkeypatch.setattr(http_connection, "BODY_BYTES_MAX", 10)
    chunks = CHUNKED + b"8\r\n12345678\r\n" * 2
    assert await said(chunks + b"0\r\n\r\n") == b""


async def test_the_application_hears_that_its_peer_has_gone(
    autojump_clock: trio.abc.Clock,
) -> None:
    heard: list[str] = []

    async def view(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"\n", "more_body": True})
        while (message := await receive())["type"] == "http.request":
            heard.append(message["type"])
        heard.append(message["type"])

    ahead = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    await said(ahead + ahead, view)
    assert heard == ["http.request", "http.disconnect"]


async def test_a_mistake_of_ours_is_told_to_both_sides(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.abc.Clock
) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError("ours")

    caplog.set_level(logging.ERROR)
    assert (await said(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", broken)).startswith(b"HTTP/1.1 500")
    assert "ZeroDivisionError" in caplog.text


async def test_two_tasks_may_send_at_once() -> None:
    async def two(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        async with trio.open_nursery() as nursery:
            for letter in (b"a", b"b"):
                message = {"type": "http.response.body", "body": letter * 9, "more_body": True}
                nursery.start_soon(send, message)
        await send({"type": "http.response.body", "body": b""})

    answer = await said(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", two)
    assert b"9\r\n" + b"a" * 9 + b"\r\n" in answer and b"9\r\n" + b"b" * 9 + b"\r\n" in answer


@asynccontextmanager
async def over_a_socket(app: Asgi, room: int = 1 << 20) -> AsyncIterator[trio.SocketStream]:
    """The client's end of a connection to ``app`` over loopback; the kernel has so much room."""
    scope = {"scheme": "http", "client": ("", 0), "server": ("", 0)}
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, trio.open_nursery() as nursery:

        async def run() -> None:
            async with await listener.accept() as ours:
                ours.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, room)
                await HttpServerConnection(ours, app, scope, lambda waits: None).run()

        nursery.start_soon(run)
        async with await trio.open_tcp_stream(*listener.socket.getsockname()) as theirs:
            yield theirs


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
#: Shorter than what the kernel takes of a new connection, and longer.
SHORT, LONG = bytes(range(256)) * 100, bytes(range(256)) * 1000


async def answer(send: Any, body: bytes) -> None:
    length = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": body})


async def answered(stream: trio.SocketStream, body: bytes, count: int = 1) -> None:
    """So many answers come."""
    expected = (b"HTTP/1.1 200 \r\ncontent-length: %d\r\n\r\n" % len(body) + body) * count
    got = b""
    with trio.fail_after(PATIENCE_S):
        while len(got) < len(expected):
            got += await stream.receive_some()
    assert got == expected


@pytest.mark.parametrize("ahead", [0, 20])
async def test_an_answer_leaves_in_one_go_unless_more_is_asked_already(ahead: int) -> None:
    turns = 0
    passed: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        before = turns
        await answer(send, SHORT)
        passed.append(turns > before)

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with over_a_socket(app) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(others)
        await stream.send_all(GET * (1 + ahead))
        await answered(stream, SHORT, 1 + ahead)
        nursery.cancel_scope.cancel()
    # Others get a turn before the next request is looked at, though now and then just before that.
    assert any(passed) == bool(ahead) and not passed[-1]


async def test_what_the_kernel_has_no_room_for_follows_when_it_has() -> None:
    sent: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, LONG)
        sent.append(True)

    async with over_a_socket(app, room=4096) as stream:
        await stream.send_all(GET)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert not sent
        await answered(stream, LONG)
        # There is more room by now, as the kernel finds a reader that takes what it gets.
        for _ in range(3):
            await stream.send_all(GET)
            await answered(stream, LONG)


async def test_who_is_gone_before_its_answer_is_no_mistake_of_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gone, seen = trio.Event(), list[str]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gone.wait()
        try:
            await answer(send, LONG)
        except trio.BrokenResourceError:
            seen.append("broken")
            raise

    async with over_a_socket(app) as stream:
        await stream.send_all(GET)
        await trio.testing.wait_all_tasks_blocked(0.01)
        # So that it is not an orderly end.
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))
        await trio.aclose_forcefully(stream)
        gone.set()
    assert seen == ["broken"] and not caplog.records
