"""Requests whose head is known, byte for byte, and what is sent in their midst."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import trio

from edge_agent.config.quantities import Size
from edge_agent.config.shape import Limits
from edge_agent.server import handshake
from edge_agent.server.handshake import Post
from edge_agent.server.posting import post_requests
from edge_agent.server.posting.post_requests import KnownHead
from tests.patience import receive_until
from tests.server.support import raw, serving

HEAD = b"POST /ingest/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n\r\n"
YES = b'{"stored":1,"refused":[]}\n'


async def answered(stream: trio.SocketStream, sent: bytes, times: int = 1) -> None:
    await stream.send_all(sent)
    await receive_until(stream, lambda received: received.count(YES) == times)


def request(n: int) -> bytes:
    return HEAD + b'{"n": %d}' % n


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was at hand of each request that was parsed."""
    found: list[bytes] = []
    real = handshake.read_post

    async def noted(stream: trio.abc.Stream, data: bytes) -> Post:
        found.append(data)
        return await real(stream, data)

    monkeypatch.setattr(post_requests, "read_post", noted)
    return found


async def test_a_known_head_is_not_parsed_again_whatever_comes_in_between(
    tmp_path: Path, parsed: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(post_requests, "JUDGED_S", 3600.0)
    async with serving(tmp_path) as port, raw(port) as stream:
        # The first one was read by the handshake, the second one is learnt.
        for n in range(5):
            await answered(stream, request(n))
        assert parsed == [request(1)]
        # Two at once, one in pieces, one that waits for a word before its body.
        await answered(stream, request(5) + request(6), 2)
        await stream.send_all(request(7)[:-3])
        await trio.sleep(0.05)
        await answered(stream, request(7)[-3:])
        await stream.send_all(HEAD[:-2] + b"Expect: 100-continue\r\n\r\n")
        await receive_until(stream, b"HTTP/1.1 100 ")
        await answered(stream, request(8)[-8:])
        del parsed[:]
        await answered(stream, request(9))
        assert not parsed
        other = HEAD.replace(b"/a ", b"/b ").replace(b"8", b"9") + b'{"n": 10}'
        await answered(stream, other)
        assert len(parsed) == 1
        found = [(one.stream, one.fields["n"]) for one in await port.records()]
        assert found == [*(("a", n) for n in range(10)), ("b", 10)]


async def test_only_so_many_heads_are_remembered(
    tmp_path: Path, parsed: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(post_requests, "JUDGED_S", 3600.0)
    async with serving(tmp_path) as port, raw(port) as stream:
        paths = [b"/x%d HTTP" % n for n in range(post_requests.HEADS_MAX)]
        for path in [b"/a HTTP", *paths, *paths]:
            await answered(stream, request(1).replace(b"/a HTTP", path))
        assert len(parsed) == len(paths)
        await answered(stream, request(1).replace(b"/a HTTP", b"/one-more HTTP"))
        await answered(stream, request(1).replace(b"/a HTTP", paths[0]))
        assert len(parsed) == len(paths) + 2


async def test_the_same_head_is_judged_anew_after_a_while(
    tmp_path: Path, parsed: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(post_requests, "JUDGED_S", 0.0)
    async with serving(tmp_path) as port, raw(port) as stream:
        for n in range(4):
            await answered(stream, request(n))
        assert parsed == [request(1), request(2), request(3)]


def known(head: bytes) -> KnownHead | None:
    return KnownHead.of(head, cast("Any", None), cast("Any", None), 0.0)


@pytest.mark.parametrize(
    "head",
    [
        HEAD,
        b"POST /a HTTP/1.1\r\ncontent-LENGTH:\t12\r\nX: 8\r\n\r\n",
        b"POST /a HTTP/1.1\r\nContent-Length:0\r\nHost: a\r\n\r\n",
    ],
)
def test_a_head_is_known_by_all_but_the_digits_of_its_length(head: bytes) -> None:
    found = known(head)
    assert found is not None
    for body in (b"", b"1", b"{}", b"x" * 60_000):
        same = b"%b%d%b" % (found.before, len(body), found.behind)
        assert same.lower().count(b"content-length") == 1
        assert found.body_at(same + body) == len(same)
        # Two at once, or one that is not all here, are read from the beginning.
        assert not found.body_at(same + body + b"P")
        assert not body or not found.body_at(same + body[:-1])


@pytest.mark.parametrize(
    "head",
    [
        b"POST /a HTTP/1.1\r\n\r\n",
        b"POST /a HTTP/1.1\r\nContent-Length: 8, 8\r\n\r\n",
        b"POST /a HTTP/1.1\r\nContent-Length: 8\r\nContent-Length: 8\r\n\r\n",
        b"POST /a HTTP/1.1\r\nX: a\nContent-Length: 8\r\nContent-Length: 8\r\n\r\n",
        b"POST /content-length: HTTP/1.1\r\nContent-Length: 8\r\n\r\n",
        b"POST /a HTTP/1.1\r\nX-Content-Length: 8\r\n\r\n",
        b"POST /a HTTP/1.1\r\nContent-Length: 8 \r\n\r\n",
    ],
)
def test_a_head_of_which_it_is_not_plain_what_its_length_is_is_not_known(head: bytes) -> None:
    assert known(head) is None


@pytest.mark.parametrize(
    "digits", [b"", b" 8", b"+8", b"-8", b"0x8", b"8 ", b"8,8", b"8\r\nX: y", b"8" * 9, b"\xb2"]
)
def test_what_is_no_length_is_not_taken_for_one(digits: bytes) -> None:
    found = known(HEAD)
    assert found is not None
    assert not found.body_at(found.before + digits + found.behind + b'{"n": 1}')


async def test_a_known_head_lets_no_body_in_that_is_too_long(
    tmp_path: Path, parsed: list[bytes]
) -> None:
    limits = Limits(message_bytes=Size(4096), record_bytes=Size(4096))
    async with serving(tmp_path, limits=limits) as port, raw(port) as stream:
        for n in range(3):
            await answered(stream, request(n))
        del parsed[:]
        await stream.send_all(HEAD.replace(b"8", b"5000") + b" " * 5000)
        assert b" 413 " in await receive_until(stream, b" 413 ")
        assert len(parsed) == 1
