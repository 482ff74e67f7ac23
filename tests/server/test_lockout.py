"""The sensors' port under peers who want its places: a sensor with a token gets in at once."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
import trustme

from edge_agent.net.connection_quota import Arrivals
from edge_agent.security.tokens import add_token
from tests.patience import PATIENCE_S, eventually
from tests.server.support import (
    LISTEN,
    Serving,
    Session,
    connect,
    http,
    serving,
    session,
    upgrade,
)
from tests.storm import STORMING, storm


@asynccontextmanager
async def holding(port: Serving, count: int, said: bytes = b"") -> AsyncIterator[None]:
    """``count`` connections that have ``said`` something, and stay for as long as they may."""
    streams = [await trio.open_tcp_stream("127.0.0.1", port.port) for _ in range(count)]
    for stream in streams:
        try:
            await stream.send_all(said)
        except trio.BrokenResourceError:
            pass  # It has been closed for another already.
    await eventually(
        lambda: port.metrics.get("connections_total") >= min(count, 200), "they are all there"
    )
    yield
    for stream in streams:
        await trio.aclose_forcefully(stream)


def bearer(secret: str) -> list[tuple[bytes, bytes]]:
    return [(b"Authorization", b"Bearer " + secret.encode())]


@pytest.fixture
def secret(tmp_path: Path) -> str:
    return add_token(tmp_path / "tokens", "greenhouse", write=["**"], sources=["**"], read=["**"])


async def is_served(sensor: Session, source: str = "pi") -> None:
    welcome = await sensor.hello(source)
    assert welcome["type"] == "welcome", welcome
    await sensor.send({"t": 1})
    await sensor.acked(welcome["next"] + 1)


SLOW_HEAD = b"GET /ingest/a HTTP/1.1\r\nHost: localhost\r\nX: "


@pytest.mark.parametrize("said", [b"", SLOW_HEAD, SLOW_HEAD + b"x" * 10_000, b"\r\n"])
async def test_who_has_said_nothing_keeps_no_token_holder_out(
    tmp_path: Path, secret: str, said: bytes
) -> None:
    async with (
        serving(tmp_path, tokens=tmp_path / "tokens") as port,
        holding(port, 300, said),
        session(port, headers=bearer(secret)) as sensor,
    ):
        await is_served(sensor)


async def test_who_has_begun_no_tls_keeps_no_token_holder_out(tmp_path: Path, secret: str) -> None:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    async with (
        serving(tmp_path, tokens=tmp_path / "tokens", context=server) as port,
        holding(port, 300),
        session(port, headers=bearer(secret), context=client) as sensor,
    ):
        await is_served(sensor)


@pytest.mark.parametrize("path", ["/ingest/a", "/query"])
async def test_without_tokens_who_has_upgraded_and_says_nothing_keeps_nobody_out(
    tmp_path: Path, path: str
) -> None:
    head = upgrade(path).replace("\n", "\r\n").encode()
    listen = msgspec.structs.replace(LISTEN, connections=20)
    async with serving(tmp_path, listen=listen) as port, session(port, "c/d") as busy:
        await is_served(busy, "there-before")
        async with holding(port, 60, head), session(port) as sensor:
            await is_served(sensor)
        # Nor has anybody been thrown out for them.
        await busy.send({"t": 2})
        await busy.acked(3)


async def test_without_tokens_who_has_said_something_is_not_thrown_out(tmp_path: Path) -> None:
    listen = msgspec.structs.replace(LISTEN, connections=2)
    async with (
        serving(tmp_path, listen=listen) as port,
        connect(port, "/ingest/a?ack=1") as slow,
        session(port) as sensor,
    ):
        await slow.send_message('{"t": 1}')
        with trio.fail_after(PATIENCE_S):
            assert "ack" in await slow.get_message()
        await is_served(sensor)
        assert "503" in await http(port, upgrade("/ingest/a"))
        await slow.send_message('{"t": 2}')
        with trio.fail_after(PATIENCE_S):
            assert "ack" in await slow.get_message()


async def test_one_token_cannot_take_every_place(tmp_path: Path, secret: str) -> None:
    other = add_token(tmp_path / "tokens", "other", write=["**"], sources=["**"])
    listen = msgspec.structs.replace(LISTEN, connections=4)
    async with (
        serving(tmp_path, listen=listen, tokens=tmp_path / "tokens") as port,
        session(port, headers=bearer(secret)) as first,
        session(port, headers=bearer(secret)) as second,
        session(port, headers=bearer(secret)) as third,
        session(port, headers=bearer(secret)) as fourth,
    ):
        for number, sensor in enumerate((first, second, third, fourth)):
            await is_served(sensor, f"pi-{number}")
        answer = await http(port, upgrade("/ingest/a", f"Authorization: Bearer {secret}"))
        assert "503" in answer and "Retry-After: " in answer
        async with session(port, headers=bearer(other)) as newcomer:
            await is_served(newcomer, "other")
            # What it was sent is acked; then it is told to come back.
            code, reason = await fourth.closed()
            assert code == 1013 and "listen.connections" in reason
            await first.send({"t": 2})
            await first.acked(3)


async def test_a_silent_sensor_with_a_token_stays(tmp_path: Path, secret: str) -> None:
    listen = msgspec.structs.replace(LISTEN, connections=3, unproved=2)
    async with (
        serving(tmp_path, listen=listen, tokens=tmp_path / "tokens") as port,
        connect(port, "/ingest/a?ack=1", headers=bearer(secret)) as slow,
        connect(port, "/ingest/b", headers=bearer(secret)),
        connect(port, "/ingest/c", headers=bearer(secret)),
        holding(port, 50),
    ):
        answer = await http(port, upgrade("/ingest/a", f"Authorization: Bearer {secret}"))
        assert "503" in answer
        await slow.send_message('{"t": 1}')
        with trio.fail_after(PATIENCE_S):
            assert "ack" in await slow.get_message()


async def test_a_storm_of_connections_from_one_address_costs_next_to_nothing(
    tmp_path: Path, secret: str
) -> None:
    listen = msgspec.structs.replace(LISTEN, unproved_per_address=5)
    path, headers = tmp_path / "tokens", bearer(secret)
    async with (
        serving(tmp_path, listen=listen, tokens=path) as port,
        session(port, headers=headers) as before,
    ):
        await is_served(before, "before")
        since = trio.current_time()
        async with storm(port.port) as blowing, session(port, headers=headers) as newcomer:
            await is_served(newcomer)
            first = blowing.connected
            for number in range(3, 50):
                await before.send({"n": number})
                await before.acked(number)
            await eventually(lambda: blowing.connected > first + 1000, "it goes on")
        # Of each connection that was not heard nothing was begun: no task, no place, no look.
        heard = 5 * (Arrivals.BURST_S + trio.current_time() - since)
        assert port.metrics.get("connections_total") <= heard + 2
        turned_away = port.metrics.get("connections_refused_total", "rush")
        assert turned_away >= 2000 - heard
        (told,) = [one for one in port.server._parts.refused.listing() if one.reason == "rush"]
        assert (told.address, told.count) == (STORMING, turned_away)


async def test_whoever_proves_something_may_come_as_often_as_it_likes(
    tmp_path: Path, secret: str
) -> None:
    listen = msgspec.structs.replace(LISTEN, unproved_per_address=1)
    async with serving(tmp_path, listen=listen, tokens=tmp_path / "tokens") as port:
        for _ in range(2 * Arrivals.BURST_S):
            async with session(port, headers=bearer(secret)) as sensor:
                await is_served(sensor)
        assert port.metrics.get("connections_refused_total", "rush") == 0
