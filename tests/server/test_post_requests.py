"""Requests whose head is known, byte for byte, and what is sent in their midst."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from edge_agent.server import handshake, post_requests
from edge_agent.server.handshake import Post
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
