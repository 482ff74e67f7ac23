"""The frames that makers' libraries send, as they send them: each is taken, and answered.

Written down from the libraries' sources and, for the two of Arduino, from the wire:
Links2004/arduinoWebSockets 2.7.3, gilmaimon/ArduinoWebsockets 0.5.4, espressif/esp-protocols
(esp_websocket_client 1.8) with esp-idf's transport_ws.c. Their heads are in `test_popular_clients`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import trio.lowlevel

from tests.patience import eventually, receive_to_end, receive_until
from tests.server.support import raw, serving
from tests.server.test_popular_clients import CLIENTS, head
from tests.wire import framing
from tests.wire.framing import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT

#: Under a key of zeroes, which two of them use, and are right to: it masks nothing, and is a mask.
zeroed = partial(framing.frame, key=bytes(4))
LONG = b'{"t":"' + b"x" * 1500 + b'"}'
LONGER = b'{"t":"' + b"x" * 2500 + b'"}'


class Said(NamedTuple):
    """What a client writes, write by write; what is stored of it; how it answers a close."""

    writes: list[bytes]
    stored: list[object]
    goodbye: bytes


SAID: dict[str, Said] = {
    # From 1,400 bytes on it leaves the payload as it is, and sends it after the header.
    "Arduino, Links2004": Said(
        [
            zeroed(PING),
            b"\x81\x8a-Q\x8e\x1fVs\xfa=\x17c\xbf1\x18,",
            zeroed(TEXT, LONG)[:8],
            LONG,
            b"\x82\x84V\x08W'\xd7\xa9#\"",
        ],
        [21.5, "x" * 1500, 5],
        b"\x88\x82\xa7\x05\xd4\xd0\xa4\xed",
    ),
    # Its stream() and end() make fragments. To a code that it does not know it answers with none.
    "Arduino, gilmaimon": Said(
        [
            b'\x81\x8a\x00\x00\x00\x00{"t":21.5}',
            zeroed(TEXT, b'{"t"', final=False),
            zeroed(CONTINUATION, b":", final=False),
            zeroed(CONTINUATION, b"21.6}"),
            zeroed(BINARY, b"\x81\xa1t\x05"),
            zeroed(PING),
        ],
        [21.5, 21.6, 5],
        zeroed(CLOSE),
    ),
    # Every frame in two writes; what is over its buffer of 1,024 bytes in fragments.
    "ESP-IDF, esp_websocket_client": Said(
        [
            framing.frame(PING),
            framing.frame(TEXT, LONGER[:1024], final=False)[:8],
            framing.frame(TEXT, LONGER[:1024], final=False)[8:],
            framing.frame(CONTINUATION, LONGER[1024:2048], final=False)[:8],
            framing.frame(CONTINUATION, LONGER[1024:2048], final=False)[8:],
            framing.frame(CONTINUATION, LONGER[2048:])[:8],
            framing.frame(CONTINUATION, LONGER[2048:])[8:],
        ],
        ["x" * 2500],
        framing.frame(CLOSE),
    ),
}
#: What the two of Arduino say on a connection whose request was refused.
AFTER_A_REFUSAL = {
    "Arduino, Links2004": b"This is a webSocket client!",
    "Arduino, gilmaimon": b"\x88\x82\x00\x00\x00\x00\x03\xea",
}


@pytest.mark.parametrize("client", SAID)
async def test_their_frames_are_taken_and_their_goodbye_is_understood(
    tmp_path: Path, client: str
) -> None:
    said = SAID[client]
    async with serving(tmp_path) as port:
        async with raw(port) as stream:
            await stream.send_all(head(CLIENTS[client], f"127.0.0.1:{port.port}"))
            await receive_until(stream, b"\r\n\r\n")
            for write in said.writes:
                await stream.send_all(write)
                await trio.lowlevel.checkpoint()
            answer = await receive_until(stream, 2)
            # The pong of an empty ping, and nothing else: a plain client hears no acks.
            assert answer == bytes([0x80 | PONG, 0])
            await eventually(lambda: port.log.last_seq("main") == len(said.stored), "it is stored")
            await stream.send_all(said.goodbye)
            assert (await receive_to_end(stream))[:1] == bytes([0x80 | CLOSE])
        assert [record.fields["t"] for record in await port.records()] == said.stored


@pytest.mark.parametrize("client", AFTER_A_REFUSAL)
async def test_what_they_say_after_a_refusal_costs_them_nothing(
    tmp_path: Path, client: str
) -> None:
    async with serving(tmp_path) as port:
        for _ in range(3):
            async with raw(port) as stream:
                request = head(CLIENTS[client], f"127.0.0.1:{port.port}")
                await stream.send_all(request.replace(b"/ingest/a", b"/nowhere"))
                answer = await receive_until(stream, b"/query\n")
                assert answer.startswith(b"HTTP/1.1 404 "), answer
                await stream.send_all(AFTER_A_REFUSAL[client])
        async with raw(port) as stream:
            await stream.send_all(head(CLIENTS[client], f"127.0.0.1:{port.port}"))
            await receive_until(stream, b" 101 ")
