"""HTTP over dialled streams: in memory, over TLS, and when the other side goes away."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trustme

from edge_agent.errors import SinkUnavailable
from edge_agent.forward import make_sink
from edge_agent.forward.sink import Batch, Sink
from edge_agent.forward.sinks.http.connection import (
    CONNECTION_ERRORS,
    HttpClientConnection,
    reason_of,
)
from edge_agent.net.dial import Dial, dial_tcp
from tests.forward.http_upstream import HttpUpstream, http_upstream
from tests.forward.support import Station, inline, running_station, upstream
from tests.model.memory_network import MemoryNetwork

URL = "http://upstream.example:80/in"


def sink_for(station: Station, url: str, dial: Dial, ca_file: str | None = None) -> Sink:
    return make_sink(
        upstream(url, ca_file=ca_file),
        "main",
        identity=station.log.identity,
        clock=station.clock,
        run_blocking=inline,
        dial=dial,
    )


async def batch_of(station: Station, seq: int) -> Batch:
    return Batch("main", seq, seq, tuple(await station.log.read("main", seq - 1)))


@asynccontextmanager
async def in_memory() -> AsyncIterator[tuple[MemoryNetwork, HttpUpstream]]:
    network, server = MemoryNetwork(), HttpUpstream()
    listeners: list[Any] = [*await network.listen("upstream.example:80")]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server.serve, listeners)
        yield network, server
        nursery.cancel_scope.cancel()


async def test_one_dialled_stream_carries_many_batches(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station, in_memory() as (network, server):
        await station.put(2)
        sink = sink_for(station, URL, network.dial)
        for seq in (1, 2):
            assert (await sink.send(await batch_of(station, seq))).upto == seq
        await sink.aclose()
        assert server.connections == 1
        assert [got.target for got in server.got] == ["/in", "/in"]


async def test_a_stream_that_broke_while_it_rested_costs_one_attempt(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station, in_memory() as (network, server):
        await station.put(2)
        sink = sink_for(station, URL, network.dial)
        await sink.send(await batch_of(station, 1))
        await network.cut("upstream.example:80")
        network.restore("upstream.example:80")
        with pytest.raises(SinkUnavailable):
            await sink.send(await batch_of(station, 2))
        assert (await sink.send(await batch_of(station, 2))).upto == 2
        await sink.aclose()
        assert server.connections == 2


async def test_a_dial_that_is_refused_says_why(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station:
        await station.put(1)
        sink = sink_for(station, URL, MemoryNetwork().dial)
        with pytest.raises(SinkUnavailable, match=r"nobody listens on upstream\.example:80"):
            await sink.send(await batch_of(station, 1))
        await sink.aclose()


async def test_tls_is_laid_over_what_was_dialled(tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    async with running_station(tmp_path / "a") as station, http_upstream(context=context) as server:
        await station.put(1)
        url = server.url.replace("http:", "https:")
        trusting = sink_for(station, url, dial_tcp, str(tmp_path / "ca.pem"))
        assert (await trusting.send(await batch_of(station, 1))).upto == 1
        await trusting.aclose()
        doubting = sink_for(station, url, dial_tcp)
        with pytest.raises(SinkUnavailable, match=r"(?i)certificate"):
            await doubting.send(await batch_of(station, 1))
        await doubting.aclose()
        assert len(server.got) == 1


@pytest.mark.parametrize(
    "answer, told",
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "does not speak HTTP/1.1: illegal status line: 'SSH-2.0-"),
        (b"HTTP/2 200\r\n\r\n", "does not speak HTTP/1.1: illegal status line: 'HTTP/2 200'"),
        (b"HTTP/1.1 101 Up\r\nUpgrade: x\r\n\r\n", "changes to another protocol"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "the answer was cut off"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 99_999, "the head of the answer is too long"),
        (b"HTTP/1.1 102 P\r\n\r\n" * 99, "does not come to an answer"),
        (b"", "the server hung up before it answered"),
    ],
)
async def test_what_is_no_answer_is_told_in_words_of_whoever_runs_the_agent(
    answer: bytes, told: str
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    connection = HttpClientConnection(ours, URL, None)
    await theirs.send_all(answer)
    await theirs.send_eof()
    with pytest.raises(CONNECTION_ERRORS) as caught:
        await connection.post([], b"{}", 5.0)
    said = reason_of(caught.value)
    assert told in said and "bytearray" not in said and "_" not in said.replace("OpenSSH_", "")
    await connection.aclose()
