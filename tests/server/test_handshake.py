"""The head: read whole, byte by byte and with trailing data; refused with a sentence."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from edge_agent.server.handshake import (
    HEAD_BYTES_MAX,
    HandshakeRefusal,
    Post,
    Upgrade,
    read_head,
    refuse,
    response,
)

HEAD = (
    b"GET /ingest/a?ack=1 HTTP/1.1\r\n"
    b"Host: localhost:8765\r\n"
    b"Connection: keep-alive, Upgrade\r\n"
    b"Upgrade: WebSocket\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    b"Sec-WebSocket-Protocol: one, two\r\n"
    b"sec-websocket-protocol: three\r\n"
    b"Origin: http://page.example\r\n"
    b"Authorization: Bearer secret\r\n"
    b"\r\n"
)


async def read(data: bytes, step: int = 1 << 20) -> Upgrade:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(data)
    await theirs.send_eof()
    head = await read_head(_Slowly(ours, step), what_this_is="This is a port.")
    assert isinstance(head, Upgrade)
    return head


class _Slowly(trio.abc.Stream):
    """At most ``step`` bytes for each read."""

    def __init__(self, stream: trio.abc.Stream, step: int) -> None:
        self.stream, self.step = stream, step

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self.stream.receive_some(min(self.step, max_bytes or self.step)))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self.stream.aclose()


@pytest.mark.parametrize("step", [1, 2, 7, 1 << 20])
@pytest.mark.parametrize("early", [b"", b"\x81\x80\x00\x00\x00\x00"])
async def test_an_upgrade_is_understood_however_it_is_cut(step: int, early: bytes) -> None:
    upgrade = await read(HEAD + early, step)
    assert upgrade.target == "/ingest/a?ack=1"
    assert upgrade.host == "localhost:8765"
    assert upgrade.origin == "http://page.example"
    assert upgrade.authorization == "Bearer secret"
    assert upgrade.subprotocols == ("one", "two", "three")
    if step > len(HEAD):
        assert upgrade.early == early


def test_secrets_are_not_shown() -> None:
    upgrade = Upgrade(
        "/", None, None, "Bearer secret", ("edge-agent.token.abc",), key=b"k", early=b""
    )
    assert "secret" not in repr(upgrade)
    assert "abc" not in repr(upgrade)


async def test_the_head_for_the_library_has_nothing_of_the_peers_but_the_key() -> None:
    head = (await read(HEAD)).head("two")
    assert head.startswith(b"GET / HTTP/1.1\r\n")
    assert b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n" in head
    assert b"Sec-WebSocket-Protocol: two\r\n" in head
    assert b"page.example" not in head
    assert head.endswith(b"\r\n\r\n")
    assert b"Protocol" not in (await read(HEAD)).head(None)


@pytest.mark.parametrize(
    "old, new, status, word",
    [
        (b"GET", b"PUT", 405, "This is a port."),
        (b"GET /ingest/a", b"OPTIONS *", 405, "This is a port."),
        (b"GET /ingest/a", b"HEAD /ingest/a", 426, "This is a port."),
        (b"Upgrade: WebSocket\r\n", b"", 426, "This is a port."),
        (b"keep-alive, Upgrade", b"keep-alive", 426, "This is a port."),
        (b"Version: 13", b"Version: 8", 426, "version 13"),
        (b"AAAAAAAAAAAAAAAAAAAAAA==", b"short", 400, "base64"),
        (b"AAAAAAAAAAAAAAAAAAAAAA==", b"\xff", 400, ""),
        (b"Host: localhost:8765", b"Host: a\r\nHost: b", 400, ""),
        (b"Origin: http://page.example", b"Origin: a\r\nOrigin: b", 400, "twice"),
        (b"Authorization: Bearer secret", b"Authorization: a\r\nAuthorization: b", 400, "twice"),
        (b"Origin: http://page.example", b"X: " + b"x" * HEAD_BYTES_MAX * 2, 431, "HTTP"),
        (b"GET /", b"\x16\x03\x01 /", 400, "TLS"),
        (b"HTTP/1.1", b"SSH-2.0", 400, "not an HTTP request"),
        (b"GET /", b"GET /a b", 400, "request line: 'GET /a b"),
        (b"Upgrade: WebSocket", b"Upgrade: WebSocket\r\nContent-Length: 6", 400, "no body"),
        (
            b"Upgrade: WebSocket",
            b"Upgrade: websocket\r\nTransfer-Encoding: chunked",
            400,
            "no body",
        ),
    ],
)
async def test_other_requests_are_refused_with_a_sentence(
    old: bytes, new: bytes, status: int, word: str
) -> None:
    with pytest.raises(HandshakeRefusal) as caught:
        await read(HEAD.replace(old, new))
    assert caught.value.status == status
    assert word in caught.value.sentence
    assert caught.value.to_head is new.startswith(b"HEAD")


@pytest.mark.parametrize("cut", [0, 1, 10, len(HEAD) - 1])
async def test_a_peer_that_leaves_is_no_error_of_ours(cut: int) -> None:
    with pytest.raises((EOFError, HandshakeRefusal)):
        await read(HEAD[:cut])


@pytest.mark.parametrize(
    "head, word",
    [
        (b"HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nTransfer-Encoding: chunked", "together"),
        (b"HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\tchunked\r\nContent-Length: 2", "together"),
        (b"HTTP/1.0\r\nTransfer-Encoding: chunked", "HTTP/1.0"),
    ],
)
async def test_a_post_that_says_in_two_ways_where_it_ends_is_refused(
    head: bytes, word: str
) -> None:
    with pytest.raises(HandshakeRefusal) as caught:
        await read(b"POST /ingest/a " + head + b"\r\n\r\n0\r\n\r\n")
    assert (caught.value.status, caught.value.reason) == (400, "bad_request")
    assert word in caught.value.sentence


async def test_a_post_of_records_comes_with_its_body_unread() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    head = b"POST /ingest/a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nIdempotency-Key: k\r\n"
    await theirs.send_all(head + b"Content-Type: Application/JSON; charset=utf-8\r\n\r\n{}")
    post = await read_head(ours, what_this_is="")
    assert isinstance(post, Post)
    assert (post.content_type, post.length, post.key) == ("application/json", 2, "k")
    assert not post.is_chunked


def test_responses_say_what_their_status_asks_for() -> None:
    upgrade = response(HandshakeRefusal(426, "This.", "x"))
    assert upgrade.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
    assert b"\r\nUpgrade: websocket\r\n" in upgrade
    assert upgrade.endswith(b"\r\n\r\nThis.\n")
    bodiless = response(HandshakeRefusal(426, "This.", "x", to_head=True))
    assert bodiless.endswith(b"\r\n\r\n") and upgrade.startswith(bodiless)
    assert b"\r\nAllow: GET, POST\r\n" in response(HandshakeRefusal(405, "This.", "x"))
    assert b"\r\nWWW-Authenticate: Bearer" in response(HandshakeRefusal(401, "Who?", "x"))
    assert b"\r\nRetry-After: 7\r\n" in response(HandshakeRefusal(503, "Later.", "x", 7))


async def test_a_peer_that_goes_on_talking_gets_its_answer_and_is_left(
    autojump_clock: trio.abc.Clock,
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(b"x" * 1000)
    since = trio.current_time()
    await refuse(ours, response(HandshakeRefusal(426, "This.", "x")))
    assert trio.current_time() - since <= 1.0
    assert (await theirs.receive_some(1000)).startswith(b"HTTP/1.1 426")


async def test_a_peer_that_is_gone_needs_no_answer() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.aclose()
    await refuse(ours, response(HandshakeRefusal(426, "This.", "x")))


async def test_a_proxys_whole_url_is_understood_and_another_http_is_told() -> None:
    _, newline, rest = HEAD.partition(b"\r\n")
    target = "/ingest/a"
    assert (await read(b"GET http://h:1/ingest/a HTTP/1.1" + newline + rest)).target == target
    for first in (b"GET /ingest/a HTTP/2.0", b"PRI * HTTP/2.0"):
        with pytest.raises(HandshakeRefusal) as told:
            await read(first + newline + rest)
        assert told.value.status == 505
