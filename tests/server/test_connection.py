"""One connection from accept to the end, over TLS too."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio
import trio.testing
from trio.testing import MockClock

from edge_agent.security.tls import make_ca, server_context
from edge_agent.server.connection import peer_of
from tests.patience import PATIENCE_S, eventually
from tests.server.support import (
    LISTEN,
    Session,
    bystander,
    closed,
    connect,
    hurried,
    raw,
    serving,
    session,
    until_closed,
    upgrade,
)


def contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS for the server, and for a client that trusts its authority."""
    files = make_ca(folder / "tls", ["localhost", "127.0.0.1"])
    listen = msgspec.structs.replace(
        LISTEN, tls_certificate=str(files.certificate), tls_key=str(files.key)
    )
    server = server_context(listen)
    assert server is not None
    return server, ssl.create_default_context(cafile=files.ca)


@asynccontextmanager
async def stream_pair() -> AsyncIterator[tuple[trio.abc.Stream, trio.abc.Stream]]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        theirs = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        ours = await listener.accept()
        async with ours, theirs:
            yield ours, theirs


async def test_sessions_work_over_tls(tmp_path: Path) -> None:
    server, client = contexts(tmp_path)
    async with (
        serving(tmp_path, context=server) as port,
        bystander(port, context=client) as other,
    ):
        async with session(port, context=client) as sensor:
            await sensor.hello("pi")
            await sensor.send([{"t": "x" * 20_000}] * 10)
            await sensor.acked(11)
        await other.is_served()


async def test_a_tls_handshake_that_never_ends_is_hung_up_on(
    turned_clock: MockClock, tmp_path: Path
) -> None:
    server, client = contexts(tmp_path)
    async with (
        serving(tmp_path, context=server, listen=hurried(handshake_timeout=20)) as port,
        bystander(port, context=client) as other,
        raw(port) as stream,
    ):
        await stream.send_all(b"\x16\x03\x01")
        await eventually(lambda: port.metrics.get("connections") == 2, "it is there")
        turned_clock.jump(20)
        await until_closed(stream)
        await other.is_served()
        assert port.metrics.get("connections_refused_total", "timeout") == 1


async def test_who_speaks_no_tls_on_a_tls_port_harms_nobody(tmp_path: Path) -> None:
    server, client = contexts(tmp_path)
    async with (
        serving(tmp_path, context=server) as port,
        bystander(port, context=client) as other,
        raw(port) as stream,
    ):
        await stream.send_all(upgrade("/ingest/a").encode())
        assert "This port speaks TLS: wss://" in await until_closed(stream)
        await other.is_served()
        assert port.metrics.get("connections_refused_total", "no_tls") == 1
        assert port.metrics.get("connection_faults_total") == 0


async def test_a_planned_stop_reaches_tls_clients(tmp_path: Path) -> None:
    server, client = contexts(tmp_path)
    async with (
        serving(tmp_path, context=server) as port,
        session(port, context=client) as sensor,
    ):
        await sensor.hello("pi")
        port.server.stop()
        assert (await sensor.closed())[0] == 1012


async def test_data_may_come_in_the_same_packet_as_the_head(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, raw(port) as stream:
        hello = b'{"type": "hello", "source": "pi"}'
        frames = bytes([0x81, 0x80 | len(hello)]) + bytes(4) + hello
        frames += bytes([0x81, 0x81]) + bytes(4) + b"7"
        head = upgrade("/ingest/a", "Sec-WebSocket-Protocol: edge-agent.v1+json")
        await stream.send_all(head.replace("\n", "\r\n").encode() + frames)
        await eventually(lambda: port.log.last_seq("main") == 1, "it is stored")
        (record,) = await port.records()
        assert (record.fields, record.source_seq) == ({"value": 7}, 1)


async def test_the_token_subprotocol_is_never_echoed(tmp_path: Path) -> None:
    async with serving(tmp_path) as port:
        offered = ["edge-agent.token.c2VjcmV0", "edge-agent.v1+json"]
        async with connect(port, "/ingest/a", offered) as socket:
            assert socket.subprotocol == "edge-agent.v1+json"
            assert (await Session(socket).hello("pi"))["type"] == "welcome"


async def test_a_silent_peer_is_given_up_after_the_idle_timeout(
    turned_clock: MockClock, tmp_path: Path
) -> None:
    async with serving(tmp_path) as port, raw(port) as stream:
        # Half open: it has said hello and then its power was cut. Nothing answers our ping.
        hello = b'{"type": "hello", "source": "pi"}'
        head = upgrade("/ingest/a", "Sec-WebSocket-Protocol: edge-agent.v1+json")
        await stream.send_all(head.replace("\n", "\r\n").encode())
        await stream.send_all(bytes([0x81, 0x80 | len(hello)]) + bytes(4) + hello)
        await eventually(lambda: port.server.connections() != [], "it is there")
        for _ in range(20):  # A ping at the half of it, which nobody answers; then the farewell.
            turned_clock.jump(LISTEN.idle_timeout / 4)
            await trio.sleep(0.02)
        await eventually(lambda: port.server.connections() == [], "it is given up")


async def test_a_client_that_answers_pings_stays(turned_clock: MockClock, tmp_path: Path) -> None:
    async with serving(tmp_path) as port, session(port) as sensor:
        await sensor.hello("pi")
        for _ in range(40):
            # Small steps: between a ping and the end of its deadline a dozen rounds of the loop.
            turned_clock.jump(LISTEN.idle_timeout / 20)
            await trio.sleep(0.02)
        await sensor.send({"t": 1})
        await sensor.acked(2)


async def test_a_stop_ends_a_handshake_too(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, raw(port) as stream:
        await stream.send_all(b"GET / HT")
        await eventually(lambda: port.metrics.get("connections") == 1, "it is there")
        port.server.stop()
        await until_closed(stream)
        with trio.fail_after(PATIENCE_S):
            await port.stopped.wait()


async def test_peers_are_known_by_their_address() -> None:
    async with stream_pair() as (ours, _):
        peer = peer_of(ours)
        assert (peer.address, peer.loopback) == ("127.0.0.1", True)
        await trio.aclose_forcefully(ours)
        assert peer_of(ours) == type(peer)("", False)
    near, _far = trio.testing.memory_stream_pair()
    assert peer_of(near).loopback


async def test_a_plain_client_is_told_why_it_is_closed(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, connect(port, "/ingest/a") as socket:
        await eventually(lambda: port.server.connections() != [], "it is there")
        port.server.stop()
        assert await closed(socket) == (1012, "closing")
