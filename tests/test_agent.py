"""The parts together, in one process: start, drain, order of the end, and what a start refuses."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from edge_agent import agent, supervise
from edge_agent.agent import Running
from edge_agent.config import Config, parse
from edge_agent.errors import ConfigError, StoreLocked
from edge_agent.security.tokens import add_token, revoke_token
from edge_agent.server.poller import SharedReader
from edge_agent.system import clock
from tests.forward.http_upstream import http_upstream
from tests.patience import PATIENCE_S, receive_to_end, receive_until
from tests.server.test_server import fails_once

TEXT = """
[listen]
address = "127.0.0.1:0"
[http]
address = "{http}"
[store]
path = "{path}"
size = "16MiB"
[log.main]
commit_interval = "{interval}"
"""


def configured(path: Path, *, interval: str = "10ms", http: str = "off", more: str = "") -> Config:
    return parse(TEXT.format(path=path, interval=interval, http=http) + more, "test")


@asynccontextmanager
async def running(
    config: Config, trace: list[str] | None = None
) -> AsyncIterator[tuple[Running, trio.Event]]:
    def note(event: str, _: Mapping[str, object]) -> None:
        if trace is not None:
            trace.append(event)

    stop = trio.Event()
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            yield await nursery.start(partial(agent.run, config, stop=stop, trace=note)), stop
            stop.set()


@asynccontextmanager
async def session(found: Running) -> AsyncIterator[WebSocketConnection]:
    address = found.sensor_addresses[0]
    host, port = address.rsplit(":", 1)
    stream = await trio.open_tcp_stream(host, int(port))
    async with stream, trio.open_nursery() as nursery:
        yield await wrap_client_stream(
            nursery, stream, address, "/ingest/agent/s", subprotocols=["edge-agent.v1+json"]
        )
        nursery.cancel_scope.cancel()


async def until_closed(socket: WebSocketConnection, said: list[dict[str, Any]]) -> int:
    """Collect what is said until the connection is closed; the close code."""
    with suppress(ConnectionClosed):
        while True:
            said.append(json.loads(await socket.get_message()))
    assert socket.closed is not None
    return socket.closed.code


async def test_what_was_accepted_is_acked_before_the_agent_stops(tmp_path: Path) -> None:
    # An interval that would not come by itself within the test: the drain has to bring it forward.
    trace: list[str] = []
    async with (
        running(configured(tmp_path, interval="1h"), trace) as (found, stop),
        session(found) as socket,
    ):
        await socket.send_message(json.dumps({"type": "hello", "source": "s"}))
        assert json.loads(await socket.get_message())["next"] == 1
        await socket.send_message(json.dumps([{"n": 1}, {"n": 2}]))
        await socket.ping()  # What came before the ping has been read when the pong comes.
        stop.set()
        said: list[dict[str, Any]] = []
        close_code = await until_closed(socket, said)

    assert close_code == 1012
    assert [message["next"] for message in said if message["type"] == "ack"] == [3]
    assert "stop" in {message["type"] for message in said}
    assert "commit" in trace


async def test_records_survive_a_restart_and_numbering_goes_on(tmp_path: Path) -> None:
    for first in (1, 2, 3):
        async with running(configured(tmp_path)) as (found, _), session(found) as socket:
            await socket.send_message(json.dumps({"type": "hello", "source": "s"}))
            assert json.loads(await socket.get_message())["next"] == first
            await socket.send_message(json.dumps({"n": first}))
            assert json.loads(await socket.get_message())["next"] == first + 1


async def ask(found: Running, target: str) -> bytes:
    """What the people's port answers."""
    assert found.http_address is not None
    host, port = found.http_address.rsplit(":", 1)
    request = f"GET {target} HTTP/1.1\r\nHost: {found.http_address}\r\nConnection: close\r\n\r\n"
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        await stream.send_all(request.encode())
        return b"".join([piece async for piece in stream])


async def test_the_peoples_port_is_told_and_answers(tmp_path: Path) -> None:
    async with running(configured(tmp_path, http="127.0.0.1:0")) as (found, _):
        answer = await ask(found, "/healthz")

    assert answer.startswith(b"HTTP/1.1 200")


async def test_a_rule_says_where_a_stream_has_its_time(tmp_path: Path) -> None:
    rule = (
        '[[rule]]\nname = "clock"\nstreams = ["agent/*"]\n'
        'time = { key = "ts", format = "unix-ms" }\n'
    )
    config = configured(tmp_path, http="127.0.0.1:0", more=rule)
    async with running(config) as (found, _), session(found) as socket:
        await socket.send_message(json.dumps({"type": "hello", "source": "s"}))
        await socket.get_message()
        await socket.send_message(json.dumps({"t": 1, "ts": 1_795_341_600_250}))
        assert json.loads(await socket.get_message())["next"] == 2
        answer = await ask(found, "/api/query")

    assert b'"time":"2026-11-22T10:00:00.25Z"' in answer
    assert b'"fields":{"t":1}' in answer


async def test_a_second_agent_on_the_same_store_is_refused(tmp_path: Path) -> None:
    async with running(configured(tmp_path)):
        with pytest.raises(StoreLocked, match="in use by process"):
            await agent.run(configured(tmp_path), stop=trio.Event())


async def test_a_missing_token_file_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    config = parse(
        TEXT.format(path=tmp_path, interval="1s", http="off").replace(
            "[http]", 'tokens = "/nowhere/tokens.toml"\n[http]'
        ),
        "test",
    )

    with pytest.raises(ConfigError, match=r"/nowhere/tokens\.toml"):
        await agent.run(config, stop=trio.Event())


