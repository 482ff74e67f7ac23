"""The deadline of a request, on a clock that is turned, over real sockets."""

from __future__ import annotations

import socket as sockets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio
import trio.testing

from edge_agent.errors import SinkUnavailable
from edge_agent.forward.link.progress_stream import socket_of, unacknowledged_bytes
from edge_agent.forward.sinks.http.sink import HttpSink
from tests.forward.sinks.http.test_sink import batch_of
from tests.forward.support import Station, parts_for, running_station, upstream

TIMEOUT_S = 30.0
Serve = Callable[[trio.SocketStream], Awaitable[None]]


@pytest.fixture
def turned() -> trio.testing.MockClock:
    """A clock that stands still until it is turned."""
    return trio.testing.MockClock()


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[str]:
    """A server on loopback whose sockets take little; its URL."""
    listener = sockets.socket()
    listener.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 8 * 1024)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    bound = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [bound])
        yield f"http://127.0.0.1:{bound.socket.getsockname()[1]}/in"
        nursery.cancel_scope.cancel()


def sink_for(station: Station, url: str) -> HttpSink:
    config = upstream(url, timeout=TIMEOUT_S, compression="none")
    return HttpSink(parts_for(station, config))


async def test_what_the_other_side_has_not_confirmed_is_seen_in_the_kernel() -> None:
    taken = trio.Event()

    async def deaf(stream: trio.SocketStream) -> None:
        await taken.wait()

    async with serving(deaf) as url:
        port = int(url.rpartition(":")[2].partition("/")[0])
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            with trio.move_on_after(0.2):
                await stream.send_all(b"x" * 16 * 1024 * 1024)
            assert (unacknowledged_bytes(socket_of(stream)) or 0) > 0
        assert unacknowledged_bytes(socket_of(stream)) is None
        assert unacknowledged_bytes(None) is None
        taken.set()


async def test_a_slow_uplink_gets_as_long_as_bytes_move(
    turned: trio.testing.MockClock, tmp_path: Path
) -> None:
    turns = 0

    async def slowly(stream: trio.SocketStream) -> None:
        nonlocal turns
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some(4096)
        head, _, body = head.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        assert b"transfer-encoding" not in head.lower()
        got = len(body)
        while got < length:
            part = 0
            while part < 256 * 1024 and got + part < length:
                part += len(await stream.receive_some(16 * 1024))
            got += part
            await trio.testing.wait_all_tasks_blocked(0.01)
            turned.jump(0.8 * TIMEOUT_S)
            turns += 1
            await trio.testing.wait_all_tasks_blocked(0.01)
        await stream.send_all(b"HTTP/1.1 204 No Content\r\n\r\n")
        await trio.sleep_forever()

    async with running_station(tmp_path) as station, serving(slowly) as url:
        await station.put(20_000)
        sink = sink_for(station, url)
        assert (await sink.send(await batch_of(station))).upto == 20_000
        assert turns > 8
        await sink.aclose()


async def test_a_request_of_which_nothing_moves_any_more_ends_after_the_timeout(
    turned: trio.testing.MockClock, tmp_path: Path
) -> None:
    async def stuck(stream: trio.SocketStream) -> None:
        await stream.receive_some(4096)
        await trio.testing.wait_all_tasks_blocked(0.05)
        # The last look at what moved was up to two seconds ago.
        turned.jump(TIMEOUT_S - 3)
        await trio.testing.wait_all_tasks_blocked(0.05)
        late.append(False)
        turned.jump(4)
        await trio.sleep_forever()

    late: list[bool] = []
    async with running_station(tmp_path) as station, serving(stuck) as url:
        await station.put(20_000)
        sink = sink_for(station, url)
        with pytest.raises(SinkUnavailable, match=r"no answer within 30 s, with \d+ of") as caught:
            await sink.send(await batch_of(station))
        assert late and caught.value.cut and caught.value.sent_bytes > 1_000_000
        await sink.aclose()


async def test_an_answer_that_comes_a_byte_at_a_time_has_an_end(
    turned: trio.testing.MockClock, tmp_path: Path
) -> None:
    dripped = 0

    async def drip(stream: trio.SocketStream) -> None:
        nonlocal dripped
        await stream.receive_some(4096)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
        with suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(b" ")
                dripped += 1
                await trio.testing.wait_all_tasks_blocked(0.01)
                turned.jump(0.9 * TIMEOUT_S)
                await trio.testing.wait_all_tasks_blocked(0.01)

    async with running_station(tmp_path) as station, serving(drip) as url:
        await station.put(1)
        sink = sink_for(station, url)
        with pytest.raises(SinkUnavailable, match="no answer within"):
            await sink.send(await batch_of(station))
        assert 1 < dripped <= 4
        await sink.aclose()
