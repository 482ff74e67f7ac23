"""Peers that do not read what they are told: nobody waits for them, and they cost no memory."""

from __future__ import annotations

import json
import socket as stdlib_socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from edge_agent.config.shape import Limits
from tests.patience import PATIENCE_S, eventually, receive_until
from tests.server.frames import PING, TEXT, frame
from tests.server.support import (
    LISTEN,
    Serving,
    reset,
    serving,
    session,
    upgrade,
)

#: Each is answered with some hundred bytes.
BAD = frame(TEXT, b'{"time":"noon"}')


@pytest.fixture(autouse=True)
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets of the port hold little of what is sent, so that it clogs soon."""
    listen = trio.open_tcp_listeners

    async def open_tcp_listeners(port: int, *, host: str) -> list[trio.SocketListener]:
        listeners = await listen(port, host=host)
        for listener in listeners:
            listener.socket.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 4096)
        return listeners

    monkeypatch.setattr(trio, "open_tcp_listeners", open_tcp_listeners)


@asynccontextmanager
async def deaf(serving: Serving, path: str, *headers: str) -> AsyncIterator[trio.SocketStream]:
    """An upgraded connection whose peer reads nothing more."""
    bare = trio.socket.socket()
    bare.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_RCVBUF, 4096)
    async with trio.SocketStream(bare) as stream:
        await bare.connect(("127.0.0.1", serving.port))
        await stream.send_all(upgrade(path, *headers).replace("\n", "\r\n").encode())
        await receive_until(stream, b"\r\n\r\n")
        yield stream


@asynccontextmanager
async def deaf_session(serving: Serving) -> AsyncIterator[trio.SocketStream]:
    """The same, and it has said hello as "pi"."""
    protocol = "Sec-WebSocket-Protocol: edge-agent.v1+json"
    async with deaf(serving, "/ingest/a", protocol) as stream:
        hello = json.dumps({"type": "hello", "source": "pi"})
        await stream.send_all(frame(TEXT, hello.encode()))
        yield stream


async def clog(serving: Serving, stream: trio.SocketStream) -> None:
    """Send what is answered with more than the sockets hold, then what is answered after it."""
    for count in (400, 10):
        upto = messages_read(serving) + count
        await stream.send_all(BAD * count)
        while messages_read(serving) < upto or serving.log.statistics().commit.in_flight_bytes:
            await trio.sleep(0.005)


def messages_read(serving: Serving) -> int:
    """How many messages the port has read."""
    return int(serving.metrics.get("messages_received_total"))


async def is_free(serving: Serving) -> None:
    """Nothing is left of the deaf one, and its source may be had."""
    await eventually(lambda: not serving.open_sockets(), "its socket is closed")
    await eventually(lambda: not serving.settling(), "it has settled")
    async with session(serving) as again:
        assert (await again.hello("pi"))["type"] == "welcome"


async def given_up(clock: MockClock, serving: Serving) -> None:
    """Time passes until the port has given up the deaf one; its farewell is short."""
    while serving.open_sockets():
        clock.jump(LISTEN.idle_timeout / 4)
        await trio.sleep(0.02)
    await is_free(serving)


async def test_who_does_not_read_is_given_up_and_leaves_its_source(
    turned_clock: MockClock, tmp_path: Path
) -> None:
    async with serving(tmp_path) as port, deaf_session(port) as stream:
        await clog(port, stream)
        await given_up(turned_clock, port)


async def test_who_pings_and_never_reads_a_pong_is_given_up(
    turned_clock: MockClock, tmp_path: Path
) -> None:
    async with (
        serving(tmp_path) as port,
        deaf_session(port) as stream,
        trio.open_nursery() as nursery,
    ):

        async def ping() -> None:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await stream.send_all(frame(PING, b"x" * 100) * 200_000)

        nursery.start_soon(ping)
        await trio.sleep(0.5)
        await given_up(turned_clock, port)
        nursery.cancel_scope.cancel()


async def test_who_does_not_read_can_be_taken_over(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, deaf_session(port) as stream:
        await clog(port, stream)
        async with session(port) as newer:
            assert (await newer.hello("pi"))["next"] == 411


async def test_who_is_not_read_and_goes_away_is_missed_at_once(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, limits=Limits(window_records=1000)) as port,
        deaf_session(port) as stream,
    ):
        with trio.move_on_after(0.3):
            await stream.send_all(BAD * 100_000)
        reset(stream)
        with trio.fail_after(LISTEN.idle_timeout / 2):
            await is_free(port)


async def test_a_plain_sender_that_does_not_read_its_acks_is_read_no_further(
    tmp_path: Path,
) -> None:
    async with (
        serving(tmp_path) as port,
        deaf(port, "/ingest/a?ack=1") as stream,
        trio.open_nursery() as nursery,
    ):
        # From some hundred on no ack gets through. Some 20 MB of debts, if all were read.
        nursery.start_soon(stream.send_all, BAD * 200_000)
        read, now = 0, messages_read(port)
        while read < now or not now:
            await trio.sleep(0.3)
            read, now = now, messages_read(port)
        assert read < 20_000
        # Where it reads again, all goes on.
        with trio.fail_after(PATIENCE_S):
            while messages_read(port) == read:
                await stream.receive_some(65536)
        nursery.cancel_scope.cancel()