async def test_an_upstream_that_never_answers_does_not_hold_up_the_end(tmp_path: Path) -> None:
    more = '[[upstream]]\nname = "hub"\nurl = "ws://127.0.0.1:1/forward"\n'
    async with running(configured(tmp_path, more=more)):
        pass


@pytest.mark.parametrize(
    "where", ["edge_agent.forward.sinks.http.sink.judge", "edge_agent.scrubber.Scrubber._pass"]
)
async def test_a_mistake_of_ours_beside_the_data_path_does_not_end_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The answer of an upstream, a reader: whatever fails there, records are taken and acked."""
    met = trio.Event()

    def fails(*_: object) -> object:
        met.set()
        raise OverflowError("date value out of range")

    monkeypatch.setattr(where, fails)
    async with http_upstream() as server:
        more = f'[[upstream]]\nname = "cloud"\nurl = "{server.url}"\nbatch_age = "1ms"\n'
        async with running(configured(tmp_path, more=more)) as (found, _), session(found) as socket:
            await socket.send_message(json.dumps({"type": "hello", "source": "s"}))
            assert json.loads(await socket.get_message())["next"] == 1
            for n in range(1, 4):
                await socket.send_message(json.dumps({"n": n}))
                assert json.loads(await socket.get_message())["next"] == n + 1
                await met.wait()


async def test_a_mistake_in_what_all_connections_share_is_in_health_until_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "WAIT_S", 0.5)
    fails_once(SharedReader, "_round", monkeypatch)
    config = configured(tmp_path, http="127.0.0.1:0")
    async with running(config) as (found, _), session(found) as socket:
        # It is read once that task runs again; nothing of it is lost.
        await socket.send_message(json.dumps({"type": "hello", "source": "s"}))
        assert json.loads(await socket.get_message())["next"] == 1
        assert found.http_address is not None
        health = await answered(found.http_address, "GET /healthz HTTP/1.1\nHost: localhost\n")
    assert [one["code"] for one in health["warnings"] if one["code"] == "own_mistake"]
    assert "reading plain sockets" in str(health)


async def say(address: str, head: str) -> trio.SocketStream:
    """Send a request to the people's port."""
    host, port = address.rsplit(":", 1)
    stream = await trio.open_tcp_stream(host, int(port))
    await stream.send_all(head.replace("\n", "\r\n").encode())
    return stream


async def answered(address: str, head: str) -> Any:
    """The JSON that is answered."""
    stream = await say(address, head + "Connection: close\n\n")
    answer = await receive_to_end(stream)
    await stream.aclose()
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def with_tokens(path: Path) -> Config:
    text = TEXT.format(path=path / "data", interval="10ms", http="127.0.0.1:0")
    listen = f'address = "127.0.0.1:0"\ntokens = "{path}/tokens"'
    return parse(text.replace('address = "127.0.0.1:0"', listen, 1), "test")


async def test_a_live_view_ends_when_its_token_is_revoked(tmp_path: Path) -> None:
    add_token(tmp_path / "tokens", "other", read=["**"])
    secret = add_token(tmp_path / "tokens", "viewer", read=["**"])
    async with running(with_tokens(tmp_path)) as (found, _):
        assert found.http_address is not None
        head = f"GET /api/subscribe HTTP/1.1\nHost: localhost\nAuthorization: Bearer {secret}\n\n"
        stream = await say(found.http_address, head)
        assert (await receive_until(stream, b"\n\r\n")).startswith(b"HTTP/1.1 200")
        revoke_token(tmp_path / "tokens", "viewer")
        await receive_to_end(stream)
        await stream.aclose()
        again = await say(found.http_address, head)
        assert (await receive_until(again, b"\r\n\r\n")).startswith(b"HTTP/1.1 401")
        await again.aclose()


async def test_who_was_refused_at_either_port_is_in_status(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING")
    add_token(tmp_path / "tokens", "other", read=["**"])
    local = "Host: localhost\n"
    async with running(with_tokens(tmp_path)) as (found, _):
        assert found.http_address is not None
        for _ in range(3):
            upgrade = (
                "GET /ingest/a HTTP/1.1\nConnection: Upgrade\nUpgrade: websocket\n"
                "Sec-WebSocket-Version: 13\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\n"
                f"{local}Authorization: Bearer wrong\n\n"
            )
            stream = await say(found.sensor_addresses[0], upgrade)
            assert b"401" in await receive_to_end(stream)
            await stream.aclose()
        foreign = "GET / HTTP/1.1\nHost: evil\x1b[2J.example\n"
        await answered(found.http_address, foreign.replace("\x1b[2J", "%1b"))
        status = await answered(found.http_address, "GET /api/status HTTP/1.1\n" + local)
    told = {(one["port"], one["reason"]): one for one in status["refused"]}
    token = told["listen.address", "bad_token"]
    assert token["address"] == "127.0.0.1" and token["count"] == 3
    assert "edge-agent token" in token["sentence"]
    assert "http.hosts" in told["http.address", "foreign_host"]["sentence"]
    lines = [one.getMessage() for one in caplog.records if "refused" in one.getMessage()]
    assert len(lines) == 2 and "listen.address" in lines[0]


async def test_where_the_kernel_may_not_be_asked_the_agent_asks_whether_the_clock_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = trio.Event()

    async def ask() -> bool:
        asked.set()
        return True

    monkeypatch.setattr(clock, "kernel_says_synced", lambda: None)
    monkeypatch.setattr(clock, "timedated_says_synced", ask)
    monkeypatch.setattr(clock, "SYNCED_MARKER", tmp_path / "absent")
    monkeypatch.setattr(clock, "SET_MARKER", tmp_path / "absent")
    async with running(configured(tmp_path)):
        await asked.wait()
