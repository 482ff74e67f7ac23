"""Posts on the quick way: whose answers come from the committer's own call."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from edge_agent.server.posting.posts import Posts
from edge_agent.server.posting.quick_posts import QuickPosts
from edge_agent.store import LogSettings, StoreSettings
from tests.patience import PATIENCE_S, eventually, receive_to_end, receive_until
from tests.server.support import LISTEN, Serving, neighbours, raw, serving

YES = b'{"stored":1,"refused":[]}\n'


def request(body: bytes, stream: bytes = b"a") -> bytes:
    head = b"POST /ingest/%b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    return head % (stream, len(body)) + body


async def learnt(stream: trio.SocketStream, body: bytes, yes: bytes = YES) -> None:
    """Two requests, so that their head is known."""
    for _ in range(2):
        await stream.send_all(request(body))
        await receive_until(stream, yes)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What was stored on the quick way, in records' bytes."""
    taken: list[int] = []
    real = QuickPosts.take_some

    def noted(self: QuickPosts, now: float) -> int:
        size = real(self, now)
        if size > 0:
            taken.append(size)
        return size

    monkeypatch.setattr(QuickPosts, "take_some", noted)
    return taken


async def numbers(port: Serving) -> list[int]:
    return [one.fields.get("n", 0) for one in await port.records() if one.stream == "a"]


async def test_what_is_usual_goes_the_quick_way_and_the_rest_does_not(
    tmp_path: Path, quick: list[int]
) -> None:
    async with neighbours(tmp_path) as (port, _), raw(port) as stream:
        await learnt(stream, b'{"n": 1}')
        await stream.send_all(request(b'{"n": 2}'))
        await receive_until(stream, YES)
        assert len(quick) == 1
        # The same head, and no record, or lines: the task says so.
        for body, told in {b'{"n": 3,': b" 400 ", b"{}\n[ ] ": b'{"stored":1'}.items():
            await stream.send_all(request(body))
            received = await receive_until(stream, b"}\n")
            assert told in received, received
        assert len(quick) == 1
        # Nothing of the head is new but the length.
        await learnt(stream, b'[{"n": 4}, {"n": 5}]', YES.replace(b"1", b"2"))
        await stream.send_all(request(b'[{"n": 6}, {"n": 7}]'))
        await receive_until(stream, YES.replace(b"1", b"2"))
        assert len(quick) == 4
        await stream.send_all(request(b'{"n": 8}'))
        await receive_until(stream, YES)
        # Two to begin with, one, one of lines, two, one and one: one sender, whatever its heads.
        counted = [one.next for one in port.server.connections() if one.source == "127.0.0.1"]
        assert counted == [8]
        assert (await numbers(port))[-3:] == [6, 7, 8]


async def test_its_answer_waits_for_the_disk_and_what_comes_meanwhile_for_the_answer(
    tmp_path: Path, quick: list[int]
) -> None:
    async with serving(tmp_path) as port, raw(port) as stream:
        await learnt(stream, b'{"n": 1}')
        began = port.held.began
        port.held.hold()
        await stream.send_all(request(b'{"n": 2}'))
        await eventually(lambda: port.held.began > began, "a commit")
        assert len(quick) == 1
        await stream.send_all(request(b'{"n": 3}'))
        with trio.move_on_after(0.1) as waited:
            await stream.receive_some(100)
        assert waited.cancelled_caught
        port.held.let_go()
        await receive_until(stream, lambda received: received.count(YES) == 2)
        assert (await numbers(port))[-2:] == [2, 3]


async def test_a_stop_answers_what_the_quick_way_is_storing(
    tmp_path: Path, quick: list[int]
) -> None:
    async with serving(tmp_path) as port, raw(port) as stream:
        await learnt(stream, b'{"n": 1}')
        began = port.held.began
        port.held.hold()
        await stream.send_all(request(b'{"n": 2}'))
        await eventually(lambda: port.held.began > began, "a commit")
        port.server.stop()
        await trio.sleep(0.05)
        port.held.let_go()
        received = await receive_to_end(stream)
        assert quick and received.endswith(YES) and b"Connection: close" in received


async def test_a_full_store_is_told_on_the_quick_way_too(tmp_path: Path, quick: list[int]) -> None:
    small = StoreSettings(
        size=2 * 1024 * 1024, logs=(LogSettings("main", when_full="refuse", share=0.1),),
        compression_level=0,
    )  # fmt: skip
    body = b'{"x": "%b"}' % (b"y" * 20_000)
    async with serving(tmp_path, settings=small) as port, raw(port) as stream:
        await learnt(stream, body)
        with trio.fail_after(PATIENCE_S):
            for _ in range(60):
                await stream.send_all(request(body))
                received = await receive_until(stream, b"}\n")
                if b" 503 " in received:
                    break
        assert quick and b" 503 " in received and b"Retry-After: " in received
        # The connection goes on.
        await stream.send_all(request(b'{"n": 1}'))
        await receive_until(stream, b"}\n")


async def test_who_posts_on_the_quick_way_is_silent_from_its_last_request_on(
    turned_clock: MockClock,
    tmp_path: Path,
    quick: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard_at: list[float] = []
    real = Posts._silent_at

    def noted(self: Posts, since: float) -> float:
        assert self._quick is not None
        heard_at.append(self._quick.heard_at)
        return real(self, since)

    monkeypatch.setattr(Posts, "_silent_at", noted)
    async with serving(tmp_path) as port, raw(port) as stream:
        await learnt(stream, b'{"n": 1}')
        sent_at = trio.current_time()
        await stream.send_all(request(b'{"n": 2}'))
        await receive_until(stream, YES)
        turned_clock.jump(LISTEN.idle_timeout)
        assert await receive_to_end(stream) == b""
        assert quick
        assert sent_at <= heard_at[-1] <= trio.current_time() - LISTEN.idle_timeout
