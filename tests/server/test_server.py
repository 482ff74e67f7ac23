"""Accepting, guarding, counting, stopping."""

from __future__ import annotations

import errno
import logging
import socket as stdlib_socket
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from edge_agent import supervise
from edge_agent.config.quantities import Duration
from edge_agent.net.accepting import Sieve
from edge_agent.security.tokens import Tokens, add_token, revoke_token
from edge_agent.server import connection as connection_module
from edge_agent.server.acks import Teller
from edge_agent.server.connection import Connection
from edge_agent.server.fair_turns import Turns
from edge_agent.server.keepalive import SilenceWatch
from edge_agent.server.poller import SharedReader
from tests.patience import PATIENCE_S, eventually, receive_until
from tests.server.frames import PING, frame
from tests.server.support import (
    LISTEN,
    Serving,
    bystander,
    connect,
    http,
    raw,
    serving,
    session,
    until_closed,
    upgrade,
)


async def test_an_error_of_ours_ends_one_connection_and_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*args: object) -> None:
        raise ZeroDivisionError("our mistake")

    async with serving(tmp_path) as port, bystander(port) as other:
        monkeypatch.setattr(connection_module, "serve_plain", broken)
        with caplog.at_level(logging.ERROR, "edge_agent.server.server"):
            async with raw(port) as stream:
                await stream.send_all(upgrade("/ingest/a").replace("\n", "\r\n").encode())
                await until_closed(stream)
        await other.is_served()
        await eventually(lambda: port.metrics.get("connections") == 1, "it is gone")
        assert port.metrics.get("connection_faults_total") == 1
        assert "our mistake" in caplog.text


async def test_connections_are_counted(tmp_path: Path) -> None:
    async with serving(tmp_path) as port:
        async with connect(port, "/ingest/a"), connect(port, "/ingest/a"):
            await eventually(lambda: port.metrics.get("connections") == 2, "both are there")
        await eventually(lambda: port.metrics.get("connections") == 0, "both are gone")
        assert port.metrics.get("connections_total") == 2


async def test_at_the_limit_the_next_of_the_same_identity_is_told_to_come_back(
    tmp_path: Path,
) -> None:
    listen = msgspec.structs.replace(LISTEN, connections=1)
    async with serving(tmp_path, listen=listen) as port, bystander(port) as other:
        answers: list[str] = []

        async def try_it() -> None:
            answers.append(await http(port, upgrade("/ingest/a")))

        async with trio.open_nursery() as nursery:
            for _ in range(40):
                nursery.start_soon(try_it)
            await other.is_served()
        assert all("503" in answer and "Retry-After: " in answer for answer in answers)
        assert port.metrics.get("connections_refused_total", "full") == 40
        await other.is_served()
        assert len(port.server._parts.unproved) == 0


async def test_listed_pages_are_taken_up_while_it_runs_and_connections_are_not(
    tmp_path: Path,
) -> None:
    page = upgrade("/ingest/a", "Origin: https://page.example", host="pi.lan")
    new = msgspec.structs.replace(
        LISTEN, connections=7, hosts=("pi.lan",), origins=("https://page.example",)
    )
    async with serving(tmp_path) as port:
        assert "403" in await http(port, page)
        in_force = port.server.take_up(new)
        assert in_force == msgspec.structs.replace(new, connections=LISTEN.connections)
        async with raw(port) as stream:
            await stream.send_all(page.replace("\n", "\r\n").encode())
            await receive_until(stream, b"101 ")


