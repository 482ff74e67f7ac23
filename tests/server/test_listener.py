"""Accepting, guarding, counting, stopping."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from edge_agent.server import connection as connection_module
from tests.patience import PATIENCE_S, eventually
from tests.server.support import (
    LISTEN,
    bystander,
    connect,
    http,
    raw,
    serving,
    session,
    until_closed,
    upgrade,
)


async def test_an_error_of_ours_ends_one_connection_and_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*args: object) -> None:
        raise ZeroDivisionError("our mistake")

    async with serving(tmp_path) as port, bystander(port) as other:
        monkeypatch.setattr(connection_module, "serve_plain", broken)
        with caplog.at_level(logging.ERROR, "edge_agent.server.listener"):
            async with raw(port) as stream:
                await stream.send_all(upgrade("/ingest/a").replace("\n", "\r\n").encode())
                await until_closed(stream)
        await other.is_served()
        await eventually(lambda: port.metrics.get("connections") == 1, "it is gone")
        assert port.metrics.get("connection_faults_total") == 1
        assert "our mistake" in caplog.text


async def test_connections_are_counted(tmp_path: Path) -> None:
    async with serving(tmp_path) as port:
        async with connect(port, "/ingest/a"), connect(port, "/ingest/a"):
            await eventually(lambda: port.metrics.get("connections") == 2, "both are there")
        await eventually(lambda: port.metrics.get("connections") == 0, "both are gone")
        assert port.metrics.get("connections_total") == 2


async def test_at_the_limit_the_next_of_the_same_identity_is_told_to_come_back(
    tmp_path: Path,
) -> None:
    listen = msgspec.structs.replace(LISTEN, connections=1)
    async with serving(tmp_path, listen=listen) as port, bystander(port) as other:
        answers: list[str] = []

        async def try_it() -> None:
            answers.append(await http(port, upgrade("/ingest/a")))

        async with trio.open_nursery() as nursery:
            for _ in range(40):
                nursery.start_soon(try_it)
            await other.is_served()
        assert all("503" in answer and "Retry-After: " in answer for answer in answers)
        assert port.metrics.get("connections_refused_total", "full") == 40
        await other.is_served()
        assert len(port.server._parts.unproved) == 0


async def test_stopping_closes_the_port_first(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, session(port) as sensor:
        await sensor.hello("pi")
        port.server.stop()
        port.server.stop()
        await sensor.closed()
        await port.stopped.wait()
        with pytest.raises(OSError, match="all attempts to connect"):
            await trio.open_tcp_stream("127.0.0.1", port.port)


async def test_a_peer_that_ignores_the_goodbye_is_cancelled(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, raw(port) as stream:
        await stream.send_all(upgrade("/subscribe/**").replace("\n", "\r\n").encode())
        await eventually(lambda: port.server.connections() != [], "it is there")
        since = trio.current_time()
        port.server.stop()
        await port.stopped.wait()
        assert trio.current_time() - since < LISTEN.close_timeout + 0.5


class Exhausted(trio.abc.Listener[trio.abc.Stream]):
    """A listener on a machine that is out of file descriptors at first."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.errors = 2
        self.number = errno.EMFILE
        self.stream: trio.abc.Stream | None = stream

    async def accept(self) -> trio.abc.Stream:
        if self.errors:
            self.errors -= 1
            raise OSError(self.number, "out of file descriptors")
        while self.stream is None:
            await trio.sleep_forever()
        stream, self.stream = self.stream, None
        return stream

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOBUFS])
async def test_what_is_not_the_listeners_fault_is_waited_out(tmp_path: Path, number: int) -> None:
    async with serving(tmp_path) as port:
        near, far = trio.testing.memory_stream_pair()
        exhausted = Exhausted(near)
        exhausted.number = number
        async with trio.open_nursery() as nursery:
            nursery.start_soon(port.server._accept, exhausted, nursery)
            await far.send_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            with trio.fail_after(PATIENCE_S):
                assert b"426" in await far.receive_some(4096)
            await far.aclose()
            nursery.cancel_scope.cancel()


async def test_a_listener_that_is_broken_for_good_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path) as port:
        near, _far = trio.testing.memory_stream_pair()
        broken = Exhausted(near)
        broken.number = errno.EBADF
        with pytest.raises(OSError, match="descriptors"):
            await port.server._accept(broken, trio.lowlevel.current_task().parent_nursery)  # type: ignore[arg-type]  # never None here


async def test_statistics_are_a_snapshot(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, session(port) as sensor:
        await sensor.hello("pi")
        statistics = port.server.statistics()
        assert (statistics.connections, statistics.settling) == (1, 0)
        assert 0 < statistics.window_bytes <= 32 * 1024 * 1024
        assert statistics.tokens_trouble is None


async def test_an_unknown_path_says_what_there_is(tmp_path: Path) -> None:
    async with serving(tmp_path) as port:
        assert "/ingest/STREAM" in await http(port, upgrade("/x"))
