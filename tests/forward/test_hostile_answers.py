"""Whatever comes back on a socket, a sink says taken, not now or refused, and nothing else.

The bytes are written by a real server on loopback, cut where chance says; the sinks are the real
ones, with every mistake of theirs let through: what they would log as unexpected fails the test.
"""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import SinkRefused, SinkUnavailable
from edge_agent.forward import make_sink
from edge_agent.forward.sink import Batch, LaneResume, Sink
from edge_agent.forward.sinks.http.answer import retry_after_s
from edge_agent.store import Identity
from tests.forward.sinks.http.test_sink import batch_of
from tests.forward.support import NOW_NS, inline, running_station, upstream
from tests.manual_clock import ManualClock

KEY = "5f0c/main/1-3"

DATES = [
    "Wed, 21 Oct 99999999999 07:28:00 GMT", "Wed, 21 Oct 2026 07:28:00 +999999999999999999",
    "Wed, 21 Oct 2026 99999999999999999999:28:00 GMT", "Wed, 9999999999999 Oct 2026 07:28 GMT",
    "Sun, 31 Dec 9999 23:59:59 -2359", "Mon, 01 Jan 0001 00:00:00 +2359",
    "Wed, 21 Oct 2026 07:28:00 -9999", "Wed, 21 Oct 2026 07:28:00 " + "+" * 60,
    "-1", "1e400", "nan", "inf", "9" * 5000, "0x10", "²", "١٢", "1, 2", "", " ", "Wed,", ",", ":",
    "GMT", "21 Oct",
]  # fmt: skip
dates = st.one_of(
    st.sampled_from(DATES),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=70),
    st.tuples(*[st.integers(-(10**20), 10**20)] * 6).map(
        lambda n: f"Wed, {n[0]} Oct {n[1]} {n[2]}:{n[3]}:{n[4]} {n[5]:+}"
    ),
)
NAMES = [
    *("errors", "error", "items", "status", "code", "success", "id", "_id", "index", "create"),
    *("results", "failed", "Records", "ErrorCode", "data", "response"),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "errors",
                    "error",
                    "items",
                    "status",
                    "code",
                    "success",
                    "id",
                    "_id",
                    "index",
                    "create",
                    "results",
                    "failed",
                    "Records",
                    "ErrorCode",
                    "data",
                    "response",
                ]
            )
            | st.text(max_size=6),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


bodies = st.one_of(
    st.binary(max_size=200),
    JSON.map(_dumped),
    JSON.map(_dumped).map(gzip.compress),
    st.sampled_from(
        [
            *(b"", b"ok", b"\xef\xbb\xbf{}", b"\xff\xfe{\0}\0", b"\xff\xfe\0", b"NaN"),
            *(b"[" * 5000, b'{"a":' * 5000, b'{"status": 1e999}', gzip.compress(b"0" * 10**6)),
            b'{"errors": 99999999999999999999999}',
        ]
    ),
)
headers = st.lists(
    st.one_of(
        st.tuples(st.just("Retry-After"), dates),
        st.tuples(
            st.just("Content-Type"),
            st.sampled_from(
                ["application/json", "text/plain", "text/html", "", ";", "application/x-ndjson",
                 "a/b+json", "application/problem+json; charset=\xff"]
            ),
        ),
        st.tuples(st.just("Content-Encoding"), st.sampled_from(["gzip", "deflate", "br", "x", ""])),
        st.tuples(st.just("Location"), st.sampled_from(["", "/", "http://[::1", "//", "x" * 3000])),
        st.tuples(st.just("Idempotency-Key"), st.sampled_from([KEY, "x", ""])),
        st.tuples(st.just("Set-Cookie"), st.just("a=b; expires=Wed, 21 Oct 99999999999 07:28 GMT")),
        st.tuples(
            st.sampled_from(["Connection", "Transfer-Encoding", "Upgrade", "X-Much"]),
            st.sampled_from(
                ["close", "keep-alive", "chunked", "gzip", "websocket", "\xff\xfe", "y" * 9000]
            ),
        ),
        st.tuples(
            st.just("Content-Length"),
            st.sampled_from(["0", "5", "-1", "1e3", "9" * 19, "9" * 5000, "1, 2", "0x5", ""]),
        ),
    ),
    max_size=6,
)  # fmt: skip
STATUSES = [
    *("200", "201", "202", "203", "204", "205", "206", "207", "226", "299", "300", "301", "304"),
    *("000", "099", "100", "101", "102", "199", "307", "399", "400", "401", "404", "407", "409"),
    *("413", "415", "422", "425", "429", "499", "500", "503", "599", "600", "999"),
    *("20", "2000", "-1", "abc"),
]
statuses = st.sampled_from(STATUSES)


