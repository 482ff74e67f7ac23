"""What bad peers get, as docs/protocol.md says: who knocks and how, each with another client that
must not notice. What is sent is in test_bad_input.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from edge_agent.config.shape import Limits
from edge_agent.security.tokens import add_token
from tests.patience import eventually, receive_until
from tests.server.support import (
    LISTEN,
    bystander,
    closed,
    connect,
    http,
    hurried,
    neighbours,
    raw,
    reset,
    serving,
    session,
    until_closed,
    upgrade,
)

# No or wrong token; stream or source not allowed.


async def test_tokens_are_asked_for_before_the_upgrade(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    writer = add_token(path, "w", write=["a/**", "bystander"], sources=["pi", "bystander"])
    reader = add_token(path, "r", read=["**"])

    def head(target: str, token: str) -> str:
        return upgrade(target, f"Authorization: Bearer {token}")

    async with serving(tmp_path, tokens=path) as port:
        headers = [(b"Authorization", b"Bearer " + writer.encode())]
        async with bystander(port, headers=headers) as other:
            assert (await http(port, upgrade("/ingest/a/b"))).startswith("HTTP/1.1 401 ")
            assert (await http(port, head("/ingest/a/b", "no"))).startswith("HTTP/1.1 401 ")
            assert (await http(port, head("/ingest/b", writer))).startswith("HTTP/1.1 403 ")
            assert (await http(port, head("/ingest/a/b", reader))).startswith("HTTP/1.1 403 ")
            assert (await http(port, head("/subscribe/a", writer))).startswith("HTTP/1.1 403 ")
            assert (await http(port, head("/query", writer))).startswith("HTTP/1.1 403 ")
            assert (await http(port, head("/forward", writer))).startswith("HTTP/1.1 403 ")
            assert port.metrics.total("connections_refused_total") == 7
            async with session(port, headers=headers) as sensor:
                # The source is only known once it says hello.
                assert (await sensor.hello("another"))["code"] == "forbidden_source"
                assert (await sensor.closed())[0] == 1008
            await other.is_served()


# Foreign Origin, foreign Host on loopback.


async def test_foreign_origins_and_hosts_are_refused(tmp_path: Path) -> None:
    listen = msgspec.structs.replace(LISTEN, origins=("http://page.example",))
    async with neighbours(tmp_path, listen=listen) as (port, other):
        for head in (
            upgrade("/ingest/a", "Origin: http://evil.example"),
            upgrade("/ingest/a", host="evil.example"),
        ):
            answer = await http(port, head)
            assert answer.startswith("HTTP/1.1 403 ")
            assert "evil.example" in answer
        async with connect(port, "/ingest/a?ack=1", headers=[(b"Origin", b"http://page.example")]):
            await other.is_served()


# Plain HTTP on the sensor port.


@pytest.mark.parametrize(
    "request_head, status, header",
    [
        ("GET / HTTP/1.1\nHost: localhost\n\n", "426 Upgrade Required", "Upgrade: websocket"),
        ("GET /ingest/a HTTP/1.0\n\n", "426 Upgrade Required", "Upgrade: websocket"),
        (
            "PUT /ingest/a HTTP/1.1\nHost: localhost\nContent-Length: 100000\n\n" + "x" * 100_000,
            "405 Method Not Allowed",
            "Allow: GET, POST",
        ),
    ],
)
async def test_plain_http_is_told_what_this_port_is(
    tmp_path: Path, request_head: str, status: str, header: str
) -> None:
    async with neighbours(tmp_path) as (port, other):
        answer = await http(port, request_head)
        assert answer.startswith(f"HTTP/1.1 {status}\r\n")
        assert f"{header}\r\n" in answer
        body = answer.partition("\r\n\r\n")[2]
        assert body.count("\n") == 1
        assert "http://127.0.0.1:8766" in body
        await eventually(lambda: port.metrics.get("connections") == 1, "nothing is held")
        await other.is_served()


@pytest.mark.parametrize("noise", [b"\x16\x03\x01\x02\x00\x01", b"SSH-2.0-x\r\n\r\n", b"\x00" * 50])
async def test_what_is_no_http_at_all_gets_a_400(tmp_path: Path, noise: bytes) -> None:
    async with neighbours(tmp_path) as (port, other), raw(port) as stream:
        await stream.send_all(noise)
        await stream.send_eof()
        assert (await until_closed(stream)).startswith("HTTP/1.1 400 ")
        await other.is_served()


# Over the rate of its token; too many connections.


async def test_a_sender_over_its_rate_is_stopped_alone(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    tokens = [add_token(path, name, write=["**"], sources=["**"]) for name in ("fast", "slow")]
    headers = [[(b"Authorization", b"Bearer " + token.encode())] for token in tokens]
    limits = Limits(records_per_second=20.0)
    async with (
        serving(tmp_path, tokens=path, limits=limits) as port,
        bystander(port, headers=headers[1]) as other,
    ):
        async with session(port, headers=headers[0]) as sensor:
            await sensor.hello("pi")
            await sensor.send([{"t": 1}] * 2000)
            await sensor.acked(2001)
            await sensor.send({"t": 1})
            stop = await sensor.receive()
            assert (stop["type"], stop["code"]) == ("stop", "rate")
            assert (await sensor.closed())[0] == 1013
        await other.is_served()


async def test_a_plain_sender_over_its_rate_is_told_and_closed(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, limits=Limits(records_per_second=1.0)) as port,
        connect(port, "/ingest/a?ack=1") as socket,
    ):
        await socket.send_message(json.dumps([{"t": 1}] * 100))
        assert json.loads(await socket.get_message()) == {"ack": 1}
        await socket.send_message('{"t": 1}')
        assert json.loads(await socket.get_message())["error"] == "rate"
        assert (await closed(socket))[0] == 1013


async def test_too_many_connections_are_told_to_come_back(tmp_path: Path) -> None:
    listen = msgspec.structs.replace(LISTEN, connections=2)
    async with neighbours(tmp_path, listen=listen) as (port, other):
        async with session(port) as sensor:
            await sensor.hello("pi")
            answer = await http(port, upgrade("/ingest/a"))
            assert answer.startswith("HTTP/1.1 503 ")
            assert "Retry-After: " in answer
            await other.is_served()
        await eventually(lambda: port.metrics.get("connections") == 1, "there is room again")
        async with session(port) as sensor:
            assert (await sensor.hello("pi"))["type"] == "welcome"


# Violations of RFC 6455.


@pytest.mark.parametrize(
    "frames",
    [
        bytes([0x81, 0x02]) + b"hi",  # not masked
        bytes([0x83, 0x80, 0, 0, 0, 0]),  # an opcode that does not exist
        bytes([0x80, 0x80, 0, 0, 0, 0]),  # a continuation of nothing
        bytes([0x89, 0xFE, 0x00, 0x80, 0, 0, 0, 0]) + bytes(128),  # a long ping
        bytes([0xC1, 0x80, 0, 0, 0, 0]),  # a reserved bit
        bytes([0x88, 0x81, 0, 0, 0, 0, 0x00]),  # a close code of one byte
    ],
)
async def test_violations_of_the_websocket_protocol_end_that_connection(
    tmp_path: Path, frames: bytes
) -> None:
    async with neighbours(tmp_path) as (port, other), raw(port) as stream:
        await stream.send_all(upgrade("/ingest/a").replace("\n", "\r\n").encode())
        assert b"101" in await receive_until(stream, b"\r\n\r\n")
        await stream.send_all(frames)
        await until_closed(stream)
        await other.is_served()
        assert port.metrics.get("connection_faults_total") == 0


# The two crashes of trio-websocket that are known, and slow peers.


async def test_a_get_followed_by_a_reset_harms_nobody(tmp_path: Path) -> None:
    async with neighbours(tmp_path) as (port, other):
        for head in ("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET / HT", ""):
            stream = await trio.open_tcp_stream("127.0.0.1", port.port)
            await stream.send_all(head.encode() or b"G")
            reset(stream)
        await other.is_served()
        await eventually(lambda: port.metrics.get("connections") == 1, "they are gone")
        assert port.metrics.get("connection_faults_total") == 0


async def test_a_ping_after_our_close_harms_nobody(tmp_path: Path) -> None:
    listen = hurried(close_timeout=0.4)
    async with neighbours(tmp_path, listen=listen) as (port, other), raw(port) as stream:
        await stream.send_all(upgrade("/ingest/a").replace("\n", "\r\n").encode())
        await receive_until(stream, b"\r\n\r\n")
        bad = bytes([0x81, 0x81, 0, 0, 0, 0]) + b"{"
        await stream.send_all(bad * 16)
        await receive_until(stream, b"\x88")
        # It has closed; we go on pinging and sending instead of answering.
        await stream.send_all((bytes([0x89, 0x80, 0, 0, 0, 0]) + bad) * 100)
        await until_closed(stream)
        await other.is_served()
        await eventually(lambda: port.metrics.get("connections") == 1, "it is gone")
        assert port.metrics.get("connection_faults_total") == 0


async def test_a_head_that_never_ends_is_hung_up_on(
    turned_clock: MockClock, tmp_path: Path
) -> None:
    listen = hurried(handshake_timeout=20)
    async with neighbours(tmp_path, listen=listen) as (port, other), raw(port) as stream:
        async with trio.open_nursery() as nursery:

            async def drip() -> None:
                try:
                    for byte in upgrade("/ingest/a").encode() * 100:
                        await stream.send_all(bytes([byte]))
                        await trio.sleep(0.01)
                except trio.BrokenResourceError:
                    pass

            nursery.start_soon(drip)
            await eventually(lambda: port.metrics.get("connections") == 2, "it is there")
            await other.is_served()
            turned_clock.jump(20)
            await until_closed(stream)
            nursery.cancel_scope.cancel()
        assert port.metrics.get("connections_refused_total", "timeout") == 1


async def test_a_head_that_is_too_long_is_refused(tmp_path: Path) -> None:
    async with neighbours(tmp_path) as (port, other):
        answer = await http(port, upgrade("/ingest/a", "X-Long: " + "x" * 100_000))
        assert answer.startswith("HTTP/1.1 431 ")
        await other.is_served()


async def test_peers_that_say_nothing_are_hung_up_on(
    turned_clock: MockClock, tmp_path: Path
) -> None:
    listen = hurried(handshake_timeout=20)
    async with neighbours(tmp_path, listen=listen) as (port, other), raw(port) as stream:
        await eventually(lambda: port.metrics.get("connections") == 2, "it is there")
        turned_clock.jump(20)
        assert await until_closed(stream) == ""
        await other.is_served()