async def test_stopping_closes_the_port_first(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, session(port) as sensor:
        await sensor.hello("pi")
        port.server.stop()
        port.server.stop()
        await sensor.closed()
        await port.stopped.wait()
        with pytest.raises(OSError, match="all attempts to connect"):
            await trio.open_tcp_stream("127.0.0.1", port.port)


async def test_a_peer_that_ignores_the_goodbye_is_cancelled(tmp_path: Path) -> None:
    listen = msgspec.structs.replace(LISTEN, close_timeout=Duration(0.2))
    async with serving(tmp_path, listen=listen) as port, raw(port) as stream:
        await stream.send_all(upgrade("/subscribe/**").replace("\n", "\r\n").encode())
        await eventually(lambda: port.server.connections() != [], "it is there")
        port.server.stop()
        with trio.fail_after(PATIENCE_S):
            await port.stopped.wait()


class Exhausted(trio.abc.Listener[trio.abc.Stream]):
    """A listener on a machine that is out of file descriptors at first."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.errors = 2
        self.number = errno.EMFILE
        self.stream: trio.abc.Stream | None = stream

    async def accept(self) -> trio.abc.Stream:
        if self.errors:
            self.errors -= 1
            raise OSError(self.number, "out of file descriptors")
        while self.stream is None:
            await trio.sleep_forever()
        stream, self.stream = self.stream, None
        return stream

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOBUFS])
async def test_what_is_not_the_listeners_fault_is_waited_out(tmp_path: Path, number: int) -> None:
    async with serving(tmp_path) as port:
        near, far = trio.testing.memory_stream_pair()
        exhausted = Exhausted(near)
        exhausted.number = number
        async with trio.open_nursery() as nursery:
            nursery.start_soon(port.server._accept, exhausted, nursery)
            await far.send_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            with trio.fail_after(PATIENCE_S):
                assert b"426" in await far.receive_some(4096)
            await far.aclose()
            nursery.cancel_scope.cancel()


async def test_a_listener_that_is_broken_for_good_ends_the_port_after_goodbyes(
    tmp_path: Path,
) -> None:
    with pytest.RaisesGroup(
        pytest.RaisesExc(
            OSError, match=r"listen\.address .* nobody can connect any more: Invalid argument"
        ),
        flatten_subgroups=True,
        allow_unwrapped=True,
    ):
        async with serving(tmp_path) as port, session(port) as sensor:
            await sensor.hello("pi")
            await sensor.send({"n": 1})
            port.listener.socket.shutdown(stdlib_socket.SHUT_RDWR)
            told = [await sensor.receive()]
            while told[-1]["type"] == "ack":
                told.append(await sensor.receive())
            assert (told[-1]["type"], told[-1]["code"]) == ("stop", "closing")
            assert (await sensor.closed())[0] == 1012
            await trio.sleep(PATIENCE_S)


def fails_once(owner: type, method: str, patch: pytest.MonkeyPatch) -> None:
    """Let ``method`` fail on a mistake of ours, the first time that it is called."""
    inner, failed = getattr(owner, method), False

    def call(*args: object) -> object:
        nonlocal failed
        if failed:
            return inner(*args)
        failed = True
        raise ZeroDivisionError("our mistake")

    patch.setattr(owner, method, call)


@pytest.mark.parametrize(
    "task, owner, method",
    [
        ("reading plain sockets", SharedReader, "_round"),
        ("telling acks", Teller, "_tell_next"),
        ("looking for silence", SilenceWatch, "_do_what_is_due"),
        ("following tokens", Tokens, "_look"),
        ("judging by tokens", Connection, "judge_again"),
        ("accepting", Sieve, "_batch"),
        ("giving turns", Turns, "_give"),
    ],
)
async def test_a_mistake_in_what_all_connections_share_is_told_and_the_task_run_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    task: str,
    owner: type,
    method: str,
) -> None:
    monkeypatch.setattr(supervise, "WAIT_S", 0.05)
    path = tmp_path / "tokens"
    secret = add_token(path, "greenhouse", write=["**"], sources=["**"])
    headers = [(b"Authorization", b"Bearer " + secret.encode())]
    async with (
        serving(tmp_path, tokens=path) as port,
        session(port, headers=headers) as before,
    ):
        welcome = await before.hello("before")
        fails_once(owner, method, monkeypatch)
        number = welcome["next"]
        with trio.fail_after(PATIENCE_S):
            while not port.metrics.total("own_mistakes_total"):
                # What each of them is for: a record and its ack, many pings, a token, a newcomer,
                # and the next look at who is silent, now.
                assert port.server._parts.silence._sleep is not None
                port.server._parts.silence._sleep.cancel()
                await before.send({"n": number})
                await before.acked(number + 1)
                number += 1
                await flood_of_pings(port, headers)
                add_token(path, f"another {number}", read=["**"])
        assert port.metrics.get("own_mistakes_total", task) == 1
        assert f"{task} failed on a mistake" in caplog.text and "our mistake" in caplog.text
        await eventually(lambda: not port.metrics.total("task_resting"), "it runs again")
        # Everything goes on, for whoever was there and for newcomers.
        await before.send({"n": number})
        await before.acked(number + 1)
        await flood_of_pings(port, headers)
        async with session(port, headers=headers) as newcomer:
            await newcomer.hello("newcomer")
            await newcomer.send({"n": 1})
            await newcomer.acked(2)
        revoke_token(path, "greenhouse")
        assert (await before.closed())[0] == 1008
        assert len(await port.records()) == number - welcome["next"] + 2


async def flood_of_pings(port: Serving, headers: list[tuple[bytes, bytes]]) -> None:
    """More than a turn's work, on a connection of its own; each is answered."""
    lines = [f"{name.decode()}: {value.decode()}" for name, value in headers]
    async with raw(port) as stream:
        head = upgrade("/ingest/pings", *lines).replace("\n", "\r\n").encode()
        await stream.send_all(head + frame(PING) * 200)
        await receive_until(stream, lambda got: got.count(b"\x8a\x00") == 200)


async def test_a_session_has_a_socket_and_a_window(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, session(port) as sensor:
        await sensor.hello("pi")
        assert (port.open_sockets(), port.settling()) == (1, 0)
        assert 0 < port.server._parts.windows.granted_bytes <= 32 * 1024 * 1024


async def test_an_unknown_path_says_what_there_is(tmp_path: Path) -> None:
    async with serving(tmp_path) as port:
        assert "/ingest/STREAM" in await http(port, upgrade("/x"))
