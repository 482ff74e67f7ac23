"""How a request is made: headers, trust, certificates, proxies; over real sockets."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from edge_agent.config import SecretFile
from edge_agent.errors import SinkUnavailable
from tests.forward.http_upstream import http_upstream
from tests.forward.link.test_proxy import proxying
from tests.forward.sinks.agent.test_sink import forwarding, numbers
from tests.forward.sinks.http.test_sink import batch_of, sink_for
from tests.forward.support import running_station, serving, until


async def test_headers_of_ones_own_are_sent_and_secrets_come_from_files(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("Splunk 0-1-2\n")
    headers = {"X-Tenant": "green house", "Authorization": SecretFile(str(key)), "accept": "a/b"}
    async with running_station(tmp_path / "a") as station, http_upstream() as server:
        await station.put(2)
        sink = sink_for(station, server.url, headers=headers)
        await sink.send(await batch_of(station, 1, 1))
        key.write_text("Splunk 3-4-5\n")
        await sink.send(await batch_of(station, 2, 2))
        first, second = (got.headers for got in server.got)
        assert first["x-tenant"] == "green house" and first["accept"] == "a/b"
        assert first["authorization"] == "Splunk 0-1-2"
        assert second["authorization"] == "Splunk 3-4-5" and server.connections == 1
        await sink.aclose()


async def test_a_renewed_authority_is_trusted_from_the_next_request_on(tmp_path: Path) -> None:
    ca, stranger, file = trustme.CA(), trustme.CA(), tmp_path / "ca.pem"
    stranger.cert_pem.write_to_path(str(file))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    async with running_station(tmp_path / "a") as station, http_upstream(context=context) as server:
        await station.put(3)
        sink = sink_for(station, server.url.replace("http:", "https:"), ca_file=str(file))
        with pytest.raises(SinkUnavailable, match=r"(?i)certificate"):
            await sink.send(await batch_of(station, 1, 1))
        ca.cert_pem.write_to_path(str(file))
        assert (await sink.send(await batch_of(station, 1, 1))).upto == 1
        assert (await sink.send(await batch_of(station, 2, 2))).upto == 2
        connections = server.connections
        # Trust that was taken away holds for a connection that is open, too.
        stranger.cert_pem.write_to_path(str(file))
        with pytest.raises(SinkUnavailable, match=r"(?i)certificate"):
            await sink.send(await batch_of(station, 3, 3))
        assert server.connections >= connections
        await sink.aclose()


async def test_our_own_certificate_is_shown_to_who_asks_for_one(tmp_path: Path) -> None:
    ca, ours = trustme.CA(), trustme.CA()
    mine = ours.issue_cert("pi-7.example")
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    mine.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    mine.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.verify_mode = ssl.CERT_REQUIRED
    ours.configure_trust(context)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    files = {"ca_file": str(tmp_path / "ca.pem")}
    pair = {"tls_certificate": str(tmp_path / "cert.pem"), "tls_key": str(tmp_path / "key.pem")}
    async with running_station(tmp_path / "a") as station, http_upstream(context=context) as server:
        await station.put(1)
        url = server.url.replace("http:", "https:")
        sink = sink_for(station, url, **files, **pair)
        assert (await sink.send(await batch_of(station))).upto == 1
        await sink.aclose()
        without = sink_for(station, url, **files)
        with pytest.raises(SinkUnavailable):
            await without.send(await batch_of(station))
        await without.aclose()


@pytest.mark.parametrize("is_tls", [False, True])
async def test_a_batch_goes_through_the_proxy(tmp_path: Path, is_tls: bool) -> None:
    auth = tmp_path / "auth"
    auth.write_text("me:p@ss\n")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    async with (
        running_station(tmp_path / "a") as station,
        http_upstream(context=context if is_tls else None) as server,
        proxying() as proxy,
    ):
        await station.put(1)
        url = server.url.replace("http:", "https:") if is_tls else server.url
        if not is_tls:
            proxy.answer = b"HTTP/1.1 204 No Content\r\n\r\n"
        files = {"proxy_auth_file": str(auth), "ca_file": str(tmp_path / "ca.pem")}
        sink = sink_for(station, url, proxy=proxy.url, **files)
        assert (await sink.send(await batch_of(station))).upto == 1
        (head,) = proxy.heads
        assert head.startswith(f"CONNECT 127.0.0.1:{server.port}" if is_tls else f"POST {url} ")
        assert "Proxy-Authorization: Basic bWU6cEBzcw==\r\n" in head
        assert len(server.got) == is_tls
        assert all("proxy-authorization" not in got.headers for got in server.got)
        await sink.aclose()


async def test_another_agent_is_reached_through_the_proxy_with_headers_of_ones_own(
    tmp_path: Path,
) -> None:
    async with (
        running_station(tmp_path / "hub") as hub,
        running_station(tmp_path / "agent") as agent,
        serving(hub) as port,
        proxying() as proxy,
    ):
        await agent.put(3)
        more = {"proxy": proxy.url, "headers": {"X-Tenant": "a"}}
        async with forwarding(agent, port, **more) as forwarder:
            await until(lambda: forwarder.statistics().records == 3)
        assert await numbers(hub) == [0, 1, 2]
        assert proxy.heads[0].startswith(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n")


async def test_a_proxy_that_refuses_another_agent_is_told_as_such(tmp_path: Path) -> None:
    async with running_station(tmp_path) as agent, proxying() as proxy:
        await agent.put(1)
        proxy.answer = b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"
        async with forwarding(agent, 1, proxy=proxy.url, backoff_max=1000.0) as forwarder:
            await until(lambda: forwarder.statistics().phase == "held")
            statistics = forwarder.statistics()
            assert "HTTP 407 for 127.0.0.1:1 (it wants proxy_auth_file" in statistics.error
            # A person has to change something.
            assert statistics.lanes[0].next_try_s > 400
