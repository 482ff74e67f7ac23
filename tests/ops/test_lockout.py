"""The people's port under peers who want its places: somebody else is answered at once."""

from __future__ import annotations

import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from edge_agent.config import Config, Http, Listen, Size, StoreConfig
from edge_agent.net.connection_quota import Arrivals
from edge_agent.ops import http, http_connection
from tests.ops.real import Agent, agent
from tests.patience import PATIENCE_S
from tests.storm import STORMING, storm


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame of HTTP/2."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


#: GET / over HTTP/2, by somebody who will not take a byte of the answer: INITIAL_WINDOW_SIZE is 0.
NO_WINDOW = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + frame(4, 0, 0, struct.pack(">HI", 4, 0))
    + frame(1, 0x5, 1, b"\x82\x86\x84\x41\x09localhost")
)
ORDER = (
    b"POST /api/consumers HTTP/1.1\r\nHost: localhost\r\nEdge-Agent-Order: yes\r\n"
    b"Content-Length: 9\r\n\r\n"
)
#: A thousand requests over HTTP/2, each taken back at once.
RAPID_RESET = NO_WINDOW + b"".join(
    frame(1, 0x5, number, b"\x82\x86\x84\x41\x09localhost") + frame(3, 0, number, b"\0\0\0\x08")
    for number in range(3, 2003, 2)
)


@pytest.fixture
def patient_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """No deadline of its own frees a place while a test waits for one."""
    monkeypatch.setattr(http, "HEAD_TIMEOUT_S", 2 * PATIENCE_S)
    for name in ("HEAD_TIMEOUT_S", "BODY_TIMEOUT_S", "WRITE_TIMEOUT_S"):
        monkeypatch.setattr(http_connection, name, 2 * PATIENCE_S)


@asynccontextmanager
async def holding(running: Agent, count: int, said: bytes) -> AsyncIterator[None]:
    """``count`` connections that have ``said`` something, and stay for as long as they may."""
    streams = [await trio.open_tcp_stream(*running.address) for _ in range(count)]
    for stream in streams:
        try:
            await stream.send_all(said)
        except trio.BrokenResourceError:
            pass  # It has been closed for another already.
    # All have been accepted when this one is: the kernel's queue is served in order.
    async with await trio.open_tcp_stream(*running.address) as last:
        with trio.move_on_after(0.5):
            try:
                await last.send_all(b"no HTTP\r\n\r\n")
                while await last.receive_some(1000):
                    pass
            except trio.BrokenResourceError:
                pass
    yield
    for stream in streams:
        await trio.aclose_forcefully(stream)


@pytest.mark.parametrize(
    "count, said",
    [
        (80, b""),
        (80, b"GET / HTTP/1.1\r\nX:"),
        (200, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 10_000),
        (80, b"POST /api/consumers HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"),
        (80, ORDER + b"{"),
        (70, NO_WINDOW),
        (20, RAPID_RESET),
    ],
    ids=[
        "silent",
        "slow head",
        "long slow head",
        "refused body",
        "slow body",
        "http/2 window 0",
        "rapid reset",
    ],
)
async def test_nobody_locks_the_page(
    tmp_path: Path, count: int, said: bytes, patient_port: None
) -> None:
    async with agent(tmp_path) as running, holding(running, count, said):
        with trio.fail_after(PATIENCE_S):
            assert (await running.get("/healthz"))[0] == 200
            assert (await running.get("/"))[0] == 200


async def test_http_2_is_answered_in_http_1(tmp_path: Path) -> None:
    async with agent(tmp_path) as running:
        stream = await trio.open_tcp_stream(*running.address)
        with trio.fail_after(PATIENCE_S):
            await stream.send_all(NO_WINDOW)
            answer = b"".join([piece async for piece in stream])
        assert answer.startswith(b"HTTP/1.1 505") and b"HTTP/1.1" in answer
        await stream.aclose()


async def test_silence_keeps_nobody_out_of_https_either(tmp_path: Path, patient_port: None) -> None:
    import trustme

    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    pem = tmp_path / "server.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(str(pem))
    client = ssl.create_default_context()
    authority.configure_trust(client)
    listen = Listen(tls_certificate=str(pem), tls_key=str(pem), insecure=True)
    config = Config(
        listen=listen,
        http=Http(address="0.0.0.0:0"),
        store=StoreConfig(path=str(tmp_path / "data"), size=Size(16 << 20)),
    )
    async with agent(tmp_path / "data", config=config) as running:
        running.address = ("127.0.0.1", running.address[1])
        async with holding(running, 80, b""):
            raw = await trio.open_tcp_stream(*running.address)
            stream = trio.SSLStream(raw, client, server_hostname="localhost")
            with trio.fail_after(PATIENCE_S):
                await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert (await stream.receive_some(1000)).startswith(b"HTTP/1.1 200")
            assert stream.selected_alpn_protocol() is None
            await trio.aclose_forcefully(stream)


async def test_a_storm_of_connections_from_one_address_costs_next_to_nothing(
    tmp_path: Path,
) -> None:
    class Begun(trio.abc.Instrument):
        """Tasks that were begun for connections."""

        count = 0

        def task_spawned(self, task: trio.lowlevel.Task) -> None:
            self.count += "_guarded" in task.name

    config = Config(
        http=Http(address="127.0.0.1:0", unproved_per_address=5),
        store=StoreConfig(path=str(tmp_path / "data"), size=Size(16 << 20)),
    )
    async with agent(tmp_path / "data", config=config) as running:
        begun, since = Begun(), trio.current_time()
        trio.lowlevel.add_instrument(begun)
        async with storm(running.address[1], first=1000):
            with trio.fail_after(PATIENCE_S):
                # Each of these has proved something: as often as they like.
                for _ in range(60):
                    assert (await running.get("/healthz"))[0] == 200
        heard = 5 * (Arrivals.BURST_S + trio.current_time() - since)
        assert begun.count <= heard + 60
        trio.lowlevel.remove_instrument(begun)
        (told,) = running.watch.sources.refused.listing()
        assert (told.address, told.port, told.reason) == (STORMING, "http.address", "rush")
        assert told.count >= 1000 - heard
