"""psycopg driven by Trio, against a real PostgreSQL and against servers that are none."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import pytest
import trio
import trio.testing
from psycopg.waiting import Wait
from trio.testing import MockClock

from edge_agent.errors import SinkUnavailable
from edge_agent.forward.link.progress_stream import queued_bytes
from edge_agent.forward.sinks.postgres.connection import (
    PostgresConnection,
    connect,
    ready_while_moving,
)
from edge_agent.forward.sinks.postgres.sqlstates import PostgresError
from tests.forward.relay import Relay, relay_to
from tests.forward.sinks.postgres.server import new_database
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.needs("postgresql", "psycopg")


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[PostgresConnection, Relay]]:
    server, database = await trio.to_thread.run_sync(new_database)
    async with relay_to(server.port) as relay:
        parameters = {"port": relay.port, "dbname": database, "user": "edge", "password": "secret"}
        connection = await connect(parameters, "localhost", PATIENCE_S)
        try:
            yield connection, relay
        finally:
            await connection.aclose()


async def test_statements_give_rows_and_what_was_done() -> None:
    async with connected() as (connection, _):
        assert await connection.rows("SELECT 1, NULL, 'ü'") == [("1", None, "ü")]
        done = await connection.statuses(
            "CREATE TEMP TABLE t (n int); INSERT INTO t VALUES (1), (2)"
        )
        assert done == ["CREATE TABLE", "INSERT 0 2"]


async def test_a_copy_larger_than_every_buffer_passes_while_others_go_on() -> None:
    lines = b"".join(b"%d\t%s\n" % (n, b"x" * 100) for n in range(50_000))
    async with connected() as (connection, _), trio.open_nursery() as nursery:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        nursery.start_soon(others)
        await connection.run("CREATE TEMP TABLE t (n int, s text)")
        await connection.copy("BEGIN; COPY t FROM STDIN", lines)
        assert await connection.rows("SELECT count(*), sum(length(s)) FROM t") == [
            ("50000", "5000000")
        ]
        assert turns > 50
        nursery.cancel_scope.cancel()


async def test_an_error_has_its_sqlstate_and_what_the_server_says() -> None:
    async with connected() as (connection, _):
        with pytest.raises(PostgresError, match='relation "nope" does not exist') as caught:
            await connection.run("SELECT * FROM nope")
        assert caught.value.sqlstate == "42P01"
        await connection.run("CREATE TEMP TABLE t (n int)")
        with pytest.raises(PostgresError, match="invalid input syntax") as caught:
            await connection.copy("COPY t FROM STDIN", b"x\n")
        assert caught.value.sqlstate == "22P02"
        assert connection.is_good


async def test_a_connection_that_breaks_is_an_error_and_no_longer_good() -> None:
    async with connected() as (connection, relay):
        relay.cuts = 1
        with pytest.raises(PostgresError):
            await connection.run("SELECT 1")
        assert not connection.is_good


async def test_closing_ends_a_wait_of_another_task_and_may_come_twice() -> None:
    async with connected() as (connection, _), trio.open_nursery() as nursery:
        ended = trio.Event()

        async def wait() -> None:
            with pytest.raises((trio.ClosedResourceError, PostgresError)):
                await connection.run("SELECT pg_sleep(60)")
            ended.set()

        nursery.start_soon(wait)
        await trio.sleep(0.05)
        await connection.aclose()
        await connection.aclose()
        with trio.fail_after(PATIENCE_S):
            await ended.wait()
        assert not connection.is_good


async def test_a_wrong_password_is_said_by_the_server() -> None:
    server, database = await trio.to_thread.run_sync(new_database)
    parameters = {"port": server.port, "dbname": database, "user": "edge", "password": "wrong"}
    with pytest.raises(PostgresError, match="password authentication failed"):
        await connect(parameters, "127.0.0.1", PATIENCE_S)


async def test_nobody_there_and_no_such_host() -> None:
    with pytest.raises(PostgresError, match="refused"):
        await connect({"port": 1, "dbname": "x"}, "127.0.0.1", PATIENCE_S)
    with pytest.raises(OSError):
        await connect({"port": 1, "dbname": "x"}, "nobody.invalid", PATIENCE_S)


async def test_who_says_nothing_is_given_up(autojump_clock: MockClock) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    with pytest.raises(SinkUnavailable, match="has said nothing for 10 s"):
        await connect({"port": port, "dbname": "x"}, "127.0.0.1", 30.0)
    await listeners[0].aclose()


async def test_what_a_slow_link_confirms_is_progress(turned_clock: MockClock) -> None:
    with socket_pair_filled() as (here, there):
        async with trio.open_nursery() as nursery:
            gave_up = trio.Event()

            async def wait() -> None:
                with pytest.raises(trio.TooSlowError):
                    await ready_while_moving(here.fileno(), Wait.R, 1000.0)
                gave_up.set()

            nursery.start_soon(wait)
            for _ in range(3):
                await trio.testing.wait_all_tasks_blocked()
                before = queued_bytes(here.fileno()) or 0
                while (queued_bytes(here.fileno()) or 0) >= before:
                    there.recv(65536)
                    await trio.sleep(0.001)
                turned_clock.jump(1001)
            await trio.testing.wait_all_tasks_blocked()
            assert not gave_up.is_set()
            turned_clock.jump(1001)
            with trio.fail_after(PATIENCE_S):
                await gave_up.wait()


@contextmanager
def socket_pair_filled() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends over TCP, between which nothing more goes until somebody reads."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = socket.create_connection(server.getsockname())
        there, _ = server.accept()
    here.setblocking(False)
    with here, there:
        with suppress(BlockingIOError):
            while True:
                here.send(bytes(65536))
        yield here, there


async def test_who_speaks_something_else_is_an_error() -> None:
    async def talk(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, talk, 0)
        port = listeners[0].socket.getsockname()[1]
        with pytest.raises(PostgresError):
            await connect({"port": port, "dbname": "x"}, "127.0.0.1", PATIENCE_S)
        nursery.cancel_scope.cancel()


def said(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


@pytest.mark.parametrize(
    "answer", [b"", said(b"C", b"SELECT 1\0"), said(b"C", b"SET\0") + said(b"C", b"SET\0")]
)
async def test_a_server_that_answers_a_question_with_nothing_is_no_mistake_of_ours(
    answer: bytes,
) -> None:
    ready = said(b"Z", b"I")

    async def lie(stream: trio.abc.Stream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(said(b"R", bytes(4)) + ready)
            while await stream.receive_some():
                await stream.send_all(answer + ready)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, lie, 0)
        port = listeners[0].socket.getsockname()[1]
        parameters = {"port": port, "dbname": "x", "user": "x", "sslmode": "disable"}
        parameters["gssencmode"] = "disable"
        connection = await connect(parameters, "127.0.0.1", PATIENCE_S)
        with pytest.raises(PostgresError, match="has no answer"):
            await connection.rows("SELECT 1")
        await connection.aclose()
        nursery.cancel_scope.cancel()
