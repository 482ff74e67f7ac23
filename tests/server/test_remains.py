"""What a connection leaves behind: nothing that waits for a search for cycles."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from edge_agent.server.session import SessionBase
from edge_agent.server.transport import Transport
from edge_agent.server.websocket import WebSocket
from tests.patience import PATIENCE_S
from tests.server.frames import CLOSE, TEXT, frame
from tests.server.support import Serving, raw, serving, upgrade

OURS = (WebSocket, Transport, SessionBase)


@contextmanager
def no_cycle_search() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def alive() -> list[object]:
    return [each for each in gc.get_objects() if isinstance(each, OURS)]


async def talk(port: Serving, subprotocol: str, messages: list[bytes], end: bytes) -> None:
    """A sensor on a bare socket; waits until the port has closed, or leaves."""
    async with raw(port) as stream:
        request = upgrade("/ingest/a?ack=1", f"Sec-WebSocket-Protocol: {subprotocol}")
        await stream.send_all(request.replace("\n", "\r\n").encode())
        for message in messages:
            await stream.receive_some(65536)
            await stream.send_all(frame(TEXT, message))
        await stream.receive_some(65536)
        await stream.send_all(end)
        with trio.move_on_after(0.2):
            while await stream.receive_some(65536):
                pass


HELLO = json.dumps({"type": "hello", "source": "pi"}).encode()
SESSION, PLAIN = "edge-agent.v1+json", "edge-agent.v1.plain"


@pytest.mark.parametrize(
    "subprotocol, messages, end",
    [
        (SESSION, [HELLO, b'{"t": 1}'], frame(CLOSE, b"\x03\xe8")),
        (SESSION, [HELLO, b'{"t": 1}'], b""),
        (SESSION, [HELLO], frame(TEXT, b"{")),
        (SESSION, [HELLO], frame(TEXT, b"\xff")),
        (PLAIN, [b'{"t": 1}'], frame(CLOSE, b"\x03\xe8")),
        (PLAIN, [b'{"t": 1}'], b""),
    ],
)
async def test_a_connection_that_has_ended_is_gone_at_once(
    tmp_path: Path, subprotocol: str, messages: list[bytes], end: bytes
) -> None:
    async with serving(tmp_path) as port:
        with no_cycle_search():
            for _ in range(3):
                await talk(port, subprotocol, messages, end)
            with trio.fail_after(PATIENCE_S):
                while port.open_sockets() or port.settling():
                    await trio.sleep(0.01)
                while alive():
                    await trio.sleep(0.05)
