"""The people's port as configured: address, TLS, tokens."""

from __future__ import annotations

import socket
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trustme

from edge_agent.config import Config, Http, Listen, Size, StoreConfig
from edge_agent.errors import ConfigError
from edge_agent.ops.port import serve_people
from edge_agent.security.tokens import Tokens, add_token
from tests.ops.real import agent
from tests.patience import receive_until


def config_of(folder: Path, address: str, listen: Listen | None = None) -> Config:
    return Config(
        listen=listen or Listen(),
        http=Http(address=address),
        store=StoreConfig(path=str(folder), size=Size(16 << 20)),
    )


async def test_port_zero_takes_a_free_one_and_tells_it(tmp_path: Path) -> None:
    async with agent(tmp_path) as running:
        assert running.address[0] == "127.0.0.1" and running.address[1] > 0
        assert (await running.get("/healthz"))[0] == 200


async def test_an_ipv6_address_is_told_in_brackets(tmp_path: Path) -> None:
    if not socket.has_ipv6:
        pytest.fail("this test needs IPv6 on loopback")
    async with agent(tmp_path, config=config_of(tmp_path, "[::1]:0")) as running:
        assert running.address[0] == "[::1]"


async def test_an_address_that_is_taken_is_an_error(tmp_path: Path) -> None:
    async with agent(tmp_path) as running:
        address = f"127.0.0.1:{running.address[1]}"
        sources = replace(running.watch.sources, config=config_of(tmp_path, address))
        running.watch.sources = sources
        with pytest.raises(OSError, match=f"http.address = {address}: .* in use"):
            await serve_people(running.watch)


async def test_off_loopback_it_speaks_https_with_the_sensors_certificate(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    pem, key = tmp_path / "server.pem", tmp_path / "key.pem"
    certificate.private_key_pem.write_to_path(str(key))
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(str(pem), append=True)
    listen = Listen(tls_certificate=str(pem), tls_key=str(key), tokens="tokens.json")
    secret = add_token(tmp_path / "tokens.json", "a", read=["**"])
    tokens = Tokens(tmp_path / "tokens.json")
    client = ssl.create_default_context()
    authority.configure_trust(client)
    config, renewed = config_of(tmp_path / "data", "0.0.0.0:0", listen), []
    async with agent(
        tmp_path / "data",
        config=config,
        change=lambda s: replace(s, tokens=tokens, renewed=lambda port, *_: renewed.append(port)),
    ) as running:
        raw = await trio.open_tcp_stream("127.0.0.1", running.address[1])
        stream = trio.SSLStream(raw, client, server_hostname="localhost", https_compatible=True)
        await stream.send_all(b"GET /api/status HTTP/1.1\r\nHost: pi\r\n\r\n")
        answer = await receive_until(stream, b"}}")
        assert answer.startswith(b"HTTP/1.1 401") and b"token_needed" in answer
        await stream.aclose()
        # A session's cookie goes nowhere without TLS.
        raw = await trio.open_tcp_stream("127.0.0.1", running.address[1])
        stream = trio.SSLStream(raw, client, server_hostname="localhost", https_compatible=True)
        body = f"token={secret}".encode()
        head = "POST /login HTTP/1.1", "Host: pi", "Origin: https://pi"
        lines = "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""])
        await stream.send_all(lines.encode() + body)
        answer = await receive_until(stream, b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 303") and b"; Secure\r\n" in answer
        await stream.aclose()
    # Whoever renews certificates knows of it.
    assert renewed == ["http.address"]


async def test_a_certificate_that_cannot_be_used_names_its_key(tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("not a certificate")
    bad = str(tmp_path / "bad.pem")
    listen = Listen(tls_certificate=bad, tls_key=bad, tokens="t")
    async with agent(tmp_path / "data", serve=False) as running:
        running.watch.sources = replace(
            running.watch.sources, config=config_of(tmp_path, "0.0.0.0:0", listen)
        )
        with pytest.raises(ConfigError, match=r"listen\.tls_certificate"):
            await serve_people(running.watch)
