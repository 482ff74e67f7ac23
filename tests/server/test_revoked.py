"""What a token opened ends when it is revoked, narrowed or given a new secret; else nothing."""

from __future__ import annotations

import json
import socket as stdlib_socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import WebSocketConnection

from edge_agent.security.tokens import add_token, revoke_token
from tests.patience import PATIENCE_S, eventually
from tests.server.support import (
    Serving,
    Session,
    closed,
    connect,
    hurried,
    raw,
    serving,
    upgrade,
)

#: Path, subprotocol, and whether a hello is said.
WAYS: list[tuple[str, str | None, bool]] = [
    ("/ingest/a/b", None, False),
    ("/ingest/a/b?ack=1", "edge-agent.v1.plain", False),
    ("/ingest/a/b", "edge-agent.v1+json", False),
    ("/ingest/a/b", "edge-agent.v1+json", True),
    ("/forward", "edge-agent.v1+msgpack", True),
    ("/subscribe/**", None, False),
    ("/query", None, False),
]


def bearer(secret: str) -> list[tuple[bytes, bytes]]:
    return [(b"Authorization", b"Bearer " + secret.encode())]


def change(file: Path, name: str, **values: object) -> None:
    """Write other values into the entry of ``name``."""
    held = json.loads(file.read_text())
    for entry in held["tokens"]:
        if entry["name"] == name:
            entry.update(values)
    new = file.with_suffix(".new")
    new.write_text(json.dumps(held))
    new.rename(file)


async def opened(
    stack: AsyncExitStack, port: Serving, secret: str
) -> list[tuple[str, WebSocketConnection]]:
    """A connection of each way."""
    found = []
    for number, (path, subprotocol, says_hello) in enumerate(WAYS):
        socket = await stack.enter_async_context(
            connect(port, path, subprotocol, headers=bearer(secret))
        )
        if says_hello:
            hello = {"type": "hello", "source": f"AGENT{number}/hub/main/live"}
            await socket.send_message(json.dumps(hello))
            with trio.fail_after(PATIENCE_S):
                await socket.get_message()
        found.append((f"{path} {subprotocol} {says_hello}", socket))
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


ALL: dict[str, Any] = {"write": ["**"], "sources": ["**"], "read": ["**"], "forward": True}


@pytest.mark.parametrize(
    "act",
    [
        lambda file: revoke_token(file, "a"),
        lambda file: change(file, "a", write=["a/c"]),
        lambda file: change(file, "a", forward=False),
        lambda file: change(file, "a", hash="sha256:" + "0" * 64),
    ],
    ids=["revoked", "narrowed", "scope taken", "new secret"],
)
async def test_every_connection_of_the_token_ends_within_two_seconds(
    tmp_path: Path, file: Path, act: Callable[[Path], object]
) -> None:
    secret, other = add_token(file, "a", **ALL), add_token(file, "b", **ALL)
    async with serving(tmp_path, tokens=file) as port, AsyncExitStack() as stack:
        sockets = await opened(stack, port, secret)
        bystander = Session(
            await stack.enter_async_context(
                connect(port, "/ingest/x", "edge-agent.v1+json", headers=bearer(other))
            )
        )
        await bystander.hello("bystander")
        began = trio.current_time()
        act(file)
        for name, socket in sockets:
            code, reason = await closed(socket)
            assert code == 1008 and "revoked" in reason, (name, code, reason)
        # A second until the file is looked at; the rest is for a machine with other things to do.
        assert trio.current_time() - began < PATIENCE_S / 2
        await bystander.send({"t": 1})
        await bystander.acked(2)


async def test_what_was_sent_before_is_acked_before_the_end(tmp_path: Path, file: Path) -> None:
    secret = add_token(file, "a", **ALL)
    async with (
        serving(tmp_path, tokens=file, interval=0.2) as port,
        connect(port, "/ingest/x", "edge-agent.v1+json", headers=bearer(secret)) as socket,
    ):
        sensor = Session(socket)
        await sensor.hello("pi")
        revoke_token(file, "a")
        sent = 0
        while port.server._parts.tokens is not None and port.server._parts.tokens._tokens:
            await sensor.send({"t": sent})
            sent += 1
            await trio.sleep(0.01)
        told = 1
        with trio.fail_after(PATIENCE_S):
            while True:
                try:
                    told = json.loads(await socket.get_message())["next"]
                except Exception:  # noqa: BLE001 - the close
                    break
        assert socket.closed is not None and socket.closed.code == 1008
        # Every record that is stored was told to be.
        assert len(await port.records()) == told - 1
        assert told - 1 <= sent


@pytest.mark.parametrize(
    "act",
    [
        lambda file: change(file, "a", read=["**", "x"], admin=True, created="later"),
        lambda file: file.write_text("{"),
        lambda file: file.unlink(),
        lambda file: add_token(file, "c", read=["**"]),
    ],
    ids=["widened", "not readable", "gone", "another"],
)
async def test_nothing_else_ends_a_connection(
    tmp_path: Path, file: Path, act: Callable[[Path], object]
) -> None:
    secret = add_token(file, "a", **ALL)
    async with serving(tmp_path, tokens=file) as port, AsyncExitStack() as stack:
        sockets = await opened(stack, port, secret)
        act(file)
        tokens = port.server._parts.tokens
        assert tokens is not None
        for _ in range(2):
            await tokens.refresh()
        for name, socket in sockets:
            assert socket.closed is None, name
        path, subprotocol = "/ingest/z", "edge-agent.v1+json"
        async with connect(port, path, subprotocol, headers=bearer(secret)) as more:
            assert (await Session(more).hello("more"))["type"] == "welcome"


async def test_a_token_lets_in_at_once_after_it_was_made(tmp_path: Path, file: Path) -> None:
    add_token(file, "a", **ALL)
    async with serving(tmp_path, tokens=file) as port:
        for number in range(3):
            secret = add_token(file, f"new-{number}", **ALL)
            async with connect(
                port, "/ingest/x", "edge-agent.v1+json", headers=bearer(secret)
            ) as socket:
                assert (await Session(socket).hello(f"pi-{number}"))["type"] == "welcome"


@pytest.mark.parametrize("path", ["/subscribe/**?from=main:1", "/ingest/a?ack=1"])
async def test_a_peer_that_reads_nothing_is_gone_all_the_same(
    tmp_path: Path, file: Path, path: str
) -> None:
    secret, other = add_token(file, "a", **ALL), add_token(file, "b", **ALL)
    async with (
        serving(tmp_path, tokens=file, listen=hurried(close_timeout=0.4)) as port,
        connect(port, "/ingest/x", "edge-agent.v1+json", headers=bearer(other)) as socket,
        raw(port) as deaf,
    ):
        sensor = Session(socket)
        await sensor.hello("pi")
        for _ in range(40):
            await sensor.send([{"t": "x" * 30_000}] * 4)
        await sensor.acked(161)
        deaf.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_RCVBUF, 4096)
        head = upgrade(path, f"Authorization: Bearer {secret}").replace("\n", "\r\n")
        await deaf.send_all(head.encode())
        await eventually(lambda: len(port.server.connections()) == 2, "it was let in")
        revoke_token(file, "a")
        await eventually(lambda: port.open_sockets() == 1, "it is gone")
        await sensor.send({"t": 1})
        await sensor.acked(162)