@given(dates)
def test_no_retry_after_is_more_than_a_wait(text: str) -> None:
    wait = retry_after_s(text, NOW_NS)
    assert wait is None or 0 <= wait < 10**9


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Bytes that look more or less like an answer."""
    body = draw(bodies)
    named = draw(headers)
    if draw(st.booleans()):
        named = [pair for pair in named if pair[0] != "Content-Length"]
        named.append(("Content-Length", str(len(body))))
    elif draw(st.booleans()):
        named.append(("Transfer-Encoding", "chunked"))
        step = draw(st.integers(1, 64))
        chunks = [body[at : at + step] for at in range(0, len(body), step)]
        extension = draw(st.sampled_from([b"", b";a=b", b";" + b"x" * 500]))
        body = (
            b"".join(b"%x%s\r\n%s\r\n" % (len(c), extension, c) for c in chunks if c) + b"0\r\n\r\n"
        )
    head = f"{draw(st.sampled_from(['HTTP/1.1', 'HTTP/1.0', 'HTTP/0.9', 'HTTP/2', 'ICY']))}"
    head += f" {draw(statuses)} {draw(st.sampled_from(['OK', '', 'x' * 300]))}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in named)
    interim = b"HTTP/1.1 102 Processing\r\n\r\n" * draw(st.sampled_from([0, 0, 1, 3, 40]))
    whole = interim + head.encode("latin-1", "replace") + b"\r\n" + body
    if draw(st.integers(0, 4)) == 0:
        whole = whole[: draw(st.integers(0, len(whole)))]
    return whole + draw(
        st.sampled_from([b"", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])
    )


@asynccontextmanager
async def answering(script: list[bytes], pieces: int) -> AsyncIterator[int]:
    """A server that answers the next of ``script`` to each request, and hangs up."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            got = b""
            while b"\r\n\r\n" not in got:
                if not (data := await stream.receive_some(65536)):
                    return
                got += data
            answer = script.pop(0) if script else b""
            step = max(1, len(answer) // pieces)
            try:
                for at in range(0, len(answer), step):
                    await stream.send_all(answer[at : at + step])
            except trio.BrokenResourceError:
                return

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def sink_to(identity: Identity, url: str, **more: Any) -> Sink:
    config, clock = upstream(url, **more), ManualClock()
    return make_sink(config, "main", identity=identity, clock=clock, run_blocking=inline)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Identity, Batch]:
    """Who sends, and three records to send."""

    async def store() -> tuple[Identity, Batch]:
        async with running_station(tmp_path_factory.mktemp("s")) as station:
            await station.put(3)
            return station.log.identity, await batch_of(station)

    return trio.run(store)


@pytest.mark.parametrize("accept", ["auto", "status"])
def test_whatever_an_http_server_answers_stays_in_its_sink(
    accept: str, stored: tuple[Identity, Batch], caplog: pytest.LogCaptureFixture
) -> None:
    identity, batch = stored

    @given(st.lists(answers(), min_size=2, max_size=2), st.integers(1, 40))
    def each(script: list[bytes], pieces: int) -> None:
        async def run() -> None:
            async with answering(list(script), pieces) as port:
                sink = sink_to(identity, f"http://127.0.0.1:{port}/in", accept=accept)
                for _ in script:
                    with suppress(SinkUnavailable, SinkRefused):
                        assert (await sink.send(batch)).upto == 3
                await sink.aclose()

        with caplog.at_level(logging.ERROR):
            trio.run(run)
        assert not caplog.records

    each()


def test_whatever_answers_an_upgrade_stays_in_its_sink(
    stored: tuple[Identity, Batch], caplog: pytest.LogCaptureFixture
) -> None:
    identity, _ = stored

    @given(st.lists(answers(), min_size=2, max_size=2), st.integers(1, 40))
    def each(script: list[bytes], pieces: int) -> None:
        async def run() -> None:
            async with answering(list(script), pieces) as port:
                sink = sink_to(identity, f"ws://127.0.0.1:{port}/forward")
                for _ in script:
                    with pytest.RaisesGroup(SinkUnavailable):
                        async with trio.open_nursery() as nursery:
                            await sink.open(nursery, LaneResume(0, 1, 3, None))
                    await sink.aclose()

        with caplog.at_level(logging.ERROR):
            trio.run(run)
        assert not caplog.records

    each()


async def test_an_upgrade_is_not_answered_without_end(tmp_path: Path) -> None:
    head = b"HTTP/1.1 503 Busy\r\nContent-Length: 999999999\r\n\r\n"
    endless = head + b"x" * 20_000_000
    async with running_station(tmp_path) as station, answering([endless], 1) as port:
        sink = sink_to(station.log.identity, f"ws://127.0.0.1:{port}/forward")
        with pytest.RaisesGroup(pytest.RaisesExc(SinkUnavailable, match="no end")):
            async with trio.open_nursery() as nursery:
                await sink.open(nursery, LaneResume(0, 1, 3, None))
        await sink.aclose()


@pytest.mark.parametrize("kind", ["http", "ws"])
@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("date", DATES[:6])
async def test_a_retry_after_that_is_no_date_is_no_more_than_none(
    tmp_path: Path, kind: str, status: int, date: str
) -> None:
    head = f"HTTP/1.1 {status} Busy\r\nRetry-After: {date}\r\nContent-Length: 0\r\n\r\n".encode()
    path = "in" if kind == "http" else "forward"
    async with running_station(tmp_path) as station, answering([head], 1) as port:
        await station.put(3)
        sink = sink_to(station.log.identity, f"{kind}://127.0.0.1:{port}/{path}")
        batch = await batch_of(station)
        with pytest.RaisesGroup(pytest.RaisesExc(SinkUnavailable, match=f"HTTP {status}")):
            async with trio.open_nursery() as nursery:
                if kind == "http":
                    await sink.send(batch)
                else:
                    await sink.open(nursery, LaneResume(0, 1, 3, None))
        await sink.aclose()
