from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme

from edge_agent.errors import SinkUnavailable
from edge_agent.forward.credentials import Credentials, client_context
from edge_agent.forward.sinks.nats.connection import NatsConnection, open_nats
from edge_agent.forward.sinks.nats.protocol import NatsMessage
from edge_agent.net.dial import dial_tcp
from tests.forward.sinks.nats.server import nats_server
from tests.patience import PATIENCE_S, receive_until

NOBODY = Credentials((), None, None, ())
INFO = b'INFO {"version":"2.15.1","headers":true,"max_payload":1000}\r\n'
Line = trio.StapledStream[trio.abc.SendStream, trio.abc.ReceiveStream]


async def opened(
    far: trio.abc.Stream, near: trio.abc.Stream, first: bytes = INFO, then: bytes = b"PONG\r\n"
) -> NatsConnection:
    """A connection to a server that says ``first`` and ``then``."""

    async def dial(host: str, port: int, tls: object) -> trio.abc.Stream:
        return near

    made: list[NatsConnection] = []

    async def open_it() -> None:
        made.append(await open_nats(dial, ("h", 1), NOBODY, None, PATIENCE_S))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(open_it)
        await far.send_all(first)
        if then:
            await receive_until(far, lambda got: got.endswith(b"PING\r\n"))
            await far.send_all(then)
        else:
            await far.aclose()
    return made[0]


async def test_a_question_gets_its_answer_and_a_ping_its_pong() -> None:
    near, far = trio.testing.memory_stream_pair()
    connection = await opened(far, near)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run, PATIENCE_S)

        async def server() -> None:
            await far.send_all(b"PING\r\n")
            asked = await receive_until(far, lambda got: b"hi\r\n" in got and b"PONG\r\n" in got)
            reply = asked.split(b"PUB question ")[1].split()[0]
            await far.send_all(b"MSG other 1 2\r\nno\r\nMSG %s 1 3\r\nyes\r\n" % reply)

        nursery.start_soon(server)
        answer = await connection.ask(b"question", b"hi")
        assert answer.payload == b"yes"
        await connection.aclose()


@pytest.mark.parametrize(
    "words, said, slow",
    [
        (b"HTTP/1.1 200 OK\r\n", "not NATS", False),
        (b"-ERR 'Permissions Violation for Publish to \"edge.x\"'\r\n", "Permissions", True),
        (b"-ERR 'Stale Connection'\r\n", "Stale Connection", False),
        (b"", "closed the connection", False),
    ],
)
async def test_what_ends_a_connection_is_told_to_all_who_wait(
    words: bytes, said: str, slow: bool
) -> None:
    near, far = trio.testing.memory_stream_pair()
    connection = await opened(far, near)
    told: list[SinkUnavailable] = []

    async def wait_for(task: Callable[[], object]) -> None:
        with pytest.raises(SinkUnavailable, match=said) as caught:
            await task()  # type: ignore[misc]  # whichever of the two it is
        told.append(caught.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_for, lambda: connection.run(PATIENCE_S))
        nursery.start_soon(wait_for, lambda: connection.ask(b"question"))
        await trio.testing.wait_all_tasks_blocked()
        await (far.send_all(words) if words else far.aclose())
    assert [one.slow for one in told] == [slow, slow]
    with pytest.raises(SinkUnavailable):
        await connection.ask(b"question")
    await connection.aclose()


async def test_a_server_that_falls_silent_is_asked_once_and_left(
    autojump_clock: trio.testing.MockClock,
) -> None:
    near, far = trio.testing.memory_stream_pair()
    connection = await opened(far, near)
    with pytest.raises(SinkUnavailable, match="says nothing for 20 s"):
        await connection.run(10.0)
    assert (await far.receive_some()).endswith(b"PING\r\n")
    await connection.aclose()


@pytest.mark.parametrize(
    "first, then, said",
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", b"", "not NATS"),
        (b"", b"", "before its first word"),
        (b'INFO {"version":"1.4.1"}\r\n', b"", "knows no headers"),
        (b'INFO {"tls_required":true,"headers":true}\r\n', b"", "wants TLS"),
        (b"-ERR 'maximum connections exceeded'\r\n", b"", "maximum connections"),
        (INFO, b"-ERR 'Authorization Violation'\r\n", "Authorization"),
    ],
)
async def test_who_is_no_server_for_us_is_left_at_once(
    first: bytes, then: bytes, said: str
) -> None:
    near, far = trio.testing.memory_stream_pair()
    with pytest.raises(ExceptionGroup) as caught:
        await opened(far, near, first, then)
    assert caught.group_contains(SinkUnavailable, match=said)


async def test_who_says_nothing_is_left_before_the_timeout(
    autojump_clock: trio.testing.MockClock,
) -> None:
    near, _far = trio.testing.memory_stream_pair()

    async def dial(host: str, port: int, tls: object) -> trio.abc.Stream:
        return near

    with pytest.raises(SinkUnavailable, match="has said nothing for 10 s"):
        await open_nats(dial, ("h", 1), NOBODY, None, 30.0)
    assert trio.current_time() < 11
    with pytest.raises(trio.ClosedResourceError):
        await near.send_all(b"x")


async def test_tls_begins_behind_the_servers_first_word(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    made = authority.issue_cert("localhost")
    made.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    pem = tmp_path / "server.pem"
    with nats_server(tmp_path, more=f'tls {{ cert_file: "{pem}", key_file: "{pem}" }}') as server:
        tls = client_context(str(tmp_path / "ca.pem"))
        credentials = Credentials((), tls, None, ())
        there = ("localhost", server.port)
        connection = await open_nats(dial_tcp, there, credentials, None, PATIENCE_S)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.run, PATIENCE_S)
            answer: NatsMessage = await connection.ask(b"$JS.API.INFO")
            assert "memory" in json.loads(answer.payload)
            await connection.aclose()
        with pytest.raises(SinkUnavailable, match="wants TLS"):
            await open_nats(dial_tcp, there, NOBODY, None, PATIENCE_S)
